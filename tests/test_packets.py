"""Packets from bytes, wherever those were cut, and to bytes."""

from collections.abc import Iterable, Iterator
from itertools import pairwise
from unittest.mock import patch

import cbor2
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trouper.wire.cbor import Chunk
from trouper.wire.errors import Code, ProtocolError
from trouper.wire.events import MessageReceived as Message
from trouper.wire.frames import Abort, Alive, Data, Frame, Lost, Piece, Shape
from trouper.wire.limits import (
    HEAD_NBYTES,
    HELLO_NBYTES,
    MAX_SEQUENCE,
    PACKET_MESSAGES,
    PACKET_NBYTES,
    PACKET_PARTS,
)
from trouper.wire.packets import PacketItem, PacketReader, packet, small_packet


def stream(*packets: tuple[list[Frame], list[Chunk]]) -> bytes:
    return b"".join(b"".join(packet(frames, tail)) for frames, tail in packets)


STREAM = stream(
    ([Alive(3)], []),
    ([Alive(3), Data(7, (2, 0, (1, 2)), 5)], [b"ab", b"c", b"de"]),
    ([Data(10, ((1, 6),), 3)], [b"f", b"gh"]),
    ([Alive(4)], []),
    ([Piece(4)], [b"ijkl"]),
    ([Lost(11)], []),
)
ITEMS: list[Frame | Message] = [
    Alive(3),
    *(Alive(3), Data(7, (2, 0, (1, 2)), 5)),
    *(Message(7, b"ab", ()), Message(8, b"", ()), Message(9, b"c", (b"de",))),
    Data(10, ((1, 6),), 3),
    Alive(4),
    *(Piece(4), Message(10, b"f", (b"ghijkl",))),
    Lost(11),
]


def one_by_one(items: Iterable[PacketItem]) -> Iterator[Frame | Message]:
    """Frames and messages in order."""
    for item in items:
        if isinstance(item, Frame):
            yield item
        else:
            lengths = [len(m.body) + sum(map(len, m.buffers)) for m in item.messages]
            assert lengths, "nobody is told of no message"
            assert item.nbytes == sum(lengths)
            yield from item.messages


@given(st.lists(st.integers(0, len(STREAM))))
@settings(deadline=None)
def test_where_bytes_are_cut_has_no_meaning(cuts: list[int]) -> None:
    reader = PacketReader(1000)
    items: list[Frame | Message] = []
    edges = [0, *sorted(cuts), len(STREAM)]
    for begin, end in pairwise(edges):
        items += one_by_one(reader.read(STREAM[begin:end]))
    assert items == ITEMS
    assert reader.idle


NUMBERS = st.integers(1, MAX_SEQUENCE) | st.integers(1, 300) | st.integers(65_530, 65_540)
LENGTHS = st.integers(0, MAX_SEQUENCE) | st.integers(0, 300)
SHAPES = st.lists(
    LENGTHS | st.lists(LENGTHS, min_size=2, max_size=30).map(tuple), min_size=1, max_size=30
).map(tuple)


@given(
    st.lists(
        st.builds(Alive, NUMBERS)
        | st.builds(Data, NUMBERS, SHAPES, st.integers(0, PACKET_NBYTES))
        | st.builds(Piece, st.integers(0, PACKET_NBYTES)),
        min_size=1,
        max_size=64,
    )
)
@settings(deadline=None)
def test_head_is_encoded_as_any_cbor(frames: list[Frame]) -> None:
    head = cbor2.dumps([msgspec.to_builtins(frame) for frame in frames])
    assert b"".join(packet(frames)) == len(head).to_bytes(4, "big") + head


@given(
    st.none() | NUMBERS.map(Alive),
    NUMBERS,
    st.binary(max_size=300) | st.integers(300, 70_000).map(bytes),
)
@settings(deadline=None)
def test_small_packet_says_the_same_as_any_at_once_and_in_pieces(
    alive: Alive | None, sequence: int, body: bytes
) -> None:
    frames: list[Frame] = [Data(sequence, (len(body),), len(body))]
    if alive is not None:
        frames = [alive, *frames]
    one = stream((frames, [body]))
    at_once = list(one_by_one(PacketReader(1 << 20).read(one)))
    assert at_once == [*frames, Message(sequence, body, ())]
    received = None if alive is None else alive.received
    assert b"".join(small_packet(received, sequence, body)) == one
    reader = PacketReader(1 << 20)
    pieces = [*reader.read(one[:7]), *reader.read(one[7:])]
    assert list(one_by_one(pieces)) == at_once


@pytest.mark.parametrize(
    ("head", "tail", "why"),
    [
        ("81 8404018105 05", b"abcde", "5 bytes; 4 are allowed"),
        ("81 8404008101 01", b"a", "bad frame 'data'"),
        ("81 8404180081 01 01", b"a", "bad frame 'data'"),
        ("81 84040181 01 02", b"ab", "does not fit messages of 1 bytes"),
        ("81 84040181 1a00100001 1a00100001", b"", "bad frame 'data'"),
        ("82 8203 03 84040181 01 01 01", b"a", "1 bytes follow the item"),
    ],
)
def test_small_packet_is_as_strict_as_any(head: str, tail: bytes, why: str) -> None:
    reader = PacketReader(4)
    data = bytes.fromhex(head)
    with pytest.raises(ProtocolError, match=why):
        list(reader.read(len(data).to_bytes(4, "big") + data + tail))


