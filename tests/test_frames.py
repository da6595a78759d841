"""Frames: strict, and a hello from another time gets a clear answer."""

import msgspec
import pytest

from trouper.wire.errors import Code, ProtocolError, cut_reason
from trouper.wire.frames import FRAMES, Abort, Alive, Frame, Hello, frame_of
from trouper.wire.limits import MAX_SEQUENCE, REASON_LENGTH

HELLO = Hello(
    magic="trouper",
    versions=(1,),
    role="worker",
    name="w",
    session_id="s",
    token="",
    capabilities=(),
    required=(),
    resumable=True,
    heartbeat_interval_ms=1000,
    max_message_nbytes=1,
    attempt=1,
    received=None,
)


def with_field(name: str, value: object) -> tuple[object, ...]:
    """A hello that has this in a field."""
    fields = list(msgspec.to_builtins(HELLO))
    fields[1 + HELLO.__struct_fields__.index(name)] = value
    return tuple(fields)


def test_frames_are_numbered_in_order() -> None:
    for number, frame in enumerate(FRAMES):
        assert frame.__struct_config__.tag == number
        assert frame.__doc__


def test_frame_arrives_as_it_was_sent() -> None:
    frames: list[Frame] = [HELLO, Alive(MAX_SEQUENCE), Abort(Code.LIMIT, "too much")]
    for frame in frames:
        assert frame_of(tuple(msgspec.to_builtins(frame))) == frame


@pytest.mark.parametrize("item", [None, 3, "alive", (), {}, (99,), (-1,), ("3", 0), (True, 0)])
def test_what_is_no_frame_is_refused(item: object) -> None:
    with pytest.raises(ProtocolError, match="unknown frame"):
        frame_of(item)


def test_unknown_field_is_refused() -> None:
    with pytest.raises(ProtocolError, match="bad frame 'alive': Expected `array` of at most"):
        frame_of((3, 0, "colour"))


def test_integer_out_of_range_is_refused() -> None:
    for number in (-1, MAX_SEQUENCE + 1, 1 << 70):
        with pytest.raises(ProtocolError, match="bad frame 'alive': Expected `int`"):
            frame_of((3, number))


def test_wrong_type_is_refused() -> None:
    for received in (True, 1.0, "1", None):
        with pytest.raises(ProtocolError, match="bad frame 'alive': Expected `int`, got"):
            frame_of((3, received))


def test_hello_of_another_version_is_told_so_whatever_else_it_says() -> None:
    with pytest.raises(ProtocolError, match=r"speaks versions \[7, 8\].*this side \[1\]") as error:
        frame_of((0, "trouper", (7, 8), {"no": "idea"}))
    assert error.value.code is Code.VERSION


def test_hello_that_speaks_our_version_too_is_taken() -> None:
    assert frame_of(with_field("versions", (7, 1))) == msgspec.structs.replace(
        HELLO, versions=(7, 1)
    )


@pytest.mark.parametrize("item", [(0,), (0, "http", (1,)), (0, "trouper", 1), (0, "trouper")])
def test_hello_of_another_protocol_is_refused(item: object) -> None:
    with pytest.raises(ProtocolError, match="this is not the trouper protocol") as error:
        frame_of(item)
    assert error.value.code is Code.MALFORMED


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("role", ""),
        ("name", "x" * 257),
        ("name", b"w"),
        ("token", "x" * 257),
        ("capabilities", ("x",) * 33),
        ("resumable", 1),
        ("heartbeat_interval_ms", 9),
        ("heartbeat_interval_ms", 3_600_001),
        ("max_message_nbytes", 0),
        ("attempt", 0),
        ("received", -1),
    ],
)
def test_hello_with_a_bad_field_is_refused(name: str, value: object) -> None:
    with pytest.raises(ProtocolError, match="bad frame 'hello'"):
        frame_of(with_field(name, value))


def test_reason_is_cut_so_that_it_fits() -> None:
    assert cut_reason("short") == "short"
    assert len(cut_reason("x" * 1000)) == REASON_LENGTH
    assert cut_reason("half \ud800 a pair") == "half ? a pair"


def test_error_is_never_longer_than_a_reason() -> None:
    """What is wrong may quote what the peer sent, and that may be long."""
    error = ProtocolError(Code.MALFORMED, "x" * 100_000)
    assert len(str(error)) == len(error.reason) == REASON_LENGTH
