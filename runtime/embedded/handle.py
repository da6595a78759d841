"""What a user holds of a task: a handle, and behind it the record that all its handles share."""

from collections.abc import Callable, Coroutine, Generator
from enum import Enum
from typing import Any, Generic, NoReturn, Protocol, TypeVar

import msgspec
import trio

from trouper.runtime.embedded.failure import Failure
from trouper.runtime.errors import TaskReleased
from trouper.wire.keys import UserKey, decode_key
from trouper.wire.mutable import mutable
from trouper.wire.vocabulary import Entry, Key

T = TypeVar("T")

FAIRNESS = 64
"""Of so many awaits of tasks that have ended already, one lets other trio tasks have their turn."""


class Outcome(Enum):
    """What has become of a task, as far as its handles are concerned."""

    PENDING = "pending"
    FINISHED = "finished"
    FAILED = "failed"


# Members by themselves: looking them up is slow up to Python 3.11.
PENDING, FINISHED, FAILED = Outcome.PENDING, Outcome.FINISHED, Outcome.FAILED


@mutable
class Record(msgspec.Struct, eq=False, weakref=True):
    """A submitted task, as the worker that submitted it sees it."""

    key: Key
    run_id: int
    handles: int = 1
    """Handles that have not been dropped or released."""
    outcome: Outcome = PENDING
    attempt: int = 0
    """Under which the store keeps the value, once it is finished."""
    failure: Failure | None = None
    inputs: tuple["Record", ...] = ()
    """Of its inputs, until it has ended: why they failed, if nobody else remembers it then."""
    event: trio.Event | None = None
    callbacks: list[Callable[[], None]] | None = None

    @property
    def cancelled(self) -> bool:
        """Whether it was cancelled, itself or through an input."""
        return self.failure is not None and self.failure.cancelled

    def cause(self, key: Key) -> Failure | None:
        """Why this input of it has failed, if it has."""
        return next((input_.failure for input_ in self.inputs if input_.key == key), None)

    async def wait(self) -> None:
        """Wait until it is no longer pending."""
        if self.event is None:
            self.event = trio.Event()
        await self.event.wait()

    def finish(self, attempt: int) -> None:
        """It has a value."""
        self.outcome = FINISHED
        self.attempt = attempt
        if self.inputs:
            self.inputs = ()
        if self.event is not None or self.callbacks is not None:
            self._tell()

    def fail(self, failure: Failure) -> None:
        """It will have none."""
        self.outcome = FAILED
        self.inputs = ()
        self.failure = failure
        self._tell()

    def _tell(self) -> None:
        if self.event is not None:
            self.event.set()
            self.event = None
        if self.callbacks is not None:
            for callback in self.callbacks:
                callback()
            self.callbacks = None


class Owner(Protocol):
    """The worker, as its handles see it."""

    values: dict[Entry, Any]
    """Of all tasks that have one."""
    immediate: int
    """How often somebody has awaited a task that had ended already."""

    def wait_for(self, handle: "TaskHandle[Any]") -> Coroutine[Any, Any, Any]:
        """The value of a task; or raise. The handle lives meanwhile, or the value might not."""
        ...

    def cancel(self, record: Record) -> bool:
        """Cancel a task; whether it was still pending."""
        ...

    def phase(self, record: Record) -> str:
        """The derived name of a task's state."""
        ...

    def drop(self, record: Record) -> None:
        """A handle is gone. Called in any thread, at any moment."""
        ...


class TaskHandle(msgspec.Struct, Generic[T], eq=False, weakref=True):
    """A task of a worker: await it for its result.

    Awaiting gives the result, or raises the task's own exception with its own traceback, as
    often as it is awaited. It is a checkpoint if the task has not ended; if it has, then only
    every now and then, since a checkpoint costs as much as a small task.

    A task whose input failed raises that input's exception, with a note
    that names the path of keys; a cancelled one raises `TaskCancelled`, and so do those that
    depend on it.

    The result lives as long as a handle or a dependent needs it. Dropping a handle cancels
    nothing: what was submitted is run.
    """

    _owner: Owner
    _record: Record
    _released: bool = False

    @property
    def record(self) -> Record:
        """What all handles of the task share; for the worker."""
        return self._record

    @property
    def owner(self) -> Owner:
        """The worker that runs the task."""
        return self._owner

    @property
    def key(self) -> UserKey:
        """The key that it was submitted with, or was given."""
        return decode_key(self._record.key)

    @property
    def phase(self) -> str:
        """What state the task is in: waiting, ready, constrained, executing, memory, error, ...

        A cancelled task is "cancelled", also while its function still runs.
        """
        return "released" if self._released else self._owner.phase(self._record)

    def done(self) -> bool:
        """Whether awaiting would not wait: the task has finished, failed or been cancelled."""
        return self._record.outcome is not PENDING

    def cancel(self) -> bool:
        """Cancel the task, whoever else holds a handle, and all tasks that depend on it.

        Who awaits one of them gets `TaskCancelled` at once. A coroutine is stopped at its next
        checkpoint. A plain function cannot be stopped: it is asked to (`check_cancelled`), and
        keeps its slot until it returns.

        Returns:
            Whether it was cancelled; False if it had ended before.
        """
        return self._owner.cancel(self._record)

    def release(self) -> None:
        """Give the result up now, and not only when the handle is garbage. Idempotent.

        The task is run all the same. Awaiting the handle raises `TaskReleased` from now on.
        """
        if not self._released:
            self._released = True
            self._owner.drop(self._record)

    def __await__(self) -> Generator[Any, Any, T]:
        if self._released:
            self.check_usable()
        owner, record = self._owner, self._record
        if record.outcome is FINISHED:
            # A checkpoint costs as much as a small task, so not at every await.
            owner.immediate += 1
            if owner.immediate % FAIRNESS:
                value: T = owner.values[record.key, record.attempt]
                return value
        value = yield from owner.wait_for(self).__await__()
        return value

    def check_usable(self) -> None:
        """Raise TaskReleased after `release`."""
        if self._released:
            raise TaskReleased(
                f"the handle of task {self.key!r} was released; submit the task again, or "
                "release the handle later"
            )

    def when_done(self, callback: Callable[["TaskHandle[T]"], None]) -> None:
        """Call back, in the event loop, when the task has ended; at once if it has."""
        record = self._record
        if record.outcome is not PENDING:
            callback(self)
        elif record.callbacks is None:
            record.callbacks = [lambda: callback(self)]
        else:
            record.callbacks.append(lambda: callback(self))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TaskHandle):
            return NotImplemented
        return self._record is other._record

    def __hash__(self) -> int:
        return hash(id(self._record))

    def __copy__(self) -> "TaskHandle[T]":
        return self  # a copy that nobody has counted would drop the result of the others

    def __deepcopy__(self, memo: object) -> "TaskHandle[T]":
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"the handle of task {self.key!r} cannot leave its process; await it, and send the "
            "result"
        )

    def __repr__(self) -> str:
        return f"<TaskHandle {self.key!r} {self.phase}>"

    @trio.lowlevel.enable_ki_protection
    def __del__(self) -> None:
        if not self._released:
            self._owner.drop(self._record)
