"""Packets, from bytes and to bytes: a stream of them in each direction of a connection.

Where the bytes are cut on their way has no meaning. A shell may give a `PacketReader` whatever has
arrived; it is well advised to send each packet as one WebSocket message.
"""

import re
from collections.abc import Iterator, Sequence
from typing import TypeAlias, cast

import cbor2
import msgspec

from trouper.wire.assembly import Arrived, Assembler
from trouper.wire.cbor import SHORT_NUMBERS, CborDecoder, Chunk, begin_array, encode_number
from trouper.wire.errors import Code, ProtocolError
from trouper.wire.events import MessageReceived
from trouper.wire.frames import Alive, Data, Frame, Goodbye, Lost, Piece, Shape, frame_of
from trouper.wire.limits import (
    HEAD_DEPTH,
    HEAD_ITEMS,
    HEAD_NBYTES,
    HELLO_NBYTES,
    PACKET_FRAMES,
    PACKET_NBYTES,
)

_PREFIX_NBYTES = 4
_JOINED_NBYTES = 1 << 14
"""Chunks up to this length are put together: a copy costs less than a chunk of its own."""

_ALIVE, _DATA = b"\x82\x03", b"\x84\x04"
"""How these frames begin: an array of so many fields, and the number of the frame."""

_NUMBER = rb"([\0-\x17]|\x18.|\x19..|\x1a....)"
_SMALL_PACKET = re.compile(
    rb"\0\0\0(.)(?:\x81|\x82\x82\x03%b)\x84\x04%b\x81%b\4" % ((_NUMBER,) * 3), re.DOTALL
)
"""Length and head of a packet that begins one message without buffers, maybe after an `Alive`."""


PacketItem: TypeAlias = Frame | Arrived


def packet(frames: Sequence[Frame], tail: Sequence[Chunk] = ()) -> list[Chunk]:
    """One packet, as chunks to be written one after the other; large ones are not copied."""
    head = b"".join((begin_array(len(frames)), *map(_encoded, frames)))
    prefix = len(head).to_bytes(_PREFIX_NBYTES, "big")
    if max(map(len, tail), default=0) <= _JOINED_NBYTES:
        return [b"".join((prefix, head, *tail))]
    chunks: list[Chunk] = []
    joined: list[Chunk] = [prefix, head]
    for chunk in tail:
        if len(chunk) <= _JOINED_NBYTES:
            joined.append(chunk)
        else:
            chunks += (b"".join(joined), chunk)
            joined = []
    if joined:
        chunks.append(b"".join(joined))
    return chunks


def small_packet(received: int | None, sequence: int, body: bytes) -> list[Chunk]:
    """The same for one message without buffers, maybe after an `Alive`.

    Most packets are so, and somebody may wait for this one: that takes a quarter of the time.
    """
    begun = b"\x81" if received is None else b"\x82" + _ALIVE + encode_number(received)
    nbytes = encode_number(len(body))
    head = b"".join((begun, _DATA, encode_number(sequence), b"\x81", nbytes, nbytes))
    prefix = len(head).to_bytes(_PREFIX_NBYTES, "big")
    if len(body) <= _JOINED_NBYTES:
        return [b"".join((prefix, head, body))]
    return [prefix + head, body]


def _encoded(frame: Frame) -> bytes:
    """Its CBOR. What is said all the time is put together here, in a quarter of the time."""
    if type(frame) is Alive:
        return _ALIVE + encode_number(frame.received)
    if type(frame) is Data:
        shapes = [
            SHORT_NUMBERS[shape] if type(shape) is int and shape < 256 else _encoded_shape(shape)
            for shape in frame.shapes
        ]
        begun = begin_array(len(shapes))
        return b"".join(
            (_DATA, encode_number(frame.first), begun, *shapes, encode_number(frame.nbytes))
        )
    return cbor2.dumps(msgspec.to_builtins(frame))


def _encoded_shape(shape: Shape) -> bytes:
    if isinstance(shape, int):
        return encode_number(shape)
    return b"".join((begin_array(len(shape)), *map(encode_number, shape)))


def _number(encoded: bytes) -> int:
    return encoded[0] if len(encoded) == 1 else int.from_bytes(encoded[1:], "big")


