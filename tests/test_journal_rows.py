"""Rows of stimuli: every kind is read, whatever its writer knew of it."""

import msgspec
import pytest
from journals import random_life

from trouper.runtime.journal.batches import Body
from trouper.runtime.journal.format import STIMULI, STIMULUS_TYPES, pack
from trouper.runtime.journal.rows import RowReader
from trouper.wire.stimuli import Secede, Stimulus


def rows(*said: object) -> Body:
    return Body([], [], [], b"", {}, msgspec.Raw(pack(said)))


def test_stimuli_of_every_kind_come_back() -> None:
    _, stimuli = random_life(seed=4, steps=3000)
    assert {type(stimulus) for stimulus in stimuli} == set(STIMULUS_TYPES)
    assert repr(list(RowReader(STIMULI).read(rows(*stimuli)))) == repr(list(stimuli))


def test_a_row_has_a_tag_and_the_fields_in_order() -> None:
    (found,) = RowReader(STIMULI).read(rows([16, "a", 1, 0.5]))
    assert found == Secede("a", 1, 0.5)
    assert STIMULI[16].op == "secede"


def test_what_stands_before_a_row_that_makes_no_sense_is_read() -> None:
    good, bad = Secede("a", 1), [16, "a", "once", None]
    read: list[Stimulus] = []
    with pytest.raises(msgspec.ValidationError):
        read.extend(RowReader(STIMULI).read(rows(good, good, bad, good)))
    assert read == [good, good]
