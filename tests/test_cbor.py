"""The strict decoder: plain data or a ProtocolError, in bounded time and memory."""

import tracemalloc
from contextlib import suppress

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trouper.wire.cbor import CborDecoder
from trouper.wire.errors import Code, ProtocolError


def test_arrays_are_tuples_and_maps_are_dicts() -> None:
    item = CborDecoder(max_depth=8, max_items=1000).decode(
        cbor2.dumps({"a": [1, {"b": [2.5, None]}]})
    )
    assert item == {"a": (1, {"b": (2.5, None)})}
    assert type(item["a"][1]) is dict


def test_decoder_goes_on_after_an_error() -> None:
    decoder = CborDecoder(max_depth=4, max_items=1000)
    for bad in (b"\x81" * 9, b"\x82\x01", b"\x01\x02", b"\xf7", b"\xc1\x00"):
        with pytest.raises(ProtocolError):
            decoder.decode(bad)
        assert decoder.decode(b"\x81\x81\x01") == ((1,),)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "bad CBOR: premature end of stream"),
        (b"\x82\x01", "bad CBOR: premature end of stream"),
        (b"\x01\x02\x03", "bad CBOR: 2 bytes follow the item"),
        (b"\x62\xff\xfe", "bad CBOR: error decoding text string"),
        (b"\xa2\x61a\x01\x61a\x01", "Duplicate map key"),
        (b"\xa1\x01\x01", "map key must be a text string or byte string, not int"),
        (b"\x9f\x01\xff", "indefinite length"),
        (b"\xff", "break code"),
        (b"\x1c", "unknown unsigned integer subtype"),
        (b"\x81\xf7", "undefined has no meaning here"),
        (b"\xa1\x61a\xe5", "CBORSimpleValue\\(5\\) has no meaning here"),
    ],
)
def test_error_says_what_is_wrong(data: bytes, sentence: str) -> None:
    with pytest.raises(ProtocolError, match=sentence) as error:
        CborDecoder(max_depth=8, max_items=1000).decode(data)
    assert error.value.code is Code.MALFORMED


@pytest.mark.parametrize("data", [b"\x81" * 99, b"\xa1\x60" * 99, b"\xd9\xd9\xf8" * 99])
def test_deep_nesting_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError, match=r"maximum container nesting depth \(8\) exceeded") as e:
        CborDecoder(max_depth=8, max_items=1000).decode(data + b"\x00")
    assert e.value.code is Code.LIMIT


@pytest.mark.parametrize("tag", [*range(6), 21, 24, 25, 28, 29, 30, 35, 36, 258, 260, 55799, 99999])
@pytest.mark.parametrize("content", ["x", b"x", 1, [1, 2], ["(a+)+$", 1]])
def test_no_tag_is_opened_that_was_not_asked_for(tag: int, content: object) -> None:
    with pytest.raises(ProtocolError, match="bad CBOR"):
        CborDecoder(max_depth=8, max_items=1000).decode(cbor2.dumps(cbor2.CBORTag(tag, content)))


def test_tag_that_was_asked_for_is_opened() -> None:
    decoder = CborDecoder(
        max_depth=8, max_items=1000, tags={6000: lambda content: ("opened", content)}
    )
    data = cbor2.dumps([cbor2.CBORTag(6000, [1, {"a": [2]}])])
    assert decoder.decode(data) == (("opened", (1, {"a": (2,)})),)


def test_opening_a_tag_may_refuse_its_content() -> None:
    def refuse(content: object) -> object:
        raise ProtocolError(Code.LIMIT, f"{content} is too much")

    with pytest.raises(ProtocolError, match="5 is too much") as error:
        CborDecoder(max_depth=8, max_items=1000, tags={6000: refuse}).decode(
            cbor2.dumps(cbor2.CBORTag(6000, 5))
        )
    assert error.value.code is Code.LIMIT


@pytest.mark.parametrize("head", [b"\x9b", b"\xbb", b"\x5b", b"\x7b"])
@pytest.mark.parametrize("length", [b"\x00\x00\x00\x00\xff\xff\xff\xff", b"\xff" * 8])
def test_announced_length_costs_no_memory(head: bytes, length: bytes) -> None:
    decoder = CborDecoder(max_depth=8, max_items=1000)
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError, match="bad CBOR"):
            decoder.decode(head + length + b"\x00" * 100)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2_000_000


@given(st.binary(max_size=200))
@settings(deadline=None)
def test_any_bytes_give_data_or_a_protocol_error(data: bytes) -> None:
    with suppress(ProtocolError):
        CborDecoder(max_depth=8, max_items=1000).decode(data)
