"""The shortest life that still shows a failure."""

from pathlib import Path

import pytest
from faults import lose_resources, stumble
from journals import LOST_PEER, THREADS, random_life, record, told

from trouper.runtime.debugging.minimise import (
    Failure,
    Life,
    Moment,
    Said,
    as_journal,
    first_part,
    lead,
    like_first_error,
    minimise,
    outstanding,
    relive,
)
from trouper.runtime.debugging.predicates import Predicate
from trouper.runtime.errors import JournalError, StimulusError
from trouper.runtime.journal.journal import Journal
from trouper.runtime.machine import Machine
from trouper.wire.stimuli import Stimulus

UNSOUND = "not is_sound(machine)"


def stimuli(life: Life) -> list[Stimulus]:
    return [said.stimulus for said in life.said]


def test_a_fault_in_5000_stimuli_is_brought_below_20(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, life = random_life(seed=1, steps=5000)
    lose_resources(monkeypatch)
    record(tmp_path / "j", life, config)
    journal = Journal.open(tmp_path / "j")
    assert journal.last == 5000
    failure = Predicate(UNSOUND)
    assert len(first_part(journal, failure).said) > 3000
    counts: list[int] = []
    shortest = minimise(journal, failure, counts.append)
    assert len(shortest.said) < 20
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] == len(shortest.said)
    _cannot_be_shortened(shortest, failure)
    monkeypatch.undo()  # and the right machine has no such fault
    assert relive(shortest.before, shortest.said, failure) is None


def _cannot_be_shortened(life: Life, failure: Failure) -> None:
    for n in range(len(life.said)):
        assert relive(life.before, [*life.said[:n], *life.said[n + 1 :]], failure) is None


