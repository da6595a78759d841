"""A timeline as one page that opens in any browser, without a network.

The page holds what it shows as tables: lines of JSON, gzipped, in base64. So no text of a user ever
stands in the page as it is, and none can become a part of it; and a policy in its head forbids it
to load anything, and to run anything but its own script. Written in one pass. Pure.

A task has a number in the tables as long as the machine knows it; a key that comes again later is
another task to them, and the page puts the two together.
"""

import base64
import hashlib
import html
import zlib
from collections.abc import Callable, Sequence
from importlib.resources import files
from string import Template
from typing import Any, Final

import msgspec

from trouper.runtime.debugging.occasions import subjects
from trouper.runtime.debugging.phases import RELEASED
from trouper.runtime.debugging.reasons import Scene, named
from trouper.runtime.debugging.spans import ExecuteSpan, GatherSpan, Lane, Span
from trouper.runtime.debugging.timeline import LEVELS, LevelLog, Mark, Moment, Timeline
from trouper.runtime.journal.format import Header, op_of
from trouper.wire import stimuli as st
from trouper.wire.stimuli import Stimulus
from trouper.wire.vocabulary import Key

SCRIPTS = ("data.js", "layout.js", "model.js", "draw.js", "panel.js", "main.js")
"""Parts of the page's script, in order."""

BLOCK = 4096
"""So many rows of a table are written at once."""

REASONS = 5000
"""For so many tasks that have not come to an end the page says why."""

COLUMNS: Final[dict[str, tuple[str, ...]]] = {
    "texts": ("=text",),
    "tasks": ("=key", "before"),
    "lanes": ("group", "name", "number"),
    "executions": (
        *("task", "lane", "+begin", "duration", "attempt", "outcome", "prefix", "seceded"),
        *("ran", "nbytes", "type", "first", "last", "=inputs"),
    ),
    "gathers": (
        *("lane", "+begin", "duration", "attempt", "outcome", "expected", "nbytes", "type"),
        *("first", "last", "=tasks"),
    ),
    "waits": ("lane", "+begin", "duration", "attempt", "outcome", "first", "last"),
    "marks": ("+n", "+at", "what", "=about"),
    "levels": ("+at", *LEVELS, "nbytes", "incoming"),
    "records": ("+n", "+at", "kind", "subject", "=detail"),
    "turns": ("task", "+record", "phase", "answers"),
    "endings": ("task", "phase", "stuck", "because", "=reason"),
}
"""The tables, and their columns: ``+`` is written as the difference to the row before, ``=`` is no
number. Texts, lanes and tasks are named elsewhere by their numbers; 0 stands for no record, and -1
for nobody, never and unknown. `first` is how many records before `last` it was, or -1 for before
the first one; `before` is the phase before anything was said. Times are microseconds since the run
began."""


def write_page(timeline: Timeline, header: Header, write: Callable[[bytes], object]) -> None:
    """Write a whole file.

    Args:
        timeline: From its beginning.
        header: Of the journal.
        write: Takes the next bytes.

    Raises:
        JournalError: As `Timeline.moments`.
    """
    before, after = _frame(header.name)
    write(before)
    packed = _Packed(write)
    _Tables(timeline, header, packed.write).fill()
    packed.close()
    write(after)


def _frame(worker: str) -> tuple[bytes, bytes]:
    """What stands before the data of a page, and what stands behind."""
    parts = files("trouper.runtime.debugging") / "page"
    style = (parts / "page.css").read_text("utf-8")
    script = '"use strict";\n' + "".join((parts / name).read_text("utf-8") for name in SCRIPTS)
    before, _, after = (parts / "page.html").read_text("utf-8").partition("$data")
    head = Template(before).substitute(
        title=html.escape(worker),
        policy=f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; "
        "base-uri 'none'; form-action 'none'",
        style=style,
    )
    return head.encode(), Template(after).substitute(script=script).encode()


def _hash(text: str) -> str:
    """How a policy names the one text that it allows."""
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"


