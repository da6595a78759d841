"""Stimuli from outside: what is asked of the worker, and what it is told about its peers.

One function per stimulus, of the shape ``(ledger, stimulus, out)``: it checks, asks the table
`transitions.REQUESTS` what the request does to each task, applies it and settles.
"""

from math import isfinite

from trouper.runtime.errors import StimulusError
from trouper.runtime.ledger import Ledger
from trouper.runtime.policies import gather_alone
from trouper.runtime.settling import (
    clear_result,
    drop_value,
    forget_spec,
    leave,
    link,
    queue,
    settle,
    settle_all,
)
from trouper.runtime.task import (
    COMPUTE,
    FAILED,
    FETCH,
    IN_MEMORY,
    NONE,
    NOTHING,
    NOWHERE,
    READY,
    Executing,
    Task,
)
from trouper.runtime.transitions import (
    Do,
    Request,
    Verdict,
    answer,
    fail,
    keep,
)
from trouper.wire import stimuli
from trouper.wire.instructions import (
    AddKeys,
    DropData,
    DropSpec,
    Instruction,
    LongRunning,
    ReleaseWorkerData,
    Reply,
    StealResponse,
    TaskFinished,
)
from trouper.wire.vocabulary import Key, Peer

REPLICA_PRIORITY = (1,)
"""Copies come after ordinary computations, whose priorities begin with 0 or less."""


def compute_task(ledger: Ledger, ev: stimuli.ComputeTask, out: list[Instruction]) -> None:
    """Claim a task to be computed, link its inputs, and queue it."""
    check_compute_task(ledger, ev)
    task = ledger.tasks.get(ev.key)
    if task is None:
        ledger.last_age = age = ledger.last_age + 1
        ledger.tasks[ev.key] = task = Task(
            ev.key, age, COMPUTE, ev.run_id, ev.spec_id, ev.priority, ev.executor, ev.prefix
        )
        if ev.local or ev.who_has or ev.resources:
            queue_new_task(ledger, task, ev, out)
        else:  # the same in short: most tasks are new, and this one concerns no other
            task.place = READY
            ready = ledger.plain_queues[ev.executor]
            ready.push(task)
            if ready.slots.free > -ready.slots.run_ahead:
                ledger.stirred = True
        return
    if answer(Request.COMPUTE, task) is Do.FINISHED:
        task.hold = True
        task.run_id = ev.run_id
        out.append(DropSpec(ev.key, ev.spec_id))
        out.append(TaskFinished(ev.key, ev.run_id, task.entry, task.nbytes, task.type_name))
        return
    if task.spec_id == ev.spec_id:  # to be computed from this very spec already
        task.claim = COMPUTE
        task.run_id = ev.run_id
        out.append(DropSpec(ev.key, ev.spec_id))  # it has come once more
        return
    clear_result(ledger, task, out)
    leave(ledger, task)
    forget_spec(ledger, task, out)
    task.age = ledger.next_age()
    activity = task.activity
    if isinstance(activity, Executing) and activity.spec_id == ev.spec_id and activity.seceded:
        out.append(LongRunning(ev.key, ev.run_id, None))  # nobody wanted to know at the time
    task.claim = COMPUTE
    task.run_id = ev.run_id
    task.spec_id = ev.spec_id
    task.priority = ev.priority
    task.executor = ev.executor
    task.prefix = ev.prefix
    task.resources = as_taken(ev.resources)
    link_inputs(ledger, task, ev, out)
    settle(ledger, task, out)
    settle_all(ledger, out)


def queue_new_task(
    ledger: Ledger, task: Task, ev: stimuli.ComputeTask, out: list[Instruction]
) -> None:
    """Link and queue a task that was not known, for which there is nothing to be undone."""
    if ev.resources:
        task.resources = as_taken(ev.resources)
    link_inputs(ledger, task, ev, out)
    if task.result is NOTHING:
        queue(ledger, task)
    unsettled = ledger.unsettled
    if not unsettled:
        return
    first = unsettled[0]
    if first.age > task.age and len(unsettled) == 1 and gather_alone(ledger, first, out):
        unsettled.clear()  # the common case: a single input to be fetched, as new as the task
    else:
        settle_all(ledger, out)


def as_taken(resources: dict[str, float]) -> tuple[tuple[str, float], ...]:
    """What a task takes of resources, by name."""
    if not resources:
        return ()
    return tuple([(name, float(resources[name])) for name in sorted(resources)])


def check_compute_task(ledger: Ledger, ev: stimuli.ComputeTask) -> None:
    """Refuse what no correct sender can ask for, before anything changes."""
    if ev.executor not in ledger.slots:
        known = ", ".join(sorted(ledger.slots))
        raise StimulusError(f"task {ev.key!r} wants the executor {ev.executor!r}; there is {known}")
    if ev.spec_id <= 0:
        raise StimulusError(f"task {ev.key!r} has the spec_id {ev.spec_id}; it has to be positive")
    for number in ev.priority:
        if number != number:  # not a number: it would upset every order
            raise StimulusError(f"task {ev.key!r} has the priority {ev.priority!r}")
    if (ev.who_has and ev.key in ev.who_has) or (ev.local and ev.key in ev.local):
        raise StimulusError(f"task {ev.key!r} cannot have itself as an input")
    if ev.resources:
        check_resources(ledger, ev)
    if ev.local:
        check_local_inputs(ledger, ev)


