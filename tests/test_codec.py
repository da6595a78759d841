"""Messages between peers: what was said arrives, anything else is a clear error."""

from contextlib import suppress

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trouper.wire.codec import MessageDecoder, encode_message
from trouper.wire.errors import Code, NotEncodable, ProtocolError
from trouper.wire.limits import BODY_NBYTES
from trouper.wire.messages import (
    MAX_KEYS,
    Busy,
    DataReply,
    Failed,
    Found,
    GetData,
    PeerMessage,
    Unreadable,
)

MESSAGES: list[PeerMessage] = [
    GetData(("x", "~('y', 1)"), 50_000_000),
    DataReply(
        found=(Found("x", "numpy.ndarray", 8_000_000, 2), Found("z", "int", 28, 1)),
        missing=("y",),
        unreadable=(Unreadable("u", "cannot pickle a lock"),),
        left=("v",),
    ),
    DataReply(),
    Busy(),
    Failed("out of memory"),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: type(m).__name__)
def test_message_arrives_as_it_was_sent(message: PeerMessage) -> None:
    buffers = [b""] * sum(found.buffers for found in getattr(message, "found", ()))
    assert MessageDecoder().decode(encode_message(message), buffers) == message


def refused(item: object, code: Code = Code.MALFORMED) -> str:
    body = item if isinstance(item, bytes) else cbor2.dumps(item)
    with pytest.raises(ProtocolError) as error:
        MessageDecoder().decode(body)
    assert error.value.code is code
    return error.value.reason


def test_unknown_message() -> None:
    assert refused({"op": "shutdown"}) == "unknown message 'shutdown'"
    assert refused({"keys": []}) == "unknown message None"
    assert refused({"op": ["busy"]}) == "unknown message ('busy',)"
    assert refused({"op": "found"}) == "unknown message 'found'"


def test_unknown_field() -> None:
    assert "unknown field `colour`" in refused({"op": "busy", "colour": "red"})


def test_missing_field() -> None:
    assert "missing required field `keys`" in refused({"op": "get-data", "max_nbytes": 1})


def test_wrong_type() -> None:
    assert refused(["busy"]) == "a message has to be a map"
    assert "Expected `str`, got `int` - at `$.keys[1]`" in refused(
        {"op": "get-data", "keys": ["x", 1], "max_nbytes": 1}
    )


def test_integer_out_of_range() -> None:
    for number in (-1, 1 << 53):
        assert "Expected `int`" in refused({"op": "get-data", "keys": ["x"], "max_nbytes": number})
    assert "a tag where none" in refused({"op": "get-data", "keys": ["x"], "max_nbytes": 1 << 70})


def test_name_that_is_not_utf_8() -> None:
    body = cbor2.dumps({"op": "failed", "reason": "xyz"}).replace(b"xyz", b"x\xff\xfe")
    assert "error decoding text string" in refused(body)


def test_deep_nesting() -> None:
    item: object = 1
    for _ in range(20):
        item = [item]
    assert "nesting depth (8) exceeded" in refused({"op": item}, Code.LIMIT)


def test_oversized_message() -> None:
    assert "67,108,865 bytes; 67,108,864 are allowed" in refused(bytes(BODY_NBYTES + 1), Code.LIMIT)


def test_bomb_of_tiny_items() -> None:
    """Each of these bytes would be a dict of 64 bytes."""
    bomb = b"\x9a" + (5_000_000).to_bytes(4, "big") + b"\xa0" * 5_000_000
    assert refused(bomb, Code.LIMIT) == "bad CBOR: more than 250,000 items"


def test_longest_answer_is_no_bomb() -> None:
    keys = tuple(str(number) for number in range(MAX_KEYS))
    answer = DataReply(
        found=tuple(Found(key, "int", 28, 1) for key in keys),
        missing=keys,
        unreadable=tuple(Unreadable(key, "a lock") for key in keys),
        left=keys,
    )
    assert MessageDecoder().decode(encode_message(answer), [b""] * MAX_KEYS) == answer


def test_too_many_and_too_long_keys() -> None:
    many = {"op": "get-data", "keys": ["x"] * (MAX_KEYS + 1), "max_nbytes": 1}
    assert "Expected `array` of length <= 10000" in refused(many)
    long = {"op": "get-data", "keys": ["x" * 4097], "max_nbytes": 1}
    assert "Expected `str` of length <= 4096" in refused(long)
    assert "length >= 1" in refused({"op": "get-data", "keys": [], "max_nbytes": 1})


def test_buffers_have_to_be_those_that_are_spoken_of() -> None:
    body = encode_message(MESSAGES[1])
    for buffers in ([], [b""] * 2, [b""] * 4):
        with pytest.raises(
            ProtocolError, match=f"speaks of 3 buffers and came with {len(buffers)}"
        ):
            MessageDecoder().decode(body, buffers)
    with pytest.raises(ProtocolError, match="speaks of 0 buffers and came with 1"):
        MessageDecoder().decode(encode_message(Busy()), [b"x"])


@pytest.mark.parametrize(
    "message",
    [
        GetData((), 1),
        GetData(("x" * 4097,), 1),
        GetData(("x",), -1),
        Failed("x" * 513),
        Failed("half \ud800 a pair"),
        DataReply(found=(Found("x", "t", 1, 0),)),
    ],
)
def test_message_that_the_peer_would_refuse_is_refused_here(message: PeerMessage) -> None:
    with pytest.raises(NotEncodable, match="that may not be sent"):
        encode_message(message)


ITEMS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
FIELDS = ["op", "keys", "max_nbytes", "found", "missing", "unreadable", "left", "reason", "key"]
NAMES = st.sampled_from(["get-data", "data-reply", "busy", "failed", "found"])


@given(
    st.dictionaries(st.sampled_from(FIELDS), ITEMS), NAMES | ITEMS, st.integers(0, 3), st.binary()
)
@settings(deadline=None)
def test_whatever_comes_is_a_message_or_a_protocol_error(
    fields: dict[str, object], op: object, cut: int, junk: bytes
) -> None:
    body = cbor2.dumps(fields | {"op": op})
    for data in (body, body[: len(body) - cut], body + junk, junk):
        with suppress(ProtocolError):
            MessageDecoder().decode(data)
