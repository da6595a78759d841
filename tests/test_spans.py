"""Spans: what takes time, in lanes, from its begin to its end."""

from pathlib import Path

import pytest
from journals import THREADS, random_life, record, told
from timelines import spaced

from trouper.runtime.debugging.spans import (
    RUNNING,
    ExecuteSpan,
    GatherSpan,
    Lane,
    Lanes,
    Origin,
    Span,
    Spans,
    WaitSpan,
)
from trouper.runtime.journal.journal import Journal
from trouper.runtime.ledger import Config


def spans_of(journal: Journal, first: int = 1) -> list[Span]:
    """All spans, those that have not ended last."""
    spans = Spans(journal.replay(first - 1).ledger, (first - 1) * 1000)
    found: list[Span] = []
    at_us = 0
    for step in journal.steps(first - 1):
        found += spans.go_on(step)
        at_us = step.record.at_us
    return found + spans.rest(at_us)


def life(path: Path, text: str, config: Config = THREADS) -> list[Span]:
    return spans_of(spaced(path, told(text), config))


def test_an_attempt_from_its_begin_to_its_end(tmp_path: Path) -> None:
    [span] = life(
        tmp_path / "j", "compute-task a prefix=p\nexecute-success a #1 nbytes=8 duration-s=0.0005"
    )
    assert span == ExecuteSpan(
        lane=Lane("slots", "thread", 0),
        attempt=1,
        begin_us=1000,
        end_us=2000,
        first=1,
        last=2,
        outcome="success",
        key="a",
        prefix="p",
        duration_s=0.0005,
        nbytes=8,
        type_name="int",
    )


@pytest.mark.parametrize(
    ("end", "outcome", "type_name"),
    [
        ("execute-success a #1 nbytes=8", "success", "int"),
        ("execute-failure a #1 type-name=KeyError", "failure", "KeyError"),
        ("execute-reschedule a #1", "reschedule", ""),
        ("execute-cancelled a #1", "cancelled", ""),
    ],
)
def test_how_an_attempt_ends(tmp_path: Path, end: str, outcome: str, type_name: str) -> None:
    span = life(tmp_path / "j", f"compute-task a\n{end}")[0]
    assert isinstance(span, ExecuteSpan)
    assert (span.outcome, span.type_name, span.last, span.duration_s) == (
        outcome,
        type_name,
        2,
        None,
    )


@pytest.mark.parametrize("duration_s", ["inf", "-inf", "nan"])
def test_a_duration_that_is_none_is_unknown(tmp_path: Path, duration_s: str) -> None:
    end = f"execute-success a #1 nbytes=8 duration-s={duration_s}"
    span = life(tmp_path / "j", f"compute-task a\n{end}")[0]
    assert isinstance(span, ExecuteSpan)
    assert span.duration_s is None


def test_there_are_as_many_lanes_as_are_needed_at_once(tmp_path: Path) -> None:
    spans = life(
        tmp_path / "j",
        """
        compute-task a
        compute-task b
        execute-success b #2 nbytes=8
        compute-task c
        execute-success a #1 nbytes=8
        compute-task d
        """,
    )
    lanes = {span.key: span.lane.number for span in spans if isinstance(span, ExecuteSpan)}
    assert lanes == {"a": 0, "b": 1, "c": 1, "d": 0}


def test_who_gives_its_slot_back_keeps_its_lane(tmp_path: Path) -> None:
    spans = life(
        tmp_path / "j",
        """
        compute-task a
        secede a #1
        compute-task b
        secede a #1
        execute-success a #1 nbytes=8
        """,
        Config(slots={"thread": 1}),
    )
    a, b = spans
    assert isinstance(a, ExecuteSpan)
    assert (a.seceded_us, a.end_us, a.lane.number, b.lane.number) == (2000, 5000, 0, 1)
    assert (b.outcome, b.last, b.end_us) == (RUNNING, None, 5000)


@pytest.mark.parametrize(
    ("end", "outcome", "nbytes", "missing", "type_name"),
    [
        ("gather-success tcp://b:1 #1 x:90:int,w:5:int", "success", 95, (), ""),
        ("gather-success tcp://b:1 #1 x:90:int", "success", 90, ("w",), ""),
        ("gather-busy tcp://b:1 #1", "busy", 0, (), ""),
        ("gather-network-failure tcp://b:1 #1", "network failure", 0, (), ""),
        ("gather-failure tcp://b:1 #1 type-name=EOFError", "unreadable", 0, (), "EOFError"),
    ],
)
def test_how_a_gather_ends(
    tmp_path: Path, end: str, outcome: str, nbytes: int, missing: tuple[str, ...], type_name: str
) -> None:
    first = "acquire-replicas x@tcp://b:1,w@tcp://b:1 nbytes=x:100,w:5"
    span = life(tmp_path / "j", f"{first}\n{end}")[0]
    assert isinstance(span, GatherSpan)
    assert span.lane == Lane("peers", "tcp://b:1", 0)
    assert (span.keys, span.expected_nbytes, span.outcome) == (("x", "w"), 105, outcome)
    assert (span.nbytes, span.missing, span.type_name) == (nbytes, missing, type_name)