def test_an_error_in_5000_stimuli_is_brought_below_20(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, life = random_life(seed=1, steps=5000)
    taken = list(lead(Machine(config), [Said(stimulus, stale=True) for stimulus in life]))
    stumble(monkeypatch)
    with pytest.raises(ZeroDivisionError):
        record(tmp_path / "j", [m.stimulus for m in taken if m.error is None], config)
    journal = Journal.open(tmp_path / "j")
    failure = like_first_error(journal)
    shortest = minimise(journal, failure)
    assert journal.last > 3000
    assert len(shortest.said) < 20
    _cannot_be_shortened(shortest, failure)


def test_attempts_are_those_of_the_shorter_life(tmp_path: Path) -> None:
    record(tmp_path / "j", told("compute-task a\ncompute-task b\nexecute-failure b #2 type-name=E"))
    shortest = minimise(Journal.open(tmp_path / "j"), Predicate("machine.phase('b') == 'error'"))
    assert stimuli(shortest) == told("compute-task b\nexecute-failure b #1 type-name=E")


def test_what_the_journal_begins_with_is_left_out_if_it_has_nothing_to_do_with_it(
    tmp_path: Path,
) -> None:
    life = told("update-data v:8:int #-1") + told("unpause") * 16_000 + LOST_PEER
    record(tmp_path / "j", life, max_nbytes=1 << 16)
    journal = Journal.open(tmp_path / "j")
    assert journal.header.snapshot["tasks"]
    shortest = minimise(journal, Predicate("'z' in stuck(machine)"))
    assert stimuli(shortest) == [LOST_PEER[0], LOST_PEER[1], LOST_PEER[3]]
    assert shortest.before == Machine(journal.config).snapshot()


def test_what_the_journal_begins_with_is_kept_if_it_matters(tmp_path: Path) -> None:
    life = told("update-data v:8:int #-1") + told("unpause") * 16_000 + told("free-keys v")
    record(tmp_path / "j", life, max_nbytes=1 << 16)
    journal = Journal.open(tmp_path / "j")
    gone = Predicate("any(isinstance(word, ReleaseWorkerData) for word in instructions)")
    shortest = minimise(journal, gone)
    assert stimuli(shortest) == told("free-keys v")
    assert shortest.before["tasks"] == journal.header.snapshot["tasks"] != []


def test_a_failure_that_does_not_show(tmp_path: Path) -> None:
    record(tmp_path / "j", LOST_PEER)
    journal = Journal.open(tmp_path / "j")
    with pytest.raises(JournalError, match="the failure does not show"):
        minimise(journal, Predicate(UNSOUND))
    with pytest.raises(JournalError, match="no record of this journal leads to an error"):
        like_first_error(journal)


def test_an_error_that_this_trouper_does_not_raise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr("trouper.runtime.machine.start_ready", broken)
        with pytest.raises(ZeroDivisionError):
            record(tmp_path / "j", told("pause\ncompute-task a\nunpause"))
    with pytest.raises(JournalError, match="record 2 led to ZeroDivisionError, and does not"):
        like_first_error(Journal.open(tmp_path / "j"))


def test_a_refusal_is_an_error_to_look_for(tmp_path: Path) -> None:
    life = told("compute-task b\ncompute-task a priority=1\nexecute-success a #7 nbytes=1")
    record(tmp_path / "j", life)
    journal = Journal.open(tmp_path / "j")
    shortest = minimise(journal, like_first_error(journal))
    assert stimuli(shortest) == told("execute-success a #7 nbytes=1")


def test_what_is_refused_on_the_way_is_left_out() -> None:
    life = [Said(stimulus) for stimulus in told("compute-task b local=a\npause")]
    moments = list(lead(Machine(), life))
    assert [type(moment.error) for moment in moments] == [StimulusError, type(None)]
    kept = relive(Machine().snapshot(), life, lambda moment: moment.machine.ledger.paused)
    assert kept == life[1:]


def test_any_other_error_is_raised_by_whoever_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("trouper.runtime.machine.start_ready", broken)
    moments = lead(Machine(), [Said(stimulus) for stimulus in told("pause\nunpause\npause")])
    assert next(moments).error is None
    assert isinstance(next(moments).error, ZeroDivisionError)
    with pytest.raises(ZeroDivisionError):
        next(moments)


def test_what_was_stale_stays_as_it_was() -> None:
    first, second, late = told("compute-task b\ncompute-task a\nexecute-success a #1 nbytes=8")
    machine = Machine(THREADS)
    moments = list(lead(machine, [Said(first), Said(second), Said(late, stale=True)]))
    assert moments[-1].stimulus == late
    assert machine.phase("a") == "executing"
    moments = list(lead(machine, [Said(late)]))
    assert machine.phase("a") == "memory"


BUSY = "acquire-replicas x@tcp://b:1\ngather-busy tcp://b:1 #1"


@pytest.mark.parametrize(
    ("before", "stimulus", "attempt"),
    [
        ("compute-task a", "execute-success a #9 nbytes=1", 1),
        ("compute-task a", "execute-success b #9 nbytes=1", 0),
        ("compute-task a", "secede a #9", 1),
        ("compute-task a", "pause", None),
        ("compute-task a", "update-data a:1:int #-9", None),
        ("acquire-replicas x@tcp://b:1", "gather-success tcp://b:1 #9 -", 1),
        ("acquire-replicas x@tcp://b:1", "gather-busy tcp://c:1 #9", 0),
        ("acquire-replicas x@tcp://b:1", "retry-busy-worker tcp://b:1 #9", 0),
        (BUSY, "retry-busy-worker tcp://b:1 #9", 2),
        ("pause", "retry-busy-worker tcp://b:1 #9", 0),
        ("acquire-replicas x@-", "find-missing #9", 1),
        ("pause", "find-missing #9", 0),
    ],
)  # fmt: skip
def test_what_is_outstanding(before: str, stimulus: str, attempt: int | None) -> None:
    machine = Machine()
    for earlier in told(before):
        machine.handle(earlier)
    assert outstanding(machine, told(stimulus)[0]) == attempt


def test_a_life_becomes_a_journal_again(tmp_path: Path) -> None:
    record(tmp_path / "j", LOST_PEER)
    journal = Journal.open(tmp_path / "j")

    def at_the_end(moment: Moment) -> bool:
        return moment.stimulus == LOST_PEER[-1]

    whole = first_part(journal, at_the_end)
    (tmp_path / "k").write_bytes(as_journal(journal.header, whole))
    again = Journal.open(tmp_path / "k")
    assert list(again.records()) == list(journal.records())
    assert again.verify() == 6
    assert again.replay().fingerprint() == journal.replay().fingerprint()


def test_the_journal_of_an_error_ends_with_it(tmp_path: Path) -> None:
    record(tmp_path / "j", told("pause\nexecute-success a #7 nbytes=1"))
    journal = Journal.open(tmp_path / "j")
    shortest = minimise(journal, like_first_error(journal))
    (tmp_path / "k").write_bytes(as_journal(journal.header, shortest))
    assert [found.error for found in Journal.open(tmp_path / "k").records()] == ["StimulusError"]
