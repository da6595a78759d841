"""Why a task is where it is, and whether anything is in flight that could move it on. Pure.

A task that wants something is *stuck* if nothing that this worker has begun can free it: no attempt
that runs, no gather, no timer of a busy peer. What is missing counts as stuck, for only somebody
else can help, say by an answer to the question who holds it. So does whatever a correct machine
would have started: that it stands idle is a fault, and named as one.
"""

from collections.abc import Sequence
from typing import TypeAlias

import msgspec

from trouper.runtime.machine import Machine
from trouper.runtime.ready import Slots
from trouper.runtime.task import Executing, Fetching, Place, Result, Task
from trouper.wire.vocabulary import Key, Priority

NAMED = 3
"""So many tasks are named in a sentence; the others are counted."""


Rank: TypeAlias = tuple[Priority, int]


class Reason(msgspec.Struct, frozen=True):
    """Why a task is where it is."""

    key: Key
    phase: str
    text: str
    """A sentence without its full stop."""
    because: Key | None = None
    """The input that it waits for, the one to look at next."""


class Cause(msgspec.Struct, frozen=True):
    """What tasks are stuck on."""

    reason: Reason
    behind: tuple[Key, ...]
    """The tasks that wait for it, through others too, oldest first."""


class Scene:
    """A machine at one moment, looked at as a whole. Made anew for each moment.

    Args:
        machine: It must not go on while it is looked at.
    """

    def __init__(self, machine: Machine) -> None:
        self._ledger = machine.ledger
        self._running: list[tuple[Task, Executing]] = []
        self._first: dict[str, Rank] = {}
        """Of the ready tasks for an executor, and of those that take a resource, by name."""
        for task in self._ledger.tasks.values():
            if isinstance(task.activity, Executing):
                self._running.append((task, task.activity))
            elif task.place is Place.READY:
                for name in _taken_by(task):
                    self._first[name] = min(self._first.get(name, rank(task)), rank(task))

    def chain(self, key: Key) -> list[Reason]:
        """The reason for a task, for the input that it waits for, and so on to the first cause."""
        stuck = frozenset(self.stuck())
        chain: list[Reason] = []
        seen: set[Key] = set()  # a faulty machine might let tasks wait for each other
        following: Key | None = key
        while following is not None and following not in seen:
            seen.add(following)
            chain.append(self.reason(following, stuck))
            following = chain[-1].because
        return chain

    def reason(self, key: Key, stuck: frozenset[Key] = frozenset()) -> Reason:
        """Why a task is where it is; it need not be known. Of its inputs, stuck ones first."""
        task = self._ledger.tasks.get(key)
        if task is None:
            return Reason(key, "released", "the worker knows nothing of it")
        unmet = [dependency.key for dependency in unmet_inputs(task)]
        unmet.sort(key=lambda key: key not in stuck)
        if task.place is Place.WAITING and unmet:
            return Reason(key, task.phase, f"it waits for {named(unmet)}", unmet[0])
        return Reason(key, task.phase, self.obstacle(task) or self.prospect(task))

    def stuck(self) -> list[Key]:
        """The tasks that wait although nothing is in flight that could free them, oldest first."""
        hopeless = [task for task in self._ledger.tasks.values() if self.obstacle(task)]
        found = waiting_behind(hopeless)
        found += [task for task in hopeless if task.place is not Place.NOWHERE]
        return [task.key for task in sorted(found, key=lambda task: task.age)]

    def causes(self) -> list[Cause]:
        """What the stuck tasks are stuck on, oldest first."""
        causes: list[Cause] = []
        for task in sorted(self._ledger.tasks.values(), key=lambda task: task.age):
            if self.obstacle(task):
                behind = tuple([other.key for other in waiting_behind([task])])
                if behind or task.place is not Place.NOWHERE:
                    causes.append(Cause(self.reason(task.key), behind))
        return causes

    def obstacle(self, task: Task) -> str:
        """Why a task by itself will not get on; empty if it will, or if it waits for an input."""
        if task.activity is not None or task.result is Result.IN_MEMORY:
            return ""
        if task.result is Result.FAILED:
            return "it was cancelled" if task.cancelled else "it failed, and is remembered so"
        match task.place:
            case Place.NOWHERE:
                return "nobody computes or fetches it"
            case Place.WAITING:
                return "" if unmet_inputs(task) else "its inputs are all here, and it is not queued"
            case Place.READY:
                return self._obstacle_to_start(task)
            case Place.WANTED:
                return self._obstacle_to_fetch(task)
            case Place.MISSING:
                return "no holder is known"

    def _obstacle_to_start(self, task: Task) -> str:
        ledger = self._ledger
        if ledger.paused:
            return "the worker is paused"
        slots = ledger.slots[task.executor]
        if not slots.total:
            return f"the worker has no slots for {task.executor!r}"
        if slots.free <= 0:
            if self._holders_of_slots(task.executor):
                return ""
            return f"{_all(slots, task.executor)} are taken, though nothing runs there"
        free = ledger.resources_free
        short = [name for name, amount in task.resources if free[name] < amount]
        for name in short:
            if not self._holders_of_resources([name]):
                return f"{free[name]:g} of {name!r} is free, though nothing runs that takes any"
        if short or any(self._first[name] < rank(task) for name in _taken_by(task)):
            return ""
        return "all that it takes is free, and it is not started"

    def _obstacle_to_fetch(self, task: Task) -> str:
        ledger = self._ledger
        if ledger.paused:
            return "the worker is paused"
        peers = [ledger.peers[address] for address in task.holders or ()]
        if ledger.flights or any(peer.busy_attempt for peer in peers):
            return ""
        return f"{named([peer.address for peer in peers])} could be asked for it, and is not"

    def prospect(self, task: Task) -> str:
        """What a task that is not hindered has got, or what it gets on with."""
        activity = task.activity
        if activity is not None:
            doing = f"attempt {activity.attempt} runs"
            if isinstance(activity, Fetching):
                doing = f"gather {activity.attempt} from {activity.peer} is in flight"
            return f"{doing}, and is asked to end" if activity.cancelling else doing
        match task.place:
            case Place.READY:
                return self._turn(task)
            case Place.WANTED:
                return self._queue(task)
            case _:
                return f"its value of {task.nbytes} bytes is here, {_kept_for(task)}"

    def _turn(self, task: Task) -> str:
        slots = self._ledger.slots[task.executor]
        if slots.free <= 0:
            running = named(self._holders_of_slots(task.executor))
            return f"{_all(slots, task.executor)} are taken, by {running}"
        names = [name for name, _ in task.resources]
        if holders := self._holders_of_resources(names):
            return f"too much is taken of {named(names)}, by {named(holders)}"
        return "others come before it that take the same"

    def _queue(self, task: Task) -> str:
        peers = [self._ledger.peers[address] for address in task.holders or ()]
        if busy := [peer.address for peer in peers if peer.busy_attempt]:
            return f"{named(busy)} was busy, and will be asked again"
        if others := [peer.address for peer in peers if peer.attempt]:
            return f"{named(others)} answers another gather first"
        return f"{self._ledger.incoming_nbytes} bytes are in flight, as much as the limits allow"

    def _holders_of_slots(self, executor: str) -> list[Key]:
        return [t.key for t, a in self._running if a.executor == executor and not a.seceded]

    def _holders_of_resources(self, names: list[str]) -> list[Key]:
        return [
            task.key
            for task, activity in self._running
            if any(name in names for name, _ in activity.resources)
        ]


