"""A timeline in the Trace Event Format."""

import json
from pathlib import Path
from typing import Any

import pytest
import trace_events
from journals import LOST_PEER, random_life, record, told
from timelines import Simulation, spaced

from trouper.runtime.debugging.spans import Lane
from trouper.runtime.debugging.timeline import Timeline
from trouper.runtime.debugging.trace_json import BATCH, title_of, write_trace
from trouper.runtime.journal.journal import Journal


def written(journal: Journal, timeline: Timeline | None = None) -> list[dict[str, Any]]:
    """The events of a journal's trace, which is a good one."""
    parts: list[bytes] = []
    write_trace(timeline or Timeline(journal), journal.header, parts.append)
    return trace_events.check(json.loads(b"".join(parts)))


def of(events: list[dict[str, Any]], ph: str) -> list[dict[str, Any]]:
    return [event for event in events if event["ph"] == ph]


def test_what_happened(tmp_path: Path) -> None:
    events = written(spaced(tmp_path / "j", LOST_PEER))
    slices = {(event["name"], event["ts"], event["dur"]) for event in of(events, "X")}
    assert slices == {
        ("x", 1000, 3000),
        ("a", 3000, 2000),
        ("until the next question", 4000, 2000),
        ("until the next question", 6000, 0),
    }
    assert {event["name"] for event in of(events, "i")} == {
        "gather-network-failure tcp://b:1",
        "request-refresh-who-has x",
    }
    names = [event["args"]["name"] for event in of(events, "M") if "name" in event["args"]]
    assert names == [
        *("w: slots", "w: peers", "w: timers", "w: queues"),
        *("tcp://b:1", "thread 1", "to ask for what is missing"),
    ]


def test_what_goes_wrong_has_its_colour(tmp_path: Path) -> None:
    events = written(spaced(tmp_path / "j", LOST_PEER))
    colours = {event["name"]: event.get("cname") for event in of(events, "X")}
    assert (colours["x"], colours["a"]) == ("terrible", None)


def test_arrows_lead_from_what_brought_an_input_to_who_took_it(tmp_path: Path) -> None:
    life = told("""
        compute-task a
        compute-task b local=a
        execute-success a #1 nbytes=8
        secede b #2
        execute-success b #2 nbytes=8
    """)
    events = written(spaced(tmp_path / "j", life))
    [start], [end] = of(events, "s"), of(events, "f")
    assert (start["ts"], end["ts"], start["tid"], end["tid"]) == (2999, 3000, 1, 1)
    assert [event["name"] for event in of(events, "X")] == ["a", "b", "without a slot"]


def test_counters_say_how_much_there_is(tmp_path: Path) -> None:
    events = written(spaced(tmp_path / "j", LOST_PEER))
    to_do = [event["args"] for event in of(events, "C") if event["name"] == "tasks to do"]
    assert to_do[0] == {
        "executing": 0, "ready": 0, "waiting": 1, "flight": 1, "fetch": 0, "missing": 0,
    }  # fmt: skip
    assert to_do[-1] | {"waiting": 2, "missing": 1} == to_do[-1]


@pytest.mark.parametrize("seed", range(3))
def test_any_life_is_a_good_trace(tmp_path: Path, seed: int) -> None:
    config, stimuli = random_life(seed, 1000)
    record(tmp_path / "j", stimuli, config)
    journal = Journal.open(tmp_path / "j")
    written(journal)
    written(journal, Timeline(journal, 300, 800))


def test_a_whole_worker_is_a_good_trace(tmp_path: Path) -> None:
    Simulation(tmp_path / "j", trouble=0.03).run(1500)
    events = written(Journal.open(tmp_path / "j"))
    assert len(events) > 5 * BATCH
    assert {event["ph"] for event in events} == set(trace_events.ALLOWED)


def test_it_is_written_in_pieces(tmp_path: Path) -> None:
    Simulation(tmp_path / "j").run(1500)
    journal = Journal.open(tmp_path / "j")
    parts: list[bytes] = []
    write_trace(Timeline(journal), journal.header, parts.append)
    sizes = list(map(len, parts))
    assert max(sizes) < sum(sizes) / 4


def test_titles_of_lanes() -> None:
    assert title_of(Lane("slots", "thread", 2)) == "thread 3"
    assert title_of(Lane("peers", "tcp://b:1", 0)) == "tcp://b:1"
    assert title_of(Lane("peers", "tcp://b:1", 1)) == "tcp://b:1 (2)"
    assert title_of(Lane("timers", "", 0)) == "to ask for what is missing"
