"""What a task finds when it asks Dask where it runs. Imports Dask: for nodes of a cluster only.

`distributed.get_worker`, `get_client`, `worker_client`, `secede` and `rejoin` look for a stock
worker and the state of its thread pool, in a context variable and in two thread-local objects.
`DaskWorker` stands there for a node, and has what they use, and little more; `dask_parts` has what
it is made of.
"""

# pyright: reportUnknownMemberType=false, reportPrivateImportUsage=false
# pyright: reportPrivateUsage=false, reportArgumentType=false
# `DaskWorker` is put where Dask keeps a `distributed.Worker`, and no subclass of it.

import asyncio
from collections.abc import Collection, Coroutine, Mapping
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar

import dask.config
from dask.utils import parse_timedelta
from distributed import Client, Security
from distributed.core import Status
from distributed.threadpoolexecutor import thread_state as pool_state
from distributed.utils import thread_state as task_state
from distributed.worker import _worker_cvar as worker_variable
from tornado.ioloop import IOLoop

from trouper.actors.dask_parts import Data, Hooks, Host, Remote, Seat, State
from trouper.actors.dask_side import AsyncioSide
from trouper.actors.job import Job, current_job
from trouper.actors.uploads import keep_upload
from trouper.wire.keys import UserKey, decode_key

CONNECT_TIMEOUT = "distributed.comm.timeouts.connect"
"""In Dask's configuration, as text or in seconds."""

T = TypeVar("T")


class DaskWorker(Hooks):
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
        super().__init__()
        self.name = name
        self.id = address
        self.address = self.contact_address = self.worker_address = self.address_safe = address
        self.scheduler = Remote(scheduler_address, self._ask_scheduler)
        self.nthreads = nthreads
        self.local_directory = local_directory
        self.host: Host
        """Set by the node, before a task can ask for anything."""
        self._security = security
        self._side = AsyncioSide(self._new_client)

    def enter(self, job: Job, start: float) -> None:
        """A task begins, in the calling thread and context."""
        worker_variable.set(self)
        task_state.key = decode_key(job.key)
        task_state.start_time = start
        task_state.execution_state = {"worker": self}
        pool_state.executor = Seat(job, self.host.secede)

    def enter_actor(self) -> None:
        """A method of an actor begins, in the thread and a context of its own."""
        self.enter_coroutine()
        task_state.execution_state = {"worker": self}
        task_state.actor = True

    def enter_coroutine(self) -> None:
        """A coroutine that is no task begins, in a context of its own."""
        worker_variable.set(self)

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

    @property
    def state(self) -> State:
        """What actors and plugins look at."""
        return State(self.nthreads, self.data)

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

    def hear(self, op: str, fields: Mapping[str, Any]) -> bool:
        """Give what the scheduler says to the plugin that wants to know it; whether one does.

        Raises:
            RuntimeError: There is no loop for it.
        """
        handler = self.stream_handlers.get(op)
        if handler is not None:
            self.loop.add_callback(partial(handler, **fields))
        return handler is not None

    def submit_to_loop(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Run a coroutine there that raises nothing but an `Exception`."""
        return self._side.submit(coroutine)

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

    def rpc(self, address: str) -> Remote:
        """Another worker, or this one."""
        return Remote(address, partial(self._ask_worker, address))

    async def _ask_scheduler(self, op: str, **arguments: object) -> object:
        client = await self._side.connected_client(_seconds(None))
        return await getattr(client.scheduler, op)(**arguments)

    async def _ask_worker(self, address: str, op: str, **arguments: object) -> object:
        client = await self._side.connected_client(_seconds(None))
        return await getattr(client.rpc(address), op)(**arguments)

    def handle_stimulus(self, *events: object) -> None:
        """A task has seceded: its `Seat` has said so."""

    def close(self) -> None:
        """Close the client and cancel coroutines, if there are any. Blocks."""
        self._side.close()


def _seconds(timeout: float | str | None) -> float:
    """How long to wait for a connection, unless somebody says otherwise."""
    given = dask.config.get(CONNECT_TIMEOUT) if timeout is None else timeout
    return float(parse_timedelta(given, "s"))
