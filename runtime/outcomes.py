"""Stimuli from actors: how what the machine asked for has ended.

One function per stimulus, of the shape ``(ledger, stimulus, out)``: it finds the task whose
attempt this is, lets `transitions.conclude` judge the outcome, and settles. A stimulus of an
attempt that is not the current one is stale: what it brought is dropped, and nothing else changes.
"""

from trouper.runtime.errors import StimulusError
from trouper.runtime.ledger import ALWAYS_BRIEF, BRIEF_S, Ledger
from trouper.runtime.requests import lose_peer
from trouper.runtime.settling import settle_all, unpin
from trouper.runtime.task import COMPUTE, FAILED, NONE, NOTHING, WAITING, WANTED, Executing, Task
from trouper.runtime.transitions import Outcome, Verdict, conclude, fail, keep
from trouper.wire import stimuli
from trouper.wire.instructions import (
    DropData,
    FindMissingLater,
    Instruction,
    LongRunning,
    RequestRefreshWhoHas,
    RetryBusyWorkerLater,
)
from trouper.wire.vocabulary import Key, Peer

ADDED, FINISHED = Verdict.ADDED, Verdict.FINISHED  # members by themselves, as in `task`


def current(ledger: Ledger, key: Key, attempt: int) -> Task | None:
    """The task that this attempt executes; None if the stimulus is stale."""
    task = ledger.tasks.get(key)
    if task is not None:
        activity = task.activity
        if type(activity) is Executing and activity.attempt == attempt:
            return task
    if attempt > ledger.last_attempt:
        raise StimulusError(
            f"attempt {attempt} of task {key!r} was never begun: the last of this worker is "
            f"{ledger.last_attempt}, and the task is {task.phase if task else 'unknown'}"
        )
    return None


def drop_stale(ledger: Ledger, key: Key, attempt: int, out: list[Instruction]) -> None:
    """Drop what a stale stimulus has brought, unless it is the very entry that is kept."""
    task = ledger.tasks.get(key)
    if task is None or task.entry != attempt:
        out.append(DropData(key, attempt))


def execute_success(ledger: Ledger, ev: stimuli.ExecuteSuccess, out: list[Instruction]) -> None:
    """An attempt has brought a value."""
    key, attempt = ev.key, ev.attempt
    task = ledger.tasks.get(key)  # `current`, in plain: every task that ends well comes here
    activity = None if task is None else task.activity
    if task is None or type(activity) is not Executing or activity.attempt != attempt:
        current(ledger, key, attempt)
        drop_stale(ledger, key, attempt, out)
        return
    if ledger.observes and task.prefix:
        always = ledger.brevity.get(task.prefix) == ALWAYS_BRIEF  # the common case: as before
        if not (always and ev.duration_s <= BRIEF_S):
            ledger.observe(task.prefix, ev.duration_s)
    if task.claim is COMPUTE and activity.spec_id == task.spec_id:
        # `conclude`, in short: most tasks are still wanted as they were when they began.
        task.activity = None
        ledger.give_back(activity)
        keep(ledger, task, attempt, ev.nbytes, ev.type_name, FINISHED, out)
        if activity.inputs:
            unpin(ledger, activity)
    else:
        conclude(ledger, task, Outcome.COMPUTED, attempt, ev.nbytes, ev.type_name, out)
    if ledger.unsettled:
        settle_all(ledger, out)


def execute_failure(ledger: Ledger, ev: stimuli.ExecuteFailure, out: list[Instruction]) -> None:
    """An attempt has brought an exception."""
    task = current(ledger, ev.key, ev.attempt)
    if task is None:
        drop_stale(ledger, ev.key, ev.attempt, out)
        return
    conclude(ledger, task, Outcome.FAILED, ev.attempt, 0, ev.type_name, out)
    settle_all(ledger, out)


def execute_reschedule(
    ledger: Ledger, ev: stimuli.ExecuteReschedule, out: list[Instruction]
) -> None:
    """The task wants to run elsewhere."""
    task = current(ledger, ev.key, ev.attempt)
    if task is not None:
        conclude(ledger, task, Outcome.RESCHEDULED, ev.attempt, 0, "", out)
        settle_all(ledger, out)


def execute_cancelled(ledger: Ledger, ev: stimuli.ExecuteCancelled, out: list[Instruction]) -> None:
    """An attempt was cancelled before it could bring anything."""
    task = current(ledger, ev.key, ev.attempt)
    if task is not None:
        conclude(ledger, task, Outcome.CANCELLED, ev.attempt, 0, "", out)
        settle_all(ledger, out)


def secede(ledger: Ledger, ev: stimuli.Secede, out: list[Instruction]) -> None:
    """An attempt gives its slot back and goes on."""
    task = current(ledger, ev.key, ev.attempt)
    if task is None:
        return
    activity = task.activity
    assert isinstance(activity, Executing)
    if activity.seceded:
        return
    activity.seceded = True
    ledger.give_back_slot(activity)
    if activity.spec_id == task.spec_id:  # else it is not the run that is wanted now
        out.append(LongRunning(ev.key, task.run_id, ev.compute_duration_s))


# Gathers


