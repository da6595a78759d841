"""The frames of a session: what two sides say to each other about messages, not in them.

A packet is ``length of head (4 bytes, big-endian) | head | tail``. The head is one CBOR array of
frames; a frame is an array that begins with its number. Only the last frame, `Data` or `Piece`,
may have a tail: the bytes of messages, raw. wire/protocol.cddl is the grammar, wire/PROTOCOL.md
says who sends what and when.

Frames are strict: an unknown number, a missing or another field, a value out of range is an error.
"""

from typing import Annotated, TypeAlias, cast

import msgspec
from msgspec import Meta

from trouper.wire.errors import Code, ProtocolError
from trouper.wire.limits import (
    CAPABILITIES,
    MAX_INTERVAL_S,
    MAX_SEQUENCE,
    MAX_WINDOW_S,
    NAME_LENGTH,
    PACKET_MESSAGES,
    PACKET_NBYTES,
    PACKET_PARTS,
    PROTOCOL_VERSIONS,
    REASON_LENGTH,
)

MAGIC = "trouper"

Count: TypeAlias = Annotated[int, Meta(ge=0, le=MAX_SEQUENCE)]
SequenceNumber: TypeAlias = Annotated[int, Meta(ge=1, le=MAX_SEQUENCE)]
TailLength: TypeAlias = Annotated[int, Meta(ge=0, le=PACKET_NBYTES)]
Name: TypeAlias = Annotated[str, Meta(min_length=1, max_length=NAME_LENGTH)]
Capabilities: TypeAlias = Annotated[tuple[Name, ...], Meta(max_length=CAPABILITIES)]
Interval: TypeAlias = Annotated[int, Meta(ge=10, le=int(MAX_INTERVAL_S * 1000))]
Window: TypeAlias = Annotated[int, Meta(ge=0, le=int(MAX_WINDOW_S * 1000))]
Reason: TypeAlias = Annotated[str, Meta(max_length=REASON_LENGTH)]
Shape: TypeAlias = Count | Annotated[tuple[Count, ...], Meta(min_length=2, max_length=PACKET_PARTS)]
"""Lengths of a message's parts: of the body alone, or of the body and each buffer."""


class Frame(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """What a head consists of."""


class Hello(Frame, frozen=True, gc=False, tag=0):
    """The first frame of a connection, from the side that dialled.

    The first three fields (number, magic, versions) are the same in every version.
    """

    magic: str
    versions: Annotated[tuple[Count, ...], Meta(min_length=1, max_length=16)]
    role: Name
    """What the dialler is, say ``worker``."""
    name: Name
    session_id: Name
    """Chosen by the dialler, never used twice, not to be guessed."""
    token: Annotated[str, Meta(max_length=NAME_LENGTH)]
    """What entitles it to come in; empty for none."""
    capabilities: Capabilities
    required: Capabilities
    """Those of its capabilities without which it does not want the session."""
    resumable: bool
    """Whether it will come back when the connection is lost."""
    heartbeat_interval_ms: Interval
    """How often it sends something."""
    max_message_nbytes: SequenceNumber
    attempt: SequenceNumber
    """Counts the connections of this session, beginning with 1."""
    received: Count | None
    """How many messages it has received; null if no welcome has reached it yet."""


class Welcome(Frame, frozen=True, gc=False, tag=1):
    """The answer to a hello that is accepted: the session is open."""

    version: Count
    role: Name
    name: Name
    capabilities: Capabilities
    """What both can do."""
    heartbeat_interval_ms: Interval
    max_message_nbytes: SequenceNumber
    resume_after_silence_ms: Window
    """How long the listener waits for another connection, at most."""
    """How long the listener waits for another connection, at most."""
    received: Count


class Abort(Frame, frozen=True, gc=False, tag=2):
    """The session is refused, or over at once, and why. The connection is closed after it."""

    code: Code
    reason: Reason


class Alive(Frame, frozen=True, gc=False, tag=3):
    """A heartbeat, and a cumulative acknowledgement: all up to `received` has arrived."""

    received: Count


class Data(Frame, frozen=True, gc=False, tag=4):
    """Messages begin, in order; `nbytes` of them follow the head, the rest in pieces."""

    first: SequenceNumber
    """Sequence number of the first one."""
    shapes: Annotated[tuple[Shape, ...], Meta(min_length=1, max_length=PACKET_MESSAGES)]
    nbytes: TailLength


class Piece(Frame, frozen=True, gc=False, tag=5):
    """The next bytes of the message that has begun and not ended."""

    nbytes: TailLength


class Lost(Frame, frozen=True, gc=False, tag=6):
    """In the place of a message that was cut and is not kept for resending."""

    sequence: SequenceNumber


class Goodbye(Frame, frozen=True, gc=False, tag=7):
    """The last thing said in a session, in its place after all messages."""

    sequence: SequenceNumber
    code: Code
    reason: Reason


FRAMES: tuple[type[Frame], ...] = (Hello, Welcome, Abort, Alive, Data, Piece, Lost, Goodbye)
"""By their numbers."""


def frame_of(item: object) -> Frame:
    """The frame that a decoded CBOR array is.

    Raises:
        ProtocolError: It is none, or a hello of versions that are not spoken here.
    """
    fields = cast("tuple[object, ...]", item) if type(item) is tuple else ()
    number = fields[0] if fields else None
    if type(number) is not int or not 0 <= number < len(FRAMES):
        raise ProtocolError(Code.MALFORMED, f"unknown frame {item!r:.80}")
    if FRAMES[number] is Hello:
        _refuse_other_versions(fields)
    try:
        return msgspec.convert(item, FRAMES[number])
    except msgspec.ValidationError as error:
        name = FRAMES[number].__name__.lower()
        raise ProtocolError(Code.MALFORMED, f"bad frame {name!r}: {error}") from error


def _refuse_other_versions(hello: tuple[object, ...]) -> None:
    """Before the rest of a hello is read, so that one from another time gets a clear answer."""
    if len(hello) < 3 or hello[1] != MAGIC or type(hello[2]) is not tuple:
        raise ProtocolError(Code.MALFORMED, "bad frame 'hello': this is not the trouper protocol")
    versions = cast("tuple[object, ...]", hello[2])
    if not any(type(v) is int and v in PROTOCOL_VERSIONS for v in versions):
        raise ProtocolError(
            Code.VERSION,
            f"the peer speaks versions {list(versions[:16])} of the protocol, "
            f"this side {list(PROTOCOL_VERSIONS)}",
        )
