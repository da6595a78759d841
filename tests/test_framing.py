"""WebSocket frames: what goes in comes out, and what is against RFC 6455 is named."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong

from trouper.wire.cbor import Chunk
from trouper.wire.errors import ProtocolError
from trouper.wire.framing import BINARY, CLOSE, NORMAL, PING, Framer, masked_with

MASK = b"\x01\x80\xff\x00"


def client() -> Framer:
    return Framer(lambda: MASK)


def server() -> Framer:
    return Framer(None)


def payload(framer: Framer, data: Chunk) -> bytes:
    """Of binary messages."""
    return b"".join(part for part in framer.read(data) if not isinstance(part, str))


def written(chunks: list[Chunk]) -> bytes:
    return b"".join(chunks)


@given(
    st.lists(st.lists(st.binary(max_size=300), min_size=1, max_size=3), max_size=5),
    st.lists(st.integers(1, 400)),
)
def test_what_a_client_sends_a_server_reads_however_it_is_cut(
    messages: list[list[bytes]], cuts: list[int]
) -> None:
    sender, reader = client(), server()
    data = b"".join(written(sender.frame(BINARY, list(chunks))) for chunks in messages)
    read = bytearray()
    for cut in (*cuts, len(data)):
        read += payload(reader, data[:cut])
        data = data[cut:]
    assert read == b"".join(b"".join(chunks) for chunks in messages)


@given(st.binary(min_size=1, max_size=2000), st.integers(1, 50), st.lists(st.integers(1, 300)))
def test_what_is_read_past_it_is_unmasked_where_it_lies(
    message: bytes, first: int, cuts: list[int]
) -> None:
    reader = server()
    data = written(client().frame(BINARY, [message]))
    read = bytearray(payload(reader, data[:first]))
    data = data[first:]
    for cut in (*cuts, len(data)):
        piece = bytearray(data[: min(cut, reader.payload_left)])
        data = data[len(piece) :]
        if piece:
            reader.took(memoryview(piece))
            read += piece
        else:
            read += payload(reader, data)
            data = b""
    assert read == message
    assert reader.payload_left == 0
    assert payload(reader, written(client().frame(BINARY, [b"next"]))) == b"next"


def test_only_bytes_of_messages_are_read_past_it() -> None:
    ours = client()
    list(ours.read(b"\x89\x02?"))
    assert ours.payload_left == 0
    list(ours.read(b"?\x82\x05a"))
    assert ours.payload_left == 4


@pytest.mark.parametrize("nbytes", [0, 1, 125, 126, 127, 65_535, 65_536, 1_000_001])
@pytest.mark.parametrize("from_client", [True, False])
def test_wsproto_reads_what_we_write_and_the_other_way_round(
    nbytes: int, from_client: bool
) -> None:
    ours = client() if from_client else server()
    other = Connection(ConnectionType.SERVER if from_client else ConnectionType.CLIENT)
    message = bytes(range(256)) * (nbytes // 256) + bytes(nbytes % 256)
    other.receive_data(written(ours.frame(BINARY, [message[:7], memoryview(message)[7:]])))
    events = [event for event in other.events() if isinstance(event, BytesMessage)]
    assert b"".join(event.data for event in events) == message
    assert events[-1].message_finished
    assert payload(ours, other.send(BytesMessage(data=message))) == message


def test_message_in_fragments_with_a_ping_between_is_one() -> None:
    other, ours = Connection(ConnectionType.CLIENT), server()
    data = other.send(BytesMessage(data=b"one ", message_finished=False))
    data += other.send(Ping(payload=b"there?"))
    data += other.send(BytesMessage(data=b"message"))
    assert payload(ours, data) == b"one message"
    other.receive_data(bytes(ours.reply))
    assert [event.payload for event in other.events() if isinstance(event, Pong)] == [b"there?"]


def test_what_need_not_be_unmasked_is_not_copied() -> None:
    data = written(server().frame(BINARY, [bytes(1000)]))
    (part,) = client().read(data)
    assert isinstance(part, memoryview)
    assert part.obj is data


def test_large_chunks_of_a_server_are_not_copied() -> None:
    head, bulk = bytes(10), bytes(1_000_000)
    chunks = server().frame(BINARY, [head, bulk])
    assert chunks[-1] is bulk


def test_close_frame_tells_why_and_is_answered() -> None:
    ours, other = server(), Connection(ConnectionType.CLIENT)
    data = other.send(CloseConnection(code=1001, reason="going home"))
    assert payload(ours, data + b"whatever comes after it") == b""
    assert ours.closed == "going home (1001)"
    other.receive_data(bytes(ours.reply))
    (answer,) = other.events()
    assert isinstance(answer, CloseConnection)
    assert answer.code == 1001


def test_close_frame_without_a_reason_says_so() -> None:
    ours = client()
    assert payload(ours, written(server().frame(CLOSE, []))) == b""
    assert ours.closed == "the peer has closed the connection"


def test_reason_that_is_too_long_is_cut_at_a_letter() -> None:
    ours = client()
    assert payload(ours, written(server().close_frame(NORMAL, "ü" * 100))) == b""
    assert ours.closed == "ü" * 61 + " (1000)"


def test_text_message_is_told_as_text() -> None:
    assert next(client().read(b"\x81\x05hello")) == ""


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\xc2\x01x", "no extension, say compression, was agreed"),
        (b"\x83\x01x", "unknown opcode 3"),
        (b"\x82\x81....x", "a server must not"),
        (b"\x89\x7e\x00\x7e", "a control frame is too long, or in pieces"),
        (b"\x09\x01x", "a control frame is too long, or in pieces"),
        (b"\x80\x01x", "goes on without beginning"),
        (b"\x02\x01x\x82\x01x", "begins in another one"),
    ],
)
def test_what_is_against_the_rules_is_named(data: bytes, why: str) -> None:
    with pytest.raises(ProtocolError, match=why):
        list(client().read(data))


def test_client_has_to_mask() -> None:
    with pytest.raises(ProtocolError, match="a client has to mask its frames"):
        list(server().read(b"\x82\x01x"))


def test_frame_that_says_it_is_endless_costs_nothing() -> None:
    ours = client()
    head = b"\x82\x7f" + b"\x7f" + b"\xff" * 7
    assert payload(ours, head + b"abc") == b"abc"
    assert payload(ours, b"def") == b"def"


@given(st.binary(max_size=200))
def test_no_bytes_lead_to_another_error(data: bytes) -> None:
    with suppress(ProtocolError):
        list(server().read(data))


@given(st.binary(min_size=4, max_size=4), st.binary(max_size=50) | st.binary(min_size=600))
def test_mask_is_that_of_the_rfc(mask: bytes, data: bytes) -> None:
    masked = masked_with(mask, data)
    assert masked == bytes(byte ^ mask[i % 4] for i, byte in enumerate(data))
    assert masked_with(mask, masked) == data


def test_pong_of_a_client_is_masked() -> None:
    ours, other = client(), Connection(ConnectionType.SERVER)
    assert payload(ours, written(server().frame(PING, [b"?"]))) == b""
    other.receive_data(bytes(ours.reply))
    (pong,) = other.events()
    assert isinstance(pong, Pong)
    assert pong.payload == b"?"
