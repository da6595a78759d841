"""A walk through a journal."""

from pathlib import Path

import pytest
from journals import LOST_PEER, record

from trouper.runtime.debugging.walk import Walk
from trouper.runtime.errors import JournalError
from trouper.runtime.journal.journal import Journal


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    record(tmp_path / "j", LOST_PEER)
    return Journal.open(tmp_path / "j")


def is_there(walk: Walk, n: int) -> bool:
    return walk.n == n and walk.machine.fingerprint() == walk.journal.replay(n).fingerprint()


def test_forward_to_the_end(journal: Journal) -> None:
    walk = Walk(journal)
    assert is_there(walk, 0)
    for stimulus in LOST_PEER:
        step = walk.forward()
        assert step is not None
        assert step.record.stimulus == stimulus
        assert is_there(walk, step.record.n)
    assert walk.forward() is None
    assert is_there(walk, 6)


def test_back_to_the_beginning_and_forward_again(journal: Journal) -> None:
    walk = Walk(journal, 3)
    for n in (2, 1):
        step = walk.back()
        assert step is not None
        assert step.record.n == n
        assert is_there(walk, n)
    assert walk.back() is None
    assert is_there(walk, 0)
    assert walk.back() is None
    step = walk.forward()
    assert step is not None
    assert is_there(walk, 1)


def test_to_the_next_change_of_a_task(journal: Journal) -> None:
    walk = Walk(journal)
    phases: list[tuple[int, str]] = []
    while (step := walk.to_change("x")) is not None:
        phases.append((step.record.n, walk.machine.phase("x")))
    assert phases == [(1, "flight"), (4, "missing")]
    assert is_there(walk, 4)


def test_what_there_is_not(journal: Journal) -> None:
    walk = Walk(journal, 2)
    with pytest.raises(JournalError, match="there is no record 7"):
        walk.go(7)
    assert is_there(walk, 2)
