"""THE tables: what every request and every outcome does to a task, and the rule that follows.

Theory. A task is three facts: goal, activity, result (see `task`). Only two things ever happen
to it from outside:

- a **request** changes what is wanted of it. What the request does depends on where the task
  stands; `REQUESTS` has a row for each request and a column for each standing.
- an attempt ends with an **outcome**. What the outcome is worth depends on the goal that the
  task has *by then*, not on the one for which the attempt was started; `OUTCOMES` has a row for
  each outcome and a column for each goal.

Everything else follows, and is one rule: `settling.settle` puts each task where its three facts
say that it belongs.

Failure and cancellation go down to dependents along local inputs only: who fetches an input from
elsewhere is told by the scheduler what becomes of it. An input that came and cannot be read is the
exception, see `outcomes.gather_failure`.
"""

from enum import Enum, IntEnum

from trouper.runtime.ledger import Ledger
from trouper.runtime.settling import clear_result, forget_spec, leave, unpin
from trouper.runtime.task import (
    COMPUTE,
    FAILED,
    FETCH,
    IN_MEMORY,
    NONE,
    NOTHING,
    NOWHERE,
    READY,
    WAITING,
    Executing,
    Task,
)
from trouper.wire.instructions import (
    AddKeys,
    DropData,
    DropSpec,
    Instruction,
    RescheduleTask,
    TaskErred,
    TaskFinished,
)


class Outcome(IntEnum):
    """How an attempt has ended; the numbers are rows of `OUTCOMES`."""

    COMPUTED = 0
    FETCHED = 1
    FAILED = 2
    CANCELLED = 3
    """A cancellation reached the attempt and it did not succeed all the same."""
    UNREADABLE = 4
    """The value came and could not be deserialised."""
    RESCHEDULED = 5
    NOT_FETCHED = 6
    """Not found, peer busy, peer lost."""


class Verdict(Enum):
    """What an outcome is worth."""

    DROP = "drop what it brought"
    FINISHED = "keep the value, report task-finished"
    ADDED = "keep the value, report add-keys"
    ERRED = "failed, report task-erred"
    RESCHEDULED = "report reschedule, the claim ends"
    KEEP_GOAL = "drop what it brought; the goal stands, try again"


OUTCOMES: dict[Outcome, tuple[Verdict, Verdict, Verdict]] = {
    # goal:                 NONE          COMPUTE              FETCH
    Outcome.COMPUTED:      (Verdict.DROP, Verdict.FINISHED,    Verdict.ADDED),
    Outcome.FETCHED:       (Verdict.DROP, Verdict.FINISHED,    Verdict.ADDED),
    Outcome.FAILED:        (Verdict.DROP, Verdict.ERRED,       Verdict.KEEP_GOAL),
    Outcome.CANCELLED:     (Verdict.DROP, Verdict.KEEP_GOAL,   Verdict.KEEP_GOAL),
    Outcome.UNREADABLE:    (Verdict.DROP, Verdict.KEEP_GOAL,   Verdict.ERRED),
    Outcome.RESCHEDULED:   (Verdict.DROP, Verdict.RESCHEDULED, Verdict.KEEP_GOAL),
    Outcome.NOT_FETCHED:   (Verdict.DROP, Verdict.KEEP_GOAL,   Verdict.KEEP_GOAL),
}  # fmt: skip


class Request(IntEnum):
    """What is asked about a task; the numbers are rows of `REQUESTS`."""

    COMPUTE = 0
    REPLICA = 1
    UPDATE = 2
    FREE = 3
    REMOVE = 4
    STEAL = 5
    """Also cancel-compute: give the task up, unless it has begun."""
    CANCEL = 6


class Standing(IntEnum):
    """Where a task stands when it is asked about; the numbers are columns of `REQUESTS`."""

    RELEASED = 0
    """Known only as an input of others."""
    QUEUED = 1
    """Waiting, ready or constrained."""
    SOUGHT = 2
    """In fetch, or missing."""
    BUSY = 3
    """An attempt runs, whatever for."""
    MEMORY = 4
    ERROR = 5


