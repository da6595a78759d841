"""Tests of room in memory: what is in it stays, however long it gets."""

import pytest

from trouper.wire.room import grow


@pytest.mark.parametrize("nbytes", [1, 4095, 1 << 20, (1 << 22) - 1, 1 << 22, (1 << 24) + 1])
def test_what_is_in_it_stays_and_the_rest_can_be_written_to(nbytes: int) -> None:
    room = bytearray(b"kept")
    grow(room, 4 + nbytes)
    assert len(room) == 4 + nbytes
    assert room[:4] == b"kept"
    room[4:] = b"x" * nbytes
    assert room.count(b"x") == nbytes


def test_it_does_not_grow_under_a_view() -> None:
    room = bytearray(8)
    with memoryview(room), pytest.raises(BufferError):
        grow(room, 1 << 23)
    grow(room, 1 << 23)
    assert len(room) == 1 << 23


def test_room_that_nothing_was_put_into_is_no_memory() -> None:
    psutil = pytest.importorskip("psutil")
    process = psutil.Process()
    before = process.memory_info().rss
    room = bytearray(b"x")
    grow(room, 1 << 28)
    assert process.memory_info().rss - before < 1 << 25
