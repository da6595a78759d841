"""What stands in a task for the parts of a stock worker, and does as much as Dask's functions need.

Imports Dask: for nodes of a cluster only.
"""

# pyright: reportPrivateImportUsage=false

import threading
from collections.abc import Callable, Collection, Coroutine, Iterator, Mapping
from typing import Any, Protocol

from distributed import WorkerPlugin
from distributed.core import AsyncTaskGroup

from trouper.actors.job import Job
from trouper.wire.keys import UserKey


class Host(Protocol):
    """What a node does for its tasks. Called in their threads."""

    def secede(self, job: Job) -> None:
        """Give the slot of a job back, if it still has one; called in the thread that runs it."""
        ...

    def send_event(self, topics: Collection[str], message: object) -> None:
        """Have the scheduler log an event."""
        ...

    def status(self) -> str:
        """Whether it runs, in Dask's words."""
        ...

    def keys(self) -> list[UserKey]:
        """What is in memory."""
        ...

    def value_of(self, key: UserKey) -> object:
        """A value that is in memory. Raises `KeyError` if there is none."""
        ...

    def put(self, values: Mapping[UserKey, object]) -> None:
        """Keep values."""
        ...


class Data(Mapping[UserKey, object]):
    """What is in the memory of a node, as it is whenever it is looked at."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def __getitem__(self, key: UserKey) -> object:
        return self._host.value_of(key)

    def __iter__(self) -> Iterator[UserKey]:
        return iter(self._host.keys())

    def __len__(self) -> int:
        return len(self._host.keys())


class State:
    """As much of the machine of a stock worker as actors and plugins look at."""

    def __init__(self, nthreads: int, data: Data) -> None:
        self.nthreads = nthreads
        self.actors = Instances(data)


class Instances:
    """The objects that are actors here, by key; see `trouper.actors.dask_actors`."""

    def __init__(self, data: Data) -> None:
        self._data = data

    def __getitem__(self, key: UserKey) -> object:
        held: Any = self._data[key]
        return held.instance


class Remote:
    """Scheduler or worker, for those who ask it something: each method is a request, a coroutine.

    Args:
        address: Of it.
        ask: Sends a request by its name, in the loop of Dask's parts.
    """

    def __init__(self, address: str, ask: Callable[..., Coroutine[Any, Any, object]]) -> None:
        self.address = address
        self._ask = ask

    def __getattr__(self, op: str) -> Callable[..., Coroutine[Any, Any, object]]:
        if op.startswith("_"):  # as Python asks for, to copy an object, say
            raise AttributeError(op)

        async def request(**arguments: object) -> object:
            return await self._ask(op, **arguments)

        return request


class Hooks:
    """Where plugins attach themselves to a worker, as that of P2P shuffles does."""

    def __init__(self) -> None:
        self.plugins: dict[str, WorkerPlugin] = {}
        """Those that run; see `trouper.actors.dask_plugins`."""
        self.handlers: dict[str, Callable[..., Any]] = {}
        """By request, what plugins answer, on the asyncio side."""
        self.stream_handlers: dict[str, Callable[..., Any]] = {}
        """By op, what plugins want to be told that the scheduler says, on the asyncio side."""
        self.extensions: dict[str, object] = {}
        self._ongoing_background_tasks = AsyncTaskGroup()
        """Of plugins, by the name under which they look for it."""

    def digest_metric(self, name: object, value: float) -> None:
        """How long something has taken, say: nobody is told."""


class Seat:
    """Where a thread sits, in the terms of the thread pool that `secede` and `rejoin` look for.

    A thread that has left its seat gets none again: it ends with its task, another one has taken
    its place. It may say that it rejoins and secedes, as often as it likes; nothing comes of it.
    """

    def __init__(self, job: Job, secede: Callable[[Job], None]) -> None:
        self._job = job
        self._secede = secede
        self._left = False
        """The thread has seceded, and not rejoined."""
        self._threads = self
        self._rejoin_lock = threading.Lock()
        self._rejoin_list: list[tuple[threading.Thread, threading.Event]] = []

    def remove(self, thread: threading.Thread) -> None:
        """Leave the seat.

        Raises:
            KeyError: It was left before.
        """
        if self._left:
            raise KeyError(thread)
        self._left = True
        self._secede(self._job)

    def _adjust_thread_count(self) -> None:
        """Another thread is there already."""

    def submit(self, *_: object) -> None:
        """Whoever wants to rejoin goes on."""
        self._left = False
        while self._rejoin_list:
            self._rejoin_list.pop()[1].set()
