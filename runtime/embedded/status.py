"""What a worker says of itself when it is asked."""

from collections import Counter

import msgspec

from trouper.runtime.journal.writer import JournalStatus
from trouper.runtime.supervisor import Supervisor


class Usage(msgspec.Struct, frozen=True):
    """How much of a capacity is taken."""

    used: float
    total: float


class WorkerStatus(msgspec.Struct, frozen=True):
    """A worker at one moment."""

    name: str
    state: str
    """"running", "closed", or "failed"."""
    tasks: dict[str, int]
    """How many tasks the machine knows, by phase."""
    slots: dict[str, Usage]
    """By executor: "thread" for plain functions, "coroutine" for coroutine functions."""
    resources: dict[str, Usage]
    nbytes: int
    """Size of all results in memory, as far as they can tell; in bytes."""
    journal: JournalStatus | None = None
    """None if there is no journal."""


def status_of(supervisor: Supervisor, name: str, failed: bool, closed: bool) -> WorkerStatus:
    """Count. The cost grows with the number of tasks held."""
    state = "failed" if failed else "closed" if closed else "running"
    ledger, recorder = supervisor.machine.ledger, supervisor.recorder
    config = ledger.config
    phases = Counter(task.phase for task in ledger.tasks.values())
    return WorkerStatus(
        name,
        state,
        dict(sorted(phases.items())),
        {
            executor: Usage(slots.total - slots.free, slots.total)
            for executor, slots in ledger.slots.items()
        },
        {
            resource: Usage(total - ledger.resources_free[resource], total)
            for resource, total in config.resources.items()
        },
        ledger.nbytes,
        None if recorder is None else recorder.status(),
    )
