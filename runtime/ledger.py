"""The books of a worker: its tasks, and the indices that make every decision cheap.

The ledger knows who stands where; it never decides. `transitions` moves tasks between its
indices, `policies` reads them. Everything here is derived from the tasks and can be rebuilt from
them (`snapshot` does), except the counters that number ages and attempts.

Heaps are lazy: who leaves stays behind as a stale entry, recognised by its age and place when it
comes to the top, and swept out when stale entries outnumber the others. So no operation looks at
all tasks or all peers, and no index outgrows what it indexes.
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from heapq import heapify, heappop, heappush

import msgspec

from trouper.runtime.errors import ResourceError
from trouper.runtime.peers import PeerEntry, Rank
from trouper.runtime.ready import ReadyQueue, Requirement, Slots
from trouper.runtime.task import WANTED, Executing, Task
from trouper.wire.instructions import Gather
from trouper.wire.vocabulary import Key, Peer, Priority


class Limits(msgspec.Struct, frozen=True):
    """How much may be fetched at once, and how long to wait before asking again."""

    incoming_count: int = 10
    """Gathers in flight, once they carry `incoming_throttle_nbytes`."""
    incoming_throttle_nbytes: int = 10_000_000
    incoming_nbytes: int | None = None
    """Bytes in flight; None for no limit."""
    message_nbytes: int | None = 50_000_000
    """Bytes asked of a peer in one message; None for no limit."""
    retry_busy_delay_s: float = 0.15
    find_missing_delay_s: float = 1.0


class Config(msgspec.Struct, frozen=True):
    """What a machine is told once, at its start."""

    slots: dict[str, int] = msgspec.field(default_factory=lambda: {"thread": 1})
    """How many tasks may run at once, by executor."""
    resources: dict[str, float] = {}
    """Named capacities that tasks may take a part of."""
    address: Peer = ""
    """Where peers find this worker: never a holder to fetch from."""
    limits: Limits = Limits()
    run_ahead: dict[str, int] = {}
    """How many brief tasks may be handed to an executor beyond its slots, to keep it busy."""

    def check_resources(self, asked: Mapping[str, float]) -> None:
        """Raise ResourceError if there is no such resource, or less of it."""
        for name, amount in asked.items():
            total = self.resources.get(name)
            if total is None:
                known = ", ".join(sorted(self.resources)) or "none"
                raise ResourceError(f"this worker has no resource {name!r}; it has {known}")
            if not 0 < amount <= total:
                raise ResourceError(
                    f"the task asks for {amount:g} of the resource {name!r}; this worker has "
                    f"{total:g}, and an amount is positive"
                )


BRIEF_S = 0.0002
"""What counts as a brief task: about what it costs to wait for the next one to be handed over."""

HISTORY = 8
"""How many tasks of a kind are remembered."""

BRIEF = frozenset(bits for bits in range(1 << HISTORY) if bits.bit_count() >= HISTORY - 1)
"""The histories of tasks that take very little time, with an exception now and then."""

ALWAYS_BRIEF = (1 << HISTORY) - 1
"""The history of tasks without exception."""

PREFIXES = 1000
"""Of so many kinds of tasks it is remembered how long they take."""


class Ledger:
    """All that a machine holds. See the module's text."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.paused = False
        self.tasks: dict[Key, Task] = {}
        self.last_age = 0
        self.last_attempt = 0
        self.unsettled: list[Task] = []
        """Tasks whose claims, activity or result have changed: `transitions.settle_all`."""

        self.queues: dict[Requirement, ReadyQueue] = {}
        self.plain_queues: dict[str, ReadyQueue] = {}
        """Those for no resources, by executor."""
        self.slots: dict[str, Slots] = {}
        """By executor."""
        for executor in sorted(config.slots):
            slots = Slots(config.slots[executor], config.run_ahead.get(executor, 0))
            self.slots[executor] = slots
            queue = ReadyQueue((executor, ()), slots)
            self.plain_queues[executor] = self.queues[executor, ()] = queue
        self.constrained_count = 0
        """Tasks in queues that take resources."""
        self.stirred = False
        """Something has changed that may let a ready task start."""
        self.millionths_free = {name: millionths(x) for name, x in config.resources.items()}
        """Of each resource. Whole numbers: what is given back is exactly what was taken."""
        self.observes = bool(config.run_ahead)
        """Whether it matters how long tasks take."""
        self.brevity: dict[str, int] = {}
        """By prefix, a bit for each of its last tasks that was brief; the latest lowest."""

        self.peers: dict[Peer, PeerEntry] = {}
        self.flights: dict[int, Gather] = {}
        """Gathers that have not ended, by attempt."""
        self.missing: dict[Task, None] = {}
        self.missing_attempt = 0
        """The timer that runs while keys are missing; 0 if none."""
        self.incoming_nbytes = 0
        self.nbytes = 0
        """Bytes in memory."""
        self._host = host_of(config.address)
        self.offers: list[Rank] = []
        """A lazy heap. Invariant: what a peer has `offered` is in it."""
        self.restless: dict[PeerEntry, None] = {}
        """Peers for which something has changed since they have offered."""

    def next_attempt(self) -> int:
        """A new number for an attempt or timer; positive, counting up."""
        self.last_attempt += 1
        return self.last_attempt

    def next_age(self) -> int:
        """A new age for a task; positive, counting up."""
        self.last_age += 1
        return self.last_age

    def ensure(self, key: Key, priority: Priority = ()) -> Task:
        """The task with this key, created if unknown.

        The priority is for a new one only: one that is known may stand in a heap by its own.
        """
        task = self.tasks.get(key)
        if task is None:
            task = self.tasks[key] = Task(key, self.next_age(), priority=priority)
        return task

    # Ready tasks

    def queue_of(self, task: Task) -> ReadyQueue:
        """The queue for what a task takes."""
        if not task.resources:
            return self.plain_queues[task.executor]
        requirement = (task.executor, tuple([name for name, _ in task.resources]))
        queue = self.queues.get(requirement)
        if queue is None:
            queue = ReadyQueue(requirement, self.slots[task.executor])
            self.queues[requirement] = queue
        return queue

    def enqueue(self, task: Task) -> None:
        """Index a task whose place has become READY."""
        if task.resources:
            queue = self.queue_of(task)
            self.constrained_count += 1
        else:
            queue = self.plain_queues[task.executor]
        queue.push(task)
        slots = queue.slots
        if slots.free > -slots.run_ahead:
            self.stirred = True

    def dequeue(self, task: Task) -> None:
        """Take a task out whose place was READY and that does not start."""
        self.queue_of(task).discard()
        self.constrained_count -= bool(task.resources)
        self.stirred = True  # another one may have stood behind it

    def take(self, activity: Executing) -> None:
        """Occupy a slot and resources for an attempt."""
        slots = self.slots[activity.executor]
        slots.free -= 1
        if not activity.brief:
            slots.lengthy += 1
        self.take_resources(activity.resources)

    def take_resources(self, resources: tuple[tuple[str, float], ...]) -> None:
        """Occupy resources for an attempt."""
        for name, amount in resources:
            self.millionths_free[name] -= millionths(amount)

    def give_back_slot(self, activity: Executing) -> None:
        """Free the slot of an attempt."""
        slots = self.slots[activity.executor]
        slots.free += 1
        if not activity.brief:
            slots.lengthy -= 1
        self.stirred = True

    def give_back(self, activity: Executing) -> None:
        """Free what an attempt still has."""
        if not activity.seceded:  # `give_back_slot`, in plain: every task comes here
            slots = self.slots[activity.executor]
            slots.free += 1
            if not activity.brief:
                slots.lengthy -= 1
        if activity.resources:
            for name, amount in activity.resources:
                self.millionths_free[name] += millionths(amount)
        self.stirred = True

    def observe(self, prefix: str, duration_s: float) -> None:
        """Remember how long a task of a kind has taken."""
        history = self.brevity.get(prefix)
        if history is None:
            history = 0
            if len(self.brevity) == PREFIXES:
                del self.brevity[next(iter(self.brevity))]
        self.brevity[prefix] = (history << 1 & ALWAYS_BRIEF) | (duration_s <= BRIEF_S)

    @property
    def resources_free(self) -> dict[str, float]:
        """What is left of each resource."""
        return {name: count / 1_000_000 for name, count in self.millionths_free.items()}

    # Peers

    def peer(self, address: Peer) -> PeerEntry:
        """What is known of a peer, created if unknown."""
        entry = self.peers.get(address)
        if entry is None:
            entry = PeerEntry(address, host_of(address) != self._host)
            self.peers[address] = entry
        return entry

    def set_holders(self, task: Task, holders: Iterable[Peer]) -> None:
        """Replace the peers that are said to hold a task's value; this worker is never one."""
        old = task.holders or ()
        new: dict[Peer, None] = {}
        here, wanted = self.config.address, task.place is WANTED
        for address in holders:
            if address == here or address in new:
                continue
            new[address] = None
            if address not in old:
                entry = self.peers.get(address) or self.peer(address)
                entry.held[task] = None
                if wanted:
                    entry.want(task)
                    self.restless[entry] = None
        task.holders = new or None
        if old:
            for address in old:
                if address not in new:
                    self._lose(task, address, wanted=wanted)

    def forget_holders(self, task: Task) -> None:
        """Nobody needs to know who holds the value of a task that is nowhere."""
        for address in task.holders or ():
            entry = self.peers[address]
            del entry.held[task]
            if not entry.held:
                self.forget_peer_if_idle(entry)
        task.holders = None

    def remove_holder(self, task: Task, address: Peer) -> None:
        """One peer does not hold a task's value after all."""
        if task.holders and address in task.holders:
            del task.holders[address]
            task.holders = task.holders or None
            self._lose(task, address, wanted=task.place is WANTED)

    def _lose(self, task: Task, address: Peer, *, wanted: bool) -> None:
        entry = self.peers[address]
        del entry.held[task]
        if wanted:
            entry.unwant()
            self.restless[entry] = None
        if not entry.held:
            self.forget_peer_if_idle(entry)

    def forget_peer_if_idle(self, entry: PeerEntry) -> None:
        """Keep no book on a peer that holds nothing and owes nothing."""
        if not entry.held and not entry.attempt and not entry.busy_attempt:
            self.peers.pop(entry.address, None)
            if self.restless:
                self.restless.pop(entry, None)

    def want(self, task: Task) -> None:
        """Index a task whose place has become WANTED."""
        for address in task.holders or ():
            entry = self.peers[address]
            entry.want(task)
            self.restless[entry] = None

    def unwant(self, task: Task) -> None:
        """Take a task out whose place was WANTED."""
        for address in task.holders or ():
            entry = self.peers[address]
            entry.unwant()
            self.restless[entry] = None

    def take_offer(self) -> PeerEntry | None:
        """The peer to gather from first, or None. Who does not gather from it makes it restless."""
        offers, peers = self.offers, self.peers
        if not offers and len(self.restless) == 1:  # the common case: there is nothing to compare
            entry, _ = self.restless.popitem()
            entry.offered = None
            return entry if entry.can_be_asked else None
        for entry in self.restless:
            entry.offered = rank = entry.rank()
            if rank is not None:
                heappush(offers, rank)
        self.restless.clear()
        if len(offers) > 4 * len(peers) + 64:
            offers = [peer.offered for peer in peers.values() if peer.offered is not None]
            heapify(offers)
            self.offers = offers
        while offers:
            rank = heappop(offers)
            peer = peers.get(rank[3])
            if peer is not None and peer.offered is rank:
                peer.offered = None
                return peer
        return None


def millionths(amount: float) -> int:
    """An amount of a resource, to be counted exactly."""
    return round(amount * 1_000_000)


@lru_cache(maxsize=1000)
def host_of(address: Peer) -> str:
    """``tcp://10.0.0.1:80`` to ``10.0.0.1``."""
    return address.rpartition("://")[2].rpartition(":")[0]