def check_resources(ledger: Ledger, ev: stimuli.ComputeTask) -> None:
    """Refuse what could never be given."""
    for name, amount in ev.resources.items():
        if not (isfinite(amount) and amount > 0):
            raise StimulusError(
                f"task {ev.key!r} asks for {amount!r} of the resource {name!r}; "
                "an amount is a positive, finite number"
            )
        if amount > (capacity := ledger.config.resources.get(name, 0)):
            raise StimulusError(
                f"task {ev.key!r} asks for {amount!r} of the resource {name!r}; "
                f"this worker has {capacity!r} of it in all"
            )


def check_local_inputs(ledger: Ledger, ev: stimuli.ComputeTask) -> None:
    """Refuse inputs that could never arrive."""
    for key in ev.local:
        dependency = ledger.tasks.get(key)
        if dependency is None or not (dependency.spec_id or dependency.result is not NOTHING):
            raise StimulusError(
                f"task {ev.key!r} has the local input {key!r}, which this worker neither "
                "holds nor computes; submit it first, or name who holds it"
            )
        if key in ev.who_has:
            raise StimulusError(f"task {ev.key!r} names its input {key!r} twice")
    task = ledger.tasks.get(ev.key)
    if task is not None and task.local_needs:  # a task that nobody needs cannot close a cycle
        check_acyclic(ledger, task, ev.local)


def check_acyclic(ledger: Ledger, task: Task, local: tuple[Key, ...]) -> None:
    """Refuse local inputs that wait, through others, for the very task that would wait for them."""
    above = [ledger.tasks[key] for key in local]
    seen = set(above)  # asked for membership only: its order never matters
    for dependency in above:  # grows while it is walked
        if dependency is task:
            raise StimulusError(f"task {task.key!r} would wait for itself, through its inputs")
        fresh = [deeper for deeper in dependency.local if deeper not in seen]
        above += fresh
        seen.update(fresh)


def link_inputs(
    ledger: Ledger, task: Task, ev: stimuli.ComputeTask, out: list[Instruction]
) -> None:
    """Find or create the inputs of a task, and link them. One that has failed here fails it."""
    tasks = ledger.tasks
    local = tuple([tasks[key] for key in dict.fromkeys(ev.local)]) if ev.local else ()
    remote: list[Task] = []
    for key, holders in ev.who_has.items():
        dependency = tasks.get(key)
        if dependency is None:
            # Among equals the inputs of the youngest task are fetched first.
            ledger.last_age = age = ledger.last_age + 1
            rank = (*ev.priority, -task.age)
            tasks[key] = dependency = Task(key, age, NONE, 0, 0, rank)
            dependency.nbytes = ev.nbytes.get(key, 0)
            remote.append(dependency)
            ledger.set_holders(dependency, holders)
            continue
        remote.append(dependency)
        ledger.set_holders(dependency, holders)
        if dependency.result is IN_MEMORY:
            continue
        dependency.nbytes = ev.nbytes.get(key, dependency.nbytes)
        if not dependency.priority and dependency.place is NOWHERE:  # it has had a value
            dependency.priority = (*ev.priority, -task.age)
        if dependency.result is FAILED:
            clear_result(ledger, dependency, out)  # a failure is no reason not to fetch it now
            ledger.unsettled.append(dependency)
        elif dependency.place is not NOWHERE:
            ledger.unsettled.append(dependency)  # it may have found a holder
    link(task, local, tuple(remote))
    for dependency in local:
        if dependency.result is FAILED:
            fail(ledger, task, 0, out, via=dependency, cancelled=dependency.cancelled)
            break


def free_keys(ledger: Ledger, ev: stimuli.FreeKeys, out: list[Instruction]) -> None:
    """End the scheduler's claims and holds."""
    tasks = ledger.tasks
    for key in ev.keys:
        task = tasks.get(key)
        if task is None:
            continue
        needed = task.local_needs or task.remote_needs or task.pins
        if needed or task.result is not IN_MEMORY or task.activity is not None:
            withdraw(ledger, task)  # the table says so wherever it stands
        elif task.dependents or task.holders:
            task.hold = False
            drop_value(ledger, task, out)  # at once, what `settle` would do
        else:  # the same in short: what nearly every task comes to
            task.hold = False
            ledger.nbytes -= task.nbytes
            task.result = NOTHING
            del tasks[key]
            out.append(DropData(key, task.entry))
            out.append(ReleaseWorkerData(key))
    if ledger.unsettled:
        settle_all(ledger, out)


