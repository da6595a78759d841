"""Rows of stimuli: keys that were said lately are numbers, and every kind has its own function."""

from typing import Any

import msgspec
import pytest
from journals import random_life

import trouper.runtime.journal.rows as journal_rows
from trouper.runtime.journal.batches import Body, Summary
from trouper.runtime.journal.format import STIMULI, STIMULUS_TYPES, pack
from trouper.runtime.journal.rows import SUBJECTS, TO_ROW, RowReader, Teller
from trouper.wire.stimuli import ComputeTask, FreeKeys, GatherBusy, Secede, Stimulus
from trouper.wire.vocabulary import Key, Peer


def row(stimulus: Stimulus, teller: Teller) -> list[Any]:
    return TO_ROW[type(stimulus)](stimulus, teller.number_of, teller.say)


def body_of(rows: list[list[Any]]) -> Body:
    packed = [pack(row) for row in rows]
    data = b"".join(packed)
    return Body(Summary([], [*map(len, packed)], b"", [], b"", {}), len(rows), data, len(data))


def test_keys_and_peers_are_said_once() -> None:
    teller = Teller()
    assert row(Secede("a", 1, 0.5), teller) == [16, "a", 1, 0.5]
    assert row(GatherBusy("tcp://b:1", 2), teller) == [18, "tcp://b:1", 2]
    assert row(Secede("a", 2), teller) == [16, 0, 2, None]
    assert row(GatherBusy("tcp://b:1", 3), teller) == [18, 1, 3]


def test_keys_in_lists_are_numbers_if_they_are_remembered_but_not_remembered_themselves() -> None:
    teller = Teller()
    row(Secede("a", 1), teller)
    for _ in range(2):
        assert row(FreeKeys(("b", "a")), teller) == [1, ["b", 0]]
    assert row(ComputeTask("c", 1, 1, local=("a", "b")), teller)[5] == [0, "b"]


def test_all_is_forgotten_when_a_batch_begins_and_it_is_a_lot(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(journal_rows, "PLACES", 2)
    teller, reader = Teller(), RowReader(STIMULI)
    stimuli = [Secede("a", 1), Secede("b", 1), Secede("c", 1), Secede("a", 2)]
    said: list[object] = []
    for begin in (0, 1, 2, 0):
        teller.begin_batch()
        rows = [row(stimulus, teller) for stimulus in stimuli[begin:]]
        said.append([row[1] for row in rows])
        assert list(reader.read(body_of(rows))) == stimuli[begin:]
    assert said == [["a", "b", "c", 0], ["b", "c", "a"], ["c", "a"], ["a", "b", "c", 0]]


def test_what_is_remembered_are_texts() -> None:
    for word in STIMULUS_TYPES:
        for field in msgspec.structs.fields(word):
            if field.name in SUBJECTS:
                assert field.type in (Key, Peer)


def test_stimuli_of_every_kind_come_back() -> None:
    _, stimuli = random_life(seed=4, steps=3000)
    assert {type(stimulus) for stimulus in stimuli} == set(STIMULUS_TYPES)
    teller = Teller()
    rows = [row(stimulus, teller) for stimulus in stimuli]
    assert repr(list(RowReader(STIMULI).read(body_of(rows)))) == repr(list(stimuli))


def test_what_stands_before_a_row_that_makes_no_sense_is_read() -> None:
    good, bad = [16, "a", 1, None], [16, "a", "once", None]
    read = RowReader(STIMULI).read(body_of([good, good, bad, good]))
    assert [next(read), next(read)] == [Secede("a", 1)] * 2
    with pytest.raises(msgspec.ValidationError):
        next(read)
