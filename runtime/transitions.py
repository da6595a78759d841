"""THE tables: what every request and every outcome does to a task, and the rule that follows.

Theory. A task is three facts: goal, activity, result (see `task`). Only two things ever happen
to it from outside:

- a **request** changes what is wanted of it. What the request does depends on where the task
  stands; `REQUESTS` has a row for each request and a column for each standing.
- an attempt ends with an **outcome**. What the outcome is worth depends on the goal that the
  task has *by then*, not on the one for which the attempt was started; `OUTCOMES` has a row for
  each outcome and a column for each goal.

Everything else follows, and is one rule: `settle` looks at a task's goal, activity and result
and puts it in the place where it belongs, cancels an attempt that nobody wants, drops a value
that nobody holds, needs or uses, and forgets a task that nobody knows. Settling a task may
change what others want of its inputs, which then have to be settled too: `settle_all` goes on
until nothing is left, without recursion, so that a chain may be as long as memory allows.

Failure and cancellation go down to dependents along local inputs only: who fetches an input from
elsewhere is told by the scheduler what becomes of it.
"""

from enum import Enum, IntEnum

from trouper.runtime.ledger import Ledger
from trouper.runtime.task import (
    COMPUTE,
    FAILED,
    FETCH,
    IN_MEMORY,
    MISSING,
    NONE,
    NOTHING,
    NOWHERE,
    READY,
    WAITING,
    WANTED,
    Executing,
    Place,
    Task,
)
from trouper.wire.instructions import (
    AddKeys,
    CancelExecute,
    CancelGather,
    DropData,
    DropSpec,
    FindMissingLater,
    Instruction,
    ReleaseWorkerData,
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
_QUEUED = (WAITING, READY)


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
    return Standing.QUEUED if task.place in _QUEUED else Standing.SOUGHT


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
    goal = task.goal if task.result is NOTHING else NONE
    verdict = _VERDICTS[outcome][goal]
    if isinstance(activity, Executing):
        ledger.give_back(activity)
        if goal is COMPUTE and activity.spec_id != task.spec_id:
            verdict = _KEEP_GOAL  # the outcome of something else than is wanted now
    if verdict is _FINISHED or verdict is _ADDED:
        keep(ledger, task, attempt, nbytes, type_name, verdict, out)  # and so it is settled
    else:
        _give_none(ledger, task, outcome, verdict, attempt, out)
        ledger.unsettled.append(task)
    if isinstance(activity, Executing) and activity.inputs:
        # After the task itself, which may have begun to need the same inputs again.
        unpin(ledger, activity)


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
            # Not `fail`: the needs that remain would fetch the same unreadable value again.
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
    forget_spec(ledger, task, out)
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


def settle_all(ledger: Ledger, out: list[Instruction]) -> None:
    """Settle tasks until none is left that something has changed for."""
    unsettled = ledger.unsettled
    # A list that grows while it is walked: first come, first settled, and no recursion.
    for task in unsettled:
        settle(ledger, task, out)
    unsettled.clear()


def settle(ledger: Ledger, task: Task, out: list[Instruction]) -> None:
    """Put a task where its goal, activity and result say that it belongs."""
    result = task.result
    if result is not NOTHING:
        if task.hold or is_retained(task):
            if task.activity is not None:
                let_go(ledger, task, out)
            return
        clear_result(ledger, task, out)
        if result is IN_MEMORY:
            out.append(ReleaseWorkerData(task.key))
    goal = task.goal
    if goal is NONE:
        if task.place is not NOWHERE:
            leave(ledger, task)
        forget_spec(ledger, task, out)
        let_go(ledger, task, out)
        return
    if task.spec_id and goal is not COMPUTE:
        leave(ledger, task)
        forget_spec(ledger, task, out)
    place = place_of(task)
    if place is NOWHERE:
        leave(ledger, task)
    elif place is not WAITING:
        seek(ledger, task, place, out)
    elif task.place not in _QUEUED:
        leave(ledger, task)
        queue(ledger, task)


def place_of(task: Task) -> Place:
    """Where a task belongs; WAITING stands for READY too, which is when no input is unmet."""
    if task.activity is not None or task.result is not NOTHING:
        return NOWHERE
    goal = task.goal
    if goal is COMPUTE:
        return WAITING
    if goal is FETCH:
        return WANTED if task.holders else MISSING
    return NOWHERE


def let_go(ledger: Ledger, task: Task, out: list[Instruction]) -> None:
    """Nobody wants anything more of a task: cancel what runs, forget what nobody knows."""
    activity = task.activity
    if activity is not None:
        if activity.cancelling:
            return
        activity.cancelling = True
        if isinstance(activity, Executing):
            out.append(CancelExecute(task.key, activity.attempt))
        else:
            out.append(CancelGather(activity.peer, activity.attempt, (task.key,)))
    elif task.result is NOTHING and not task.dependents:
        if task.holders:
            ledger.set_holders(task, ())
        ledger.tasks.pop(task.key, None)  # it may have been unsettled more than once


def is_retained(task: Task) -> bool:
    """Whether a result stays: held by the scheduler, needed by a task here, or in use."""
    if task.hold:
        return True
    if task.result is FAILED:
        return False
    return bool(task.local_needs or task.remote_needs or task.pins)


def clear_result(ledger: Ledger, task: Task, out: list[Instruction]) -> None:
    """Let a value or a failure go, if there is one."""
    if task.result is NOTHING:
        return
    if task.result is IN_MEMORY:
        ledger.nbytes -= task.nbytes
        for dependent in task.dependents or ():
            if dependent.place is READY:
                dependent.place = WAITING
                ledger.dequeue(dependent)
            if dependent.place is WAITING:
                dependent.unmet += 1
    if task.entry:
        out.append(DropData(task.key, task.entry))
    task.result = NOTHING
    task.entry = 0
    task.pins = 0  # whoever runs with the value has its own reference; `unpin` sees the entry
    task.hold = False


# Places


def leave(ledger: Ledger, task: Task) -> None:
    """Take a task out of the index in which it stands."""
    place = task.place
    if place is NOWHERE:
        return
    task.place = NOWHERE
    if place is WANTED:
        ledger.unwant(task)
    elif place is MISSING:
        del ledger.missing[task]
    else:
        if place is READY:
            ledger.dequeue(task)
        for dependency in task.remote:
            dependency.remote_needs -= 1
            ledger.unsettled.append(dependency)


def queue(ledger: Ledger, task: Task) -> None:
    """To be computed: wait for inputs, or for a turn. Remote inputs begin to be needed."""
    task.unmet = 0
    for dependency in task.local:
        if dependency.result is not IN_MEMORY:
            task.unmet += 1
    for dependency in task.remote:
        dependency.remote_needs += 1
        if dependency.result is not IN_MEMORY:
            task.unmet += 1
            ledger.unsettled.append(dependency)
    if task.unmet:
        task.place = WAITING
    else:
        task.place = READY
        ledger.enqueue(task)


def seek(ledger: Ledger, task: Task, place: Place, out: list[Instruction]) -> None:
    """To be fetched: from a holder, or as soon as one is known."""
    if task.place is place:
        return
    leave(ledger, task)
    task.place = place
    if place is WANTED:
        ledger.want(task)
        return
    ledger.missing[task] = None
    if not ledger.missing_attempt:
        ledger.missing_attempt = ledger.next_attempt()
        delay_s = ledger.config.limits.find_missing_delay_s
        out.append(FindMissingLater(ledger.missing_attempt, delay_s))


# Links between a task to be computed and its inputs


def link(task: Task, local: tuple[Task, ...], remote: tuple[Task, ...]) -> None:
    """Enter the inputs of a task to be computed. Local ones are needed from now on."""
    task.local = local
    task.remote = remote
    for dependency in local + remote:
        if dependency.dependents is None:
            dependency.dependents = {}
        dependency.dependents[task] = None
    for dependency in local:
        dependency.local_needs += 1


def forget_spec(ledger: Ledger, task: Task, out: list[Instruction]) -> None:
    """The task will not be computed: its inputs are needed no more, its spec neither.

    The task has left its place before, so that its remote inputs are needed no more.
    """
    if not task.spec_id:
        return
    out.append(DropSpec(task.key, task.spec_id))
    task.spec_id = 0
    for dependency in task.local:
        dependency.local_needs -= 1
    for dependency in task.local + task.remote:
        if dependency.dependents:
            del dependency.dependents[task]
            dependency.dependents = dependency.dependents or None
        ledger.unsettled.append(dependency)
    task.local = task.remote = ()


def unpin(ledger: Ledger, activity: Executing) -> None:
    """An attempt uses its inputs no more."""
    for key, entry in activity.inputs:
        task = ledger.tasks.get(key)
        if task is not None and task.entry == entry and task.result is IN_MEMORY:
            task.pins -= 1
            ledger.unsettled.append(task)
