"""What the public description of the Trace Event Format demands of a file, for tests.

"Trace Event Format", the JSON object format: complete events (X), instants (i), counters (C), flows
(s, f) and metadata (M), which are the phases that trouper writes.
"""

from collections import defaultdict
from typing import Any, TypeAlias

Event: TypeAlias = dict[str, Any]
Thread: TypeAlias = tuple[int, int]

COMMON = {"ph", "name", "pid", "tid", "args"}
ALLOWED = {
    "X": COMMON | {"cat", "ts", "dur", "cname"},
    "i": COMMON | {"cat", "ts", "s"},
    "C": COMMON - {"tid"} | {"ts"},
    "s": COMMON - {"args"} | {"cat", "ts", "id"},
    "f": COMMON - {"args"} | {"cat", "ts", "id", "bp"},
    "M": COMMON,
}
OPTIONAL = {"cname"}
METADATA = {
    "process_name": ("name", str),
    "thread_name": ("name", str),
    "process_sort_index": ("sort_index", int),
    "thread_sort_index": ("sort_index", int),
}
COLOURS = {"good", "bad", "terrible", "black", "grey", "white", "yellow", "olive"}


def check(trace: dict[str, Any]) -> list[Event]:
    """Raise AssertionError unless this is a trace; its events."""
    assert set(trace) <= {"traceEvents", "displayTimeUnit", "otherData"}
    assert trace["displayTimeUnit"] in ("ms", "ns")
    events: list[Event] = trace["traceEvents"]
    assert events
    for event in events:
        _check_event(event)
    slices = _by_thread(events)
    for intervals in slices.values():
        _check_nesting(intervals)
    _check_flows(events, slices)
    _check_names(events, set(slices))
    return events


def _check_event(event: Event) -> None:
    ph = event["ph"]
    assert ALLOWED[ph] - OPTIONAL <= set(event) <= ALLOWED[ph], event
    assert isinstance(event["name"], str)
    assert event["name"]
    assert type(event["pid"]) is int
    assert type(event.get("tid", 0)) is int
    if ph != "M":
        assert type(event["ts"]) in (int, float)
        assert event["ts"] >= 0
    if ph == "X":
        assert event["dur"] >= 0
        assert event.get("cname", "good") in COLOURS
    if ph == "i":
        assert event["s"] in ("g", "p", "t")
    if ph == "C":
        assert event["args"]
        assert all(type(value) in (int, float) for value in event["args"].values())
    if ph == "M":
        name, kind = METADATA[event["name"]]
        assert set(event["args"]) == {name}
        assert type(event["args"][name]) is kind


def _by_thread(events: list[Event]) -> dict[Thread, list[tuple[float, float]]]:
    slices: dict[Thread, list[tuple[float, float]]] = defaultdict(list)
    for event in events:
        if event["ph"] == "X":
            begin = event["ts"]
            slices[event["pid"], event["tid"]].append((begin, begin + event["dur"]))
    return slices


def _check_nesting(intervals: list[tuple[float, float]]) -> None:
    """Slices of a thread stand behind or inside each other."""
    open_ends: list[float] = []
    for begin, end in sorted(intervals, key=lambda interval: (interval[0], -interval[1])):
        while open_ends and open_ends[-1] <= begin:
            open_ends.pop()
        assert not open_ends or end <= open_ends[-1], (begin, end, open_ends)
        open_ends.append(end)


def _check_flows(events: list[Event], slices: dict[Thread, list[tuple[float, float]]]) -> None:
    """Each flow has a start and an end, in this order, and both lie in a slice."""
    ends: dict[Any, dict[str, Event]] = defaultdict(dict)
    for event in events:
        if event["ph"] in "sf":
            assert event["ph"] not in ends[event["id"]]
            ends[event["id"]][event["ph"]] = event
            assert event.get("bp", "e") == "e"
            intervals = slices[event["pid"], event["tid"]]
            assert any(begin <= event["ts"] <= end for begin, end in intervals)
    for pair in ends.values():
        assert set(pair) == {"s", "f"}
        assert pair["s"]["ts"] <= pair["f"]["ts"]
        assert pair["s"]["name"] == pair["f"]["name"]
        assert pair["s"]["cat"] == pair["f"]["cat"]


def _check_names(events: list[Event], threads: set[Thread]) -> None:
    """Every process and every thread that shows something has one name and one place."""
    said: dict[tuple[str, int, int], Any] = {}
    for event in events:
        if event["ph"] == "M":
            name = event["name"], event["pid"], event["tid"]
            assert name not in said
            said[name] = next(iter(event["args"].values()))
    for pid in {event["pid"] for event in events}:
        assert ("process_name", pid, 0) in said
        assert ("process_sort_index", pid, 0) in said
    for pid, tid in threads:
        assert ("thread_name", pid, tid) in said
        assert ("thread_sort_index", pid, tid) in said
    places = [value for (name, _, _), value in said.items() if name == "thread_sort_index"]
    assert len(places) == len(set(places))
