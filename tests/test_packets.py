"""Packets from bytes, wherever those were cut, and to bytes."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trouper.wire.cbor import Chunk
from trouper.wire.errors import Code, ProtocolError
from trouper.wire.frames import Abort, Alive, Data, Frame, Lost, Piece, Shape
from trouper.wire.limits import (
    HEAD_NBYTES,
    HELLO_NBYTES,
    MAX_SEQUENCE,
    PACKET_MESSAGES,
    PACKET_PARTS,
)
from trouper.wire.packets import Incoming, PacketItem, PacketReader, packet


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
ITEMS: list[PacketItem] = [
    Alive(3),
    *(Alive(3), Data(7, (2, 0, (1, 2)), 5)),
    *(Incoming(7, (b"ab",)), Incoming(8, (b"",)), Incoming(9, (b"c", bytearray(b"de")))),
    Data(10, ((1, 6),), 3),
    Alive(4),
    *(Piece(4), Incoming(10, (b"f", bytearray(b"ghijkl")))),
    Lost(11),
]


@given(st.lists(st.integers(0, len(STREAM))))
@settings(deadline=None)
def test_where_bytes_are_cut_has_no_meaning(cuts: list[int]) -> None:
    reader = PacketReader(1000)
    items: list[PacketItem] = []
    edges = [0, *sorted(cuts), len(STREAM)]
    for begin, end in pairwise(edges):
        items += reader.read(STREAM[begin:end])
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
    assert sum(isinstance(item, Incoming) for item in reader.read(data)) == PACKET_MESSAGES - 1


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


def test_buffer_is_copied_once() -> None:
    buffer = bytes(range(256)) * 256
    reader = PacketReader(1 << 20)
    *_, message = reader.read(stream(([Data(1, ((0, len(buffer)),), len(buffer))], [buffer])))
    assert isinstance(message, Incoming)
    assert message.parts[1] == buffer
