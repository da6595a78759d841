"""The published grammar, the published test vectors and the code say the same.

The vectors are for whoever writes a decoder in another language: hexadecimal bytes, and what they
mean in JSON (tests/vectors/wire/README.md). They are written by hand where they are to be refused.
"""

import json
from pathlib import Path
from typing import Any

import cbor2
import msgspec
import pytest
from cddl import Grammar
from hypothesis import given, settings
from hypothesis import strategies as st
from vector_notation import frame_notation, value_notation

from trouper.wire.cbor import CborDecoder
from trouper.wire.codec import MessageDecoder, encode_message
from trouper.wire.errors import Code, ProtocolError
from trouper.wire.frames import FRAMES, Data, Frame, Hello, Piece, frame_of
from trouper.wire.limits import PACKET_NBYTES
from trouper.wire.messages import PeerMessage
from trouper.wire.packets import PacketReader, packet
from trouper.wire.values import SET, ValueDecoder, encode_value

ROOT = Path(__file__).parent.parent
CDDL = (ROOT / "wire" / "protocol.cddl").read_text()
GRAMMAR = Grammar(CDDL)


def vectors(name: str) -> list[Any]:
    path = ROOT / "tests" / "vectors" / "wire" / f"{name}.json"
    return [pytest.param(v, id=v["name"]) for v in json.loads(path.read_text())]


def plain(data: bytes) -> Any:
    """CBOR as the grammar sees it: tags are tags."""
    keep = {SET: lambda content, _immutable: cbor2.CBORTag(SET, content)}  # pyright: ignore
    return cbor2.loads(data, semantic_decoders=keep)  # pyright: ignore


@pytest.mark.parametrize("vector", vectors("packets"))
def test_packet(vector: dict[str, Any]) -> None:
    data = bytes.fromhex(vector["hex"])
    nbytes = int.from_bytes(data[:4], "big")
    head, tail = data[4 : 4 + nbytes], data[4 + nbytes :]
    assert tail.hex() == vector["tail"]
    frames = [frame_of(item) for item in CborDecoder(max_depth=8, max_items=1000).decode(head)]
    assert [frame_notation(frame) for frame in frames] == vector["frames"]
    assert b"".join(packet(frames, [tail])) == data
    assert GRAMMAR.matches("head", plain(head))
    if not isinstance(frames[-1], Piece):
        read = list(PacketReader(1 << 20).read(data))
        assert [item for item in read if isinstance(item, Frame)] == frames


def test_packets_show_every_frame() -> None:
    shown = {frame["frame"] for v in vectors("packets") for frame in v.values[0]["frames"]}
    assert shown == {frame.__name__.lower() for frame in FRAMES}


@pytest.mark.parametrize("vector", vectors("messages"))
def test_message(vector: dict[str, Any]) -> None:
    body = bytes.fromhex(vector["hex"])
    message = MessageDecoder().decode(body, [b""] * vector["buffers"])
    assert json.loads(msgspec.json.encode(message)) == plain(body) == vector["message"]
    assert encode_message(message) == body
    assert GRAMMAR.matches("peer-message", plain(body))


@pytest.mark.parametrize("vector", vectors("values"))
def test_value(vector: dict[str, Any]) -> None:
    body = bytes.fromhex(vector["hex"])
    value = ValueDecoder().decode(body)
    assert value_notation(value) == vector["value"]
    assert encode_value(value) == body
    assert GRAMMAR.matches("value", plain(body))


@pytest.mark.parametrize("vector", vectors("refused"))
def test_refused(vector: dict[str, Any]) -> None:
    data = bytes.fromhex(vector["hex"])
    with pytest.raises(ProtocolError) as error:
        match vector["what"]:
            case "packet":
                list(PacketReader(1 << 20).read(data))
            case "message":
                MessageDecoder().decode(data)
            case "value":
                ValueDecoder().decode(data)
            case other:
                pytest.fail(other)
    assert error.value.code == vector["code"]


def test_grammar_knows_every_code() -> None:
    for code in Code:
        assert GRAMMAR.matches("code", code.value)
    assert not GRAMMAR.matches("code", "whatever")


def fields_of(frame: type[Frame]) -> st.SearchStrategy[list[object]]:
    """Fields that are right, nearly right, or wrong."""
    numbers = st.sampled_from(
        [
            *(-1, 0, 1, 9, 10, 3_600_000, 3_600_001, 86_400_000, 86_400_001),
            *(PACKET_NBYTES, PACKET_NBYTES + 1, (1 << 53) - 1, 1 << 53, 1 << 63),
        ]
    )
    texts = st.sampled_from(["", "x", "trouper", "limit", "goodbye", "x" * 256])
    odd = st.none() | st.booleans() | st.floats() | st.binary(max_size=3)
    shapes = st.lists(numbers | st.lists(numbers, max_size=3), max_size=3)
    any_field = numbers | texts | odd | shapes | st.lists(texts, max_size=33)
    many = len(frame.__struct_fields__)
    return st.lists(any_field, min_size=many, max_size=many)


MORE_FIELDS: list[list[object]] = [[], [], [], [0], [None]]


def right(frame: type[Frame]) -> list[object]:
    """Fields of an example."""
    for vector in vectors("packets"):
        data = bytes.fromhex(vector.values[0]["hex"])
        for item in cbor2.loads(data[4:]):
            if item[0] == FRAMES.index(frame):
                return list(item[1:])
    raise AssertionError(frame)


@given(st.data(), st.sampled_from(FRAMES))
@settings(deadline=None)
def test_code_and_grammar_agree_on_frames(data: st.DataObject, frame: type[Frame]) -> None:
    drawn = data.draw(fields_of(frame))
    kept = data.draw(st.lists(st.booleans(), min_size=len(drawn), max_size=len(drawn)))
    mixed = [r if keep else d for r, d, keep in zip(right(frame), drawn, kept, strict=True)]
    some = mixed[: len(mixed) - data.draw(st.sampled_from([0, 0, 0, 1]))]
    item = [FRAMES.index(frame), *some, *data.draw(st.sampled_from(MORE_FIELDS))]
    head = cbor2.dumps([item])
    try:
        read = CborDecoder(max_depth=8, max_items=1000).decode(head)
        frame_of(read[0])
        taken = True
    except ProtocolError as error:
        if error.code is Code.VERSION:
            return  # a grammar of one version cannot know the others
        taken = False
    assert taken == GRAMMAR.matches("head", plain(head)), item


@pytest.mark.parametrize("frame", [f for f in FRAMES if f not in (Data, Piece)])
def test_every_field_of_a_frame_is_in_the_grammar(frame: type[Frame]) -> None:
    item = [FRAMES.index(frame), *right(frame)]
    assert GRAMMAR.matches("head", [item])
    assert not GRAMMAR.matches("head", [[*item, 0]])
    assert not GRAMMAR.matches("head", [item[:-1]])


def test_grammar_names_the_fields_as_the_code_does() -> None:
    for frame in (*FRAMES, *PeerMessage.__args__):
        for field in frame.__struct_fields__:
            assert f"{field}: " in CDDL, field
    assert Hello.__struct_fields__[0] == "magic"
