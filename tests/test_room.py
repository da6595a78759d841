"""Room that grows without being filled."""

import pytest

from trouper.wire.room import grow


@pytest.mark.parametrize("nbytes", [1, 1000, 1 << 22, (1 << 22) + 12_345])
def test_what_was_there_stays_and_the_rest_can_be_written(nbytes: int) -> None:
    room = bytearray(b"x")
    grow(room, nbytes)
    assert len(room) == nbytes
    assert room[0] == ord("x")
    room[1:] = bytes(nbytes - 1)
    assert room == b"x" + bytes(nbytes - 1)


def test_it_goes_on_as_any_other_bytearray() -> None:
    room = bytearray()
    grow(room, 1 << 22)
    grow(room, 10)
    room += b"end"
    assert len(room) == 13
    grow(room, 0)
    assert room == b""


def test_of_which_somebody_has_a_view_does_not_grow() -> None:
    room = bytearray(b"seen")
    with memoryview(room), pytest.raises(BufferError):
        grow(room, 1 << 23)
    assert room == b"seen"
