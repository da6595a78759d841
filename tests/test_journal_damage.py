"""A bit that was flipped is found by how wrong the check is."""

import zlib
from random import Random

import pytest

from trouper.runtime.journal.damage import flipped_bit

DATA = Random(0).randbytes(200)


@pytest.mark.parametrize("previous", [0, 0xDEADBEEF])
def test_whatever_bit_is_flipped_is_found(previous: int) -> None:
    whole = DATA + zlib.crc32(DATA, previous).to_bytes(4, "big")
    for place in range(len(whole)):
        for bit in (1, 2, 4, 8, 16, 32, 64, 128):
            changed = bytearray(whole)
            changed[place] ^= bit
            check = int.from_bytes(changed[-4:], "big")
            difference = zlib.crc32(changed[:-4], previous) ^ check
            assert flipped_bit(len(DATA), difference) == (place, bit)


def test_more_than_one_bit_is_not_taken_for_one() -> None:
    rng = Random(1)
    check = zlib.crc32(DATA)
    for count in (2, 3, 8, 100):
        for _ in range(500):
            changed = bytearray(DATA)
            for place in rng.sample(range(8 * len(DATA)), count):
                changed[place // 8] ^= 1 << place % 8
            assert flipped_bit(len(DATA), zlib.crc32(changed) ^ check) is None


def test_where_nothing_is_wrong_nothing_is_found() -> None:
    assert flipped_bit(len(DATA), 0) is None
