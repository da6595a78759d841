"""The phases of all tasks, kept step by step: always those that the machine itself would name."""

from pathlib import Path

import pytest
from journals import LOST_PEER, random_life, record, told

from trouper.runtime.debugging.phases import Change, Phases
from trouper.runtime.debugging.picture import picture
from trouper.runtime.journal.journal import Journal


def without_released(counts: dict[str, int]) -> dict[str, int]:
    return {phase: count for phase, count in counts.items() if count and phase != "released"}


@pytest.mark.parametrize("seed", range(6))
def test_they_are_those_of_the_machine_after_every_step(tmp_path: Path, seed: int) -> None:
    config, life = random_life(seed, 1500)
    record(tmp_path / "j", life, config)
    journal = Journal.open(tmp_path / "j")
    phases = Phases(journal.replay(journal.first - 1))
    for step in journal.steps():
        before = {key: phases.phase(key) for key in step.machine.ledger.tasks}
        for change in phases.go_on(step):
            assert change.before != change.phase == step.machine.phase(change.key)
            assert before.get(change.key, change.before) == change.before
        assert without_released(phases.counts) == without_released(picture(step.machine).tasks)


def test_one_begins_in_the_middle(tmp_path: Path) -> None:
    config, life = random_life(7, 1500)
    record(tmp_path / "j", life, config)
    journal = Journal.open(tmp_path / "j")
    phases = Phases(journal.replay(700))
    for step in journal.steps(since=700):
        phases.go_on(step)
        assert without_released(phases.counts) == without_released(picture(step.machine).tasks)


def test_who_is_not_named_changes_too(tmp_path: Path) -> None:
    life = told("""
        compute-task a
        compute-task b
        compute-task y who-has=x@tcp://b:1 nbytes=x:100
        pause
        acquire-replicas w@tcp://c:1
        remove-worker tcp://c:1
    """)
    record(tmp_path / "j", life)
    journal = Journal.open(tmp_path / "j")
    phases = Phases(journal.replay(0))
    changes = [phases.go_on(step) for step in journal.steps()]
    assert changes[2] == [Change("y", "released", "waiting"), Change("x", "released", "flight")]
    assert changes[4:] == [
        [Change("w", "released", "fetch")],
        [Change("w", "fetch", "missing")],
    ]


def test_a_task_that_is_forgotten_is_counted_no_more(tmp_path: Path) -> None:
    record(tmp_path / "j", LOST_PEER + told("free-keys z,y,a"))
    journal = Journal.open(tmp_path / "j")
    phases = Phases(journal.replay(0))
    *_, changes = [phases.go_on(step) for step in journal.steps()]
    assert {change.key for change in changes} == {"z", "y", "x", "a"}
    assert not +phases.counts
    assert phases.phase("z") == "released"
