"""What is kept, what is cut into packets, and what is sent again."""

from itertools import zip_longest
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trouper.wire.assembly import Arrived
from trouper.wire.cbor import Chunk
from trouper.wire.errors import Code, NotEncodable, ProtocolError
from trouper.wire.frames import Data, Frame, Goodbye, Lost, Piece
from trouper.wire.limits import (
    BODY_NBYTES,
    PACKET_FRAMES,
    PACKET_MESSAGES,
    PACKET_NBYTES,
    PACKET_PARTS,
)
from trouper.wire.outbox import Outbox
from trouper.wire.packets import PacketReader, packet


def new_outbox(*, resumable: bool = True) -> Outbox:
    return Outbox(resumable=resumable, max_message_nbytes=1 << 30)


def put(outbox: Outbox, *parts: Chunk, resend: bool = True) -> int:
    return outbox.put(parts[0], parts[1:], resend=resend)


def take(outbox: Outbox) -> tuple[list[Frame], bytes]:
    frames: list[Frame] = []
    tail = outbox.next_packet(frames)
    return frames, b"".join(tail)


def test_small_messages_go_together() -> None:
    outbox = new_outbox()
    assert [put(outbox, b"a"), put(outbox, b"bc", b"d"), put(outbox, b"")] == [1, 2, 3]
    assert take(outbox) == ([Data(1, (1, (2, 1), 0), 4)], b"abcd")
    assert take(outbox) == ([], b"")
    assert not outbox.waiting


def test_body_that_waits_alone_can_be_taken_at_once() -> None:
    outbox = new_outbox()
    assert outbox.next_body() is None
    put(outbox, b"a")
    assert outbox.next_body() == b"a"
    assert not outbox.waiting
    assert outbox.next_body() is None
    assert outbox.rewind(0) == []
    put(outbox, b"b")
    assert outbox.next_body() is None
    assert take(outbox) == ([Data(1, (1, 1), 2)], b"ab")


def test_what_is_no_body_alone_is_not_taken_for_one() -> None:
    outbox = new_outbox()
    put(outbox, b"a", b"buffer")
    assert outbox.next_body() is None
    take(outbox)
    put(outbox, b"bulk", resend=False)
    assert outbox.next_body() is None
    take(outbox)
    put(outbox, bytes(PACKET_NBYTES + 1))
    assert outbox.next_body() is None
    take(outbox)
    assert outbox.next_body() is None
    assert take(outbox) == ([Piece(1)], b"\0")
    put(outbox, b"before")
    put(outbox, bytes(PACKET_NBYTES))
    take(outbox)
    assert outbox.next_body() is None
    assert take(outbox) == ([Piece(6)], bytes(6))
    outbox.put_goodbye(Code.GOODBYE, "done")
    assert outbox.next_body() is None


@patch("trouper.wire.outbox.PACKET_NBYTES", 16)
@patch("trouper.wire.outbox.PACKET_MESSAGES", 5)
@patch("trouper.wire.outbox.PACKET_PARTS", 6)
@given(
    st.lists(st.lists(st.binary(max_size=40), min_size=1, max_size=4), max_size=12),
    st.lists(st.integers(0, 5)),
)
def test_whatever_is_put_leaves_in_packets_of_bounded_length_as_it_was(
    messages: list[list[bytes]], pauses: list[int]
) -> None:
    """How many packets leave after each message makes no difference to what arrives."""
    outbox, reader = new_outbox(), PacketReader(1 << 20)
    arrived: list[list[Chunk]] = []

    def send() -> None:
        frames: list[Frame] = []
        tail = outbox.next_packet(frames)
        assert sum(map(len, tail)) <= 16
        assert len(tail) <= 6
        for item in reader.read(b"".join(packet(frames, tail)) if frames else b""):
            if isinstance(item, Arrived):
                arrived.extend([m.body, *m.buffers] for m in item.messages)

    for message, packets in zip_longest(messages, pauses, fillvalue=None):
        if message is not None:
            put(outbox, *message)
        for _ in range(packets or 0):
            send()
    while outbox.waiting:
        send()
    assert arrived == messages
    assert outbox.kept_nbytes >= sum(len(part) for message in messages for part in message)
    outbox.acknowledge(len(messages))
    assert outbox.kept_nbytes == 0


