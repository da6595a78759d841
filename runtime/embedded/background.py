"""A worker in a thread of its own, for those who live in other threads.

`Background` runs trio and a `Worker` in one daemon thread. Other threads reach it by commands:
plain functions that they `post`, and that run in the thread of the event loop, in the order in
which they were posted. Whoever posts wakes the loop only if nobody has since it last looked, so
that a thousand submissions cost a few wake-ups.

Its life is that of the threads of `concurrent.futures.ThreadPoolExecutor`: it ends when it is
closed, when its executor is garbage, or when the interpreter exits; in each case what was
submitted is finished first.

A task may wait, in its thread, for other tasks of the same worker. It says so beforehand
(`about_to_wait`), and its slot is for others from then on. What a task submits goes before other
work of the same priority, so that recursion goes into the depth and few threads have to wait.
"""

import logging
import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from functools import partial
from typing import Protocol

import trio

from trouper.actors.job import Job, current_job
from trouper.runtime.embedded.worker import Worker
from trouper.runtime.errors import WorkerFailed
from trouper.wire.stimuli import Secede

logger = logging.getLogger(__name__)

BATCH_LIMIT = 1000
"""Commands carried out in one go before the worker's own tasks get their turn."""

PRIORITY_PER_LEVEL = 2.0**-20
"""How much a task that was submitted by a task goes before others of the same priority."""

AFTER_SHUTDOWN = "cannot schedule new futures after shutdown"
AFTER_EXIT = "cannot schedule new futures after interpreter shutdown"

nesting: ContextVar[int] = ContextVar("nesting")
"""How many tasks deep the calling code is: set by each task for what it submits."""


class Unfinished(Protocol):
    """What was submitted, and somebody may wait for."""

    def cancel(self) -> bool:
        """Cancel it, unless it has begun."""
        ...

    def abandon(self, error: BaseException) -> None:
        """The worker has ended before it. Whoever waits has to be told."""
        ...


