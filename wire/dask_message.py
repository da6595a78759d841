"""Dask's messages as messages of a session: a generic value, and what is opaque in it beside it.

A Dask message is plain data with *markers* in it. They are plain here too, and import nothing of
Dask's: `Serialized`, a value that its sender has serialised; `Pickled`, one that every receiver is
to unpickle; `EnumMember`. What a marker holds are *frames*, bytes that nobody looks into on their
way. Short ones stand in the body, where they cost least; long ones are the buffers of the message,
out of band, and are copied by nobody. wire/PROTOCOL.md says how they are told apart.

What arrives is what Dask's own ``tcp://`` delivers: a list as a tuple; a subclass of text, bytes, a
number or a container as its base (a named tuple as a tuple, an `IntEnum` as an int); any buffer as
bytes. Containers are new, and a dict is one that may be written to, also in the header of a
`Serialized`. A frame may be written to.
"""

import pickle
from collections.abc import Callable, Sequence
from typing import Any, cast

import cbor2
import msgspec

from trouper.wire.cbor import Chunk
from trouper.wire.errors import Code, NotEncodable, ProtocolError, TooLong
from trouper.wire.limits import PACKET_PARTS
from trouper.wire.values import ValueDecoder, encode_value

DASK_COMM = "dask-comm/1"
"""The capability of who speaks Dask's messages."""

SERIALIZED, PICKLED, ENUM_MEMBER = 55800, 55801, 55802

INLINE_NBYTES = 2048
"""A shorter frame stands in the body: to copy it costs less than to have a buffer for it."""

BESIDE_NBYTES = 1 << 20
"""So long bytes leave a body that is too long with them."""

BYTES_PICKLE = b"\x80\x05cbuiltins\nbytes\n\x97\x98\x85R."
"""Stands for them there: ``bytes`` of the buffer that is beside it."""

DASK_DEPTH = 256
"""Deepest nesting of a message: the header of a nested list of arrays has two levels for each."""

DASK_ITEMS = 10_000_000
"""Most items of a message: a scheduler may send tens of thousands of tasks at once."""

_MAX_BUFFERS = PACKET_PARTS - 1


class Serialized(msgspec.Struct, eq=False):
    """A value that its sender has serialised: how, and into what. A relay passes it on as it is."""

    header: dict[Any, Any]
    """Of Dask's own making."""
    frames: Sequence[Chunk]


class Pickled(msgspec.Struct, eq=False):
    """A value that every receiver is to unpickle: ``pickle.loads(pickle, buffers=buffers)``."""

    pickle: Chunk
    buffers: Sequence[Chunk] = ()
    """What the pickle has left out of band."""


class EnumMember(msgspec.Struct, frozen=True):
    """A member of an enumeration that is known to both sides."""

    module: str
    cls: str
    name: str


class _Frames(msgspec.Struct, eq=False):
    """Stands for frames until what comes before them has been looked at."""

    frames: Sequence[Chunk]


def _refuse(value: object) -> object:
    kind = type(value).__qualname__
    raise NotEncodable(f"a {kind} cannot be part of a Dask message: {value!r:.200}")


def encode_dask_message(
    message: object, default: Callable[[object], object] = _refuse
) -> tuple[bytes, list[Chunk]]:
    """Body and buffers of the message that says this. The buffers are the frames themselves.

    Args:
        message: Plain data and markers.
        default: Is given what is neither, and gives what is sent in its place.

    Raises:
        NotEncodable: It has something that cannot be sent, or is too large or deep.
    """
    encoder = _Encoder(default)
    try:
        body = encode_value(message, default=encoder.stand_in, max_depth=DASK_DEPTH)
    except TooLong:
        encoder = _Encoder(default)
        beside = _with_bytes_beside(message)
        body = encode_value(beside, default=encoder.stand_in, max_depth=DASK_DEPTH)
    return body, _few(encoder.buffers)


def _with_bytes_beside(value: object) -> object:
    """The same, with long bytes out of band, as a plugin may have that brings a file."""
    if type(value) is bytes and len(value) >= BESIDE_NBYTES:
        return Pickled(BYTES_PICKLE, (value,))
    if type(value) is dict:
        mapping = cast("dict[object, object]", value)
        return {key: _with_bytes_beside(item) for key, item in mapping.items()}
    if type(value) is list or type(value) is tuple:
        return tuple(map(_with_bytes_beside, cast("Sequence[object]", value)))
    return value


class _Encoder:
    """Says what is sent for what is no plain data, and collects the buffers of one message."""

    def __init__(self, default: Callable[[object], object]) -> None:
        self.buffers: list[Chunk] = []
        self._default = default

    def stand_in(self, value: object) -> object:
        match value:
            case Pickled():
                frames = [self._frame(value.pickle), *map(self._frame, value.buffers)]
                return cbor2.CBORTag(PICKLED, frames)
            case Serialized():  # its header may contain markers, whose frames come first
                return cbor2.CBORTag(SERIALIZED, [value.header, _Frames(value.frames)])
            case _Frames():
                return list(map(self._frame, value.frames))
            case EnumMember():
                return cbor2.CBORTag(ENUM_MEMBER, [value.module, value.cls, value.name])
            case frozenset():
                return Pickled(pickle.dumps(value, protocol=5))
            case _:
                return _as_base(value, self._default)

    def _frame(self, frame: Chunk) -> bytes | int:
        """The frame itself, or the length of it if it is beside the body."""
        if type(frame) is bytes:
            if len(frame) < INLINE_NBYTES:
                return frame
            self.buffers.append(frame)
            return len(frame)
        try:
            view = pickle.PickleBuffer(frame).raw()
        except BufferError as error:
            raise NotEncodable("a frame whose bytes do not lie in one row") from error
        if view.nbytes < INLINE_NBYTES:
            return bytes(view)
        self.buffers.append(view)
        return view.nbytes


