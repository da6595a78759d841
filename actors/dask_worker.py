"""What a task finds when it asks Dask where it runs. Imports Dask: for nodes of a cluster only.

`distributed.get_worker`, `get_client`, `worker_client`, `secede` and `rejoin` look for a stock
worker and the state of its thread pool, in a context variable and in two thread-local objects.
`DaskWorker` stands there for a node, and has what they use, and little more.
"""

# pyright: reportUnknownMemberType=false, reportPrivateImportUsage=false
# pyright: reportPrivateUsage=false, reportArgumentType=false
# `DaskWorker` is put where Dask keeps a `distributed.Worker`, and no subclass of it.

import asyncio
import threading
from collections.abc import Callable, Collection, Coroutine, Iterator, Mapping
from typing import Any, NoReturn, Protocol, TypeVar

import dask.config
from dask.utils import parse_timedelta
from distributed import Client, Security, WorkerPlugin
from distributed.core import Status
from distributed.threadpoolexecutor import thread_state as pool_state
from distributed.utils import thread_state as task_state
from distributed.worker import _worker_cvar as worker_variable
from tornado.ioloop import IOLoop

from trouper.actors.dask_side import AsyncioSide
from trouper.actors.errors import NotSupported
from trouper.actors.job import Job, current_job
from trouper.actors.uploads import keep_upload
from trouper.wire.keys import UserKey, decode_key

CONNECT_TIMEOUT = "distributed.comm.timeouts.connect"
"""In Dask's configuration, as text or in seconds."""

T = TypeVar("T")


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


class Scheduler:
    """The scheduler, for those who ask it something: each method is a request, and a coroutine.

    Args:
        address: By which `get_client` sees whether it is the one that it wants.
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


class PluginsByName(dict[str, WorkerPlugin]):
    """Plugins by their names. P2P shuffles look for theirs here."""

    def __missing__(self, name: str) -> NoReturn:
        if name == "shuffle":
            raise NotSupported(
                "a trouper node takes no part in P2P shuffles; shuffle with tasks, "
                'dask.config.set({"dataframe.shuffle.method": "tasks"})'
            )
        raise KeyError(name)


class DaskWorker:
    """The node, as its tasks see it.

    Args:
        name: Of the node.
        address: Where others reach it.
        scheduler_address: Its scheduler's, for clients.
        nthreads: How many functions run at once.
        local_directory: Where tasks may leave files.
        security: With which a client connects.
    """

    def __init__(
        self,
        *,
        name: object,
        address: str,
        scheduler_address: str,
        nthreads: int,
        local_directory: str,
        security: Security | None = None,
    ) -> None:
        self.name = name
        self.id = address
        self.address = self.contact_address = self.worker_address = address
        self.scheduler = Scheduler(scheduler_address, self._ask_scheduler)
        self.nthreads = nthreads
        self.local_directory = local_directory
        self.host: Host
        """Set by the node, before a task can ask for anything."""
        self.plugins = PluginsByName()
        """Those that run; see `trouper.actors.dask_plugins`."""
        self._security = security
        self._side = AsyncioSide(self._new_client)

    def enter(self, job: Job, start: float) -> None:
        """A task begins, in the calling thread and context."""
        worker_variable.set(self)
        task_state.key = decode_key(job.key)
        task_state.start_time = start
        task_state.execution_state = {"worker": self}
        pool_state.executor = Seat(job, self.host.secede)

    def get_current_task(self) -> UserKey:
        """The key of the task that asks."""
        return decode_key(current_job.get().key)

    @property
    def status(self) -> Status:
        """Whether the node runs, is paused, or about to leave."""
        return Status[self.host.status()]

    def log_event(self, topic: str | Collection[str], msg: object) -> None:
        """Log an event with the scheduler."""
        self.host.send_event([topic] if isinstance(topic, str) else topic, msg)

    @property
    def data(self) -> Data:
        """What is in memory here."""
        return Data(self.host)

    def update_data(self, data: Mapping[UserKey, object]) -> None:
        """Keep what a task scatters; its client tells the scheduler."""
        self.host.put(data)

    async def upload_file(
        self, filename: str, data: bytes | str, load: bool = True
    ) -> dict[str, object]:
        """Keep a file in the local directory, and import it if it can be; for plugins.

        Raises:
            ValueError: The name is one of another directory.
            OSError: It cannot be written.
        """
        nbytes = await asyncio.to_thread(
            keep_upload, self.local_directory, filename, data, load=load
        )
        return {"status": "OK", "nbytes": nbytes}

    # What is Dask's own, on its side of the node

    @property
    def loop(self) -> IOLoop:
        """Where Dask's client runs, and what is built on it, such as locks."""
        return self._side.loop

    def run_on_loop(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine there, and wait for it; not to be called there. Raises what it raises."""
        return self._side.run(coroutine)

    @property
    def client(self) -> Client:
        """The client that all tasks of this node share."""
        return self._get_client()

    def _get_client(self, timeout: float | str | None = None) -> Client:
        return self._side.client(_seconds(timeout))

    def _new_client(self, loop: IOLoop, timeout_s: float) -> Client:
        return Client(
            self.scheduler.address,
            loop=loop,
            asynchronous=True,  # in the loop's own thread; others wait for it all the same
            security=self._security,
            set_as_default=False,
            direct_to_workers=True,
            name="worker",
            timeout=timeout_s,
        )

    async def _ask_scheduler(self, op: str, **arguments: object) -> object:
        client = await self._side.connected_client(_seconds(None))
        return await getattr(client.scheduler, op)(**arguments)

    def handle_stimulus(self, *events: object) -> None:
        """A task has seceded: its `Seat` has said so."""

    def close(self) -> None:
        """Close the client and cancel coroutines, if there are any. Blocks."""
        self._side.close()


def _seconds(timeout: float | str | None) -> float:
    """How long to wait for a connection, unless somebody says otherwise."""
    given = dask.config.get(CONNECT_TIMEOUT) if timeout is None else timeout
    return float(parse_timedelta(given, "s"))


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
