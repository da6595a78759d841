"""The one rule behind every change: put each task where its goal, activity and result belong.

`settle` looks at a task's three facts and moves it to its place, cancels an attempt that nobody
wants, drops a value that nobody holds, needs or uses, and forgets a task that nobody knows.
Settling a task may change what others want of its inputs, which then have to be settled too:
`settle_all` goes on until nothing is left, without recursion, so that a chain may be as long as
memory allows.
"""

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
    CancelExecute,
    CancelGather,
    DropData,
    DropSpec,
    FindMissingLater,
    Instruction,
    ReleaseWorkerData,
)

_QUEUED = (WAITING, READY)


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
        if (task.hold and result is IN_MEMORY) or is_retained(task):
            if task.activity is not None:
                let_go(ledger, task, out)
            return
        if result is IN_MEMORY:
            drop_value(ledger, task, out)
            return
        clear_result(ledger, task, out)
    # `task.goal`, in plain
    if task.claim is COMPUTE or task.local_needs:
        goal = COMPUTE
    else:
        goal = FETCH if task.claim is FETCH or task.remote_needs else NONE
    if goal is NONE:
        if task.place is not NOWHERE:
            leave(ledger, task)
        if task.spec_id:
            forget_spec(ledger, task, out)
            task.priority = (*task.priority, -task.age)  # it may be fetched yet; see below
        let_go(ledger, task, out)
        return
    if task.spec_id and goal is not COMPUTE:
        leave(ledger, task)
        forget_spec(ledger, task, out)
        task.priority = (*task.priority, -task.age)  # the youngest of equals first, as before
    # As `place_of` has it; and the place of a task that stays where it is is not touched.
    if task.activity is not None:
        leave(ledger, task)
    elif goal is COMPUTE:
        if task.place not in _QUEUED:
            leave(ledger, task)
            queue(ledger, task)
    else:
        seek(ledger, task, WANTED if task.holders else MISSING, out)


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
            ledger.forget_holders(task)
        ledger.tasks.pop(task.key, None)  # it may have been unsettled more than once


def drop_value(ledger: Ledger, task: Task, out: list[Instruction]) -> None:
    """Nobody holds, needs or uses a value."""
    key = task.key
    if task.dependents or task.activity is not None:
        clear_result(ledger, task, out)
        out.append(ReleaseWorkerData(key))
        # Its priority went when the value came; if it is sought again, it is for one of these.
        ranks = [(*dependent.priority, -dependent.age) for dependent in task.dependents or ()]
        task.priority = min(ranks, default=())
        let_go(ledger, task, out)
    else:  # the same in short: what most values come to
        if task.holders:
            ledger.forget_holders(task)
        ledger.nbytes -= task.nbytes
        task.result = NOTHING
        out.append(DropData(key, task.entry))
        out.append(ReleaseWorkerData(key))
        ledger.tasks.pop(key, None)


def is_retained(task: Task) -> bool:
    """Whether a result stays: held by the scheduler, needed by a task here, or in use.

    A failure stays until a task here waits for the value, which is then fetched all the same.
    """
    if task.result is FAILED:
        return task.hold and not task.remote_needs
    return bool(task.hold or task.local_needs or task.remote_needs or task.pins)


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
            if not dependency.hold:  # what is held stays where it is
                ledger.unsettled.append(dependency)


def queue(ledger: Ledger, task: Task) -> None:
    """To be computed: wait for inputs, or for a turn. Remote inputs begin to be needed."""
    unmet = 0
    for dependency in task.local:
        if dependency.result is not IN_MEMORY:
            unmet += 1
    for dependency in task.remote:
        dependency.remote_needs += 1
        if dependency.result is not IN_MEMORY:
            unmet += 1
            ledger.unsettled.append(dependency)
    task.unmet = unmet
    if unmet:
        task.place = WAITING
    else:
        task.place = READY
        ledger.enqueue(task)


def seek(ledger: Ledger, task: Task, place: Place, out: list[Instruction]) -> None:
    """To be fetched: from a holder, or as soon as one is known."""
    if task.place is place:
        return
    if task.place is not NOWHERE:
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
            dependency.dependents = {task: None}
        else:
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
    if not task.local and not task.remote:
        return
    for dependency in task.local:
        dependency.local_needs -= 1
    for dependency in task.local + task.remote:
        dependents = dependency.dependents
        if dependents:
            if len(dependents) == 1:
                dependency.dependents = None
            else:
                del dependents[task]
        if not dependency.hold:
            ledger.unsettled.append(dependency)
    task.local = task.remote = ()


def unpin(ledger: Ledger, activity: Executing) -> None:
    """An attempt uses its inputs no more."""
    for key, entry in activity.inputs:
        task = ledger.tasks.get(key)
        if task is not None and task.entry == entry and task.result is IN_MEMORY:
            task.pins -= 1
            if not task.hold:
                ledger.unsettled.append(task)
