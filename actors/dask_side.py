"""The asyncio side of a node: an event loop in a thread of its own, for tasks that work with Dask.

Dask's client, and what is built on it, locks and queues, are asyncio's. Here runs the client that
all tasks of a node share, and here run tasks that are coroutines: so they can await it, and one
another. Functions use it from their own threads, and wait. What blocks this thread holds up them
all, but never the node, which is on trio's loop. The thread begins when somebody needs it.
"""

# pyright: reportUnknownMemberType=false

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from distributed import Client
from tornado.ioloop import IOLoop

logger = logging.getLogger(__name__)

CLOSING_S = 5.0
"""How long the ends of client and loop are waited for; the scheduler may be gone, and coroutines
may take no notice of their cancellation."""

NO_MORE = ("closing", "closed")
"""A client that is of no more use: a task has closed it, or it could not connect."""

T = TypeVar("T")


class _Loop:
    """One event loop and its thread, until it is stopped or something ends it.

    Raises:
        RuntimeError: It cannot begin; standard error says why.
    """

    def __init__(self) -> None:
        self.io_loop: IOLoop
        self._over: asyncio.Event
        self._waited_for: set[Future[Any]] = set()
        self._lock = threading.Lock()
        begun = threading.Event()
        self.thread = threading.Thread(
            target=self._live, args=(begun,), name="trouper-asyncio", daemon=True
        )
        self.thread.start()
        begun.wait()
        if not hasattr(self, "io_loop"):
            raise RuntimeError("no event loop can begin for what tasks do with Dask")

    def _live(self, begun: threading.Event) -> None:
        try:
            asyncio.run(self._serve(begun))
        finally:
            begun.set()
            with self._lock:  # what has come too late to be begun, or cancelled
                for future in list(self._waited_for):
                    future.cancel()

    async def _serve(self, begun: threading.Event) -> None:
        self.io_loop = IOLoop.current()
        self._over = asyncio.Event()
        begun.set()
        await self._over.wait()

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Run a coroutine. Its future is cancelled if the loop ends before.

        Raises:
            RuntimeError: The loop has ended.
        """
        loop: Any = self.io_loop
        with self._lock:
            future = asyncio.run_coroutine_threadsafe(coroutine, loop.asyncio_loop)
            self._waited_for.add(future)
        future.add_done_callback(self._waited_for.discard)
        return future

    def stop(self) -> None:
        """Cancel what runs there, and wait for the end of the thread."""
        if self.thread.is_alive():
            self.io_loop.add_callback(self._over.set)
            self.thread.join(CLOSING_S)


class _Raised:
    """How a coroutine has failed. Not an exception of its task: `SystemExit` would end the loop."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


async def _outcome(coroutine: Coroutine[Any, Any, T]) -> T | _Raised:
    try:
        return await coroutine
    except BaseException as error:  # noqa: BLE001 - is raised where the result is waited for
        return _Raised(error)


class AsyncioSide:
    """See the module's text.

    Args:
        connect: Makes the client that tasks share, in the loop's thread, with a timeout in seconds.
    """

    def __init__(self, connect: Callable[[IOLoop, float], Client]) -> None:
        self._connect = connect
        self._client: Client | None = None
        """Only looked at in the loop's thread, until that has ended."""
        self._loop: _Loop | None = None
        self._closed = False
        self._lock = threading.Lock()

    @property
    def loop(self) -> IOLoop:
        """The loop, which runs; another one, if a task has ended the one before.

        Raises:
            RuntimeError: The node has ended.
        """
        return self._running().io_loop

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine with the context of the calling thread, which waits. Raises what it does.

        Not to be called in the loop's thread.

        Raises:
            CancelledError: The node has ended meanwhile, or a task has ended the loop.
            RuntimeError: The node has ended before.
        """
        try:
            outcome = self.submit(_outcome(coroutine)).result()
        finally:
            coroutine.close()  # in case that it was not begun
        if isinstance(outcome, _Raised):
            raise outcome.error
        return outcome

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Run a coroutine that raises nothing but an `Exception`.

        Raises:
            RuntimeError: The node has ended.
        """
        try:
            return self._running().submit(coroutine)
        except RuntimeError:
            coroutine.close()
            raise

    def client(self, timeout_s: float) -> Client:
        """The client, connected; in a coroutine it may be about to, as Dask has it there.

        Raises:
            OSError: The scheduler cannot be reached.
            TimeoutError: Not in this time.
        """
        loop = self._running()
        if loop.thread is threading.current_thread():
            return self._begun_client(loop.io_loop, timeout_s)
        return self.run(self.connected_client(timeout_s))

    async def connected_client(self, timeout_s: float) -> Client:
        """The same, in the loop's thread."""
        client = self._begun_client(IOLoop.current(), timeout_s)
        await client
        return client

    def _running(self) -> _Loop:
        with self._lock:
            if self._closed:
                raise RuntimeError("the node of this task has ended")
            if self._loop is None or not self._loop.thread.is_alive():
                self._loop, self._client = _Loop(), None
            return self._loop

    def _begun_client(self, loop: IOLoop, timeout_s: float) -> Client:
        if self._client is None or self._client.status in NO_MORE:
            self._client = self._connect(loop, timeout_s)
        return self._client

    def close(self) -> None:
        """Close the client, cancel coroutines, and end the thread. Blocks."""
        with self._lock:
            self._closed = True
            loop, self._loop = self._loop, None
            client, self._client = self._client, None
        if loop is None:
            return
        if client is not None and loop.thread.is_alive():
            try:
                client.close(timeout=CLOSING_S)
            except TimeoutError as error:
                logger.warning("the client of this node's tasks does not close: %s", error)
        loop.stop()
        if loop.thread.is_alive():
            logger.warning("a coroutine of a task does not end, and is left behind")
