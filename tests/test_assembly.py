"""Messages put together from tails that come in pieces."""

import tracemalloc
from unittest.mock import patch

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trouper.wire.assembly import Assembler
from trouper.wire.errors import Code, ProtocolError
from trouper.wire.events import MessageReceived
from trouper.wire.frames import Shape
from trouper.wire.limits import BODY_NBYTES, PACKET_NBYTES, PACKET_PARTS


def messages_of(parts: st.SearchStrategy[bytes]) -> st.SearchStrategy[list[list[bytes]]]:
    """Bodies only, or with buffers among them."""
    bodies = st.lists(parts, min_size=1, max_size=1)
    return st.lists(bodies, min_size=1, max_size=12) | st.lists(
        st.lists(parts, min_size=1, max_size=4), min_size=1, max_size=6
    )


def shape_of(parts: list[bytes]) -> Shape:
    return len(parts[0]) if len(parts) == 1 else tuple(map(len, parts))


def received(messages: list[list[bytes]]) -> list[MessageReceived]:
    return [
        MessageReceived(sequence, body, tuple(buffers))
        for sequence, (body, *buffers) in enumerate(messages, 7)
    ]


@given(
    messages_of(st.binary(max_size=20)),
    st.lists(st.integers(1, 9)),
)
@settings(deadline=None)
def test_pieces_of_any_size_give_the_messages(messages: list[list[bytes]], cuts: list[int]) -> None:
    assembler = Assembler(1000)
    tail = b"".join(b"".join(parts) for parts in messages)
    assembler.begin(7, list(map(shape_of, messages)), len(tail))
    whole = [*assembler.fill(memoryview(b"")).messages]
    for cut in cuts:
        whole += assembler.fill(memoryview(tail[:cut])).messages
        tail = tail[cut:]
    whole += assembler.fill(memoryview(tail)).messages
    assert whole == received(messages)
    assert not assembler.busy


@patch("trouper.wire.assembly._DIRECT_NBYTES", 10)
@patch("trouper.wire.assembly.PACKET_NBYTES", 16)
@patch("trouper.wire.room._SHARING_NBYTES", 50)
@patch("trouper.wire.room._LONG_NBYTES", 200)
@given(
    messages_of(st.binary(max_size=300)),
    st.lists(st.tuples(st.booleans(), st.integers(1, 200))),
)
@settings(deadline=None)
def test_what_is_read_to_where_it_belongs_is_the_same(
    messages: list[list[bytes]], cuts: list[tuple[bool, int]]
) -> None:
    assembler = Assembler(10_000)
    tail = b"".join(b"".join(parts) for parts in messages)
    assembler.begin(7, list(map(shape_of, messages)), len(tail))
    whole = [*assembler.fill(memoryview(b"")).messages]
    for direct, cut in [*cuts, *[(True, len(tail)), (False, len(tail))] * 50]:
        data = tail[:cut]
        buffer = assembler.buffer(len(data)) if direct else None
        if buffer is None:
            whole += assembler.fill(memoryview(data)).messages
        else:
            with buffer:
                data = data[: len(buffer)]
                buffer[:] = data
            whole += assembler.filled(len(data)).messages
        tail = tail[len(data) :]
    assert whole == received(messages)
    assert not assembler.busy


def test_memory_grows_with_what_arrives_and_not_with_what_was_announced() -> None:
    assembler = Assembler(1 << 50)
    assembler.begin(1, [(0, 1 << 49)], 0)
    assert not assembler.fill(memoryview(b"")).messages
    before = psutil.Process().memory_info().rss
    arrived, rooms = 0, list[int]()
    for _ in range(40):
        with assembler.buffer(1 << 40) as buffer:  # type: ignore[union-attr]
            rooms.append(arrived + len(buffer))
            buffer[:PACKET_NBYTES] = bytes(PACKET_NBYTES)
        arrived += PACKET_NBYTES
        assembler.filled(PACKET_NBYTES)
    assert rooms[0] == PACKET_NBYTES
    assert max(rooms) == 1 << 28  # which is no memory until something is put there
    assert psutil.Process().memory_info().rss - before < arrived + (1 << 24)


