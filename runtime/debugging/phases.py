"""The phases of all tasks of a journal, kept step by step without looking at all of them.

A step can change the phase of a task that it does not name: an input comes, a peer that was to be
asked is lost. So whoever is named is looked at, and from everyone whose phase has changed the look
goes on to its inputs and dependents. Pure.
"""

from collections import Counter
from collections.abc import Iterable

import msgspec

from trouper.runtime.debugging.occasions import subjects
from trouper.runtime.journal.journal import Step
from trouper.runtime.machine import Machine
from trouper.wire.instructions import Gather
from trouper.wire.stimuli import (
    ComputeTask,
    GatherBusy,
    GatherFailure,
    GatherNetworkFailure,
    GatherSuccess,
    RemoveWorker,
)
from trouper.wire.vocabulary import Key

RELEASED = "released"
"""The phase of whoever is not known, or known only as an input of others."""


class Change(msgspec.Struct, frozen=True, gc=False):
    """A task has another phase than before."""

    key: Key
    before: str
    phase: str


class _Known(msgspec.Struct, frozen=True, gc=False):
    phase: str
    inputs: tuple[Key, ...]
    """As they were when it was last looked at: the machine forgets them with the task."""


class Phases:
    """See the module's text.

    Args:
        machine: Before the first step.
    """

    def __init__(self, machine: Machine) -> None:
        self.counts: Counter[str] = Counter()
        """Tasks by phase, without those that are released."""
        self._known: dict[Key, _Known] = {}
        self._sought: dict[Key, None] = {}
        """Those to be fetched that are not in flight: their phase goes with the peers."""
        self._flights = {attempt: flight.keys for attempt, flight in machine.ledger.flights.items()}
        for key in machine.ledger.tasks:
            self._look(machine, key)

    def phase(self, key: Key) -> str:
        """The phase of a task after the last step."""
        known = self._known.get(key)
        return RELEASED if known is None else known.phase

    def go_on(self, step: Step) -> list[Change]:
        """What the next step has changed, each task once."""
        changes: list[Change] = []
        tasks = step.machine.ledger.tasks
        queue = list(dict.fromkeys(self._seeds(step)))
        seen = set(queue)  # asked for membership only: its order never matters
        for key in queue:  # grows while it is walked
            neighbours = list(self._inputs(key))
            change = self._look(step.machine, key)
            if change is None:
                continue
            changes.append(change)
            task = tasks.get(key)
            if task is not None:
                neighbours += self._inputs(key)
                neighbours += [other.key for other in task.dependents or ()]
            for neighbour in neighbours:
                if neighbour not in seen:
                    seen.add(neighbour)
                    queue.append(neighbour)
        return changes

    def _seeds(self, step: Step) -> Iterable[Key]:
        """Whoever a step names; and whom it means without a name."""
        stimulus = step.record.stimulus
        yield from subjects(stimulus)
        match stimulus:
            case ComputeTask(key=key, local=local):
                yield from local
                yield from self._inputs(key)
            case GatherSuccess() | GatherBusy() | GatherNetworkFailure() | GatherFailure():
                if stimulus.attempt not in step.machine.ledger.flights:  # it was no stale one
                    yield from self._flights.pop(stimulus.attempt, ())
            case _:
                pass
        if isinstance(stimulus, RemoveWorker | GatherNetworkFailure):
            yield from self._sought
        for instruction in step.instructions:
            if isinstance(instruction, Gather):
                self._flights[instruction.attempt] = instruction.keys
            yield from subjects(instruction)

    def _inputs(self, key: Key) -> tuple[Key, ...]:
        known = self._known.get(key)
        return () if known is None else known.inputs

    def _look(self, machine: Machine, key: Key) -> Change | None:
        """Where a task stands now, if that is elsewhere than before."""
        before = self.phase(key)
        task = machine.ledger.tasks.get(key)
        phase = RELEASED if task is None else task.phase
        if task is None or phase == RELEASED:
            self._known.pop(key, None)
        else:
            inputs = tuple([other.key for other in task.local + task.remote])
            self._known[key] = _Known(phase, inputs)
        if before == phase:
            return None
        self.counts[before] -= 1
        self.counts[phase] += 1
        del self.counts[RELEASED]
        if phase in ("fetch", "missing"):
            self._sought[key] = None
        else:
            self._sought.pop(key, None)
        return Change(key, before, phase)