def test_small_packet_does_not_come_within_a_message() -> None:
    reader = PacketReader(1000)
    list(reader.read(stream(([Data(1, (5,), 2)], [b"ab"]))))
    with pytest.raises(ProtocolError, match="a message has begun and not ended"):
        list(reader.read(stream(([Data(2, (1,), 1)], [b"x"]))))


@patch("trouper.wire.assembly._DIRECT_NBYTES", 2)
@given(st.lists(st.tuples(st.booleans(), st.integers(1, 40))))
@settings(deadline=None)
def test_where_bytes_are_put_has_no_meaning(cuts: list[tuple[bool, int]]) -> None:
    reader, data = PacketReader(1000), STREAM
    items: list[Frame | Message] = []
    for direct, cut in [*cuts, (False, len(STREAM))]:
        buffer = reader.buffer() if direct else None
        if buffer is None:
            taken = data[:cut]
            items += one_by_one(reader.read(taken))
        else:
            with buffer:
                taken = data[: min(cut, len(buffer))]
                buffer[: len(taken)] = taken
            items += one_by_one(reader.filled(len(taken)))
        data = data[len(taken) :]
    assert items == ITEMS
    assert reader.idle


def test_reader_that_has_a_part_of_a_packet_is_not_idle() -> None:
    one = stream(([Data(1, (2, 3), 5)], [b"abcde"]))
    for end in range(1, len(one)):
        reader = PacketReader(1000)
        list(reader.read(one[:end]))
        assert not reader.idle
        list(reader.read(one[end:]))
        assert reader.idle


def test_text_frame_is_refused() -> None:
    with pytest.raises(ProtocolError, match="text arrived, where only binary is spoken") as error:
        list(PacketReader(1000).read("hello"))
    assert error.value.code is Code.MALFORMED


def test_stranger_may_not_send_a_long_head() -> None:
    long = stream(([Abort(Code.LIMIT, "x" * 500)] * 20, []))
    assert HELLO_NBYTES < len(long) < HEAD_NBYTES
    with pytest.raises(ProtocolError, match=r"the head of a packet has 10,.* bytes; 8,192 are"):
        list(PacketReader(1000).read(long[:5]))
    reader = PacketReader(1000)
    reader.trusted = True
    assert len(list(reader.read(long))) == 20


def test_longest_head_that_is_needed_is_taken() -> None:
    """As many messages and parts as may begin in a packet, with the longest numbers."""
    reader = PacketReader(MAX_SEQUENCE)
    reader.trusted = True
    shapes: tuple[Shape, ...] = (
        *[0] * (PACKET_MESSAGES - 1),
        (0, *[1 << 39] * (PACKET_PARTS - PACKET_MESSAGES)),
    )
    data = stream(([Data(1, shapes, 0)], []))
    frame, *whole = one_by_one(reader.read(data))
    assert isinstance(frame, Data)
    assert len(whole) == PACKET_MESSAGES - 1


def test_longest_head_is_bounded_for_friends_too() -> None:
    reader = PacketReader(1000)
    reader.trusted = True
    with pytest.raises(ProtocolError, match="262,144 are allowed") as error:
        list(reader.read((HEAD_NBYTES + 1).to_bytes(4, "big")))
    assert error.value.code is Code.LIMIT


@pytest.mark.parametrize(
    ("frames", "sentence"),
    [
        ([Data(1, (1,), 1), Alive(0)], "frames follow one that has a tail"),
        ([Piece(1)], "a message that has not begun"),
    ],
)
def test_frames_that_do_not_fit_together_are_refused(frames: list[Frame], sentence: str) -> None:
    with pytest.raises(ProtocolError, match=sentence) as error:
        list(PacketReader(1000).read(stream((frames, [b"x"]))))
    assert error.value.code is Code.UNEXPECTED


@pytest.mark.parametrize("frame", [Data(2, (1,), 1), Lost(2)])
def test_message_that_has_begun_comes_to_its_end_first(frame: Frame) -> None:
    reader = PacketReader(1000)
    list(reader.read(stream(([Data(1, (5,), 2)], [b"ab"]))))
    with pytest.raises(ProtocolError, match="a message has begun and not ended") as error:
        list(reader.read(stream(([frame], []))))
    assert error.value.code is Code.UNEXPECTED


def test_large_chunks_are_not_copied() -> None:
    large = bytearray(1 << 16)
    chunks = packet([Data(1, ((1, 1 << 16, 2),), 3 + (1 << 16))], [b"a", large, b"zz"])
    assert len(chunks) == 3
    assert chunks[1] is large
    assert chunks[2] == b"zz"
    body = bytes(1 << 16)
    assert small_packet(None, 1, body)[1] is body


def test_buffer_is_copied_once() -> None:
    buffer = bytes(range(256)) * 256
    reader = PacketReader(1 << 20)
    *_, message = one_by_one(
        reader.read(stream(([Data(1, ((0, len(buffer)),), len(buffer))], [buffer])))
    )
    assert isinstance(message, Message)
    assert message.buffers == (buffer,)
