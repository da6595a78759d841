"""A timeline as a file for trace viewers: ui.perfetto.dev, chrome://tracing, speedscope.

The JSON object format of the Trace Event Format. Times are microseconds since the run began. Each
group of lanes is a process to the viewer, and each lane a thread. Arrows lead from what brought an
input to the attempt that took it. Written while the journal is read, so its size costs no memory.
Pure.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final, TypeAlias

import msgspec

from trouper.runtime.debugging.reasons import named
from trouper.runtime.debugging.spans import (
    PEERS,
    SLOTS,
    TIMERS,
    ExecuteSpan,
    GatherSpan,
    Lane,
    Span,
    WaitSpan,
)
from trouper.runtime.debugging.timeline import LevelLog, Levels, Mark, Timeline
from trouper.runtime.journal.format import Header

Event: TypeAlias = dict[str, Any]

LISTED = 50
"""So many keys of a gather, or of a mark, are named."""

BATCH = 1000
"""So many events are written at once."""

QUEUES = "queues"
_PROCESSES: Final = {group: pid for pid, group in enumerate((SLOTS, PEERS, TIMERS, QUEUES), 1)}

_COLOURS: Final = {
    "failure": "terrible",
    "network failure": "terrible",
    "unreadable": "terrible",
    "busy": "bad",
    "reschedule": "bad",
    "cancelled": "grey",
}
"""Names that viewers know, for what does not end well."""


def write_trace(timeline: Timeline, header: Header, write: Callable[[bytes], object]) -> None:
    """Write a whole file.

    Args:
        timeline: From its beginning.
        header: Of the journal.
        write: Takes the next bytes.

    Raises:
        JournalError: As `Timeline.moments`.
    """
    encode = msgspec.json.Encoder().encode
    about = {"worker": header.name, "trouper": header.trouper, "begun_s": header.begun_s}
    write(b'{"displayTimeUnit":"ms","otherData":' + encode(about) + b',"traceEvents":[\n')
    batch: list[bytes] = []
    separator = b""
    for event in _Trace(header.name).events(timeline):
        batch.append(encode(event))
        if len(batch) == BATCH:
            write(separator + b",\n".join(batch))
            batch.clear()
            separator = b",\n"
    write((separator if batch else b"") + b",\n".join(batch) + b"\n]}\n")


class _Trace:
    """Makes the events of one file.

    Args:
        worker: Its name.
    """

    def __init__(self, worker: str) -> None:
        self._worker = worker
        self._threads: dict[Lane, int] = {}
        self._arrows = 0
        self._counted: dict[str, dict[str, int]] = {}
        """What each counter has last said."""

    def events(self, timeline: Timeline) -> Iterator[Event]:
        """All of them. The names of lanes come last: only then it is known in what order."""
        log = LevelLog()
        for moment in timeline.moments():
            log.note(moment.levels)
            for span in moment.ended:
                yield from self._span(span)
            for mark in moment.marks:
                yield self._mark(mark)
        spans, levels = timeline.rest()
        for span in spans:
            yield from self._span(span)
        log.note(levels)
        for point in log.points():
            yield from self._counters(point)
        yield from self._names()

    def _span(self, span: Span) -> Iterator[Event]:
        args: Event = {"attempt": span.attempt, "outcome": span.outcome}
        args |= {"first record": span.first, "last record": span.last}
        match span:
            case ExecuteSpan(key=key):
                name, category = key, "execute"
                args |= {"prefix": span.prefix, "type": span.type_name, "nbytes": span.nbytes}
                if span.duration_s is not None:
                    args["duration_s"] = span.duration_s
            case GatherSpan(keys=keys):
                name, category = named(keys), "gather"
                args |= {"keys": keys[:LISTED], "count": len(keys), "type": span.type_name}
                args |= {"expected_nbytes": span.expected_nbytes, "nbytes": span.nbytes}
            case _:
                assert isinstance(span, WaitSpan)
                name, category = _wait_name(span), "wait"
        event = self._slice(span.lane, name, category, span.begin_us, span.end_us, args)
        colour = _COLOURS.get(span.outcome)
        yield event if colour is None else event | {"cname": colour}
        if isinstance(span, ExecuteSpan):
            if span.seceded_us is not None:
                yield self._slice(
                    span.lane, "without a slot", "secede", span.seceded_us, span.end_us, {}
                )
            yield from self._arrows_to(span)

    def _slice(
        self, lane: Lane, name: str, category: str, begin_us: int, end_us: int, args: Event
    ) -> Event:
        return {
            "ph": "X",
            "name": name,
            "cat": category,
            "ts": begin_us,
            "dur": end_us - begin_us,
            "args": args,
        } | self._place(lane)

    def _arrows_to(self, span: ExecuteSpan) -> Iterator[Event]:
        """A flow for each input, from the last microsecond of what brought it."""
        for origin in span.origins:
            self._arrows += 1
            arrow: Event = {"name": "input", "cat": "input", "id": self._arrows}
            start = {"ph": "s", "ts": max(origin.begin_us, origin.end_us - 1)}
            yield arrow | start | self._place(origin.lane)
            yield arrow | {"ph": "f", "bp": "e", "ts": span.begin_us} | self._place(span.lane)

    def _mark(self, mark: Mark) -> Event:
        return {
            "ph": "i",
            "s": "g",
            "name": " ".join([mark.what, named(mark.about)]).strip(),
            "cat": "mark",
            "ts": mark.at_us,
            "pid": _PROCESSES[QUEUES],
            "tid": 0,
            "args": {"record": mark.n, "about": mark.about[:LISTED]},
        }

    def _counters(self, levels: Levels) -> Iterator[Event]:
        nbytes = {"in memory": levels.nbytes, "in flight": levels.incoming_nbytes}
        done = {name: levels.tasks[name] for name in ("memory", "error")}
        to_do = {name: count for name, count in levels.tasks.items() if name not in done}
        for name, values in (("tasks to do", to_do), ("tasks done", done), ("bytes", nbytes)):
            if self._counted.get(name) == values:
                continue
            self._counted[name] = values
            place = {"ts": levels.at_us, "pid": _PROCESSES[QUEUES]}
            yield {"ph": "C", "name": name, "args": values} | place

    def _place(self, lane: Lane) -> Event:
        thread = self._threads.setdefault(lane, len(self._threads) + 1)
        return {"pid": _PROCESSES[lane.group], "tid": thread}

    def _names(self) -> Iterator[Event]:
        used = {lane.group for lane in self._threads} | {QUEUES}
        for group, pid in _PROCESSES.items():
            if group in used:
                yield _meta("process_name", pid, 0, {"name": f"{self._worker}: {group}"})
                yield _meta("process_sort_index", pid, 0, {"sort_index": pid})
        for place, lane in enumerate(sorted(self._threads), 1):
            pid, thread = _PROCESSES[lane.group], self._threads[lane]
            yield _meta("thread_name", pid, thread, {"name": title_of(lane)})
            yield _meta("thread_sort_index", pid, thread, {"sort_index": place})


def _meta(name: str, pid: int, tid: int, args: Event) -> Event:
    return {"ph": "M", "name": name, "pid": pid, "tid": tid, "args": args}


def _wait_name(span: WaitSpan) -> str:
    return "busy, left alone" if span.lane.group == PEERS else "until the next question"


def title_of(lane: Lane) -> str:
    """The title of a lane."""
    if lane.group == SLOTS:
        return f"{lane.name} {lane.number + 1}"
    if lane.group == TIMERS:
        return "to ask for what is missing"
    return lane.name if not lane.number else f"{lane.name} ({lane.number + 1})"
