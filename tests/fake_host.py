"""A node that does at once what its tasks ask of it, and notes it."""

from collections.abc import Collection, Mapping

from trouper.actors.job import Job
from trouper.wire.keys import UserKey


class FakeHost:
    """A `trouper.actors.dask_parts.Host`."""

    def __init__(self) -> None:
        self.values: dict[UserKey, object] = {}
        self.events: list[tuple[Collection[str], object]] = []
        self.seceded: list[Job] = []

    def secede(self, job: Job) -> None:
        job.seceded = True
        self.seceded.append(job)

    def send_event(self, topics: Collection[str], message: object) -> None:
        self.events.append((topics, message))

    def status(self) -> str:
        return "paused"

    def keys(self) -> list[UserKey]:
        return list(self.values)

    def value_of(self, key: UserKey) -> object:
        return self.values[key]

    def put(self, values: Mapping[UserKey, object]) -> None:
        self.values.update(values)
