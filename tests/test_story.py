"""The story of a task, from its journal."""

from pathlib import Path

import pytest
from journals import LOST_PEER, record, told

from trouper.runtime import open_worker
from trouper.runtime.debugging.story import CHAIN, Story, stuck_tasks, tell
from trouper.runtime.errors import JournalError
from trouper.runtime.journal.journal import Journal
from trouper.wire.stimuli import Stimulus


def story(path: Path, stimuli: list[Stimulus], key: str, until: int | None = None) -> Story:
    record(path, stimuli)
    return tell(Journal.open(path), key, until)


def test_why_it_waits_down_to_the_first_cause(tmp_path: Path) -> None:
    assert [why.text for why in story(tmp_path / "j", LOST_PEER, "z").why] == [
        "z is waiting since #2, when it was to be computed: it waits for y",
        "y is waiting since #1, when it was to be computed: it waits for x",
        "x is missing since #4, when tcp://b:1 was lost: no holder is known; "
        "nobody has answered request-refresh-who-has #6",
    ]


def test_all_that_happened_to_a_task(tmp_path: Path) -> None:
    turns = story(tmp_path / "j", LOST_PEER, "x").turns
    assert [(turn.n, turn.before, turn.phase, turn.changes) for turn in turns] == [
        (1, "released", "flight", ("tcp://b:1 is said to hold it",)),
        (4, "flight", "missing", ("tcp://b:1 holds it no more",)),
        (6, "missing", "missing", ()),
    ]
    assert [len(turn.instructions) for turn in turns] == [1, 0, 1]


def test_what_changes_for_a_task_that_is_not_named(tmp_path: Path) -> None:
    life = told("""
        compute-task a
        compute-task b
        compute-task c local=a,b
        execute-success a #1 nbytes=28
        execute-success b #2 nbytes=28
    """)
    turns = story(tmp_path / "j", life, "c").turns
    assert [(turn.n, turn.phase, turn.changes) for turn in turns] == [
        (3, "waiting", ("2 inputs not here yet",)),
        (4, "waiting", ("1 input not here yet",)),
        (5, "executing", ()),
    ]


def test_as_it_was_at_an_earlier_record(tmp_path: Path) -> None:
    told_then = story(tmp_path / "j", LOST_PEER, "x", until=3)
    assert [turn.n for turn in told_then.turns] == [1]
    assert [why.text for why in told_then.why] == [
        "x is flight since #1, when y was to be computed: gather 1 from tcp://b:1 is in flight"
    ]


@pytest.mark.parametrize(
    ("later", "end"),
    [
        ("", "nobody has answered request-refresh-who-has #6"),
        (
            "refresh-who-has x@-",
            "the answer #7 to request-refresh-who-has #6 names nobody who does",
        ),
        (
            "find-missing #4",
            "nobody has answered request-refresh-who-has #6, asked 2 times, last in #7",
        ),
    ],
)
def test_what_was_asked_and_answered(tmp_path: Path, later: str, end: str) -> None:
    missing = story(tmp_path / "j", LOST_PEER + told(later), "x").why[0]
    assert missing.text.endswith(f"; {end}")


def test_nobody_has_been_asked_yet(tmp_path: Path) -> None:
    missing = story(tmp_path / "j", LOST_PEER, "x", until=5).why[0]
    assert missing.text.endswith("no holder is known; nobody has been asked who holds it")


def test_paused_since(tmp_path: Path) -> None:
    why = story(tmp_path / "j", told("pause\nunpause\npause\ncompute-task a"), "a").why
    assert [reason.text for reason in why] == [
        "a is ready since #4, when it was to be computed: the worker is paused, since #3"
    ]


def test_longer_than_the_journal_knows(tmp_path: Path) -> None:
    def lives() -> list[Stimulus]:
        return told("acquire-replicas x@-") + told("unpause") * 16_000

    record(tmp_path / "j", lives(), max_nbytes=1 << 16)
    journal = Journal.open(tmp_path / "j")
    assert journal.first > 1
    found = tell(journal, "x")
    assert found.turns == []
    assert found.why[0].since is None
    assert found.why[0].text.startswith("x is missing for longer than the journal knows: ")


def test_of_a_long_chain_the_first_and_the_last_are_told(tmp_path: Path) -> None:
    life = [
        "compute-task t0 who-has=x@-",
        *(f"compute-task t{n} local=t{n - 1}" for n in range(1, 30)),
    ]
    found = story(tmp_path / "j", told("\n".join(life)), "t29")
    assert [why.key for why in found.why] == ["t29", "t28", "t27", "t2", "t1", "t0", "x"]
    assert found.left_out == 31 - CHAIN


def test_a_task_that_is_not_known(tmp_path: Path) -> None:
    found = story(tmp_path / "j", LOST_PEER, "no such task")
    assert found.turns == []
    assert found.why[0].phase == "released"


def test_a_record_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="there is no record 7: the last one is 6"):
        story(tmp_path / "j", LOST_PEER, "x", until=7)


def test_a_fault_of_the_machine_is_part_of_the_story(tmp_path: Path) -> None:
    turns = story(tmp_path / "j", told("compute-task a\nexecute-success a #9 nbytes=1"), "a").turns
    assert [turn.error for turn in turns] == ["", "StimulusError"]


def test_what_is_stuck_and_who_waits_behind_it(tmp_path: Path) -> None:
    record(tmp_path / "j", LOST_PEER)
    [cause] = stuck_tasks(Journal.open(tmp_path / "j"))
    assert (cause.why.key, cause.why.since, cause.behind) == ("x", 4, ("y", "z"))
    assert stuck_tasks(Journal.open(tmp_path / "j"), until=3) == []


async def test_the_journal_of_a_worker(tmp_path: Path) -> None:
    async with open_worker(threads=1, journal=tmp_path / "j") as worker:
        total = worker.submit(sum, [worker.submit(len, "abc", key="three"), 1], key="four")
        assert await total == 4
    journal = Journal.open(tmp_path / "j")
    phases = [turn.phase for turn in tell(journal, "four").turns]
    assert phases[:3] == ["waiting", "executing", "memory"]
    assert stuck_tasks(journal) == []
