"""Tests of room in memory: what is in it stays, however long it gets."""

import pytest

from trouper.wire.room import Slab, Slabs, grow


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


def test_buffers_of_a_slab_are_apart_and_can_be_written_to() -> None:
    slab = Slab(1 << 21)
    rooms = [slab.take(100_000) for _ in range(4)]
    for i, room in enumerate(rooms):
        assert room is not None
        assert (room.format, room.ndim, len(room)) == ("B", 1, 100_000)
        room[:] = bytes([i]) * 100_000
    assert [bytes(room[::9_999]) for room in rooms if room] == [bytes([i]) * 11 for i in range(4)]
    assert slab.take(1 << 21) is None


def fill(room: memoryview | None) -> memoryview:
    assert room is not None
    room[:] = bytes(len(room))
    return room


def test_a_buffer_of_a_slab_is_given_back_with_its_last_view_and_no_sooner() -> None:
    process = pytest.importorskip("psutil").Process()
    slab = Slab(1 << 25)
    views = [fill(slab.take(1 << 22))[5:9] for _ in range(8)]
    del slab
    full = process.memory_info().rss
    views[3][:] = b"kept"
    views[1:] = views[3:4]
    assert bytes(views[1]) == b"kept"
    assert full - process.memory_info().rss == pytest.approx(6 << 22, abs=1 << 20)
    views.clear()
    assert full - process.memory_info().rss == pytest.approx(8 << 22, abs=1 << 20)


def test_what_lies_together_is_of_middling_length_and_much() -> None:
    alone, shared = 1 << 14, 1 << 20
    lengths = [10, alone, shared, shared + 1, 1 << 23, *[shared] * 70]
    slabs = Slabs()
    rooms = [slabs.take(lengths, index) for index in range(len(lengths))]
    assert [room and len(room) for room in rooms] == [
        n if n in (shared, shared + 1) else None for n in lengths
    ]
    assert Slabs().take([10, shared, shared], 1) is None


def test_where_there_are_no_large_pages_there_are_no_slabs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trouper.wire.room._LARGE_PAGES", None)
    assert Slabs().take([1 << 20] * 20, 0) is None
