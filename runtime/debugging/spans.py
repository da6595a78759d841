"""Spans of a journal: attempts, gathers and waits, each in a lane, from its begin to its end. Pure.

A lane shows one thing at a time. There are as many of a name as were ever needed at once: an
executor has one for each attempt that runs, a peer has one.
"""

from collections.abc import Iterator
from heapq import heappop, heappush
from math import isfinite
from typing import TypeAlias

import msgspec

from trouper.runtime.journal.journal import Step
from trouper.runtime.ledger import Ledger
from trouper.runtime.task import Executing
from trouper.wire import instructions as ins
from trouper.wire import stimuli as st
from trouper.wire.vocabulary import Entry, Key, Peer

RUNNING = "running"
"""Outcome of what has not ended when the journal does."""

OVER = "over"
"""Outcome of a wait."""

SLOTS, PEERS, TIMERS = "slots", "peers", "timers"
"""Groups of lanes."""

_Terminal: TypeAlias = (
    st.ExecuteSuccess | st.ExecuteFailure | st.ExecuteReschedule | st.ExecuteCancelled
)
_Gathered: TypeAlias = st.GatherSuccess | st.GatherBusy | st.GatherNetworkFailure | st.GatherFailure

_OUTCOMES: dict[type, str] = {
    st.ExecuteSuccess: "success",
    st.ExecuteFailure: "failure",
    st.ExecuteReschedule: "reschedule",
    st.ExecuteCancelled: "cancelled",
    st.GatherSuccess: "success",
    st.GatherBusy: "busy",
    st.GatherNetworkFailure: "network failure",
    st.GatherFailure: "unreadable",
}


class Lane(msgspec.Struct, frozen=True, order=True):
    """Where a span is drawn."""

    group: str
    name: str
    """The executor or the peer."""
    number: int
    """From 0."""


class Origin(msgspec.Struct, frozen=True):
    """Where an input came from: a span that has brought it."""

    lane: Lane
    begin_us: int
    end_us: int


class Span(msgspec.Struct, kw_only=True):
    """Something that took time."""

    lane: Lane
    attempt: int
    begin_us: int
    end_us: int = 0
    first: int | None
    """Number of the record with which it began; None if it had begun before."""
    last: int | None = None
    """Of the one with which it ended; None if it has not."""
    outcome: str = RUNNING


class ExecuteSpan(Span, kw_only=True):
    """An attempt to compute a task."""

    key: Key
    prefix: str = ""
    inputs: tuple[Key, ...] = ()
    origins: tuple[Origin, ...] = ()
    """Of those inputs of which it is known."""
    seceded_us: int | None = None
    """From when on it had no slot."""
    duration_s: float | None = None
    """How long the function ran, as far as known."""
    nbytes: int = 0
    type_name: str = ""
    """Of the value, or of the exception."""


class GatherSpan(Span, kw_only=True):
    """An attempt to fetch values."""

    keys: tuple[Key, ...]
    expected_nbytes: int
    nbytes: int = 0
    """Of what came."""
    missing: tuple[Key, ...] = ()
    """What the peer did not hold, or was asked to leave out."""
    cancelled: frozenset[Key] = frozenset()
    type_name: str = ""
    """Of the exception."""


class WaitSpan(Span, kw_only=True):
    """A timer: a peer is left alone for a while, or it is not yet time to ask for what is missing.

    Its lane is that of the peer; or the one of the timers.
    """


class Lanes:
    """Gives each span the first lane that is free."""

    def __init__(self) -> None:
        self._used: dict[tuple[str, str], int] = {}
        self._free: dict[tuple[str, str], list[int]] = {}

    def take(self, group: str, name: str) -> Lane:
        """A lane in which nothing is shown."""
        free = self._free.get((group, name))
        if free:
            return Lane(group, name, heappop(free))
        number = self._used.get((group, name), 0)
        self._used[group, name] = number + 1
        return Lane(group, name, number)

    def give_back(self, lane: Lane) -> None:
        """What was shown in it has ended."""
        heappush(self._free.setdefault((lane.group, lane.name), []), lane.number)


