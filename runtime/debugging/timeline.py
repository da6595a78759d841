"""What happened when: spans in lanes, marks, and how much there was of everything.

    timeline = Timeline(journal)
    for moment in timeline.moments():
        ...
    spans, levels = timeline.rest()  # what has not ended

Read in one pass. What it remembers is what the machine has at that moment, however long the journal
is; and what had begun before the first record is known from the state before it. Pure.
"""

from collections.abc import Callable, Iterator
from functools import reduce

import msgspec

from trouper.runtime.debugging.phases import Change, Phases
from trouper.runtime.debugging.spans import ExecuteSpan, GatherSpan, Span, Spans, WaitSpan
from trouper.runtime.journal.format import op_of
from trouper.runtime.journal.journal import Journal, Step
from trouper.wire import instructions as ins
from trouper.wire import stimuli as st
from trouper.wire.vocabulary import Key

LEVELS_US = 1000
"""Levels are read no more often than this; what rises and falls in between is not seen."""

POINTS = 20_000
"""So many levels are kept at least, once there are more."""


LEVELS: tuple[str, ...] = (
    *("executing", "ready", "waiting", "flight", "fetch", "missing"),
    *("memory", "error"),
)
"""What tasks are counted by: those with something to do, and those with a result."""


def level_of(phase: str) -> str:
    """The level that a phase counts for: of an attempt, what it does, wanted or not."""
    if "executing" in phase or "long-running" in phase:
        return "executing"
    if "flight" in phase:
        return "flight"
    return "ready" if phase == "constrained" else phase


class Mark(msgspec.Struct, frozen=True):
    """Something that took no time."""

    n: int
    at_us: int
    what: str
    """The kind of the stimulus or instruction; or the error of the machine."""
    about: tuple[str, ...] = ()
    """Peers or keys."""


class Levels(msgspec.Struct, frozen=True):
    """How much there is from a time on."""

    at_us: int
    tasks: dict[str, int]
    """By phase; see `level_of`."""
    nbytes: int
    """In memory."""
    incoming_nbytes: int
    """In flight."""


class LevelLog:
    """Levels, however many come: of each few, equally many everywhere, the highest is kept."""

    def __init__(self) -> None:
        self._kept: list[Levels] = []
        self._few: list[Levels] = []
        """The last ones, less than `_stride`."""
        self._stride = 1
        self._last: Levels | None = None

    def note(self, levels: Levels | None) -> None:
        """Add what there is from a time on, if anything."""
        if levels is None:
            return
        self._last = levels
        self._few.append(levels)
        if len(self._few) < self._stride:
            return
        self._kept.append(reduce(_higher, self._few))
        self._few.clear()
        if len(self._kept) == 2 * POINTS:
            pairs = zip(self._kept[::2], self._kept[1::2], strict=True)
            self._kept = [_higher(*pair) for pair in pairs]
            self._stride *= 2

    def points(self) -> list[Levels]:
        """What is kept, in order; the last one is as it came."""
        points = self._kept.copy()
        if self._few[:-1]:
            points.append(reduce(_higher, self._few[:-1]))
        if self._last is not None and (self._few or self._stride > 1):
            points.append(self._last)
        return points


def _higher(one: Levels, other: Levels) -> Levels:
    return Levels(
        one.at_us,
        {name: max(count, other.tasks[name]) for name, count in one.tasks.items()},
        max(one.nbytes, other.nbytes),
        max(one.incoming_nbytes, other.incoming_nbytes),
    )


class Moment(msgspec.Struct, frozen=True, gc=False):
    """A step, and what it meant."""

    step: Step
    changes: list[Change]
    ended: list[Span]
    marks: list[Mark]
    levels: Levels | None
    """Before the step, if it is time to note them."""


class Count(msgspec.Struct):
    """How much a timeline has shown."""

    records: int = 0
    executions: int = 0
    gathers: int = 0
    waits: int = 0
    marks: int = 0
    begin_us: int = 0
    end_us: int = 0


