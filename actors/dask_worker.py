"""What a task finds when it asks Dask where it runs. Imports Dask: for nodes of a cluster only.

`distributed.get_worker`, `get_client`, `worker_client`, `secede` and `rejoin` look for a stock
worker and the state of its thread pool, in a context variable and in two thread-local objects.
`DaskWorker` stands there for a node, and has what they use, and little more.
"""

# pyright: reportUnknownMemberType=false, reportPrivateImportUsage=false
# pyright: reportPrivateUsage=false, reportArgumentType=false
# `DaskWorker` is put where Dask keeps a `distributed.Worker`, and no subclass of it.

import logging
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import NoReturn, Protocol

from dask.utils import parse_timedelta
from distributed import Client, Security
from distributed.threadpoolexecutor import thread_state as pool_state
from distributed.utils import thread_state as task_state
from distributed.worker import _worker_cvar as worker_variable

from trouper.actors.errors import NotSupported
from trouper.actors.job import Job
from trouper.wire.keys import UserKey, decode_key

logger = logging.getLogger(__name__)

CLOSING_S = 5
"""How long the end of a client is waited for; its scheduler may be gone."""


class Host(Protocol):
    """What a node does for its tasks. Called in their threads."""

    def secede(self, job: Job) -> None:
        """Give the slot of a job back, if it still has one; called in the thread that runs it."""
        ...

    def send_event(self, topics: Collection[str], message: object) -> None:
        """Have the scheduler log an event."""
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
    """What `get_client` looks at to see whether it is the one that it wants."""

    def __init__(self, address: str) -> None:
        self.address = address


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
        self.scheduler = Scheduler(scheduler_address)
        self.nthreads = nthreads
        self.local_directory = local_directory
        self.loop = self
        """Dask's functions tell a stock worker's loop what the machine here knows already."""
        self.host: Host
        """Set by the node, before a task can ask for anything."""
        self._security = security
        self._client: Client | None = None
        self._lock = threading.Lock()

    def enter(self, job: Job, start: float) -> None:
        """A task begins, in the calling thread and context."""
        worker_variable.set(self)
        task_state.key = decode_key(job.key)
        task_state.start_time = start
        task_state.execution_state = {"worker": self}
        pool_state.executor = Seat(job, self.host.secede)

    def get_current_task(self) -> UserKey:
        """The key of the task that asks."""
        key: UserKey = task_state.key
        return key

    def log_event(self, topic: str | Collection[str], msg: object) -> None:
        """Log an event with the scheduler."""
        self.host.send_event([topic] if isinstance(topic, str) else topic, msg)

    @property
    def plugins(self) -> NoReturn:
        """There are none; P2P shuffles look for theirs here.

        Raises:
            NotSupported: Always.
        """
        raise NotSupported(
            "a trouper node runs no plugins, and so no P2P shuffles; shuffle with tasks, "
            'dask.config.set({"dataframe.shuffle.method": "tasks"})'
        )

    @property
    def data(self) -> Data:
        """What is in memory here."""
        return Data(self.host)

    def update_data(self, data: Mapping[UserKey, object]) -> None:
        """Keep what a task scatters; its client tells the scheduler."""
        self.host.put(data)

    def add_callback(self, callback: Callable[..., object], *args: object) -> None:
        """What a stock worker's loop would do."""
        callback(*args)

    def handle_stimulus(self, *events: object) -> None:
        """A task has seceded: its `Seat` has said so."""

    def _get_client(self, timeout: float | str | None = None) -> Client:
        """The client that all tasks of this node share; connected when the first one asks."""
        with self._lock:
            if self._client is None:
                self._client = Client(
                    self.scheduler.address,
                    security=self._security,
                    set_as_default=False,
                    direct_to_workers=True,
                    name="worker",
                    timeout=parse_timedelta(timeout, "s") if timeout is not None else "10s",
                )
            return self._client

    def close(self) -> None:
        """Close the client, if there is one. Blocks."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            try:
                client.close(timeout=CLOSING_S)
            except TimeoutError as error:
                logger.warning("the client of this node's tasks does not close: %s", error)


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
