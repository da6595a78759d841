"""Batches come back; and of one that is corrupt, the record that was changed is found."""

from random import Random
from typing import Any

import pytest

from trouper.runtime.journal.batches import LARGE_NBYTES, Body, join, rescue, split
from trouper.runtime.journal.format import pack
from trouper.runtime.journal.frames import CHECK_NBYTES, HEAD_NBYTES, FrameWriter
from trouper.wire.stimuli import FreeKeys, Pause, Secede

STIMULI = [Secede("a", 1), Pause(), FreeKeys(("b",) * 20), Secede("c", 70_000, 0.5)]
LARGE = [Pause(), FreeKeys(tuple([f"key-{number}" for number in range(2000)])), Pause()]
PREVIOUS = 0xDEADBEEF


def body(stimuli: list[Any] = STIMULI, **changes: Any) -> bytes:
    """A batch in which each stimulus has led to an instruction of kind 7."""
    count = len(stimuli)
    fields: dict[str, Any] = {
        "after_us": [5],
        "digests": [1 << 30] * count,
        "counts": [1] * count,
        "kinds": b"\7" * count,
        "errors": {1: "Oops"},
        "rows": stimuli,
    }
    return join(tuple((fields | changes).values()), bytearray())


def frame(data: bytes) -> bytes:
    frames = FrameWriter()
    frames.check = PREVIOUS
    return frames.frame(data)


def test_a_batch_comes_back() -> None:
    read = split(body())
    assert read == Body([5], [1 << 30] * 4, [1] * 4, b"\7" * 4, {1: "Oops"}, read.rows)
    assert [bytes(row) for row in read.each_row()] == [pack(stimulus) for stimulus in STIMULI]


def test_a_large_batch_is_compressed() -> None:
    assert len(pack(LARGE)) > LARGE_NBYTES > len(body(LARGE))
    assert [bytes(row) for row in split(body(LARGE)).each_row()] == [pack(word) for word in LARGE]


@pytest.mark.parametrize("bit", [0x01, 0x10, 0x80])
def test_wherever_a_bit_is_flipped_the_records_before_it_are_known(bit: int) -> None:
    whole = frame(body())
    end = len(whole) - CHECK_NBYTES
    sizes = [len(pack(stimulus)) for stimulus in STIMULI]
    ends = [end - sum(sizes[place:]) for place in range(1, len(sizes))]
    for place in range(HEAD_NBYTES, len(whole)):
        changed = bytearray(whole)
        changed[place] ^= bit
        before = sum(row_end <= place for row_end in ends)
        assert rescue(bytes(changed), PREVIOUS) == (split(body()), before)


def test_of_a_large_batch_that_is_changed_no_record_is_known() -> None:
    whole = frame(body(LARGE))
    for place in range(HEAD_NBYTES, len(whole) - CHECK_NBYTES, 7):
        changed = bytearray(whole)
        changed[place] ^= 0x10
        assert rescue(bytes(changed), PREVIOUS) == (split(body(LARGE)), 0)


def test_where_more_is_changed_nothing_is_known() -> None:
    rng = Random(0)
    whole = frame(body())
    for _ in range(1000):
        changed = bytearray(whole)
        for place in rng.sample(range(HEAD_NBYTES, len(whole)), 2):
            changed[place] ^= rng.randrange(1, 256)
        assert rescue(bytes(changed), PREVIOUS) is None
    assert rescue(whole, PREVIOUS + 1) is None
    assert rescue(b"", 0x80) is None


def test_what_was_never_a_batch_is_none_when_it_is_corrupt() -> None:
    whole = bytearray(frame(join((1, 2), bytearray())))
    whole[-1] ^= 1
    assert rescue(bytes(whole), PREVIOUS) is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 4,
        b"\xc1",
        b"\x78oh",
        body()[:-1],
        join((1, 2), bytearray()),
        body([]),
        body(after_us=[1] * 5),
        body(digests=[1] * 3),
        body(counts=[1] * 3),
        body(kinds=b"\7" * 5),
    ],
)
def test_parts_that_do_not_fit_together(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        split(data)
