"""A byte that was changed is found by how wrong the check is."""

import zlib
from random import Random

import pytest

from trouper.runtime.journal.damage import changed_bytes

DATA = Random(0).randbytes(200)


@pytest.mark.parametrize("previous", [0, 0xDEADBEEF])
def test_whatever_byte_is_changed_is_found(previous: int) -> None:
    whole = DATA + zlib.crc32(DATA, previous).to_bytes(4, "big")
    for place in range(len(whole)):
        for change in range(1, 256):
            changed = bytearray(whole)
            changed[place] ^= change
            check = int.from_bytes(changed[-4:], "big")
            difference = zlib.crc32(changed[:-4], previous) ^ check
            assert changed_bytes(len(DATA), difference) == [(place, change)]


def test_more_than_one_is_not_taken_for_one() -> None:
    rng = Random(1)
    check = zlib.crc32(DATA)
    for count in (2, 3, 8, 100):
        for _ in range(500):
            changed = bytearray(DATA)
            for place in rng.sample(range(len(DATA)), count):
                changed[place] ^= rng.randrange(1, 256)
            assert changed_bytes(len(DATA), zlib.crc32(changed) ^ check) == []


def test_far_apart_two_changes_may_make_the_same_difference() -> None:
    """But nowhere closer than here: all distances below have been tried."""
    nbytes = 150_000
    data = bytearray(nbytes)
    data[-1] = 169
    difference = zlib.crc32(data) ^ zlib.crc32(bytes(nbytes))
    assert changed_bytes(nbytes, difference) == [(nbytes - 1, 169), (nbytes - 1 - 145_212, 248)]
