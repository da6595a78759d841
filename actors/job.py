"""An attempt as the execute actor sees it: what to run, with what, and how it went.

A job is run by a thread or by a trio task, once. Whoever runs it fills in the outcome; after that
`terminal_stimulus` stores what it brought and says so to the machine, exactly once.
"""

import math
import sys
import time
from contextlib import suppress
from contextvars import ContextVar
from enum import Enum
from types import CoroutineType, TracebackType
from typing import Any

import msgspec
import trio

from trouper.actors.errors import TaskCancelled
from trouper.actors.sizeof import sizeof
from trouper.actors.spec import Spec
from trouper.actors.store import Store
from trouper.wire.stimuli import ExecuteCancelled, ExecuteFailure, ExecuteSuccess
from trouper.wire.vocabulary import Key


class JobState(Enum):
    """How far a job has come."""

    PENDING = "pending"
    SUCCESS = "success"
    FAILURE = "failure"
    CANCELLED = "cancelled"


# Members by themselves: looking them up is slow up to Python 3.11, and each job does it often.
PENDING, SUCCESS = JobState.PENDING, JobState.SUCCESS
FAILURE, CANCELLED = JobState.FAILURE, JobState.CANCELLED


class Job(msgspec.Struct, eq=False, gc=False):
    """An `Execute` with everything in place of references.

    Not tracked by the garbage collector: one that has ended refers to nothing.
    """

    key: Key
    attempt: int
    executor: str
    spec: Spec | None
    """What to run; None when it has run."""
    inputs: dict[Key, object]
    """The values of its inputs."""
    owner: object
    """The supervisor it belongs to, to be recognised by who waits inside of the task."""
    cancelled: bool = False
    """Its cancellation has been asked for."""
    in_thread: bool = False
    """It has been handed to the threads, which owe its outcome even if the actor crashes."""
    seceded: bool = False
    scope: trio.CancelScope | None = None
    """Of a coroutine that runs."""
    state: JobState = PENDING
    value: Any = None
    """The value or the exception."""
    nbytes: int = 0
    duration_s: float = math.inf

    @property
    def ended(self) -> bool:
        """Whether its outcome is known."""
        return self.state is not PENDING

    def run(self) -> None:
        """Run a plain function to its end, in this thread. Raises nothing."""
        if self.cancelled:
            self.cancel_outcome()
            return
        assert self.spec is not None
        start = time.perf_counter()
        try:
            value = self.spec.context.run(self._call)
        except BaseException as error:  # noqa: BLE001 - whatever it is, who awaits the task gets it
            self.fail(error, sys.exc_info()[2])
        else:
            self.duration_s = time.perf_counter() - start
            self.succeed(value)

    def _call(self) -> object:
        current_job.set(self)
        spec, inputs = self.spec, self.inputs
        assert spec is not None
        value = spec.call(inputs)
        if type(value) is CoroutineType:
            value.close()
            raise TypeError(
                f"the function of task {self.key!r} is a plain one and returned a coroutine; "
                "submit the coroutine function itself"
            )
        return value

    def succeed(self, value: object) -> None:
        """It has returned; a cancellation that came too late does not count."""
        self.nbytes = sizeof(value)
        self._finish(SUCCESS, value)

    def fail(self, error: BaseException, traceback: TracebackType | None) -> None:
        """It has raised. If it was asked to stop, that is why.

        The traceback begins where the user's code does: trouper's own frames are cut off, and
        emptied, for those of the user go on to know them.
        """
        while traceback is not None and _is_ours(traceback):
            with suppress(RuntimeError):  # it is the caller's, which still runs
                traceback.tb_frame.clear()
            traceback = traceback.tb_next
        if self.cancelled:
            self.cancel_outcome()
        else:
            BaseException.with_traceback(error, traceback)
            self._finish(FAILURE, error)

    def cancel_outcome(self) -> None:
        """It was cancelled before it brought anything."""
        self._finish(CANCELLED, None)

    def _finish(self, state: JobState, value: object) -> None:
        self.state = state
        self.value = value
        # A traceback, or whoever still knows the job, shall not keep arguments and inputs alive.
        self.spec = None
        self.inputs = {}


def _is_ours(traceback: TracebackType) -> bool:
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


def terminal_stimulus(job: Job, store: Store) -> ExecuteSuccess | ExecuteFailure | ExecuteCancelled:
    """Store what a job has brought, and say how it has ended."""
    state = job.state
    if state is CANCELLED:
        return ExecuteCancelled(job.key, job.attempt)
    assert state is not PENDING, f"attempt {job.attempt} of {job.key!r} has not ended"
    value = job.value
    job.value = None
    store.values[job.key, job.attempt] = value
    type_name = type(value).__qualname__
    if state is SUCCESS:
        return ExecuteSuccess(job.key, job.attempt, job.nbytes, type_name, job.duration_s)
    return ExecuteFailure(job.key, job.attempt, type_name)
