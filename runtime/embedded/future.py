"""`WorkerFuture`: a task of a `WorkerExecutor`, as a `concurrent.futures.Future`.

A future is the standard library's own in all that can be seen of it. In addition, a task that
waits for a future of its own executor gives its slot back meanwhile, so that nested work
finishes with one thread; and it may stand among the arguments of `WorkerExecutor.submit_task`.

Two threads make it what it is. The thread that runs the task begins it and gives it its value,
so callbacks run there and nobody waits for the event loop; the event loop tells it of failures
and cancellations, which may concern tasks that have never run.
"""

import logging
from collections.abc import Iterable
from concurrent.futures import Future, InvalidStateError
from contextlib import ExitStack
from typing import Any, TypeVar, cast

from trouper.runtime.embedded.background import Background
from trouper.runtime.embedded.failure import Failure
from trouper.runtime.embedded.handle import TaskHandle

T = TypeVar("T")

logger = logging.getLogger(__name__)

# The names that `concurrent.futures` gives to the states of a future.
_CANCELLED = "CANCELLED"
_UNDECIDED = ("PENDING", "RUNNING")


class _Waiters(list[Any]):
    """Those who wait for a future by `concurrent.futures.wait` or `as_completed`.

    These two do not call the future before they wait; all they do is to append to this list. So
    it is here that a task is noticed which is about to wait, and gives its slot back. It refers
    to no future: a cycle would keep results alive.
    """

    __slots__ = ("_background",)

    def __init__(self, background: Background) -> None:
        self._background = background

    def append(self, waiter: Any, /) -> None:
        self._background.about_to_wait()
        super().append(waiter)


class WorkerFuture(Future[T]):
    """See the module's text. Made by `WorkerExecutor`; the task's result lives as long as it does.

    Args:
        background: Where the task runs.
        in_graph: Whether it is of `submit_task`: a failure that nobody has looked at is logged then
            when the worker closes. The standard library does not.
    """

    def __init__(self, background: Background, in_graph: bool) -> None:
        super().__init__()
        self.background = background
        self.handle: TaskHandle[Any] | None = None
        """For the event loop: the task, once it is submitted there."""
        self.in_graph = in_graph
        self._failure: Failure | None = None
        self._waiters: list[Any] = _Waiters(background)

    # For everybody

    def cancel(self) -> bool:
        """Cancel the task if it has not begun; whether it is cancelled.

        Tasks that depend on it fail with `TaskCancelled`.
        """
        try:
            return super().cancel()
        finally:
            self._tell_of_cancel()

    @staticmethod
    def cancel_all(futures: Iterable["WorkerFuture[Any]"]) -> None:
        """Cancel several at once: no one of them fails because another was cancelled before it."""
        with ExitStack() as told:
            for future in futures:
                told.callback(future._tell_of_cancel)
                super(WorkerFuture, future).cancel()

    def _tell_of_cancel(self) -> None:
        if self._state == _CANCELLED:
            self.background.post(self.withdraw)

    def result(self, timeout: float | None = None) -> T:
        """The task's value; or raise its own exception, each time with its own traceback.

        Raises:
            CancelledError: The future was cancelled.
            TaskCancelled: A task was cancelled on which this one depends.
            TimeoutError: It is not done after so many seconds.
            RuntimeError: The caller is a coroutine or a callback that would block the event loop.
        """
        error = self.exception(timeout)
        if error is None:
            return cast("T", self._result)
        try:
            raise error
        finally:
            del self, error  # or the traceback, the frame and the exception make a cycle

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """The exception that `result` would raise, or None. Raises what `result` does otherwise."""
        if self._state in _UNDECIDED and (timeout is None or timeout > 0):
            self.background.about_to_wait()
        error = super().exception(timeout)
        failure = self._failure
        if error is None or failure is None:
            return error
        failure.origin.observed = True
        return error.with_traceback(None) if failure.origin.exception is None else failure.restore()

    # For the one who runs the task

    def begin(self) -> bool:
        """It is about to run: no cancelling any more. False if it was cancelled."""
        with self._condition:
            if self._state == "PENDING" or self._state == _CANCELLED:
                return self.set_running_or_notify_cancel()
        return False

    def succeed(self, value: T) -> None:
        """It has returned."""
        try:
            self.set_result(value)
        except InvalidStateError:
            self._acknowledge_cancel()
        except BaseException:
            # The standard library has logged and passed over an Exception of a callback.
            logger.exception("a callback of %r has raised", self)

    def _fail(self, error: BaseException) -> None:
        try:
            self.set_exception(error)
        except InvalidStateError:
            self._acknowledge_cancel()
        except BaseException:
            logger.exception("a callback of %r has raised", self)

    def _acknowledge_cancel(self) -> None:
        """Tell `wait` and `as_completed`, to whom `cancel` says nothing."""
        with self._condition:
            if self._state == _CANCELLED:
                self.set_running_or_notify_cancel()

    # For the event loop

    @property
    def is_task_cancelled(self) -> bool:
        """Whether there will be no value because of a cancellation, its own or of an input."""
        return self.cancelled() or (self._failure is not None and self._failure.cancelled)

    def submitted(self, handle: TaskHandle[Any]) -> None:
        """The worker has taken the task."""
        self.handle = handle
        handle.when_done(self._on_end)

    def refused(self, error: BaseException) -> None:
        """The worker has not taken the task."""
        self.background.unfinished.pop(self, None)
        self._fail(error)

    def abandon(self, error: BaseException) -> None:
        """The worker has ended before it."""
        self._fail(error)

    def withdraw(self) -> None:
        """It was cancelled: tell the worker. Idempotent."""
        if self.handle is not None:
            self.handle.cancel()
        self._acknowledge_cancel()

    def _on_end(self, handle: TaskHandle[Any]) -> None:
        self.background.unfinished.pop(self, None)
        record = handle.record
        failure = record.failure
        if failure is None:
            if self._state in _UNDECIDED:  # a task that was submitted with another future
                self.succeed(self.background.worker.value_of(record))
            return
        self._failure = failure
        if not self.in_graph or self.cancelled():
            failure.origin.observed = True
        self._fail(failure.restore())
