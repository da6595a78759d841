"""Messages put together from tails that come in pieces."""

import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trouper.wire.assembly import Assembler, nbytes_of
from trouper.wire.errors import Code, ProtocolError
from trouper.wire.limits import BODY_NBYTES, PACKET_PARTS


@given(
    st.lists(st.lists(st.binary(max_size=20), min_size=1, max_size=4), min_size=1, max_size=6),
    st.lists(st.integers(1, 9)),
)
@settings(deadline=None)
def test_pieces_of_any_size_give_the_messages(messages: list[list[bytes]], cuts: list[int]) -> None:
    assembler = Assembler(1000)
    tail = b"".join(b"".join(parts) for parts in messages)
    assembler.begin([tuple(map(len, parts)) for parts in messages], len(tail))
    whole = list(assembler.fill(memoryview(b"")))
    for cut in cuts:
        whole += assembler.fill(memoryview(tail[:cut]))
        tail = tail[cut:]
    whole += assembler.fill(memoryview(tail))
    assert [list(parts) for parts in whole] == messages
    assert not assembler.busy


def test_buffers_may_be_written_to() -> None:
    assembler = Assembler(1000)
    assembler.begin([(1, 4, 0)], 5)
    (parts,) = assembler.fill(memoryview(b"babcd"))
    assert [type(part) for part in parts] == [bytes, bytearray, bytearray]
    assert nbytes_of(parts) == 5


def test_memory_grows_with_what_has_arrived() -> None:
    """Not with what was announced; and what has arrived is there once."""
    assembler = Assembler(1 << 50)
    piece = memoryview(bytes(1 << 16))
    tracemalloc.start()
    try:
        assembler.begin([(0, 1 << 49)], 0)
        for _ in range(256):
            assert not list(assembler.fill(piece))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1.3 * 256 * len(piece)


def refused(shapes: list[int | tuple[int, ...]], nbytes: int) -> ProtocolError:
    with pytest.raises(ProtocolError) as error:
        Assembler(1000).begin(shapes, nbytes)
    return error.value


def test_oversized_message_is_refused() -> None:
    error = refused([5, (500, 501)], 0)
    assert (error.code, error.reason) == (
        Code.LIMIT,
        "a message of 1,001 bytes; 1,000 are allowed",
    )


def test_oversized_body_is_refused() -> None:
    with pytest.raises(ProtocolError, match="body is longer than 67,108,864 bytes") as error:
        Assembler(1 << 40).begin([BODY_NBYTES + 1], 0)
    assert error.value.code is Code.LIMIT


def test_too_many_buffers_are_refused() -> None:
    assert (
        refused([(0,) * PACKET_PARTS, 0], 0).reason == "more than 16,384 parts begin in one packet"
    )


@pytest.mark.parametrize(("shapes", "nbytes"), [([1, 1], 0), ([1], 2), ([(1, 2), 3], 2)])
def test_tail_that_does_not_fit_is_refused(
    shapes: list[int | tuple[int, ...]], nbytes: int
) -> None:
    assert "does not fit messages" in refused(shapes, nbytes).reason


def test_piece_has_to_belong_to_a_message() -> None:
    assembler = Assembler(1000)
    with pytest.raises(ProtocolError, match="a message that has not begun"):
        assembler.extend(1)
    assembler.begin([10], 4)
    list(assembler.fill(memoryview(b"abcd")))
    for nbytes in (0, 7):
        with pytest.raises(ProtocolError, match=f"a piece of {nbytes} bytes where 6 are missing"):
            assembler.extend(nbytes)
    assembler.extend(6)
    assert list(assembler.fill(memoryview(b"efghij"))) == [(b"abcdefghij",)]
