"""What is known of a peer, and what is to be fetched from it."""

from heapq import heapify, heappop, heappush
from typing import TypeAlias

import msgspec

from trouper.runtime.task import WANTED, Task
from trouper.wire.mutable import mutable
from trouper.wire.vocabulary import Peer, Priority

Rank: TypeAlias = tuple[Priority, bool, int, Peer]
"""Order of peers to gather from: best task, own host before others, most tasks, address."""


@mutable
class PeerEntry(msgspec.Struct, eq=False):
    """What is known of a peer, and which of its values are to be fetched."""

    address: Peer
    remote: bool
    """It is on another host."""
    attempt: int = 0
    """The gather in flight from it; 0 if none. One at a time."""
    busy_attempt: int = 0
    """The timer that runs because it was busy; 0 if none."""
    held: dict[Task, None] = {}
    wanted_count: int = 0
    offered: Rank | None = None
    """Its rank when it was last asked for it."""
    wanted_heap: list[tuple[Priority, int, Task]] = []

    def want(self, task: Task) -> None:
        """Add a task whose place is WANTED and that this peer holds."""
        self.wanted_count += 1
        heappush(self.wanted_heap, (task.priority, task.age, task))

    def unwant(self) -> None:
        """Count one task out that is wanted from this peer no more."""
        self.wanted_count = count = self.wanted_count - 1
        heap = self.wanted_heap
        if not count:
            heap.clear()
        elif len(heap) > 2 * count + 16:
            self.wanted_heap = [entry for entry in heap if self._is_wanted(entry)]
            heapify(self.wanted_heap)

    def best(self) -> Task:
        """The task to fetch first. There is one: `wanted_count` is not 0."""
        heap = self.wanted_heap
        while not self._is_wanted(heap[0]):
            heappop(heap)
        return heap[0][2]

    @property
    def can_be_asked(self) -> bool:
        """Whether something is wanted of it, and it is neither being asked nor busy."""
        return bool(self.wanted_count) and not self.attempt and not self.busy_attempt

    def rank(self) -> Rank | None:
        """Its place among the peers to gather from; None if it cannot be asked."""
        if not self.can_be_asked:
            return None
        return (self.best().priority, self.remote, -self.wanted_count, self.address)

    def _is_wanted(self, entry: tuple[Priority, int, Task]) -> bool:
        _, age, task = entry
        return task.place is WANTED and task.age == age and task in self.held