def test_packet_has_a_bounded_number_of_messages() -> None:
    outbox = new_outbox()
    for _ in range(PACKET_MESSAGES + 1):
        put(outbox, b"x")
    assert [len(take(outbox)[1]) for _ in range(2)] == [PACKET_MESSAGES, 1]


def test_packet_has_a_bounded_number_of_parts() -> None:
    outbox = new_outbox()
    put(outbox, b"x")
    put(outbox, b"y", *[b""] * (PACKET_PARTS - 1))
    assert [take(outbox)[1] for _ in range(2)] == [b"x", b"y"]


def test_large_message_goes_in_pieces() -> None:
    outbox = new_outbox()
    large = bytes(range(256)) * (PACKET_NBYTES // 128)
    put(outbox, b"before")
    put(outbox, b"body", large)
    put(outbox, b"after")
    frames, tail = take(outbox)
    assert frames == [Data(1, (6, (4, len(large))), PACKET_NBYTES)]
    frames, piece = take(outbox)
    assert frames == [Piece(PACKET_NBYTES)]
    tail += piece
    frames, piece = take(outbox)
    assert frames == [Piece(10)]
    assert tail + piece == b"before" + b"body" + large
    assert take(outbox) == ([Data(3, (5,), 5)], b"after")


def test_bytes_are_kept_until_they_are_acknowledged() -> None:
    outbox = new_outbox()
    put(outbox, b"x" * 1000)
    put(outbox, b"y" * 1000)
    full = outbox.kept_nbytes
    assert full > 2000
    take(outbox)
    assert outbox.kept_nbytes == full
    outbox.acknowledge(1)
    assert outbox.kept_nbytes == full / 2
    outbox.acknowledge(2)
    assert outbox.kept_nbytes == 0


def test_nothing_is_kept_where_nothing_is_resumed() -> None:
    outbox = new_outbox(resumable=False)
    put(outbox, b"x" * 1000)
    assert outbox.kept_nbytes > 1000
    take(outbox)
    assert outbox.kept_nbytes == 0


def test_rewinding_sends_again_what_has_not_arrived() -> None:
    outbox = new_outbox()
    for body in (b"a", b"b", b"c"):
        put(outbox, body)
    take(outbox)
    put(outbox, b"d")
    assert outbox.rewind(1) == []
    assert take(outbox) == ([Data(2, (1, 1, 1), 3)], b"bcd")


def test_message_that_was_cut_is_sent_again_from_its_beginning() -> None:
    outbox = new_outbox()
    put(outbox, b"x" * (PACKET_NBYTES + 1))
    take(outbox)
    outbox.rewind(0)
    assert take(outbox)[0] == [Data(1, (PACKET_NBYTES + 1,), PACKET_NBYTES)]


def test_bulk_that_was_sent_is_not_kept_and_reported_as_lost_once() -> None:
    outbox = new_outbox()
    put(outbox, b"a")
    put(outbox, b"bulk" * 1000, resend=False)
    put(outbox, b"c")
    take(outbox)
    assert outbox.kept_nbytes < 1000
    assert outbox.rewind(0) == [2]
    expected = [
        ([Data(1, (1,), 1)], b"a"),
        ([Lost(2), Data(3, (1,), 1)], b"c"),
    ]
    assert [take(outbox), take(outbox)] == expected
    assert outbox.rewind(0) == []
    assert [take(outbox), take(outbox)] == expected


def test_bulk_costs_next_to_nothing_once_it_is_sent_but_not_nothing() -> None:
    """So many messages that nobody acknowledges would be a leak."""
    outbox = new_outbox()
    for _ in range(100):
        put(outbox, b"bulk" * 1000, resend=False)
    take(outbox)
    assert 0 < outbox.kept_nbytes < 100 * 1000
    outbox.acknowledge(100)
    assert outbox.kept_nbytes == 0


def test_bulk_that_has_arrived_is_not_lost() -> None:
    outbox = new_outbox()
    put(outbox, b"bulk", resend=False)
    take(outbox)
    assert outbox.rewind(1) == []
    assert not outbox.waiting


def test_bulk_that_was_cut_is_lost_and_bulk_that_had_not_begun_is_not() -> None:
    outbox = new_outbox()
    put(outbox, b"x" * (PACKET_NBYTES + 1), resend=False)
    put(outbox, b"later", resend=False)
    take(outbox)
    assert outbox.rewind(0) == [1]
    assert take(outbox) == ([Lost(1), Data(2, (5,), 5)], b"later")


def test_goodbye_comes_after_all_messages_and_is_sent_again() -> None:
    outbox = new_outbox()
    put(outbox, b"a")
    outbox.put_goodbye(Code.GOODBYE, "done")
    expected = [([Data(1, (1,), 1)], b"a"), ([Goodbye(2, Code.GOODBYE, "done")], b"")]
    assert [take(outbox), take(outbox)] == expected
    outbox.rewind(0)
    assert [take(outbox), take(outbox)] == expected


def test_many_losses_are_told_in_several_packets() -> None:
    outbox = new_outbox()
    for _ in range(PACKET_FRAMES + 1):
        put(outbox, b"x", resend=False)
    take(outbox)
    assert len(outbox.rewind(0)) == PACKET_FRAMES + 1
    assert [len(take(outbox)[0]) for _ in range(3)] == [PACKET_FRAMES, 1, 0]


@pytest.mark.parametrize("received", [0, 3, 99])
def test_acknowledgement_that_cannot_be_is_refused(received: int) -> None:
    outbox = new_outbox()
    for body in (b"a", b"b"):
        put(outbox, body)
    take(outbox)
    put(outbox, b"not sent yet")
    outbox.acknowledge(1)
    with pytest.raises(ProtocolError, match=f"received {received} messages; it had 1 .* 2 were se"):
        outbox.acknowledge(received)


def test_message_that_the_peer_would_refuse_is_refused_here() -> None:
    outbox = new_outbox()
    outbox.max_message_nbytes = 10
    with pytest.raises(NotEncodable, match="a message has 11 bytes; the peer takes 10"):
        put(outbox, b"x" * 6, b"y" * 5)
    outbox.max_message_nbytes = 1 << 30
    with pytest.raises(NotEncodable, match="16,384 buffers; 16,383 are allowed"):
        put(outbox, *[b""] * (PACKET_PARTS + 1))
    with pytest.raises(NotEncodable, match="Bulk belongs in buffers"):
        put(outbox, bytes(BODY_NBYTES + 1))
    with pytest.raises(NotEncodable, match="do not lie in one row"):
        put(outbox, b"", memoryview(b"abcdef")[::2])
    assert not outbox.waiting
    assert outbox.last == 0


def test_buffer_of_any_shape_is_so_many_bytes() -> None:
    outbox = new_outbox()
    grid = memoryview(bytes(24)).cast("I", (2, 3))
    put(outbox, b"", grid, memoryview(b"").cast("I"))
    assert take(outbox) == ([Data(1, ((0, 24, 0),), 24)], bytes(24))


def test_nothing_is_copied_on_the_way_out() -> None:
    outbox = new_outbox()
    large = bytearray(3 * PACKET_NBYTES)
    put(outbox, b"", large)
    frames: list[Frame] = []
    tail = outbox.next_packet(frames)
    large[0] = 7
    assert tail[-1][0] == 7
    assert sum(map(len, tail)) == PACKET_NBYTES


def test_ended_session_keeps_nothing() -> None:
    outbox = new_outbox()
    put(outbox, b"x")
    take(outbox)
    put(outbox, b"y" * (PACKET_NBYTES + 1))
    take(outbox)
    outbox.clear()
    assert (outbox.kept_nbytes, outbox.waiting) == (0, False)
