"""distributed's `WorkerState`, mended: what is started and fetched is chosen once, at the end."""

import operator
from collections import Counter
from typing import Any

from reference import State, wsm

from trouper.wire.vocabulary import Key

# What is said to distributed's own classes cannot be checked: it knows its types only partly.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

BY_PRIORITY = operator.attrgetter("priority")
QUEUED = ("waiting", "ready", "constrained")
BEGUN = ("executing", "long-running")


class FairHeap(wsm.HeapSet):
    """*stale priorities*: orders by the priorities that tasks have now, and then by age.

    The original keeps the priority with which a task first came, also if it left and came again
    with another; and of equal ones the first to come goes first.
    """

    def peek(self) -> Any:
        """The best task."""
        return min(self._data, key=operator.attrgetter("priority", "rank"))

    def pop(self) -> Any:
        """Take the best task out."""
        task = self.peek()
        self.discard(task)
        return task

    def add(self, value: Any) -> None:
        """Add a task."""
        self._data.add(value)


class MendedState(State):
    """`WorkerState` with choices that are made once, and with claims."""

    __slots__ = ("came", "choosing", "claims", "mended", "unranked")
    came: frozenset[Key]
    """What the gather that has just ended has brought, readable or not."""
    choosing: bool
    claims: set[Key]
    """Copies that were asked for and have neither come nor been freed."""
    mended: Counter[str]
    unranked: dict[int, Any]
    """By rank, tasks whose values have just gone."""

    def choose(self, stimulus_id: str) -> Any:
        """*late choice*: start what can start, when the stimulus has been dealt with."""
        self.choosing = True
        recs, _ = super()._ensure_computing()
        instructions = self._transitions(recs, stimulus_id=stimulus_id)
        self.choosing = False
        return instructions

    def _ensure_computing(self) -> Any:
        return {}, []

    def _ensure_communicating(self, *, stimulus_id: str) -> Any:
        return super()._ensure_communicating(stimulus_id=stimulus_id) if self.choosing else ({}, [])

    def _next_ready_task(self) -> Any:
        """*resources passed by*: who finds its resources taken holds up only those that share."""
        ready = self.ready.peek() if self.ready else None
        reserved: set[Any] = set()
        for task in sorted(self.constrained, key=BY_PRIORITY):
            if ready is not None and ready.priority <= task.priority:
                break
            wanted = task.resource_restrictions
            if reserved.isdisjoint(wanted) and self._resource_restrictions_satisfied(task):
                self.constrained.discard(task)
                if reserved:
                    self.mended["resources passed by"] += 1
                return task
            reserved.update(wanted)
        return self.ready.pop() if self.ready else None

    def _transition(self, ts: Any, finish: Any, *args: Any, stimulus_id: str) -> Any:
        had_value = ts.state == "memory"
        recs: dict[Any, Any]
        recs, instructions = super()._transition(ts, finish, *args, stimulus_id=stimulus_id)
        for task in list(recs):
            name = None if task is ts else self._reason_against(task, recs[task])
            if name is not None:
                self.mended[name] += 1
                del recs[task]
        if had_value and ts.state == "released" and ts.dependents:
            self.unranked[ts.rank] = ts
        return recs, instructions

    def _reason_against(self, task: Any, finish: Any) -> str | None:
        """Why what follows for an input from a transition of its dependent is not done."""
        if finish == "released" and task.key in self.claims:
            return "copies outlive needs"
        if finish == "released" and task.state == "error":
            return "failures stay known"
        if finish == "released" and task.next == "waiting":
            return "compute claims stand"
        computed = task.state in (*QUEUED, *BEGUN) or task.next == "waiting"
        if finish == "fetch" and computed:
            return "compute claims outlive news"
        if finish == "fetch" and task.state == "flight" and task.key in self.came:
            return "what came is kept"
        return None
