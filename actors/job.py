"""An attempt as the execute actor sees it: what to run, with what, and how it went.

A job is run by a thread or by a trio task, once. Whoever runs it fills in the outcome; after that
`terminal_stimulus` stores what it brought and says so to the machine, exactly once.
"""

import math
import sys
from contextlib import suppress
from contextvars import ContextVar
from time import perf_counter
from types import CoroutineType, TracebackType
from typing import Any, TypeAlias

import msgspec
import trio

from trouper.actors.errors import TaskCancelled, TaskRescheduled
from trouper.actors.sizeof import ATOM_NAMES, sizeof
from trouper.actors.spec import Runnable
from trouper.actors.store import Store
from trouper.wire.mutable import mutable
from trouper.wire.stimuli import (
    ExecuteCancelled,
    ExecuteFailure,
    ExecuteReschedule,
    ExecuteSuccess,
)
from trouper.wire.vocabulary import Key

Outcome: TypeAlias = ExecuteSuccess | ExecuteFailure | ExecuteReschedule | ExecuteCancelled


NO_INPUTS: dict[Key, object] = {}
"""Of most jobs; nobody writes to it."""


@mutable
class Job(msgspec.Struct, eq=False, gc=False):
    """An `Execute` with everything in place of references.

    Not tracked by the garbage collector: one that has ended refers to nothing.
    """

    key: Key
    attempt: int
    spec: Runnable | None
    """What to run; None when it has run."""
    inputs: dict[Key, object]
    """The values of its inputs."""
    owner: object
    """The supervisor it belongs to, to be recognised by who waits inside of the task."""
    in_thread: bool = False
    """It is for the threads, which owe its outcome even if the actor crashes."""
    cancelled: bool = False
    """Its cancellation has been asked for."""
    seceded: bool = False
    scope: trio.CancelScope | None = None
    """Of a coroutine that runs."""
    value: Any = None
    """The value or the exception, until it is in the store."""
    outcome: Outcome | None = None
    """How it has ended; None until then."""

    @property
    def ended(self) -> bool:
        """Whether its outcome is known."""
        return self.outcome is not None

    def run(self) -> None:
        """Run a plain function to its end, in this thread. Raises nothing."""
        if self.cancelled:
            self.cancel_outcome()
            return
        try:
            start = perf_counter()
            # No name for the spec here: see `_finish`.
            value = self.spec.context.run(_call, self)  # type: ignore[union-attr]
            duration_s = perf_counter() - start
            type_name = ATOM_NAMES.get(type(value))
            if type_name is None:
                self.succeed(value, duration_s)
                return
            # The same in short, for the results of very small tasks.
            outcome = ExecuteSuccess(
                self.key, self.attempt, value.__sizeof__(), type_name, duration_s
            )
            self.spec = None
            self.inputs = NO_INPUTS
            self.value = value
            self.outcome = outcome
        except BaseException as error:  # noqa: BLE001 - whatever it is, who awaits the task gets it
            self.fail(error, sys.exc_info()[2])

    def succeed(self, value: object, duration_s: float = math.inf) -> None:
        """It has returned; a cancellation that came too late does not count."""
        if self.in_thread and isinstance(value, CoroutineType):
            value.close()  # pyright: ignore[reportUnknownMemberType]
            raise TypeError(
                f"the function of task {self.key!r} is a plain one and returned a coroutine; "
                "submit the coroutine function itself"
            )
        type_name = ATOM_NAMES.get(type(value)) or type(value).__qualname__
        outcome = ExecuteSuccess(self.key, self.attempt, sizeof(value), type_name, duration_s)
        self._finish(outcome, value)

    def fail(self, error: BaseException, traceback: TracebackType | None) -> None:
        """It has raised. If it was asked to stop, that is why.

        The traceback begins where the user's code does: trouper's own frames are cut off, and
        emptied, for those of the user go on to know them.
        """
        while traceback is not None and is_ours(traceback):
            with suppress(RuntimeError):  # it is the caller's, which still runs
                traceback.tb_frame.clear()
            traceback = traceback.tb_next
        if self.cancelled:
            self.cancel_outcome()
        elif isinstance(error, TaskRescheduled):
            self._finish(ExecuteReschedule(self.key, self.attempt), None)
        else:
            BaseException.with_traceback(error, traceback)
            if isinstance(error, trio.Cancelled):
                error = _contained(error, self.key)
            type_name = type(error).__qualname__
            self._finish(ExecuteFailure(self.key, self.attempt, type_name), error)

    def cancel_outcome(self) -> None:
        """It was cancelled before it brought anything."""
        self._finish(ExecuteCancelled(self.key, self.attempt), None)

    def _finish(self, outcome: Outcome, value: object) -> None:
        # A frame in a traceback, or whoever knows the job, shall not keep arguments and inputs.
        self.spec = None
        self.inputs = NO_INPUTS
        self.value = value
        self.outcome = outcome  # the last: other threads may look


def _call(job: Job) -> object:
    current_job.set(job)
    return job.spec.call(job.inputs)  # type: ignore[union-attr]  # not yet: it runs


def _contained(error: trio.Cancelled, key: Key) -> RuntimeError:
    """What stands for a `trio.Cancelled` where nothing is cancelled.

    Raised at who awaits the task, it would end theirs without a word, up to the next scope.
    """
    stray = RuntimeError(
        f"task {key!r} has raised a trio.Cancelled that belongs to none of the cancel scopes "
        "around it; raise it within its own scope, or raise something else"
    )
    stray.__cause__ = error
    return stray


def is_ours(traceback: TracebackType) -> bool:
    """Whether this part of a traceback is of trouper's own code."""
    return str(traceback.tb_frame.f_globals.get("__name__")).startswith("trouper.")


current_job: ContextVar[Job] = ContextVar("current_job")
"""The job that the calling code runs in."""


def check_cancelled() -> None:
    """Raise `TaskCancelled` if the task that calls it has been cancelled.

    For plain functions, which nothing can stop from outside: call it in long loops. It does what
    `trio.from_thread.check_cancelled` does in the threads of `trio.to_thread`. Coroutines need
    it not: their next checkpoint raises.

    Raises:
        TaskCancelled: Nobody wants the result any more. Let it pass.
        RuntimeError: The caller is not a task of a worker.
    """
    job = current_job.get(None)
    if job is None:
        raise RuntimeError("check_cancelled() is for functions that a worker runs as a task")
    if job.cancelled:
        raise TaskCancelled(f"task {job.key!r} was cancelled")


def terminal_stimulus(job: Job, store: Store) -> Outcome:
    """Store what a job has brought, and say how it has ended."""
    outcome = job.outcome
    assert outcome is not None, f"attempt {job.attempt} of {job.key!r} has not ended"
    if type(outcome) is ExecuteSuccess or type(outcome) is ExecuteFailure:
        store.values[job.key, job.attempt] = job.value
        job.value = None
    return outcome
