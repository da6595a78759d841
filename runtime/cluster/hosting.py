"""What tasks ask of the node that runs them, from their threads."""

from collections.abc import Collection, Mapping

import trio

from trouper.actors.fetched import Found
from trouper.actors.job import Job
from trouper.actors.sizeof import sizeof
from trouper.runtime.cluster.node import Node
from trouper.wire.keys import UserKey, encode_key


class Hosting:
    """The `Host` of a node's tasks. Blocks the calling thread until the node has done it."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._loop = trio.lowlevel.current_trio_token()

    def secede(self, job: Job) -> None:
        """Give the slot of a job back; called in the thread that runs it."""
        self._node.supervisor.threads.secede(job)

    def send_event(self, topics: Collection[str], message: object) -> None:
        """Have the scheduler log an event."""
        self._loop.run_sync_soon(self._node.log_event, topics, message)

    def status(self) -> str:
        """Whether it runs, in Dask's words."""
        return self._node.status

    def keys(self) -> list[UserKey]:
        """What is in memory."""
        return trio.from_thread.run_sync(self._node.keys, trio_token=self._loop)

    def value_of(self, key: UserKey) -> object:
        """A value that is in memory.

        Raises:
            KeyError: It is not.
        """
        text = encode_key(key)
        found = trio.from_thread.run_sync(
            self._node.supervisor.value_of, text, trio_token=self._loop
        )
        if found is None:
            raise KeyError(key)
        return found.value

    def put(self, values: Mapping[UserKey, object]) -> None:
        """Keep values."""
        found = {
            encode_key(key): Found(value, sizeof(value), type(value).__qualname__)
            for key, value in values.items()
        }
        trio.from_thread.run(self._node.put, found, trio_token=self._loop)
