"""The first difference of two journals, and of a journal and this trouper."""

from pathlib import Path

import pytest
from journals import LOST_PEER, record, told

from trouper.runtime.debugging.diff import NOTHING, Difference, difference_now, difference_of
from trouper.runtime.errors import JournalError
from trouper.runtime.journal.journal import Journal
from trouper.runtime.ledger import Config, Ledger
from trouper.wire.stimuli import Stimulus


def journal_of(path: Path, stimuli: list[Stimulus], *config: Config) -> Journal:
    record(path, stimuli, *config)
    return Journal.open(path)


def test_two_runs_that_went_alike(tmp_path: Path) -> None:
    one = journal_of(tmp_path / "one", LOST_PEER)
    assert difference_of(one, journal_of(tmp_path / "other", LOST_PEER)) is None
    assert difference_now(one) is None


def test_what_is_not_a_number_is_no_difference(tmp_path: Path) -> None:
    life = told("compute-task a\nexecute-success a #1 nbytes=1 duration-s=nan")
    one = journal_of(tmp_path / "one", life)
    assert difference_of(one, journal_of(tmp_path / "other", life)) is None


def test_something_else_was_said(tmp_path: Path) -> None:
    one = journal_of(tmp_path / "one", LOST_PEER)
    other = journal_of(tmp_path / "other", [*LOST_PEER[:2], *told("pause"), *LOST_PEER[3:]])
    found = difference_of(one, other)
    assert found == Difference(3, "stimulus", "", ("compute-task a",), ("pause",))


def test_one_goes_on(tmp_path: Path) -> None:
    one = journal_of(tmp_path / "one", LOST_PEER)
    other = journal_of(tmp_path / "other", LOST_PEER[:5])
    found = Difference(6, "end", "", ("find-missing #3",), (NOTHING,))
    assert difference_of(one, other) == found
    assert difference_of(other, one) == Difference(6, "end", "", found.other, found.one)


def test_they_began_otherwise(tmp_path: Path) -> None:
    one = journal_of(tmp_path / "one", LOST_PEER, Config(slots={"thread": 1}))
    found = difference_of(one, journal_of(tmp_path / "other", LOST_PEER))
    assert found is not None
    assert (found.n, found.what) == (1, "start")
    assert "'thread': 1" in found.one[0]
    assert "'thread': 2" in found.other[0]


def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on, machines number attempts otherwise."""
    next_attempt = Ledger.next_attempt

    def otherwise(ledger: Ledger) -> int:
        next_attempt(ledger)
        return next_attempt(ledger)

    monkeypatch.setattr(Ledger, "next_attempt", otherwise)


def test_the_same_led_to_something_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = journal_of(tmp_path / "one", LOST_PEER)
    impatient(monkeypatch)
    found = difference_of(one, journal_of(tmp_path / "other", LOST_PEER))
    assert found is not None
    assert (found.n, found.what) == (4, "answer")
    assert found.stimulus == "gather-network-failure tcp://b:1 #1"
    assert found.one[0] == found.other[0] == "find-missing-later"
    assert found.one[1] != found.other[1]
    assert found.one[1].startswith("digest ")


def test_this_trouper_decides_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = journal_of(tmp_path / "one", LOST_PEER)
    impatient(monkeypatch)
    found = difference_now(one)
    assert found is not None
    assert (found.n, found.other) == (4, ("find-missing-later #4 delay-s=1.0",))


def test_this_trouper_raises_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = journal_of(tmp_path / "one", LOST_PEER)

    def broken(_: Ledger) -> int:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(Ledger, "next_attempt", broken)
    found = difference_now(one)
    assert found is not None
    assert found.other == ("ZeroDivisionError: oh",)


def test_what_was_an_error_then(tmp_path: Path) -> None:
    bad = told("execute-success a #7 nbytes=1")
    one = journal_of(tmp_path / "one", bad)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trouper.runtime.outcomes.StimulusError", ZeroDivisionError)
        with pytest.raises(ZeroDivisionError):
            record(tmp_path / "other", bad)
    found = difference_of(one, Journal.open(tmp_path / "other"))
    assert found is not None
    assert (found.one, found.other) == (("StimulusError",), ("ZeroDivisionError",))


def test_journals_with_nothing_in_common(tmp_path: Path) -> None:
    record(tmp_path / "long", told("pause\nunpause") * 6000, max_nbytes=1 << 16)
    long = Journal.open(tmp_path / "long")
    short = journal_of(tmp_path / "short", LOST_PEER)
    with pytest.raises(JournalError, match=r"one has the records 1 to 6, the other \d+ to 12000"):
        difference_of(short, long)