class Do(Enum):
    """What a request does."""

    CLAIM = "it becomes the scheduler's claim"
    FINISHED = "hold the value, report task-finished again"
    ADDED = "hold the value, report add-keys again"
    PUT = "keep the value that came, as if an attempt had brought it"
    HOLD = "hold the value that is here, drop the one that came"
    WITHDRAW = "the scheduler's claim and hold end; needs of tasks here do not"
    REMOVE = "the hold ends, unless a task here uses the value: then hold it, report add-keys"
    FAIL = "fail as cancelled, and whoever depends on it"
    IGNORE = "nothing"


REQUESTS: dict[Request, tuple[Do, ...]] = {
    # standing:       RELEASED      QUEUED        SOUGHT        BUSY          MEMORY        ERROR
    Request.COMPUTE:  (Do.CLAIM,    Do.CLAIM,    Do.CLAIM,    Do.CLAIM,    Do.FINISHED, Do.CLAIM),
    Request.REPLICA:  (Do.CLAIM,    Do.CLAIM,    Do.CLAIM,    Do.CLAIM,    Do.ADDED,    Do.CLAIM),
    Request.UPDATE:   (Do.PUT,      Do.PUT,      Do.PUT,      Do.PUT,      Do.HOLD,     Do.PUT),
    Request.FREE:     (Do.WITHDRAW,) * 6,
    Request.REMOVE:   (Do.IGNORE,   Do.IGNORE,   Do.IGNORE,   Do.IGNORE,   Do.REMOVE,   Do.IGNORE),
    Request.STEAL:    (Do.IGNORE,   Do.WITHDRAW, Do.IGNORE,   Do.IGNORE,   Do.IGNORE,   Do.IGNORE),
    Request.CANCEL:   (Do.FAIL,) * 6,
}  # fmt: skip

# The same tables by number: hashing an Enum member costs ten times an index.
_VERDICTS = tuple(OUTCOMES[outcome] for outcome in Outcome)
_DEEDS = tuple(REQUESTS[request] for request in Request)

# Members by themselves, as in `task`.
_ADDED = Verdict.ADDED
_ERRED = Verdict.ERRED
_FINISHED = Verdict.FINISHED
_KEEP_GOAL = Verdict.KEEP_GOAL
_RESCHEDULED = Verdict.RESCHEDULED


def standing(task: Task) -> Standing:
    """The column of `REQUESTS` for a task."""
    if task.result is IN_MEMORY:
        return Standing.MEMORY
    if task.result is FAILED:
        return Standing.ERROR
    if task.activity is not None:
        return Standing.BUSY
    if task.place is NOWHERE:
        return Standing.RELEASED
    return Standing.QUEUED if task.place in (WAITING, READY) else Standing.SOUGHT


def answer(request: Request, task: Task) -> Do:
    """What a request does to a task."""
    return _DEEDS[request][standing(task)]


def conclude(
    ledger: Ledger,
    task: Task,
    outcome: Outcome,
    attempt: int,
    nbytes: int,
    type_name: str,
    out: list[Instruction],
) -> None:
    """The current attempt of a task has ended: judge the outcome. Who calls this settles then.

    Not here: while the outcomes of one flight are judged, those that come later still seem to be
    in the air, and settling could cancel what has landed.
    """
    activity = task.activity
    assert activity is not None
    task.activity = None
    goal = NONE
    if task.result is NOTHING:
        if task.claim is COMPUTE or task.local_needs:  # `task.goal`, in plain
            goal = COMPUTE
        elif task.claim is FETCH or task.remote_needs:
            goal = FETCH
    verdict = _VERDICTS[outcome][goal]
    executing = activity if type(activity) is Executing else None
    if executing is not None:
        ledger.give_back(executing)
        if goal is COMPUTE and executing.spec_id != task.spec_id:
            verdict = _KEEP_GOAL  # the outcome of something else than is wanted now
    if verdict is _FINISHED or verdict is _ADDED:
        keep(ledger, task, attempt, nbytes, type_name, verdict, out)  # and so it is settled
    else:
        _give_none(ledger, task, outcome, verdict, attempt, out)
        ledger.unsettled.append(task)
    if executing is not None and executing.inputs:
        # After the task itself, which may have begun to need the same inputs again.
        unpin(ledger, executing)


