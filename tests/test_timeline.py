"""What happened when, and how much there was of everything."""

from pathlib import Path

import pytest
from journals import LOST_PEER, options, plain_life, record, told
from timelines import Simulation, spaced

from trouper.runtime.debugging.phases import Change
from trouper.runtime.debugging.spans import RUNNING, ExecuteSpan, GatherSpan, Span
from trouper.runtime.debugging.timeline import (
    LEVELS,
    Count,
    LevelLog,
    Levels,
    Mark,
    Moment,
    Timeline,
    level_of,
)
from trouper.runtime.errors import JournalError
from trouper.runtime.journal.journal import Journal
from trouper.runtime.journal.recorder import Recorder
from trouper.runtime.machine import Machine
from trouper.wire.stimuli import FreeKeys


def levels_of(moments: list[Moment], last: Levels | None) -> list[Levels]:
    found = [moment.levels for moment in moments]
    return [levels for levels in [*found, last] if levels is not None]


def test_step_by_step(tmp_path: Path) -> None:
    timeline = Timeline(spaced(tmp_path / "j", LOST_PEER))
    moments = list(timeline.moments())
    spans, _ = timeline.rest()
    assert [moment.step.record.n for moment in moments] == [1, 2, 3, 4, 5, 6]
    assert moments[1].changes == [Change("z", "released", "waiting")]
    assert [span.outcome for moment in moments for span in moment.ended] == [
        *("network failure", "success", "over"),
    ]
    assert [(span.outcome, span.end_us) for span in spans] == [(RUNNING, 6000)]
    assert timeline.count == Count(
        records=6, executions=1, gathers=1, waits=2, marks=2, begin_us=1000, end_us=6000
    )
    assert timeline.phase("z") == "waiting"


def test_how_much_there_is(tmp_path: Path) -> None:
    timeline = Timeline(spaced(tmp_path / "j", LOST_PEER))
    moments = list(timeline.moments())
    found = levels_of(moments, timeline.rest()[1])
    assert [levels.at_us for levels in found] == [1000, 2000, 3000, 4000, 5000, 6000]
    assert [levels.incoming_nbytes for levels in found] == [100, 100, 100, 0, 0, 0]
    assert [levels.nbytes for levels in found] == [0, 0, 0, 0, 28, 28]
    executing = [levels.tasks["executing"] for levels in found]
    assert executing == [0, 0, 1, 1, 0, 0]
    assert [levels.tasks["missing"] for levels in found] == [0, 0, 0, 1, 1, 1]