def withdraw(ledger: Ledger, task: Task) -> None:
    """The scheduler wants nothing of a task any more."""
    task.claim = NONE
    task.hold = False
    ledger.unsettled.append(task)


def cancel_task(ledger: Ledger, ev: stimuli.CancelTask, out: list[Instruction]) -> None:
    """Fail a task as cancelled, and all that depend on it here."""
    task = ledger.tasks.get(ev.key)
    if task is not None and answer(Request.CANCEL, task) is Do.FAIL:
        fail(ledger, task, 0, out, cancelled=True)
        settle_all(ledger, out)


def cancel_compute(ledger: Ledger, ev: stimuli.CancelCompute, out: list[Instruction]) -> None:
    """Give a task up unless it has begun."""
    task = ledger.tasks.get(ev.key)
    if task is not None and answer(Request.STEAL, task) is Do.WITHDRAW:
        withdraw(ledger, task)
        settle_all(ledger, out)


def steal_request(ledger: Ledger, ev: stimuli.StealRequest, out: list[Instruction]) -> None:
    """Give a task up unless it has begun, and say which."""
    task = ledger.tasks.get(ev.key)
    out.append(StealResponse(ev.key, task.phase if task else None, ev.stimulus_id))
    if task is not None and answer(Request.STEAL, task) is Do.WITHDRAW:
        withdraw(ledger, task)
        settle_all(ledger, out)


def acquire_replicas(ledger: Ledger, ev: stimuli.AcquireReplicas, out: list[Instruction]) -> None:
    """Claim copies to be fetched."""
    for key, holders in ev.who_has.items():
        task = ledger.ensure(key, REPLICA_PRIORITY)
        if answer(Request.REPLICA, task) is Do.ADDED:
            task.hold = True
            out.append(AddKeys((key,)))
        else:
            clear_result(ledger, task, out)
            task.claim = FETCH
            if not task.priority and task.place is NOWHERE:  # it has had a value
                task.priority = REPLICA_PRIORITY
            task.nbytes = ev.nbytes.get(key, task.nbytes)
            ledger.unsettled.append(task)
        ledger.set_holders(task, holders)
    settle_all(ledger, out)


def remove_replicas(ledger: Ledger, ev: stimuli.RemoveReplicas, out: list[Instruction]) -> None:
    """Let copies go, except those in use here."""
    for key in ev.keys:
        task = ledger.tasks.get(key)
        if task is None or answer(Request.REMOVE, task) is not Do.REMOVE:
            continue
        if task.local_needs or task.remote_needs or task.pins:
            task.hold = True
            out.append(AddKeys((key,)))
        else:
            withdraw(ledger, task)
    settle_all(ledger, out)


def update_data(ledger: Ledger, ev: stimuli.UpdateData, out: list[Instruction]) -> None:
    """Keep values that were put here from outside."""
    if ev.attempt >= 0:
        raise StimulusError(
            f"values put here from outside have the attempt {ev.attempt}; it has to be negative"
        )
    for key, (nbytes, type_name) in ev.data.items():
        task = ledger.ensure(key)
        if answer(Request.UPDATE, task) is Do.HOLD:
            task.hold = True
            out.append(DropData(key, ev.attempt))
            continue
        clear_result(ledger, task, out)
        verdict = REPORT_OF_UPDATE[task.goal]
        keep(ledger, task, ev.attempt, nbytes, type_name, verdict, out)
        ledger.unsettled.append(task)
    settle_all(ledger, out)
    if ev.request_id is not None:
        out.append(Reply(ev.request_id, {key: nbytes for key, (nbytes, _) in ev.data.items()}))


REPORT_OF_UPDATE = (None, Verdict.FINISHED, Verdict.ADDED)
"""By goal. Who put a value here that nobody wanted yet knows of it: it gets a `Reply`."""


def refresh_who_has(ledger: Ledger, ev: stimuli.RefreshWhoHas, out: list[Instruction]) -> None:
    """Replace what is known of the holders of keys."""
    for key, holders in ev.who_has.items():
        task = ledger.tasks.get(key)
        if task is not None:
            ledger.set_holders(task, holders)
            ledger.unsettled.append(task)
    settle_all(ledger, out)


def remove_worker(ledger: Ledger, ev: stimuli.RemoveWorker, out: list[Instruction]) -> None:
    """Expect nothing of a peer any more."""
    lose_peer(ledger, ev.peer)
    settle_all(ledger, out)


def lose_peer(ledger: Ledger, peer: Peer) -> None:
    """A peer holds nothing any more."""
    entry = ledger.peers.get(peer)
    if entry is not None:
        for task in list(entry.held):
            ledger.remove_holder(task, peer)
            ledger.unsettled.append(task)


def pause(ledger: Ledger, ev: stimuli.Pause, out: list[Instruction]) -> None:
    """Start nothing new."""
    ledger.paused = True


def unpause(ledger: Ledger, ev: stimuli.Unpause, out: list[Instruction]) -> None:
    """Go on."""
    ledger.paused = False
    ledger.stirred = True