def land(ledger: Ledger, peer: Peer, attempt: int) -> list[Task] | None:
    """A flight has ended: the tasks it was to fetch, by age; None if the stimulus is stale."""
    flight = ledger.flights.get(attempt)
    if flight is None or flight.peer != peer:
        if attempt > ledger.last_attempt:
            raise StimulusError(f"gather {attempt} from {peer} was never begun")
        return None
    del ledger.flights[attempt]
    ledger.incoming_nbytes -= flight.nbytes
    entry = ledger.peers[peer]
    entry.attempt = 0
    if entry.wanted_count:
        ledger.restless[entry] = None
    elif not entry.held:
        ledger.forget_peer_if_idle(entry)
    keys = flight.keys
    if len(keys) == 1:
        return [ledger.tasks[keys[0]]]
    return sorted([ledger.tasks[key] for key in keys], key=lambda task: task.age)


def gather_success(ledger: Ledger, ev: stimuli.GatherSuccess, out: list[Instruction]) -> None:
    """A peer has sent what it holds of what was asked for."""
    tasks = land(ledger, ev.peer, ev.attempt) or []
    attempt, data = ev.attempt, ev.data
    brought = 0
    for task in tasks:
        if task.key in data:
            brought += 1
            nbytes, type_name = data[task.key]
            plain = task.result is NOTHING and task.claim is NONE and not task.local_needs
            if plain and task.remote_needs:
                # `conclude`, in short: most are still wanted by a task here, and by nobody else.
                task.activity = None
                keep(ledger, task, attempt, nbytes, type_name, ADDED, out)
            else:
                conclude(ledger, task, Outcome.FETCHED, attempt, nbytes, type_name, out)
            continue
        if task.activity is not None and not task.activity.cancelling:
            ledger.remove_holder(task, ev.peer)  # if cancelled, it may have been left out for that
        conclude(ledger, task, Outcome.NOT_FETCHED, attempt, 0, "", out)
    if len(data) > brought:
        asked = {task.key for task in tasks}
        for key in data:
            if key not in asked:
                drop_stale(ledger, key, attempt, out)
    if ledger.unsettled:
        settle_all(ledger, out)


def gather_busy(ledger: Ledger, ev: stimuli.GatherBusy, out: list[Instruction]) -> None:
    """A peer is busy: leave it alone for a while; the scheduler may know of others."""
    tasks = land(ledger, ev.peer, ev.attempt)
    if tasks is None:
        return
    entry = ledger.peer(ev.peer)
    entry.busy_attempt = ledger.next_attempt()
    delay_s = ledger.config.limits.retry_busy_delay_s
    out.append(RetryBusyWorkerLater(ev.peer, entry.busy_attempt, delay_s))
    for task in tasks:
        conclude(ledger, task, Outcome.NOT_FETCHED, ev.attempt, 0, "", out)
    settle_all(ledger, out)
    wanted = [task for task in tasks if task.place is WANTED]
    only_busy = [
        task.key
        for task in wanted
        if all(ledger.peers[peer].busy_attempt for peer in task.holders or ())
    ]
    if only_busy:
        out.append(RequestRefreshWhoHas(tuple(only_busy)))
    ledger.forget_peer_if_idle(entry)


def gather_network_failure(
    ledger: Ledger, ev: stimuli.GatherNetworkFailure, out: list[Instruction]
) -> None:
    """A peer is lost, with all that it held."""
    tasks = land(ledger, ev.peer, ev.attempt)
    if tasks is None:
        return
    lose_peer(ledger, ev.peer)
    for task in tasks:
        conclude(ledger, task, Outcome.NOT_FETCHED, ev.attempt, 0, "", out)
    settle_all(ledger, out)


def gather_failure(ledger: Ledger, ev: stimuli.GatherFailure, out: list[Instruction]) -> None:
    """What a peer has sent cannot be read: it has failed, and with it whoever waits for it.

    No scheduler would tell: to it the values are in memory at the peer (distributed #6705).
    """
    tasks = land(ledger, ev.peer, ev.attempt) or []
    for task in tasks:
        conclude(ledger, task, Outcome.UNREADABLE, ev.attempt, 0, ev.type_name, out)
    for task in tasks:
        if task.result is FAILED:
            for dependent in tuple(task.dependents or ()):
                if dependent.place is WAITING:
                    fail(ledger, dependent, 0, out, via=task)
    settle_all(ledger, out)


# Timers


def retry_busy_worker(ledger: Ledger, ev: stimuli.RetryBusyWorker, out: list[Instruction]) -> None:
    """A busy peer may be asked again."""
    entry = ledger.peers.get(ev.peer)
    if entry is not None and entry.busy_attempt == ev.attempt:
        entry.busy_attempt = 0
        ledger.restless[entry] = None
        ledger.forget_peer_if_idle(entry)


def find_missing(ledger: Ledger, ev: stimuli.FindMissing, out: list[Instruction]) -> None:
    """Ask the scheduler who holds what is missing, and again later if it still is."""
    if ledger.missing_attempt != ev.attempt:
        return
    ledger.missing_attempt = 0
    if not ledger.missing:
        return
    missing = sorted(ledger.missing, key=lambda task: task.age)
    out.append(RequestRefreshWhoHas(tuple(task.key for task in missing)))
    ledger.missing_attempt = ledger.next_attempt()
    out.append(FindMissingLater(ledger.missing_attempt, ledger.config.limits.find_missing_delay_s))
