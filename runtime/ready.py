"""What is ready to run, and the slots it waits for."""

from collections import deque
from heapq import heapify, heappop, heappush
from typing import TypeAlias

from trouper.runtime.task import NOWHERE, READY, Task
from trouper.wire.vocabulary import Priority


class Slots:
    """The capacity of one kind of executor.

    Args:
        total: How many tasks may run at once.
        run_ahead: How many brief tasks may be handed over beyond that.
    """

    __slots__ = ("free", "lengthy", "run_ahead", "total")

    def __init__(self, total: int, run_ahead: int = 0) -> None:
        self.total = total
        self.run_ahead = run_ahead
        self.free = total
        """Negative while brief tasks have been handed over ahead of a free slot."""
        self.lengthy = 0
        """How many tasks have a slot that are not known to be brief."""


Requirement: TypeAlias = tuple[str, tuple[str, ...]]
"""The executor and the names of the resources that a task takes."""


ReadyEntry: TypeAlias = tuple[Priority, int, Task]
"""Priority, negative age, task. Ages are unique, so tasks are never compared."""


class ReadyQueue:
    """Tasks that wait for the same kind of slot and the same resources, best first.

    Most tasks come in the order in which they are to start: those stand in a run, which costs
    nothing to extend at its end and to shorten at its head. Only the others stand in a heap.
    """

    def __init__(self, requirement: Requirement, slots: Slots) -> None:
        self.executor, self.resource_names = requirement
        self.slots = slots
        """Shared by all queues of the executor."""
        self.live = 0
        self.run: deque[ReadyEntry] = deque()
        self._heap: list[ReadyEntry] = []

    @property
    def in_order(self) -> bool:
        """Whether the run has all that is ready, and nothing else. So it is nearly always."""
        return not self._heap and self.live == len(self.run)

    def push(self, task: Task) -> None:
        """Add a task whose place is READY. Among equal priorities the youngest goes first."""
        self.live += 1
        entry = (task.priority, -task.age, task)
        run = self.run
        if not run or run[-1] < entry:
            run.append(entry)
        else:
            heappush(self._heap, entry)

    def discard(self) -> None:
        """Count one task out whose place is READY no more."""
        self.live -= 1
        if len(self.run) + len(self._heap) > 2 * self.live + 16:
            self.run = deque(entry for entry in self.run if _is_ready(entry))
            self._heap = [entry for entry in self._heap if _is_ready(entry)]
            heapify(self._heap)

    def head(self) -> ReadyEntry:
        """The best task with its rank. There is one: `live` is not 0."""
        run, heap = self.run, self._heap
        if not heap and self.live == len(run):
            return run[0]  # the common case: nobody has left or come out of turn
        while run and not _is_ready(run[0]):
            run.popleft()
        while heap and not _is_ready(heap[0]):
            heappop(heap)
        return min(run[0], heap[0]) if run and heap else (run or heap)[0]

    def pop(self) -> Task:
        """Take the head out. The task has no place any more."""
        run, heap = self.run, self._heap
        if not heap and self.live == len(run):
            task = run.popleft()[2]
        else:
            head = self.head()
            task = (heappop(heap) if heap and heap[0] is head else run.popleft())[2]
        self.live -= 1
        task.place = NOWHERE
        return task


def _is_ready(entry: ReadyEntry) -> bool:
    task = entry[2]
    return task.place is READY and -task.age == entry[1]