class Spans:
    """Follows what is open through the steps of a journal; a span is given away when it ends.

    Args:
        ledger: Before the first step.
        at_us: Time of the first step: what had begun before is shown from there on.
    """

    def __init__(self, ledger: Ledger, at_us: int) -> None:
        self._lanes = Lanes()
        self._open: dict[int, Span] = {}
        """By attempt."""
        self._origins: dict[Entry, Origin] = {}
        """Of what the store keeps."""
        self._begin(ledger, at_us)

    def go_on(self, step: Step) -> list[Span]:
        """What has ended with the next step."""
        ended = list(self._end(step))
        for instruction in step.instructions:
            self._follow(instruction, step)
        return ended

    def rest(self, at_us: int) -> list[Span]:
        """What has not ended by a time, oldest first."""
        spans = sorted(self._open.values(), key=lambda span: span.attempt)
        for span in spans:
            span.end_us = at_us
        return spans

    def _begin(self, ledger: Ledger, at_us: int) -> None:
        """Open what had begun before the first step."""
        for task in sorted(ledger.tasks.values(), key=lambda task: task.age):
            activity = task.activity
            if isinstance(activity, Executing):
                self._open[activity.attempt] = ExecuteSpan(
                    lane=self._lanes.take(SLOTS, activity.executor),
                    attempt=activity.attempt,
                    begin_us=at_us,
                    first=None,
                    key=task.key,
                    prefix=task.prefix,
                    inputs=tuple([key for key, _ in activity.inputs]),
                    seceded_us=at_us if activity.seceded else None,
                )
        for attempt, flight in ledger.flights.items():
            self._open[attempt] = GatherSpan(
                lane=self._lanes.take(PEERS, flight.peer),
                attempt=attempt,
                begin_us=at_us,
                first=None,
                keys=flight.keys,
                expected_nbytes=flight.nbytes,
            )
        for address, peer in sorted(ledger.peers.items()):
            if peer.busy_attempt:
                self._wait(PEERS, address, peer.busy_attempt, at_us, None)
        if ledger.missing_attempt:
            self._wait(TIMERS, "", ledger.missing_attempt, at_us, None)

    def _wait(self, group: str, name: Peer, attempt: int, at_us: int, n: int | None) -> None:
        lane = self._lanes.take(group, name)
        self._open[attempt] = WaitSpan(lane=lane, attempt=attempt, begin_us=at_us, first=n)

    def _follow(self, instruction: ins.Instruction, step: Step) -> None:
        """Open what an instruction begins, note what it asks of what is open."""
        n, at_us = step.record.n, step.record.at_us
        match instruction:
            case ins.Execute(key=key, attempt=attempt):
                task = step.machine.ledger.tasks[key]
                origins = map(self._origins.get, instruction.inputs)
                self._open[attempt] = ExecuteSpan(
                    lane=self._lanes.take(SLOTS, instruction.executor),
                    attempt=attempt,
                    begin_us=at_us,
                    first=n,
                    key=key,
                    prefix=task.prefix,
                    inputs=tuple([key for key, _ in instruction.inputs]),
                    origins=tuple(filter(None, origins)),
                )
            case ins.Gather(peer=peer, attempt=attempt):
                self._open[attempt] = GatherSpan(
                    lane=self._lanes.take(PEERS, peer),
                    attempt=attempt,
                    begin_us=at_us,
                    first=n,
                    keys=instruction.keys,
                    expected_nbytes=instruction.nbytes,
                )
            case ins.CancelGather(attempt=attempt, keys=keys):
                span = self._open.get(attempt)
                if isinstance(span, GatherSpan):
                    span.cancelled |= set(keys)
            case ins.RetryBusyWorkerLater(peer=peer, attempt=attempt):
                self._wait(PEERS, peer, attempt, at_us, n)
            case ins.FindMissingLater(attempt=attempt):
                self._wait(TIMERS, "", attempt, at_us, n)
            case ins.DropData(key=key, attempt=attempt):
                self._origins.pop((key, attempt), None)
            case _:
                pass

    def _end(self, step: Step) -> Iterator[Span]:
        """Close what a step has ended. What is stale ends nothing."""
        stimulus = step.record.stimulus
        span = self._open.get(getattr(stimulus, "attempt", 0))
        if span is None or step.record.error:
            return
        match stimulus, span:
            case st.Secede(key=key), ExecuteSpan() if key == span.key:
                if span.seceded_us is None:
                    span.seceded_us = step.record.at_us
                return
            case (
                st.ExecuteSuccess()
                | st.ExecuteFailure()
                | st.ExecuteReschedule()
                | st.ExecuteCancelled(),
                ExecuteSpan(),
            ) if stimulus.key == span.key:
                self._end_execution(span, stimulus, step.record.at_us)
            case (
                st.GatherSuccess()
                | st.GatherBusy()
                | st.GatherNetworkFailure()
                | st.GatherFailure(),
                GatherSpan(),
            ) if stimulus.peer == span.lane.name:
                self._end_gather(span, stimulus, step.record.at_us)
            case (st.RetryBusyWorker() | st.FindMissing(), WaitSpan()):
                span.outcome = OVER
            case _:
                return
        span.end_us = step.record.at_us
        span.last = step.record.n
        del self._open[span.attempt]
        self._lanes.give_back(span.lane)
        yield span

    def _end_execution(self, span: ExecuteSpan, stimulus: _Terminal, at_us: int) -> None:
        span.outcome = _OUTCOMES[type(stimulus)]
        match stimulus:
            case st.ExecuteSuccess(duration_s=duration_s):
                span.nbytes, span.type_name = stimulus.nbytes, stimulus.type_name
                span.duration_s = duration_s if isfinite(duration_s) else None
                self._origins[span.key, span.attempt] = Origin(span.lane, span.begin_us, at_us)
            case st.ExecuteFailure(type_name=type_name):
                span.type_name = type_name
            case _:
                pass

    def _end_gather(self, span: GatherSpan, stimulus: _Gathered, at_us: int) -> None:
        span.outcome = _OUTCOMES[type(stimulus)]
        match stimulus:
            case st.GatherSuccess(data=data):
                span.nbytes = sum(nbytes for nbytes, _ in data.values())
                span.missing = tuple([key for key in span.keys if key not in data])
                for key in data:
                    self._origins[key, span.attempt] = Origin(span.lane, span.begin_us, at_us)
            case st.GatherFailure(type_name=type_name):
                span.type_name = type_name
            case _:
                pass
        if span.cancelled.issuperset(span.keys):
            span.outcome = "cancelled"
