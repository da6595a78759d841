"""A thread that calls functions one after the other, and how trio waits for what it brings."""

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

import trio

T = TypeVar("T")


class SerialThread:
    """All calls are made in the same thread, in the order in which they were submitted.

    The thread begins with the first one. It is a daemon, so that a call that never ends keeps no
    process alive. Not for submitting in several threads at once.

    Args:
        name: Of the thread.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._calls: queue.SimpleQueue[tuple[Future[Any], Callable[[], object]] | None] = (
            queue.SimpleQueue()
        )
        self._thread: threading.Thread | None = None

    def submit(self, function: Callable[[], T]) -> Future[T]:
        """Call it when its turn has come, unless the future is cancelled before."""
        future: Future[T] = Future()
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
            self._thread.start()
        self._calls.put((future, function))
        return future

    def close(self) -> None:
        """Make no more calls than those that were submitted; the thread ends by itself."""
        if self._thread is not None:
            self._calls.put(None)

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            _answer(*call)
            del call  # what it holds is not kept while nothing comes


def _answer(future: Future[Any], function: Callable[[], object]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(function())
    except BaseException as error:  # noqa: BLE001 - it is for whoever waits
        future.set_exception(error)


async def result_of(future: Future[T]) -> T:
    """What comes of a future that another thread brings about. A cancellation cancels it.

    Raises:
        CancelledError: Somebody else has cancelled it.
    """
    done = trio.Event()
    loop = trio.lowlevel.current_trio_token()

    def tell(_: Future[T]) -> None:
        with suppress(trio.RunFinishedError):  # then nobody waits any more
            loop.run_sync_soon(done.set)

    future.add_done_callback(tell)
    try:
        await done.wait()
    except trio.Cancelled:
        future.cancel()
        raise
    return future.result()