def test_levels_are_noted_once_in_a_while(tmp_path: Path) -> None:
    record(tmp_path / "j", plain_life(500), batch=1500)
    timeline = Timeline(Journal.open(tmp_path / "j"))
    moments = list(timeline.moments())
    assert len(levels_of(moments, timeline.rest()[1])) < 100


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 100, 1000])
def test_of_too_many_levels_the_highest_of_each_few_is_kept(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trouper.runtime.debugging.timeline.POINTS", 4)
    log = LevelLog()
    came = [Levels(at, {"ready": at * 7 % 10}, at * 3 % 10, -at) for at in range(count)]
    for levels in came:
        log.note(levels)
        log.note(None)
    points = log.points()
    assert len(points) <= min(count, 2 * 4 + 2)
    if count < 8:
        assert points == came
    if count:
        assert (points[0].at_us, points[-1]) == (0, came[-1])
        times = [point.at_us for point in points]
        assert times == sorted(set(times))
        assert max(point.tasks["ready"] for point in points) == max(
            levels.tasks["ready"] for levels in came
        )
        assert max(point.nbytes for point in points) == max(levels.nbytes for levels in came)


def test_marks(tmp_path: Path) -> None:
    life = told("""
        pause
        compute-task a
        cancel-compute a
        cancel-task a
        unpause
        acquire-replicas x@tcp://b:1
        remove-worker tcp://b:1
        gather-network-failure tcp://b:1 #1
        find-missing #2
        refresh-who-has x@tcp://c:1
        execute-success a #99 nbytes=8
    """)
    timeline = Timeline(spaced(tmp_path / "j", life))
    marks = [mark for moment in timeline.moments() for mark in moment.marks]
    assert marks == [
        Mark(1, 1000, "pause"),
        Mark(3, 3000, "cancel-compute", ("a",)),
        Mark(4, 4000, "cancel-task", ("a",)),
        Mark(5, 5000, "unpause"),
        Mark(7, 7000, "remove-worker", ("tcp://b:1",)),
        Mark(8, 8000, "gather-network-failure", ("tcp://b:1",)),
        Mark(9, 9000, "request-refresh-who-has", ("x",)),
        Mark(10, 10000, "refresh-who-has", ("x",)),
        Mark(11, 11000, "StimulusError", ("execute-success",)),
    ]
    assert timeline.count.marks == 9


def test_a_part_of_a_journal(tmp_path: Path) -> None:
    journal = spaced(tmp_path / "j", LOST_PEER)
    timeline = Timeline(journal, 4, 5)
    moments = list(timeline.moments())
    assert [moment.step.record.n for moment in moments] == [4, 5]
    begun = [(span.first, span.begin_us) for moment in moments for span in moment.ended]
    assert begun == [(None, 4000), (None, 4000)]
    assert timeline.count.begin_us == 4000
    with pytest.raises(JournalError, match="there is no record 6"):
        Timeline(spaced(tmp_path / "short", LOST_PEER[:5]), 7)


def test_a_journal_whose_beginning_is_gone(tmp_path: Path) -> None:
    life = told("compute-task first")
    for number in range(6000):
        life += told(f"compute-task t{number}\nexecute-success t{number} #{number + 2} nbytes=8")
        life += [FreeKeys((f"t{number}",))]
    record(tmp_path / "j", life, max_nbytes=1 << 16, batch=500)
    journal = Journal.open(tmp_path / "j")
    assert journal.first > 1
    timeline = Timeline(journal)
    spans = [span for moment in timeline.moments() for span in moment.ended]
    rest, levels = timeline.rest()
    assert [(span.first, isinstance(span, ExecuteSpan) and span.key) for span in rest] == [
        (None, "first")
    ]
    assert len(spans) >= (journal.last - journal.first) // 3
    assert levels is not None
    assert levels.tasks["executing"] == 1


def test_only_some_tasks(tmp_path: Path) -> None:
    def wanted(key: str) -> bool:
        return key in ("x", "z")

    timeline = Timeline(spaced(tmp_path / "j", LOST_PEER), wanted=wanted)
    spans: list[Span] = []
    changes: list[Change] = []
    for moment in timeline.moments():
        spans += moment.ended
        changes += moment.changes
    assert [span.keys for span in spans if isinstance(span, GatherSpan)] == [("x",)]
    assert not any(isinstance(span, ExecuteSpan) for span in spans)
    assert {change.key for change in changes} == {"x", "z"}
    assert (timeline.count.executions, timeline.count.gathers) == (0, 1)


def test_progress_is_told(tmp_path: Path) -> None:
    seen: list[int] = []
    timeline = Timeline(spaced(tmp_path / "j", LOST_PEER), 2, 5, on_record=seen.append)
    assert len(list(timeline.moments())) == 4
    assert seen == [2, 3, 4, 5]


def test_nothing_at_all(tmp_path: Path) -> None:
    Recorder(Machine(), "w", options(tmp_path / "j")).close()
    timeline = Timeline(Journal.open(tmp_path / "j"))
    assert not list(timeline.moments())
    assert timeline.rest() == ([], None)


def test_every_phase_counts_for_a_level(tmp_path: Path) -> None:
    Simulation(tmp_path / "j", trouble=0.15).run(800)
    timeline = Timeline(Journal.open(tmp_path / "j"))
    phases = {change.phase for moment in timeline.moments() for change in moment.changes}
    assert {level_of(phase) for phase in phases - {"released"}} == set(LEVELS)
    derived = [level_of(name) for name in ("constrained", "long-running", "cancelled(flight)")]
    assert derived == ["ready", "executing", "flight"]
