"""Generic values: what Dask's messages consist of, bounded in both directions."""

import time
from contextlib import suppress
from typing import Any

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trouper.wire.errors import Code, NotEncodable, ProtocolError
from trouper.wire.limits import BODY_NBYTES
from trouper.wire.values import MAX_DEPTH, PAIRS, SET, ValueDecoder, encode_value

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 64), (1 << 64) - 1)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
)
KEYS = st.recursive(SCALARS, lambda inner: st.tuples(inner, inner), max_leaves=4)
VALUES = st.recursive(
    SCALARS | st.sets(KEYS, max_size=4),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(), inner, max_size=4)
        | st.dictionaries(KEYS, inner, max_size=4)
    ),
    max_leaves=20,
)


def as_it_arrives(value: Any) -> Any:
    """Lists become tuples, as over Dask's own ``tcp://``."""
    if isinstance(value, (list, tuple)):
        return tuple(map(as_it_arrives, value))  # pyright: ignore[reportUnknownArgumentType]
    if isinstance(value, dict):
        return {k: as_it_arrives(v) for k, v in value.items()}  # pyright: ignore
    return value


def decode(value: object) -> Any:
    return ValueDecoder().decode(encode_value(value))


@given(VALUES)
@settings(deadline=None)
def test_value_arrives_equal(value: object) -> None:
    assert decode(value) == as_it_arrives(value)


def test_types_arrive_too() -> None:
    sent = {"a": [1, True, 1.0], ("x", 1): {2}, "n": {1: None}, b"b": b"\x00", "s": frozenset("a")}
    arrived = decode(sent)
    assert arrived == {
        "a": (1, True, 1.0),
        ("x", 1): {2},
        "n": {1: None},
        b"b": b"\x00",
        "s": {"a"},
    }
    assert [type(item) for item in arrived["a"]] == [int, bool, float]
    assert type(arrived["n"]) is dict
    assert type(arrived["s"]) is set


def test_tags_of_the_caller_stand_for_what_it_likes() -> None:
    body = encode_value({"data": [cbor2.CBORTag(55800, [{"a": [1]}, 3])]})
    decoder = ValueDecoder({55800: lambda content: ("buffer", content)})
    assert decoder.decode(body) == {"data": (("buffer", ({"a": (1,)}, 3)),)}
    with pytest.raises(ProtocolError, match="a tag where none is allowed"):
        ValueDecoder().decode(body)


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (object(), "a object cannot be part of a value"),
        ([memoryview(b"x")], "a memoryview cannot be part of a value"),
        ({"x": bytearray(b"x")}, "a bytearray cannot be part of a value"),
        (1 << 64, "an integer of 65 bits cannot be sent; 64 are allowed"),
        ("\ud800", "text that is not Unicode cannot be sent"),
        (complex(1, 2), "a complex cannot be part of a value"),
        (bytes(BODY_NBYTES), "Bulk belongs in buffers"),
    ],
)
def test_what_cannot_be_sent_is_refused_here(value: object, sentence: str) -> None:
    with pytest.raises(NotEncodable, match=sentence):
        encode_value(value)


def test_depth_is_bounded_in_both_directions() -> None:
    value: object = 0
    for _ in range(MAX_DEPTH):
        value = [value]
    decode(value)
    with pytest.raises(NotEncodable, match="nested deeper than 64 levels"):
        encode_value([value])
    with pytest.raises(ProtocolError, match="nesting depth") as error:
        ValueDecoder().decode(b"\x81" + encode_value(value))
    assert error.value.code is Code.LIMIT


def test_depth_of_dicts_and_sets_counts_their_tags() -> None:
    value: object = 0
    for _ in range(MAX_DEPTH // 2):
        value = {1: value}
    decode(value)
    with pytest.raises(NotEncodable, match="nested deeper"):
        encode_value({1: value})


def test_number_of_items_is_bounded_before_they_are_made() -> None:
    decoder = ValueDecoder(max_items=1000)
    assert len(decoder.decode(cbor2.dumps(["x" * 10] * 999))) == 999
    too_many: list[list[Any]] = [["x" * 10] * 1000, [{}] * 1000, [["x", 1 << 40]] * 500]
    for many in too_many:
        with pytest.raises(ProtocolError, match="more than 1,000 items") as error:
            decoder.decode(cbor2.dumps(many))
        assert error.value.code is Code.LIMIT
    with pytest.raises(ProtocolError, match="indefinite"):
        decoder.decode(b"\x9f" + b"\x00" * 2000)


def test_oversized_value_is_refused() -> None:
    with pytest.raises(ProtocolError, match="67,108,865 bytes; 67,108,864 are allowed"):
        ValueDecoder().decode(bytes(BODY_NBYTES + 1))


@pytest.mark.parametrize("tag", [SET, PAIRS])
def test_keys_chosen_to_have_the_same_hash_are_refused_in_no_time(tag: int) -> None:
    modulus = (1 << 61) - 1  # hash(n) is n % modulus
    keys = [
        [modulus * a, modulus * b, modulus * c, modulus * d, modulus * e]
        for a in range(8)
        for b in range(8)
        for c in range(8)
        for d in range(8)
        for e in range(8)
    ]
    body = cbor2.dumps(cbor2.CBORTag(tag, keys))
    start = time.monotonic()
    with pytest.raises(ProtocolError, match="have the same hash") as error:
        ValueDecoder().decode(body)
    assert error.value.code is Code.LIMIT
    assert time.monotonic() - start < 5


UNHASHABLE: dict[str, int] = {}


@pytest.mark.parametrize(
    ("tag", "content", "sentence"),
    [
        (SET, "abc", "not made of an array"),
        (SET, [[UNHASHABLE]], "unhashable"),
        (SET, [1, 1.0], "a set has a member twice"),
        (PAIRS, 1, "not made of an array"),
        (PAIRS, [1], "a key without a value"),
        (PAIRS, [UNHASHABLE, 1], "unhashable"),
        (PAIRS, [1, 2, True, 3], "a dict has a key twice"),
    ],
)
def test_what_is_no_set_and_no_dict_is_refused(tag: int, content: object, sentence: str) -> None:
    with pytest.raises(ProtocolError, match=sentence):
        ValueDecoder().decode(cbor2.dumps(cbor2.CBORTag(tag, content)))


@given(st.binary(max_size=300))
@settings(deadline=None)
def test_any_bytes_give_a_value_or_a_protocol_error(data: bytes) -> None:
    for decoder in (ValueDecoder(), ValueDecoder(max_items=10)):
        with suppress(ProtocolError):
            decoder.decode(data)
