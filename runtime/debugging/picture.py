"""A machine at one moment as plain data for people: tasks by phase, queues, what is in flight.

Not a snapshot, which holds everything and from which a machine can be made again.
"""

from collections import Counter

import msgspec

from trouper.runtime.debugging.reasons import Scene, rank
from trouper.runtime.machine import Machine
from trouper.runtime.task import Executing, Place, Task
from trouper.wire.vocabulary import Key, Peer


class Attempt(msgspec.Struct, frozen=True):
    """A task that runs."""

    key: Key
    attempt: int
    executor: str
    phase: str


class Gathering(msgspec.Struct, frozen=True):
    """A gather in flight."""

    peer: Peer
    attempt: int
    keys: tuple[Key, ...]
    nbytes: int


class Picture(msgspec.Struct, frozen=True):
    """See the module's text."""

    tasks: dict[str, int]
    """How many, by phase."""
    paused: bool
    nbytes: int
    """In memory."""
    slots: dict[str, str]
    """By executor: "1 of 4 free"."""
    resources: dict[str, str]
    """The same."""
    queues: dict[str, list[Key]]
    """Ready tasks by executor, the next one first."""
    to_fetch: list[Key]
    """Oldest first, as are those below."""
    missing: list[Key]
    executing: list[Attempt]
    gathers: list[Gathering]
    busy: list[Peer]
    """Peers that asked to be left alone for a while."""
    stuck: list[Key]


class TaskPicture(msgspec.Struct, frozen=True):
    """One task."""

    key: Key
    phase: str
    goal: str
    result: str
    attempt: int | None
    """Of what runs for it."""
    priority: tuple[int | float, ...]
    nbytes: int
    type_name: str
    inputs: dict[Key, str]
    """The phase of each."""
    dependents: dict[Key, str]
    holders: tuple[Peer, ...]
    held: bool
    """Whoever asked for it has been told, and has not let go."""
    reason: str


def picture(machine: Machine) -> Picture:
    """All of a machine."""
    ledger = machine.ledger
    tasks = sorted(ledger.tasks.values(), key=lambda task: task.age)
    ready = sorted((task for task in tasks if task.place is Place.READY), key=rank)
    free = ledger.resources_free
    return Picture(
        tasks=dict(sorted(Counter(task.phase for task in tasks).items())),
        paused=ledger.paused,
        nbytes=ledger.nbytes,
        slots={
            name: f"{max(slots.free, 0)} of {slots.total} free"
            for name, slots in ledger.slots.items()
        },
        resources={
            name: f"{free[name]:g} of {total:g} free"
            for name, total in ledger.config.resources.items()
        },
        queues={
            name: [task.key for task in ready if task.executor == name] for name in ledger.slots
        },
        to_fetch=[task.key for task in tasks if task.place is Place.WANTED],
        missing=[task.key for task in tasks if task.place is Place.MISSING],
        executing=[
            Attempt(task.key, task.activity.attempt, task.activity.executor, task.phase)
            for task in tasks
            if isinstance(task.activity, Executing)
        ],
        gathers=[
            Gathering(flight.peer, attempt, flight.keys, flight.nbytes)
            for attempt, flight in ledger.flights.items()
        ],
        busy=sorted(address for address, peer in ledger.peers.items() if peer.busy_attempt),
        stuck=Scene(machine).stuck(),
    )


def task_picture(machine: Machine, key: Key) -> TaskPicture | None:
    """One task of a machine; None if it is not known."""
    task = machine.ledger.tasks.get(key)
    if task is None:
        return None
    return TaskPicture(
        key=key,
        phase=task.phase,
        goal=task.goal.name.lower(),
        result=task.result.value,
        attempt=None if task.activity is None else task.activity.attempt,
        priority=task.priority,
        nbytes=task.nbytes,
        type_name=task.type_name,
        inputs=_phases(task.local + task.remote),
        dependents=_phases(tuple(task.dependents or ())),
        holders=tuple(task.holders or ()),
        held=task.hold,
        reason=Scene(machine).reason(key).text,
    )


def _phases(tasks: tuple[Task, ...]) -> dict[Key, str]:
    return {task.key: task.phase for task in tasks}
