r"""A task, as three independent facts: what is wanted, what is being done, what there is.

- **goal**: what others want of the task: nothing, to have it computed here, or to have a copy
  fetched. Derived from *claims*, never assigned. There is one scheduler claim per key, and the
  newest word replaces the older; and one *need* for every task here that takes the key as an
  input: a *local* need wants it computed, a *remote* need wants it fetched.
- **activity**: what this worker does about it right now: idle, executing or fetching. It owns
  what it took (slot, resources, bytes in flight, pins on its inputs) and gives it all back when
  it ends, whatever has become of the goal meanwhile.
- **result**: nothing, a value in memory, or a failure.

Wanting and doing are independent: a task can be wanted while the attempt that runs for it was
started for somebody else, and can go on running when nobody wants it any more. The names that
users of Dask know are derived from the three facts:

    goal \ activity  idle                        executing                  fetching
    NONE             released                    cancelled(executing)       cancelled(flight)
    COMPUTE          waiting, ready/constrained  executing                  resumed(flight->waiting)
    FETCH            fetch/missing               resumed(executing->fetch)  flight

An attempt that has given its slot back is "long-running" where this table says "executing".
With a result there is no goal to speak of: the phase is "memory" or "error", unless an attempt
that nobody wants any more still runs ("cancelled(...)").
"""

from enum import Enum, IntEnum
from typing import TypeAlias

import msgspec

from trouper.wire.mutable import mutable
from trouper.wire.vocabulary import Entry, Key, Peer, Priority


class Goal(IntEnum):
    """What others want of a task; the numbers are columns of the tables in `transitions`."""

    NONE = 0
    COMPUTE = 1
    FETCH = 2


class Result(Enum):
    """What there is of a task."""

    NOTHING = "nothing"
    IN_MEMORY = "in memory"
    FAILED = "failed"


class Place(Enum):
    """Which index of the ledger a task stands in. Derived: `transitions.settle` moves it."""

    NOWHERE = "nowhere"
    WAITING = "waiting"
    """To be computed; some inputs are not in memory."""
    READY = "ready"
    """To be computed; takes its turn for a slot and for resources."""
    WANTED = "wanted"
    """To be fetched; at least one holder is known."""
    MISSING = "missing"
    """To be fetched; no holder is known."""


# The members by themselves: up to Python 3.11, looking one up in its Enum costs as much as creating
# a small object, and every stimulus looks at dozens of them.
NONE, COMPUTE, FETCH = Goal.NONE, Goal.COMPUTE, Goal.FETCH
NOTHING, IN_MEMORY, FAILED = Result.NOTHING, Result.IN_MEMORY, Result.FAILED
NOWHERE, WAITING, READY = Place.NOWHERE, Place.WAITING, Place.READY
WANTED, MISSING = Place.WANTED, Place.MISSING


@mutable
class Executing(msgspec.Struct, eq=False, gc=False):
    """The activity of an attempt that computes the task."""

    attempt: int
    spec_id: int
    executor: str
    resources: tuple[tuple[str, float], ...]
    inputs: tuple[Entry, ...]
    """Pinned in memory until the attempt ends."""
    brief: bool = False
    """Its kind is known to take very little time."""
    seceded: bool = False
    cancelling: bool = False
    """Its cancellation has been asked for."""


@mutable
class Fetching(msgspec.Struct, eq=False, gc=False):
    """The activity of an attempt that fetches the task's value. Owned by the task's flight."""

    attempt: int
    peer: Peer
    nbytes: int
    """This task's part of the bytes in flight."""
    cancelling: bool = False


Activity: TypeAlias = Executing | Fetching


@mutable
class Task(msgspec.Struct, eq=False):
    """All that the machine knows of a key. Plain data: no function, no argument, no value."""

    key: Key
    age: int
    """Counts up with every task that is created or asked to be computed anew; unique."""

    claim: Goal = NONE
    """What the scheduler wants."""
    run_id: int = 0
    spec_id: int = 0
    """0 if there is none. Invariant: there is one while COMPUTE is the goal without a result."""
    priority: Priority = ()
    executor: str = ""
    prefix: str = ""
    place: Place = NOWHERE
    resources: tuple[tuple[str, float], ...] = ()
    local: tuple["Task", ...] = ()
    remote: tuple["Task", ...] = ()
    unmet: int = 0
    """How many inputs are not in memory, while the place is WAITING."""
    local_needs: int = 0
    """How many tasks to be computed here take it as an input that is computed here."""
    remote_needs: int = 0
    """How many tasks that wait here take it as an input to be fetched."""

    activity: Activity | None = None

    result: Result = NOTHING
    entry: int = 0
    """The attempt under which the store keeps the value or exception; 0 if there is none."""
    nbytes: int = 0
    """Size of the value in bytes; while there is none, the size that holders are said to have."""
    type_name: str = ""
    cancelled: bool = False
    """The failure is a cancellation."""
    hold: bool = False
    """The scheduler has been told of the result, so it stays until the scheduler lets it go."""
    pins: int = 0
    """How many running attempts use the value under `entry`."""

    holders: dict[Peer, None] | None = None
    """Peers said to hold the value. None where empty: most tasks never have one."""
    dependents: dict["Task", None] | None = None
    """Tasks to be computed here that have it as an input, oldest link first. None if empty."""

    @property
    def goal(self) -> Goal:
        """What others want, all claims taken together: COMPUTE outranks FETCH."""
        if self.claim is COMPUTE or self.local_needs:
            return COMPUTE
        if self.claim is FETCH or self.remote_needs:
            return FETCH
        return NONE

    @property
    def phase(self) -> str:
        """The derived name of the task's state, as users of Dask know it."""
        activity = self.activity
        if activity is None:
            return self._idle_phase()
        if isinstance(activity, Fetching):
            doing, done_by, other = "flight", FETCH, "waiting"
        else:
            doing = "long-running" if activity.seceded else "executing"
            done_by, other = COMPUTE, "fetch"
        goal = self.goal if self.result is NOTHING else NONE
        if goal is NONE:
            return f"cancelled({doing})"
        return doing if goal is done_by else f"resumed({doing}->{other})"

    def _idle_phase(self) -> str:
        if self.result is IN_MEMORY:
            return "memory"
        if self.result is FAILED:
            return "error"
        match self.place:
            case Place.NOWHERE:
                return "released"
            case Place.WAITING:
                return "waiting"
            case Place.READY:
                return "constrained" if self.resources else "ready"
            case Place.WANTED:
                return "fetch"
            case Place.MISSING:
                return "missing"