def _give_none(
    ledger: Ledger,
    task: Task,
    outcome: Outcome,
    verdict: Verdict,
    attempt: int,
    out: list[Instruction],
) -> None:
    """An attempt has brought no value that counts."""
    if verdict is _ERRED:
        if outcome is Outcome.UNREADABLE:
            # Not `fail`: the needs that remain would fetch the same unreadable value again. Who
            # waits for it fails when all of the flight has been judged.
            end_with_failure(ledger, task, attempt, out)
        else:
            fail(ledger, task, attempt, out)
        return
    if outcome in _BRINGS_ENTRY:
        out.append(DropData(task.key, attempt))
    if verdict is _RESCHEDULED:
        out.append(RescheduleTask(task.key))
        task.claim = NONE


_BRINGS_ENTRY = frozenset({Outcome.COMPUTED, Outcome.FETCHED, Outcome.FAILED, Outcome.UNREADABLE})


def keep(
    ledger: Ledger,
    task: Task,
    attempt: int,
    nbytes: int,
    type_name: str,
    verdict: Verdict | None,
    out: list[Instruction],
) -> None:
    """A wanted value is in memory: report it, and let those go on who waited for it."""
    if task.place is not NOWHERE:
        leave(ledger, task)
    if task.local or task.remote:
        forget_spec(ledger, task, out)
    elif task.spec_id:  # the same in short, for tasks that concern no other
        out.append(DropSpec(task.key, task.spec_id))
        task.spec_id = 0
    task.priority = ()  # values are what a worker has most of: they keep only what is read again
    task.executor = task.prefix = ""
    task.claim = NONE
    task.result = IN_MEMORY
    task.entry = attempt
    task.nbytes = nbytes
    task.type_name = type_name
    task.hold = True
    ledger.nbytes += nbytes
    if verdict is _FINISHED:
        out.append(TaskFinished(task.key, task.run_id, attempt, nbytes, type_name))
    elif verdict is _ADDED:
        out.append(AddKeys((task.key,)))
    if task.dependents:
        for dependent in task.dependents:
            if dependent.place is WAITING:
                dependent.unmet -= 1
                if not dependent.unmet:
                    dependent.place = READY
                    ledger.enqueue(dependent)


def fail(
    ledger: Ledger,
    task: Task,
    attempt: int,
    out: list[Instruction],
    *,
    via: Task | None = None,
    cancelled: bool = False,
) -> None:
    """A computation fails or is cancelled, and with it all that depend on it locally.

    A task that is still needed from elsewhere is sought there instead of remembered as failed.
    """
    failing: list[tuple[Task, Task | None]] = [(task, via)]
    failed: set[Task] = set()  # asked for membership only: its order never matters
    for task, via in failing:  # grows while it is walked: who depends more directly comes first
        if task in failed:
            continue
        failed.add(task)
        end_with_failure(ledger, task, 0 if via else attempt, out, via=via, cancelled=cancelled)
        if task.remote_needs:
            clear_result(ledger, task, out)
        for dependent in task.dependents or ():
            if task in dependent.local:
                failing.append((dependent, task))
        ledger.unsettled.append(task)


def end_with_failure(
    ledger: Ledger,
    task: Task,
    attempt: int,
    out: list[Instruction],
    *,
    via: Task | None = None,
    cancelled: bool = False,
) -> None:
    """A task has failed, for itself; `fail` is for what follows from it."""
    clear_result(ledger, task, out)
    leave(ledger, task)
    forget_spec(ledger, task, out)
    task.claim = NONE
    task.result = FAILED
    task.entry = attempt
    task.cancelled = cancelled
    task.hold = True
    out.append(TaskErred(task.key, task.run_id, attempt, via.key if via else None, cancelled))