def rank(task: Task) -> Rank:
    """The turn of a ready task."""
    return task.priority, -task.age


def _all(slots: Slots, executor: str) -> str:
    return f"{slots.total} of {slots.total} slots for {executor!r}"


def _taken_by(task: Task) -> list[str]:
    return [f"slot {task.executor}", *[f"resource {name}" for name, _ in task.resources]]


def _kept_for(task: Task) -> str:
    needs = task.local_needs + task.remote_needs + task.pins
    return " and ".join(
        ["for whoever asked for it"] * task.hold + ["for tasks here that need it"] * bool(needs)
    )


def unmet_inputs(task: Task) -> list[Task]:
    """The inputs of a task that are not in memory."""
    return [
        dependency
        for dependency in task.local + task.remote
        if dependency.result is not Result.IN_MEMORY
    ]


def waiting_behind(tasks: list[Task]) -> list[Task]:
    """The tasks that wait for one of these, through others too, oldest first."""
    behind = list(tasks)
    seen = set(tasks)  # asked for membership only: its order never matters
    for link in behind:  # grows while it is walked
        for dependent in link.dependents or ():
            if dependent.place is Place.WAITING and dependent not in seen:
                seen.add(dependent)
                behind.append(dependent)
    return sorted(behind[len(tasks) :], key=lambda other: other.age)


def named(names: Sequence[str]) -> str:
    """Some names in a sentence; of many, the first, and how many more there are."""
    if len(names) > NAMED + 1:
        return f"{', '.join(names[:NAMED])} and {len(names) - NAMED} more"
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))