class PacketReader:
    """Reads one connection's packets; a new connection needs a new reader.

    Until `trusted` is set, heads are short, as strangers are given no more memory.
    """

    def __init__(self, max_message_nbytes: int) -> None:
        self.trusted = False
        self._most_small_nbytes = min(max_message_nbytes, PACKET_NBYTES)
        self._decoder = CborDecoder(max_depth=HEAD_DEPTH, max_items=HEAD_ITEMS)
        self._assembler = Assembler(max_message_nbytes)
        self._head = bytearray()
        """What is there of a prefix and head that have not arrived whole."""
        self._tail_nbytes = 0
        """What is still missing of the packet's tail."""

    @property
    def idle(self) -> bool:
        """Whether no packet has begun and not ended."""
        return not (self._head or self._tail_nbytes)

    def read(self, data: Chunk | str) -> Iterator[PacketItem]:
        """Frames, and messages as they get whole, in order. To be exhausted before the next call.

        Raises:
            ProtocolError: This is no packet. The connection is of no more use.
        """
        if isinstance(data, str):
            raise ProtocolError(Code.MALFORMED, "text arrived, where only binary is spoken")
        view = memoryview(data)
        while view:
            if not self._tail_nbytes:
                if small := self._small_packet(view):
                    items, nbytes = small
                    yield from items
                    view = view[nbytes:]
                    continue
                head, view = self._take_head(view)
                if head is None:
                    return
                yield from self._frames(head)
            if self._assembler.busy:  # messages without a byte have no tail to come with
                tail = view[: self._tail_nbytes]
                view = view[len(tail) :]
                self._tail_nbytes -= len(tail)
                arrived = self._assembler.fill(tail)
                if arrived.messages:
                    yield arrived

    def buffer(self) -> memoryview | None:
        """Where the next bytes may be put rather than given to `read`; see `Assembler.buffer`."""
        return self._assembler.buffer(self._tail_nbytes) if self._tail_nbytes else None

    def filled(self, nbytes: int) -> Iterator[PacketItem]:
        """So many bytes have been put there; see `read`."""
        self._tail_nbytes -= nbytes
        arrived = self._assembler.filled(nbytes)
        if arrived.messages:
            yield arrived

    def _small_packet(self, view: memoryview) -> tuple[list[PacketItem], int] | None:
        """What is in a packet that brings one small message, as most do; and how long it is.

        None of any other. Somebody may wait for this one; the way through the decoder and the
        assembler would take four times as long.
        """
        match = None if self._head or self._assembler.busy else _SMALL_PACKET.match(view)
        if match is None:
            return None
        head_nbytes, received, first, nbytes = match.groups()
        sequence, tail_nbytes, begin = _number(first), _number(nbytes), match.end()
        end = begin + tail_nbytes
        if (
            begin != _PREFIX_NBYTES + head_nbytes[0]
            or sequence == 0
            or tail_nbytes > self._most_small_nbytes
            or end > len(view)
        ):
            return None
        message = MessageReceived(sequence, bytes(view[begin:end]), ())
        items: list[PacketItem] = [
            Data(sequence, (tail_nbytes,), tail_nbytes),
            Arrived([message], tail_nbytes),
        ]
        return items if received is None else [Alive(_number(received)), *items], end

    def _take_head(self, view: memoryview) -> tuple[Chunk | None, memoryview]:
        """The next head, None if it has not arrived whole; and what follows it."""
        if self._head or len(view) < _PREFIX_NBYTES:
            return self._take_pieces_of_head(view)
        nbytes = _PREFIX_NBYTES + self._head_nbytes(view)
        if len(view) < nbytes:
            return self._take_pieces_of_head(view)
        return view[_PREFIX_NBYTES:nbytes], view[nbytes:]

    def _take_pieces_of_head(self, view: memoryview) -> tuple[Chunk | None, memoryview]:
        """The same, with what has arrived before."""
        view = self._collect(view, _PREFIX_NBYTES)
        if len(self._head) < _PREFIX_NBYTES:
            return None, view
        nbytes = _PREFIX_NBYTES + self._head_nbytes(self._head)
        view = self._collect(view, nbytes)
        if len(self._head) < nbytes:
            return None, view
        head = self._head[_PREFIX_NBYTES:]
        self._head = bytearray()
        return head, view

    def _head_nbytes(self, prefix: Chunk) -> int:
        nbytes = int.from_bytes(prefix[:_PREFIX_NBYTES], "big")
        limit = HEAD_NBYTES if self.trusted else HELLO_NBYTES
        if nbytes > limit:
            raise ProtocolError(
                Code.LIMIT, f"the head of a packet has {nbytes:,} bytes; {limit:,} are allowed"
            )
        return nbytes

    def _collect(self, view: memoryview, wanted: int) -> memoryview:
        """Fill `_head` up to this length; what is left of the view."""
        missing = max(0, wanted - len(self._head))
        self._head += view[:missing]
        return view[missing:]

    def _frames(self, head: Chunk) -> Iterator[Frame]:
        items: object = self._decoder.decode(head)
        frames = cast("tuple[object, ...]", items) if type(items) is tuple else ()
        if not 1 <= len(frames) <= PACKET_FRAMES:
            raise ProtocolError(
                Code.MALFORMED, f"a head is an array of 1 to {PACKET_FRAMES} frames"
            )
        last = len(frames) - 1
        for index, item in enumerate(frames):
            frame = frame_of(item)
            if type(frame) is Data or type(frame) is Piece:
                if index < last:
                    raise ProtocolError(Code.UNEXPECTED, "frames follow one that has a tail")
                self._expect_tail(frame)
            elif self._assembler.busy and isinstance(frame, (Lost, Goodbye)):
                raise ProtocolError(Code.UNEXPECTED, "a message has begun and not ended")
            yield frame

    def _expect_tail(self, frame: Data | Piece) -> None:
        if isinstance(frame, Piece):
            self._assembler.extend(frame.nbytes)
        elif self._assembler.busy:
            raise ProtocolError(Code.UNEXPECTED, "a message has begun and not ended")
        else:
            self._assembler.begin(frame.first, frame.shapes, frame.nbytes)
        self._tail_nbytes = frame.nbytes
