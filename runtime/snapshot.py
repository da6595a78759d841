"""The state of a machine as plain data, in canonical order, and back.

A snapshot holds what was said and done, and nothing that follows from it: claims, specs, inputs,
activities, results, holders and the counters. Needs, pins, places, queues, slots and bytes are
derived again by `restore`; so a snapshot cannot contradict itself, and that a machine equals the
one rebuilt from its snapshot is a test of every index. Tasks stand in the order of their ages;
nothing in a snapshot depends on the order in which sets or heaps happen to lie.
"""

from typing import Any

import msgspec

from trouper.runtime.errors import SnapshotError
from trouper.runtime.ledger import Config, Ledger
from trouper.runtime.settling import link, place_of, queue
from trouper.runtime.task import Activity, Executing, Fetching, Goal, Place, Result, Task
from trouper.wire.instructions import Gather
from trouper.wire.vocabulary import Entry, Key, Peer, Priority

VERSION = 1


class ActivityRow(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """An activity: executing if there is no peer."""

    attempt: int
    peer: Peer = ""
    nbytes: int = 0
    spec_id: int = 0
    executor: str = ""
    resources: tuple[tuple[str, float], ...] = ()
    inputs: tuple[Entry, ...] = ()
    brief: bool = False
    seceded: bool = False
    cancelling: bool = False


class TaskRow(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A task, its neighbours by key."""

    key: Key
    age: int
    claim: Goal = Goal.NONE
    run_id: int = 0
    spec_id: int = 0
    priority: Priority = ()
    executor: str = ""
    prefix: str = ""
    resources: tuple[tuple[str, float], ...] = ()
    local: tuple[Key, ...] = ()
    remote: tuple[Key, ...] = ()
    activity: ActivityRow | None = None
    result: Result = Result.NOTHING
    entry: int = 0
    nbytes: int = 0
    type_name: str = ""
    cancelled: bool = False
    hold: bool = False
    holders: tuple[Peer, ...] = ()


class Snapshot(msgspec.Struct, forbid_unknown_fields=True):
    """The whole of it."""

    version: int
    config: Config
    paused: bool
    last_age: int
    last_attempt: int
    missing_attempt: int
    busy: dict[Peer, int]
    """The timer of each busy peer."""
    brevity: tuple[tuple[str, int], ...]
    tasks: list[TaskRow]


def take(ledger: Ledger) -> dict[str, Any]:
    """The ledger as plain data."""
    tasks = sorted(ledger.tasks.values(), key=lambda task: task.age)
    busy = {
        address: peer.busy_attempt
        for address, peer in sorted(ledger.peers.items())
        if peer.busy_attempt
    }
    taken = Snapshot(
        VERSION,
        ledger.config,
        ledger.paused,
        ledger.last_age,
        ledger.last_attempt,
        ledger.missing_attempt,
        busy,
        tuple(ledger.brevity.items()),
        [_task_row(task) for task in tasks],
    )
    plain: dict[str, Any] = msgspec.to_builtins(taken, order="deterministic")
    return plain


def _task_row(task: Task) -> TaskRow:
    return TaskRow(
        key=task.key,
        age=task.age,
        claim=task.claim,
        run_id=task.run_id,
        spec_id=task.spec_id,
        priority=task.priority,
        executor=task.executor,
        prefix=task.prefix,
        resources=task.resources,
        local=tuple(dependency.key for dependency in task.local),
        remote=tuple(dependency.key for dependency in task.remote),
        activity=_activity_row(task.activity),
        result=task.result,
        entry=task.entry,
        nbytes=task.nbytes,
        type_name=task.type_name,
        cancelled=task.cancelled,
        hold=task.hold,
        holders=tuple(sorted(task.holders or ())),
    )


def _activity_row(activity: Activity | None) -> ActivityRow | None:
    if activity is None:
        return None
    return ActivityRow(**msgspec.structs.asdict(activity))


def restore(taken: dict[str, Any]) -> Ledger:
    """The ledger that a snapshot describes.

    Raises:
        SnapshotError: It is not a snapshot, of another version, or names a task it does not hold.
    """
    try:
        snapshot = msgspec.convert(taken, Snapshot)
    except msgspec.ValidationError as error:
        raise SnapshotError(f"not a snapshot: {error}") from error
    if snapshot.version != VERSION:
        raise SnapshotError(f"the snapshot has version {snapshot.version}, not {VERSION}")
    ledger = Ledger(snapshot.config)
    ledger.paused = snapshot.paused
    ledger.last_age = snapshot.last_age
    ledger.last_attempt = snapshot.last_attempt
    ledger.missing_attempt = snapshot.missing_attempt
    ledger.brevity = dict(snapshot.brevity)
    for address, attempt in snapshot.busy.items():
        ledger.peer(address).busy_attempt = attempt
    try:
        for row in snapshot.tasks:
            _add_task(ledger, row)
        for row in snapshot.tasks:
            _link_task(ledger, row)
    except KeyError as error:
        raise SnapshotError(f"the snapshot names {error} and does not hold it") from error
    # Places last: they follow from claims, needs and results together.
    for task in ledger.tasks.values():
        if place_of(task) is Place.WAITING:
            queue(ledger, task)
    for task in ledger.tasks.values():
        if place_of(task) is Place.WANTED:
            task.place = Place.WANTED
            ledger.want(task)
        elif place_of(task) is Place.MISSING:
            task.place = Place.MISSING
            ledger.missing[task] = None
    # A snapshot is taken between stimuli, when all is settled and whatever can start has.
    ledger.unsettled.clear()
    ledger.stirred = False
    return ledger


def _add_task(ledger: Ledger, row: TaskRow) -> None:
    task = Task(
        row.key,
        row.age,
        claim=row.claim,
        run_id=row.run_id,
        spec_id=row.spec_id,
        priority=row.priority,
        executor=row.executor,
        prefix=row.prefix,
    )
    task.resources = row.resources
    task.result = row.result
    task.entry = row.entry
    task.nbytes = row.nbytes
    task.type_name = row.type_name
    task.cancelled = row.cancelled
    task.hold = row.hold
    ledger.tasks[row.key] = task
    ledger.set_holders(task, row.holders)
    if task.result is Result.IN_MEMORY:
        ledger.nbytes += task.nbytes
    activity = row.activity
    if activity is None:
        return
    if activity.peer:
        _board(ledger, task, activity)
        return
    task.activity = Executing(
        activity.attempt,
        activity.spec_id,
        activity.executor,
        activity.resources,
        activity.inputs,
        activity.brief,
        activity.seceded,
        activity.cancelling,
    )
    ledger.take(task.activity)
    if activity.seceded:
        ledger.give_back_slot(task.activity)


def _board(ledger: Ledger, task: Task, row: ActivityRow) -> None:
    """Put a task that is being fetched back on its flight."""
    task.activity = Fetching(row.attempt, row.peer, row.nbytes, row.cancelling)
    flight = ledger.flights.get(row.attempt, Gather(row.peer, row.attempt, (), 0))
    ledger.flights[row.attempt] = Gather(
        row.peer, row.attempt, (*flight.keys, task.key), flight.nbytes + row.nbytes
    )
    ledger.incoming_nbytes += row.nbytes
    ledger.peer(row.peer).attempt = row.attempt


def _link_task(ledger: Ledger, row: TaskRow) -> None:
    task = ledger.tasks[row.key]
    local = tuple([ledger.tasks[key] for key in row.local])
    remote = tuple([ledger.tasks[key] for key in row.remote])
    link(task, local, remote)
    if isinstance(task.activity, Executing):
        for key, entry in task.activity.inputs:
            used = ledger.tasks.get(key)
            if used is not None and used.entry == entry and used.result is Result.IN_MEMORY:
                used.pins += 1