class _Packed:
    """Gzip in base64."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write
        self._gzip = zlib.compressobj(wbits=31)
        self._left = b""

    def write(self, data: bytes) -> None:
        self._put(self._gzip.compress(data))

    def close(self) -> None:
        self._put(self._gzip.flush())
        self._write(base64.b64encode(self._left))

    def _put(self, data: bytes) -> None:
        data = self._left + data
        whole = len(data) - len(data) % 3
        self._left = data[whole:]
        self._write(base64.b64encode(data[:whole]))


class _Table:
    """Rows on their way to the page."""

    def __init__(self, name: str, write: Callable[[bytes], object]) -> None:
        self._name = name
        self._write = write
        self._rows: list[tuple[Any, ...]] = []
        self._steps = [
            place for place, column in enumerate(COLUMNS[name]) if column.startswith("+")
        ]
        self._last = dict.fromkeys(self._steps, 0)
        self.count = 0

    def add(self, *row: Any) -> int:
        """Add a row; its number."""
        self._rows.append(row)
        if len(self._rows) == BLOCK:
            self.flush()
        self.count += 1
        return self.count - 1

    def flush(self) -> None:
        """Write what is left."""
        if not self._rows:
            return
        columns: list[Sequence[Any]] = list(zip(*self._rows, strict=True))
        for place in self._steps:
            values = columns[place]
            before = (self._last[place], *values)
            columns[place] = [a - b for a, b in zip(values, before, strict=False)]
            self._last[place] = values[-1]
        self._write(msgspec.json.encode([self._name, columns]) + b"\n")
        self._rows.clear()


class _Tables:
    """Fills all tables of a page."""

    def __init__(
        self, timeline: Timeline, header: Header, write: Callable[[bytes], object]
    ) -> None:
        self._timeline = timeline
        self._header = header
        self._write = write
        self._table = {name: _Table(name, write) for name in COLUMNS}
        self._texts: dict[str, int] = {}
        self._lanes: dict[Lane, int] = {}
        self._tasks: dict[Key, int] = {}
        """Those that the machine knows."""
        self._named: dict[Key, None] = {}
        """Those that something was said of in this moment."""
        self._before: dict[Key, str] = {}
        """The phases before this moment, of those that have another one now."""
        self._levels = LevelLog()

    def fill(self) -> None:
        timeline, header = self._timeline, self._header
        self._write(msgspec.json.encode({"columns": COLUMNS}) + b"\n")
        first = None
        for moment in timeline.moments():
            first = first or moment.step.record.n
            self._moment(moment)
        spans, levels = timeline.rest()
        for span in spans:
            self._span(span)
        self._levels.note(levels)
        for levels in self._levels.points():
            counts = [levels.tasks[name] for name in LEVELS]
            row = (levels.at_us, *counts, levels.nbytes, levels.incoming_nbytes)
            self._table["levels"].add(*row)
        stuck = self._endings()
        for table in self._table.values():
            table.flush()
        count = timeline.count
        about = {
            "trouper": header.trouper,
            "begun_s": header.begun_s,
            "slots": timeline.machine.ledger.config.slots,
            "from": first,
            "to": (first or 0) + count.records - 1,
            "begin": count.begin_us,
            "end": count.end_us,
            "stuck": stuck,
        }
        self._write(msgspec.json.encode(about) + b"\n")

    def _moment(self, moment: Moment) -> None:
        self._before = {change.key: change.before for change in moment.changes}
        for span in moment.ended:
            self._span(span)
        for mark in moment.marks:
            self._mark(mark)
        self._levels.note(moment.levels)
        self._turns(moment)
        for key in self._named:
            if self._timeline.phase(key) == RELEASED:
                del self._tasks[key]
        self._named.clear()

    def _turns(self, moment: Moment) -> None:
        """What a step was to each task that it is about, or that has changed."""
        timeline, record = self._timeline, moment.step.record
        answers: dict[Key, list[str]] = {key: [] for key in subjects(record.stimulus)}
        answers |= {change.key: [] for change in moment.changes}
        for instruction in moment.step.instructions:
            for key in subjects(instruction):
                answers[key] = [*answers.get(key, ()), op_of(type(instruction))]
        answers = {key: kinds for key, kinds in answers.items() if timeline.wanted(key)}
        if not answers:
            return
        subject = getattr(record.stimulus, "key", None)
        row = self._table["records"].add(
            record.n,
            record.at_us,
            self._text(op_of(type(record.stimulus))),
            -1 if subject not in answers else self._task(subject),
            _detail(record.stimulus),
        )
        for key, kinds in answers.items():
            phase, said = self._text(timeline.phase(key)), self._text(", ".join(kinds))
            self._table["turns"].add(self._task(key), row, phase, said)

    def _span(self, span: Span) -> None:
        last = span.last or 0
        first = -1 if span.first is None else (last or span.first) - span.first
        times = (span.begin_us, span.end_us - span.begin_us, span.attempt)
        head = (self._lane(span.lane), *times, self._text(span.outcome))
        match span:
            case ExecuteSpan(key=key):
                seceded = -1 if span.seceded_us is None else span.seceded_us - span.begin_us
                self._table["executions"].add(
                    self._task(key),
                    *head,
                    self._text(span.prefix),
                    seceded,
                    -1 if span.duration_s is None else round(span.duration_s * 1e6),
                    span.nbytes,
                    self._text(span.type_name),
                    first,
                    last,
                    [self._task(key) for key in span.inputs],
                )
            case GatherSpan(keys=keys):
                self._table["gathers"].add(
                    *head,
                    span.expected_nbytes,
                    span.nbytes,
                    self._text(span.type_name),
                    first,
                    last,
                    [self._task(key) for key in keys],
                )
            case _:
                self._table["waits"].add(*head, first, last)

    def _mark(self, mark: Mark) -> None:
        self._table["marks"].add(mark.n, mark.at_us, self._text(mark.what), named(mark.about))

    def _endings(self) -> int:
        """Why those are where they are that have come to no end, stuck ones first; how many are."""
        machine = self._timeline.machine
        scene = Scene(machine)
        stuck = frozenset(scene.stuck())
        tasks = [
            task
            for task in machine.ledger.tasks.values()
            if task.phase not in ("memory", "error", RELEASED) and self._timeline.wanted(task.key)
        ]
        tasks.sort(key=lambda task: (task.key not in stuck, task.age))
        for task in tasks[:REASONS]:
            reason = scene.reason(task.key, stuck)
            self._table["endings"].add(
                self._task(task.key),
                self._text(task.phase),
                int(task.key in stuck),
                -1 if reason.because is None else self._task(reason.because),
                reason.text,
            )
        return sum(task.key in stuck for task in tasks)

    def _task(self, key: Key) -> int:
        self._named[key] = None
        number = self._tasks.get(key)
        if number is None:
            before = self._before.get(key) or self._timeline.phase(key)
            number = self._tasks[key] = self._table["tasks"].add(key, self._text(before))
        return number

    def _text(self, text: str) -> int:
        number = self._texts.get(text)
        if number is None:
            number = self._texts[text] = self._table["texts"].add(text)
        return number

    def _lane(self, lane: Lane) -> int:
        number = self._lanes.get(lane)
        if number is None:
            row = (self._text(lane.group), self._text(lane.name), lane.number)
            number = self._lanes[lane] = self._table["lanes"].add(*row)
        return number


def _detail(stimulus: Stimulus) -> str:
    """What else is worth saying of a stimulus, shortly."""
    match stimulus:
        case st.ComputeTask(local=local, who_has=who_has) if local or who_has:
            return f"inputs {named((*local, *who_has))}"
        case st.ExecuteFailure(type_name=type_name):
            return type_name
        case st.GatherFailure(peer=peer, type_name=type_name):
            return f"{peer} {type_name}"
        case (
            st.GatherSuccess(peer=peer)
            | st.GatherBusy(peer=peer)
            | st.GatherNetworkFailure(peer=peer)
            | st.RetryBusyWorker(peer=peer)
            | st.RemoveWorker(peer=peer)
        ):
            return peer
        case _:
            return ""