class Background:
    """See the module's text. The constructor returns when the worker is open.

    Args:
        open_: Opens the worker; called in the new thread.

    Raises:
        BaseException: Whatever opening the worker raised.
    """

    def __init__(self, open_: Callable[[], AbstractAsyncContextManager[Worker]]) -> None:
        self.worker: Worker
        """To be used by commands only, but for what it says of itself."""
        self.unfinished: dict[Unfinished, None] = {}
        """What was admitted and has not ended, oldest first."""
        self._commands: deque[Callable[[], None]] = deque()
        self._awake = True  # nobody to be woken until the loop runs
        self._token: trio.lowlevel.TrioToken
        self._closing: trio.Event
        self._refusal: str | None = None
        # Reentrant: a finaliser or a signal handler may submit while its thread does.
        self._lock = threading.RLock()
        opened: Future[None] = Future()
        self._thread = threading.Thread(
            target=self._run, args=(open_, opened), name="trouper-executor", daemon=True
        )
        _running.add(self)
        self._thread.start()
        opened.result()

    # For other threads

    def admit(self, item: Unfinished, command: Callable[[], None]) -> None:
        """Post a command that begins the work for `item`, who has to be told how it ends.

        Raises:
            RuntimeError: Closed, in the words of the standard library.
            WorkerFailed: The worker has given up.
        """
        with self._lock:
            if self._refusal is not None:
                raise RuntimeError(self._refusal)
            if self.worker.failure is not None:
                failure = self.worker.failure
                raise WorkerFailed(f"worker {self.worker.name!r} has failed") from failure
            self.unfinished[item] = None
            self.post(command)

    def post(self, command: Callable[[], None]) -> None:
        """Have a command run in the event loop, after those posted before. Takes no lock."""
        # `_drain` lowers the flag before it empties the deque: what is added while the flag is
        # up is always seen.
        self._commands.append(command)
        self._wake()

    def close(self, refusal: str = AFTER_SHUTDOWN) -> None:
        """Admit nothing more, and end when what was admitted has ended. Idempotent."""
        self._refusal = self._refusal or refusal
        with self._lock:  # whoever was admitted has posted by now
            self.post(self._close)

    def forsake(self) -> None:
        """Nobody can submit any more. Like `close`, for finalisers: it takes no lock."""
        self.post(self._close)

    def join(self) -> None:
        """Wait for the thread to end.

        Raises:
            RuntimeError: The caller is a task of this worker, which would wait for itself.
        """
        if self.is_mine(current_job.get(None)) or self._in_loop():
            raise RuntimeError(
                "a task cannot wait for the end of its own executor; use shutdown(wait=False)"
            )
        self._thread.join()

    def is_mine(self, job: Job | None) -> bool:
        """Whether a job is one of this worker, and runs."""
        return job is not None and job.owner is self.worker.supervisor and not job.ended

    def depth(self) -> int:
        """How many tasks of this worker deep the calling code is."""
        return nesting.get(0) if self.is_mine(current_job.get(None)) else 0

    def about_to_wait(self) -> None:
        """If the caller is a task of this worker, its slot is for others from now on.

        Raises:
            RuntimeError: The caller runs in the event loop, which must not wait.
        """
        if self._in_loop():
            raise RuntimeError(
                "this would block the worker's event loop: a coroutine, or a callback of a "
                "future, cannot wait for a future that is not done"
            )
        job = current_job.get(None)
        if job is None or not self.is_mine(job) or job.seceded:
            return
        with self._lock:  # a task may have threads of its own, which wait in its name
            if job.in_thread:
                self.worker.supervisor.threads.secede(job)
            else:
                self.post(partial(self._secede_coroutine, job))

    def _in_loop(self) -> bool:
        return threading.get_ident() == self._thread.ident

    # In the event loop

    def _wake(self) -> None:
        if not self._awake:
            try:
                self._awake = True
                self._token.run_sync_soon(self._drain)
            except trio.RunFinishedError:
                pass  # `_end` has told whoever waits
            except BaseException:  # Ctrl-C; or the next one would rely on a wake-up that never was
                self._awake = False
                raise

    def _drain(self) -> None:
        self._awake = False
        commands = self._commands
        for _ in range(BATCH_LIMIT):
            if not commands:
                return
            commands.popleft()()
        if commands:
            self._wake()

    def _close(self) -> None:
        self._closing.set()

    def _secede_coroutine(self, job: Job) -> None:
        """For a coroutine that waits by way of a thread, as `trio.to_thread` gives it."""
        if not job.ended and not job.seceded:
            job.seceded = True
            self.worker.supervisor.send(Secede(job.key, job.attempt))

    def _run(
        self, open_: Callable[[], AbstractAsyncContextManager[Worker]], opened: Future[None]
    ) -> None:
        cause: BaseException | None = None
        try:
            trio.run(self._main, open_, opened)
        except BaseException as error:
            cause = error
            if not opened.done():
                opened.set_exception(error)
            elif not isinstance(error, WorkerFailed):  # which the supervisor has logged
                logger.critical("the thread of an executor has crashed", exc_info=error)
        self._end(cause)

    async def _main(
        self, open_: Callable[[], AbstractAsyncContextManager[Worker]], opened: Future[None]
    ) -> None:
        async with open_() as worker:
            # A KeyboardInterrupt that a task raises is its result, and nothing for this thread.
            worker.interrupted = lambda interrupt: None
            self.worker = worker
            self._token = trio.lowlevel.current_trio_token()
            self._closing = trio.Event()
            opened.set_result(None)
            self._drain()
            await self._closing.wait()

    def _end(self, cause: BaseException | None) -> None:
        """Nothing runs any more. There is something unfinished only if the worker has failed."""
        with self._lock:
            self._refusal = self._refusal or AFTER_SHUTDOWN
            _running.discard(self)
        for item in list(self.unfinished):
            error = WorkerFailed("the executor has ended before the task")
            error.__cause__ = cause
            item.abandon(error)
        self.unfinished.clear()
        self._commands.clear()


_running: set[Background] = set()


def _finish_all() -> None:
    """The interpreter exits: finish what was submitted."""
    ending = list(_running)
    for background in ending:
        background.close(AFTER_EXIT)
    for background in ending:
        background.join()


# A private function of `threading`, for want of a public one: `atexit` runs too late, when the
# interpreter starts no more threads (since 3.12), and a task that gives its slot back needs one.
# `concurrent.futures.thread` uses it likewise.
threading._register_atexit(_finish_all)  # type: ignore[attr-defined]
if hasattr(os, "register_at_fork"):  # threads do not live in a forked child
    os.register_at_fork(after_in_child=_running.clear)