class Timeline:
    """See the module's text.

    Args:
        journal: To be read.
        first: The number of the record to begin with; the journal's first one by default.
        last: The number of the one to end with; the journal's last one by default.
        wanted: Whether a task is to be shown. Levels and marks are those of all tasks.
        on_record: Called with the number of each record, to show progress.

    Raises:
        JournalError: There are no such records, or what comes before them cannot be replayed.
    """

    def __init__(
        self,
        journal: Journal,
        first: int | None = None,
        last: int | None = None,
        wanted: Callable[[Key], bool] = lambda key: True,
        on_record: Callable[[int], object] = lambda n: None,
    ) -> None:
        self.count = Count()
        since = (journal.first if first is None else first) - 1
        self.machine = journal.replay(since)
        """In the state after the last step."""
        self.wanted = wanted
        self._on_record = on_record
        self._steps = journal.steps(since, last)
        self._phases = Phases(self.machine)
        self._spans: Spans | None = None
        self._noted: tuple[int, int, int] | None = None
        """After the last step: the time, bytes in memory and in flight. The machine has gone on."""

    def moments(self) -> Iterator[Moment]:
        """What happened, step by step.

        Raises:
            JournalError: As `Journal.steps`.
        """
        count = self.count
        for step in self._steps:
            at_us = step.record.at_us
            if self._spans is None:
                self._spans = Spans(self.machine.ledger, at_us)
                count.begin_us = at_us
            levels = None
            if self._noted is not None and at_us // LEVELS_US > self._noted[0] // LEVELS_US:
                levels = self._levels()
            self.machine = step.machine
            ledger = step.machine.ledger
            self._noted = at_us, ledger.nbytes, ledger.incoming_nbytes
            count.end_us = at_us
            count.records += 1
            self._on_record(step.record.n)
            ended = [span for span in self._spans.go_on(step) if self._shows(span)]
            changes = [c for c in self._phases.go_on(step) if self.wanted(c.key)]
            marks = marks_of(step)
            count.marks += len(marks)
            yield Moment(step, changes, ended, marks, levels)

    def rest(self) -> tuple[list[Span], Levels | None]:
        """What has not ended, and how much there is at the end; none of either without a step."""
        if self._spans is None:
            return [], None
        spans = self._spans.rest(self.count.end_us)
        return [span for span in spans if self._shows(span)], self._levels()

    def phase(self, key: Key) -> str:
        """The phase of a task after the last step."""
        return self._phases.phase(key)

    def _shows(self, span: Span) -> bool:
        """Whether a span is to be shown; if so, it is counted."""
        count = self.count
        match span:
            case ExecuteSpan(key=key) if self.wanted(key):
                count.executions += 1
            case GatherSpan(keys=keys) if any(map(self.wanted, keys)):
                count.gathers += 1
            case WaitSpan():
                count.waits += 1
            case _:
                return False
        return True

    def _levels(self) -> Levels:
        assert self._noted is not None
        tasks: dict[str, int] = dict.fromkeys(LEVELS, 0)
        for phase, count in self._phases.counts.items():
            tasks[level_of(phase)] += count
        at_us, nbytes, incoming_nbytes = self._noted
        return Levels(at_us, tasks, nbytes, incoming_nbytes)


def marks_of(step: Step) -> list[Mark]:
    """What of a step takes no time and is worth a mark."""
    record = step.record
    stimulus = record.stimulus
    what = op_of(type(stimulus))
    about: tuple[str, ...] = ()
    match stimulus:
        case st.Pause() | st.Unpause():
            pass
        case st.CancelTask(key=key) | st.CancelCompute(key=key):
            about = (key,)
        case st.RemoveWorker(peer=peer) | st.GatherNetworkFailure(peer=peer):
            about = (peer,)
        case st.RefreshWhoHas(who_has=who_has):
            about = tuple(who_has)
        case _:
            what = ""
    marks = [Mark(record.n, record.at_us, what, about)] if what else []
    marks += [
        Mark(record.n, record.at_us, op_of(type(instruction)), instruction.keys)
        for instruction in step.instructions
        if isinstance(instruction, ins.RequestRefreshWhoHas)
    ]
    if record.error:
        marks.append(Mark(record.n, record.at_us, record.error, (op_of(type(stimulus)),)))
    return marks