def _as_base(value: object, default: Callable[[object], object]) -> object:
    """The plain data that a value is, if its class is one of those that plain data has."""
    match value:
        case str():
            return str.__str__(value)
        case int():
            return int.__int__(value)
        case float():
            return float.__float__(value)
        case bytes() | bytearray() | memoryview():
            return bytes(cast("Chunk", value))
        case dict():
            return dict(cast("dict[object, object]", value))
        case list() | tuple():
            return tuple(cast("Sequence[object]", value))
        case set():
            return set(cast("set[object]", value))
        case _:
            return default(value)


def _few(buffers: list[Chunk]) -> list[Chunk]:
    """The same bytes in no more buffers than a message may have."""
    together = -(-len(buffers) // _MAX_BUFFERS)
    if together <= 1:
        return buffers
    return [b"".join(buffers[i : i + together]) for i in range(0, len(buffers), together)]


class DaskMessageDecoder:
    """Reads the Dask messages of one session. Not for two threads at once."""

    def __init__(self) -> None:
        # An object of its own: cbor2's decoder keeps its methods, and what refers to itself through
        # that decoder is never collected.
        self._opener = opener = _Opener()
        tags = {
            SERIALIZED: opener.open_serialized,
            PICKLED: opener.open_pickled,
            ENUM_MEMBER: opener.open_enum_member,
        }
        self._decoder = ValueDecoder(tags, max_items=DASK_ITEMS, max_depth=DASK_DEPTH)

    @property
    def markers(self) -> int:
        """How many the last message had."""
        return self._opener.markers

    def decode(self, body: Chunk, buffers: Sequence[Chunk] = ()) -> Any:
        """What a message says, markers as they are above.

        Raises:
            ProtocolError: It is no message, too large or deep, or its buffers are not those that it
                speaks of.
        """
        opener = self._opener
        opener.begin(buffers)
        try:
            message = self._decoder.decode(body)
            if opener.buffers:
                raise ProtocolError(
                    Code.MALFORMED,
                    f"{len(opener.buffers)} buffers that the message does not use up",
                )
            return message
        finally:
            opener.buffers = []


class _Opener:
    """Makes markers of what stands for them in a body, and of the buffers beside it."""

    def __init__(self) -> None:
        self.markers = 0
        self.buffers: list[Chunk] = []
        """Of the message that is being read, those that were not spoken of, the first last."""
        self._offset = 0
        """Where the next frame begins in the first of them."""

    def begin(self, buffers: Sequence[Chunk]) -> None:
        self.buffers = list(reversed(buffers))
        self._offset = self.markers = 0

    def open_serialized(self, content: object) -> Serialized:
        self.markers += 1
        header, *rest = _array(content) or [None]
        if type(header) is not dict or len(rest) != 1:
            raise ProtocolError(Code.MALFORMED, "a serialized value without header and frames")
        return Serialized(cast("Any", header), tuple(map(self._frame, _array(rest[0]))))

    def open_pickled(self, content: object) -> Pickled | bytes:
        frames = tuple(map(self._frame, _array(content)))
        if not frames:
            raise ProtocolError(Code.MALFORMED, "a pickled value without a pickle")
        if len(frames) == 2 and frames[0] == BYTES_PICKLE:
            return bytes(frames[1])
        self.markers += 1
        return Pickled(frames[0], frames[1:])

    def open_enum_member(self, content: object) -> EnumMember:
        self.markers += 1
        match content:
            case (str() as module, str() as cls, str() as name):
                return EnumMember(module, cls, name)
            case _:
                raise ProtocolError(Code.MALFORMED, "a member of an enumeration without its names")

    def _frame(self, item: object) -> Chunk:
        if type(item) is bytes:
            return bytearray(item)
        if type(item) is not int or item <= 0:
            raise ProtocolError(Code.MALFORMED, f"{item!r:.80} is no frame, nor the length of one")
        if not self.buffers:
            raise ProtocolError(Code.MALFORMED, "a frame whose buffer has not come")
        buffer, begin = self.buffers[-1], self._offset
        end = begin + item
        if end > len(buffer):
            raise ProtocolError(Code.MALFORMED, "a frame that is longer than its buffer")
        self._offset = end
        if end == len(buffer):
            self.buffers.pop()
            self._offset = 0
        return buffer if item == len(buffer) else memoryview(buffer)[begin:end]


def _array(content: object) -> tuple[object, ...]:
    if type(content) is not tuple:
        raise ProtocolError(Code.MALFORMED, "a marker's content that is no array")
    return cast("tuple[object, ...]", content)