def test_a_gather_of_which_nothing_is_wanted_any_more_is_cancelled(tmp_path: Path) -> None:
    both = "acquire-replicas x@tcp://b:1,w@tcp://b:1"
    end = "gather-success tcp://b:1 #1 -"
    span = life(tmp_path / "one", f"{both}\nfree-keys x\n{end}")[0]
    assert isinstance(span, GatherSpan)
    assert (span.outcome, span.cancelled) == ("success", frozenset({"x"}))
    assert life(tmp_path / "all", f"{both}\nfree-keys x,w\n{end}")[0].outcome == "cancelled"


def test_waits_stand_where_they_belong(tmp_path: Path) -> None:
    spans = life(
        tmp_path / "j",
        """
        acquire-replicas x@tcp://b:1
        gather-busy tcp://b:1 #1
        retry-busy-worker tcp://b:1 #2
        gather-network-failure tcp://b:1 #3
        find-missing #4
        """,
    )
    waits = [span for span in spans if isinstance(span, WaitSpan)]
    assert [(wait.lane, wait.first, wait.last, wait.outcome) for wait in waits] == [
        (Lane("peers", "tcp://b:1", 0), 2, 3, "over"),
        (Lane("timers", "", 0), 4, 5, "over"),
        (Lane("timers", "", 0), 5, None, RUNNING),
    ]


def test_inputs_have_an_origin_while_the_store_keeps_them(tmp_path: Path) -> None:
    spans = life(
        tmp_path / "j",
        """
        compute-task a
        compute-task y local=a who-has=x@tcp://b:1
        execute-success a #1 nbytes=8
        gather-success tcp://b:1 #2 x:100:bytes
        execute-success y #3 nbytes=8
        """,
    )
    y = spans[-1]
    assert isinstance(y, ExecuteSpan)
    assert y.inputs == ("a", "x")
    assert y.origins == (
        Origin(Lane("slots", "thread", 0), 1000, 3000),
        Origin(Lane("peers", "tcp://b:1", 0), 2000, 4000),
    )


def test_what_had_begun_before_is_shown_from_the_first_step_on(tmp_path: Path) -> None:
    text = """
        compute-task a prefix=p
        compute-task b
        secede b #2
        acquire-replicas x@tcp://b:1 nbytes=x:5
        acquire-replicas w@tcp://c:1
        gather-busy tcp://c:1 #4
        acquire-replicas v@-
        pause
        execute-success a #1 nbytes=8
    """
    spans = spans_of(spaced(tmp_path / "j", told(text)), first=9)
    assert [(type(span), span.begin_us, span.first) for span in spans] == [
        (ExecuteSpan, 8000, None),
        (ExecuteSpan, 8000, None),
        (GatherSpan, 8000, None),
        (WaitSpan, 8000, None),
        (WaitSpan, 8000, None),
    ]
    a, b, x, busy, missing = spans
    assert isinstance(a, ExecuteSpan)
    assert isinstance(b, ExecuteSpan)
    assert isinstance(x, GatherSpan)
    assert (a.key, a.prefix, a.last, a.seceded_us, b.seceded_us) == ("a", "p", 9, None, 8000)
    assert (x.keys, x.expected_nbytes) == (("x",), 5)
    assert (busy.lane, missing.lane) == (Lane("peers", "tcp://c:1", 0), Lane("timers", "", 0))


def test_what_is_stale_ends_nothing(tmp_path: Path) -> None:
    spans = life(
        tmp_path / "j",
        """
        compute-task a
        acquire-replicas x@tcp://b:1
        execute-success b #1 nbytes=8
        execute-success a #99 nbytes=8
        gather-busy tcp://c:1 #2
        gather-busy tcp://b:1 #1
        find-missing #2
        """,
    )
    assert [(span.outcome, span.last) for span in spans] == [(RUNNING, None), (RUNNING, None)]


@pytest.mark.parametrize("seed", range(4))
def test_spans_of_a_lane_never_overlap_and_none_is_lost(tmp_path: Path, seed: int) -> None:
    config, stimuli = random_life(seed, 1500)
    record(tmp_path / "j", stimuli, config)
    journal = Journal.open(tmp_path / "j")
    begun = [
        kind
        for found in journal.records()
        for kind in found.kinds
        if kind in ("execute", "gather", "retry-busy-worker-later", "find-missing-later")
    ]
    spans = spans_of(journal)
    assert len(spans) == len(begun) > 100
    lanes: dict[Lane, int] = {}
    for span in sorted(spans, key=lambda span: (span.first or 0, span.attempt)):
        assert span.first is not None
        assert span.first >= lanes.get(span.lane, 0)
        lanes[span.lane] = journal.last + 1 if span.last is None else span.last
    machine = journal.replay()
    running = {span.attempt for span in spans if span.outcome == RUNNING}
    assert set(machine.ledger.flights) <= running


def test_the_lowest_lane_that_is_free_is_taken() -> None:
    lanes = Lanes()
    taken = [lanes.take("slots", "thread") for _ in range(3)]
    assert [lane.number for lane in taken] == [0, 1, 2]
    assert lanes.take("slots", "process").number == 0
    lanes.give_back(taken[2])
    lanes.give_back(taken[0])
    assert [lanes.take("slots", "thread").number for _ in range(3)] == [0, 2, 3]
