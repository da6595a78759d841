"""Dask's messages: plain data with markers, whose bytes travel beside it."""

import enum
import pickle
import weakref
from collections import OrderedDict
from contextlib import suppress
from typing import Any, NamedTuple

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trouper.wire.cbor import Chunk
from trouper.wire.dask_message import (
    BESIDE_NBYTES,
    BYTES_PICKLE,
    DASK_DEPTH,
    ENUM_MEMBER,
    INLINE_NBYTES,
    PICKLED,
    SERIALIZED,
    DaskMessageDecoder,
    EnumMember,
    Pickled,
    Serialized,
    encode_dask_message,
)
from trouper.wire.errors import Code, NotEncodable, ProtocolError, TooLong
from trouper.wire.limits import PACKET_PARTS

LONG = bytes(range(256)) * (INLINE_NBYTES // 256)


def there_and_back(message: object) -> Any:
    body, buffers = encode_dask_message(message)
    return DaskMessageDecoder().decode(body, [bytearray(buffer) for buffer in buffers])


def test_a_batch_of_operations_arrives_with_tuples_for_lists() -> None:
    sent = [{"op": "free-keys", "keys": [("x", 1), "y"], 3: None, "who": {b"k": {1.5}}}]
    assert there_and_back(sent) == (
        {"op": "free-keys", "keys": (("x", 1), "y"), 3: None, "who": {b"k": {1.5}}},
    )


def test_short_frames_travel_in_the_body_and_long_ones_beside_it_uncopied() -> None:
    owner = bytearray(LONG)
    message = {"data": Serialized({"serializer": "pickle"}, [b"short", LONG, memoryview(owner)])}
    body, buffers = encode_dask_message(message)
    assert b"short" in body
    assert buffers[0] is LONG
    assert buffers[1] == LONG
    owner[0] = 255
    assert buffers[1][0] == 255
    owner[0] = 0
    received = [bytearray(buffer) for buffer in buffers]
    arrived = DaskMessageDecoder().decode(body, received)["data"]
    assert arrived.header == {"serializer": "pickle"}
    assert list(arrived.frames) == [b"short", LONG, LONG]
    assert arrived.frames[1] is received[0]


def test_all_that_has_arrived_may_be_written_to() -> None:
    sent = Serialized({"sub-headers": [{"a": {}}]}, [b"short", LONG])
    arrived = there_and_back([sent])[0]
    arrived.header["num-sub-frames"] = 2
    arrived.header["sub-headers"][0].pop("a")
    assert arrived.header == {"sub-headers": ({},), "num-sub-frames": 2}
    for frame in arrived.frames:
        frame[0] = 255


def test_long_bytes_leave_a_body_that_would_be_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trouper.wire.values.BODY_NBYTES", 3 * BESIDE_NBYTES)
    file, note = bytes(2 * BESIDE_NBYTES), b"short"
    message = {"op": "plugin-add", "plugins": [file, {"more": file}], "note": note}
    body, buffers = encode_dask_message(message)
    assert len(body) < 1000
    assert [buffer is file for buffer in buffers] == [True, True]
    decoder = DaskMessageDecoder()
    arrived = decoder.decode(body, list(map(bytearray, buffers)))
    assert arrived == message | {"plugins": (file, {"more": file})}
    assert type(arrived["plugins"][0]) is bytes
    assert decoder.markers == 0
    assert pickle.loads(BYTES_PICKLE, buffers=[bytearray(b"x")]) == b"x"
    with pytest.raises(TooLong, match="Bulk belongs in buffers"):
        encode_dask_message({"text": "x" * 4 * BESIDE_NBYTES, "file": file})


def test_a_pickle_and_its_buffers_arrive() -> None:
    buffers: list[pickle.PickleBuffer] = []
    stream = pickle.dumps(
        [pickle.PickleBuffer(LONG), pickle.PickleBuffer(b"")],
        protocol=5,
        buffer_callback=buffers.append,
    )
    arrived = there_and_back({"run_spec": Pickled(stream, [buffer.raw() for buffer in buffers])})
    marker = arrived["run_spec"]
    assert pickle.loads(marker.pickle, buffers=marker.buffers) == [LONG, b""]


def test_an_enum_member_arrives_also_as_a_key() -> None:
    member = EnumMember("distributed.core", "Status", "running")
    assert there_and_back({member: [member]}) == {member: (member,)}


def test_markers_in_a_header_keep_their_frames() -> None:
    inner = Pickled(LONG[::-1])
    arrived = there_and_back([Serialized({"key": inner}, [LONG]), Pickled(LONG)])
    assert arrived[0].header["key"].pickle == LONG[::-1]
    assert arrived[0].frames == (LONG,)
    assert arrived[1].pickle == LONG


class Point(NamedTuple):
    x: int
    y: int


class Colour(enum.IntEnum):
    RED = 1


class Word(str, enum.Enum):  # noqa: UP042 - its text is not what it is sent as
    YES = "yes"


class Fraction(float):
    pass


class Members(set[int]):
    pass


AS_THEIR_BASES: list[tuple[object, object]] = [
    (Point(1, 2), (1, 2)),
    (Colour.RED, 1),
    (Word.YES, "yes"),
    (Fraction(1.5), 1.5),
    (OrderedDict(a=[1]), {"a": (1,)}),
    (bytearray(b"ab"), b"ab"),
    (memoryview(b"ab"), b"ab"),
    (Members({1}), {1}),
]


@pytest.mark.parametrize(("sent", "arrives"), AS_THEIR_BASES)
def test_subclasses_arrive_as_what_they_are_based_on(sent: object, arrives: object) -> None:
    (arrived,) = there_and_back([sent])
    assert arrived == arrives
    assert type(arrived) is type(arrives)


def test_a_frozenset_arrives_as_one_by_way_of_pickle() -> None:
    marker = there_and_back([frozenset("ab")])[0]
    assert pickle.loads(marker.pickle) == frozenset("ab")


def test_what_nobody_knows_is_left_to_the_default() -> None:
    with pytest.raises(NotEncodable, match="a complex cannot be part of a Dask message"):
        encode_dask_message([1j])
    body, buffers = encode_dask_message([1j], lambda value: Pickled(pickle.dumps(value)))
    assert pickle.loads(DaskMessageDecoder().decode(body, buffers)[0].pickle) == 1j


def test_a_default_that_leads_nowhere_ends() -> None:
    with pytest.raises(NotEncodable, match=f"nested deeper than {DASK_DEPTH} levels"):
        encode_dask_message(1j, lambda value: value)


def test_a_frame_that_does_not_lie_in_one_row_is_refused() -> None:
    with pytest.raises(NotEncodable, match="do not lie in one row"):
        encode_dask_message(Serialized({}, [memoryview(LONG)[::2]]))


def test_more_frames_than_buffers_are_allowed_arrive_all_the_same() -> None:
    frames = [LONG + str(i).encode() for i in range(PACKET_PARTS + 10)]
    body, buffers = encode_dask_message([Serialized({}, frames), Pickled(LONG)])
    assert len(buffers) < PACKET_PARTS
    arrived = DaskMessageDecoder().decode(body, buffers)
    assert list(arrived[0].frames) == frames
    assert arrived[1].pickle == LONG


def test_a_decoder_is_of_use_after_an_error() -> None:
    decoder = DaskMessageDecoder()
    body, buffers = encode_dask_message(Pickled(LONG))
    with pytest.raises(ProtocolError, match="a frame whose buffer has not come"):
        decoder.decode(body)
    assert decoder.decode(body, buffers).pickle == LONG


EMPTY: dict[str, int] = {}


def tagged(number: int, content: Any) -> bytes:
    return cbor2.dumps(cbor2.CBORTag(number, content))


@pytest.mark.parametrize(
    ("body", "buffers", "sentence"),
    [
        (tagged(SERIALIZED, [[], []]), [], "without header and frames"),
        (tagged(SERIALIZED, [EMPTY, 1]), [], "that is no array"),
        (tagged(SERIALIZED, [EMPTY, ["x"]]), [], "'x' is no frame"),
        (tagged(SERIALIZED, [EMPTY, [True]]), [], "True is no frame"),
        (tagged(SERIALIZED, [EMPTY, [0]]), [b""], "0 is no frame"),
        (tagged(SERIALIZED, [EMPTY, [-1]]), [b"x"], "-1 is no frame"),
        (tagged(SERIALIZED, [EMPTY, [3]]), [b"ab"], "longer than its buffer"),
        (tagged(SERIALIZED, [EMPTY, [1, 2]]), [b"ab", b"c"], "longer than its buffer"),
        (tagged(SERIALIZED, [EMPTY, [1]]), [b"ab"], "1 buffers that the message does not use up"),
        (tagged(SERIALIZED, [EMPTY, []]), [b""], "1 buffers that the message does not use up"),
        (tagged(PICKLED, []), [], "without a pickle"),
        (tagged(PICKLED, b"x"), [], "that is no array"),
        (tagged(ENUM_MEMBER, ["a", "b"]), [], "without its names"),
        (tagged(ENUM_MEMBER, ["a", "b", 1]), [], "without its names"),
        (tagged(55803, []), [], "a tag where none is allowed"),
    ],
)
def test_what_is_no_message_is_refused(body: bytes, buffers: list[Chunk], sentence: str) -> None:
    with pytest.raises(ProtocolError, match=sentence) as error:
        DaskMessageDecoder().decode(body, buffers)
    assert error.value.code is Code.MALFORMED


@given(st.binary(max_size=200), st.lists(st.binary(max_size=8), max_size=3))
@settings(deadline=None)
def test_any_bytes_give_a_message_or_a_protocol_error(body: bytes, buffers: list[bytes]) -> None:
    with suppress(ProtocolError):
        DaskMessageDecoder().decode(body, buffers)
    with suppress(ProtocolError):
        DaskMessageDecoder().decode(b"\xd9\xd9\xf8" + body, buffers)


def test_a_decoder_that_nobody_needs_is_gone() -> None:
    decoder = DaskMessageDecoder()
    decoder.decode(*encode_dask_message([Pickled(b"p")]))
    gone = weakref.ref(decoder)
    del decoder
    assert gone() is None