def test_few_bytes_are_not_worth_a_buffer() -> None:
    assembler = Assembler(1 << 20)
    assert assembler.buffer(1 << 20) is None
    assembler.begin(1, [(0, 1 << 19)], 1 << 19)
    assembler.fill(memoryview(b""))
    assert assembler.buffer(1000) is None
    assert assembler.buffer(1 << 19) is not None


def test_room_that_was_not_used_does_no_harm() -> None:
    assembler = Assembler(1 << 20)
    assembler.begin(1, [(0, 1 << 15, 1)], (1 << 15) + 1)
    assembler.fill(memoryview(b""))
    buffer = assembler.buffer(1 << 15)
    assert buffer is not None
    buffer.release()
    whole = assembler.fill(memoryview(b"x" * (1 << 15) + b"y")).messages
    assert whole == [MessageReceived(1, b"", (b"x" * (1 << 15), b"y"))]


def test_buffers_may_be_written_to() -> None:
    assembler = Assembler(1000)
    assembler.begin(1, [(1, 4, 0)], 5)
    (message,) = assembler.fill(memoryview(b"babcd")).messages
    assert message == MessageReceived(1, b"b", (b"abcd", b""))
    assert type(message.body) is bytes
    assert [type(buffer) for buffer in message.buffers] == [bytearray, bytearray]


def fill_buffer(assembler: Assembler, character: str) -> list[MessageReceived]:
    """Put this wherever the next buffer is to be."""
    room = assembler.buffer(1 << 30)
    assert room is not None
    with room:
        room[:] = character.encode() * len(room)
        nbytes = len(room)
    return assembler.filled(nbytes).messages


def test_buffers_that_come_together_lie_together_and_live_apart() -> None:
    nbytes = 1 << 20
    assembler = Assembler(1 << 30)
    assembler.begin(1, [(1, *[nbytes] * 8), (1, 1)], 1 + 8 * nbytes + 2)
    assert not assembler.fill(memoryview(b"b" + b"0" * 9)).messages
    for i in range(7):
        assert fill_buffer(assembler, str(i)) == []
    (message,) = fill_buffer(assembler, "7")
    assert message.body == b"b"
    assert all(bytes(message.buffers[i]) == str(i).encode() * nbytes for i in range(8))
    assert len({id(memoryview(buffer).obj) for buffer in message.buffers}) == 8
    assert assembler.fill(memoryview(b"cd")).messages == [MessageReceived(2, b"c", (b"d",))]


def test_memory_grows_with_what_has_arrived() -> None:
    """Not with what was announced; and what has arrived is there once."""
    assembler = Assembler(1 << 50)
    piece = memoryview(bytes(1 << 16))
    tracemalloc.start()
    try:
        assembler.begin(1, [(0, 1 << 49)], 0)
        for _ in range(256):
            assert not assembler.fill(piece).messages
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1.3 * 256 * len(piece)


def refused(shapes: list[int | tuple[int, ...]], nbytes: int) -> ProtocolError:
    with pytest.raises(ProtocolError) as error:
        Assembler(1000).begin(1, shapes, nbytes)
    return error.value


def test_oversized_message_is_refused() -> None:
    error = refused([5, (500, 501)], 0)
    assert (error.code, error.reason) == (
        Code.LIMIT,
        "a message of 1,001 bytes; 1,000 are allowed",
    )


def test_oversized_body_is_refused() -> None:
    with pytest.raises(ProtocolError, match="body is longer than 67,108,864 bytes") as error:
        Assembler(1 << 40).begin(1, [BODY_NBYTES + 1], 0)
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
    assembler.begin(1, [10], 4)
    assert not assembler.fill(memoryview(b"abcd")).messages
    for nbytes in (0, 7):
        with pytest.raises(ProtocolError, match=f"a piece of {nbytes} bytes where 6 are missing"):
            assembler.extend(nbytes)
    assembler.extend(6)
    assert assembler.fill(memoryview(b"efghij")).messages == [MessageReceived(1, b"abcdefghij", ())]
