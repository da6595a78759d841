"""A node that does at once what its tasks ask of it, and notes it."""

from collections.abc import Collection, Generator, Mapping
from contextlib import contextmanager
from typing import Any

from trouper.actors.dask_worker import DaskWorker
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


def facts(**changed: Any) -> dict[str, Any]:
    """The arguments of a `DaskWorker`, of a node whose scheduler nobody can reach."""
    return {
        "name": "n",
        "address": "cws://a:1",
        "scheduler_address": "cws://s:2",
        "nthreads": 3,
        "local_directory": "/d",
        **changed,
    }


@contextmanager
def worker_of(host: FakeHost, **changed: Any) -> Generator[DaskWorker]:
    """What the tasks of a node see."""
    worker = DaskWorker(**facts(**changed))
    worker.host = host
    try:
        yield worker
    finally:
        worker.close()
