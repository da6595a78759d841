"""Packets, from bytes and to bytes: a stream of them in each direction of a connection.

Where the bytes are cut on their way has no meaning. A shell may give a `PacketReader` whatever has
arrived; it is well advised to send each packet as one WebSocket message.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeAlias, cast

import cbor2
import msgspec

from trouper.wire.assembly import Assembler, Parts
from trouper.wire.cbor import CborDecoder, Chunk
from trouper.wire.errors import Code, ProtocolError
from trouper.wire.frames import Data, Frame, Goodbye, Lost, Piece, frame_of
from trouper.wire.limits import HEAD_DEPTH, HEAD_ITEMS, HEAD_NBYTES, HELLO_NBYTES, PACKET_FRAMES

_PREFIX_NBYTES = 4
_JOINED_NBYTES = 1 << 14
"""Chunks up to this length are put together: a copy costs less than a chunk of its own."""


class Incoming(NamedTuple):
    """A message that has arrived whole."""

    sequence: int
    parts: Parts


PacketItem: TypeAlias = Frame | Incoming


def packet(frames: Sequence[Frame], tail: Sequence[Chunk] = ()) -> list[Chunk]:
    """One packet, as chunks to be written one after the other; large ones are not copied."""
    head = cbor2.dumps([msgspec.to_builtins(frame) for frame in frames])
    chunks: list[Chunk] = []
    joined: list[Chunk] = [len(head).to_bytes(_PREFIX_NBYTES, "big"), head]
    for chunk in tail:
        if len(chunk) <= _JOINED_NBYTES:
            joined.append(chunk)
        else:
            chunks += (b"".join(joined), chunk)
            joined = []
    if joined:
        chunks.append(b"".join(joined))
    return chunks


class PacketReader:
    """Reads one connection's packets; a new connection needs a new reader.

    Until `trusted` is set, heads are short, as strangers are given no more memory.
    """

    def __init__(self, max_message_nbytes: int) -> None:
        self.trusted = False
        self._decoder = CborDecoder(max_depth=HEAD_DEPTH, max_items=HEAD_ITEMS)
        self._assembler = Assembler(max_message_nbytes)
        self._sequence = 0
        """Of the next message to be whole."""
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
            if self._tail_nbytes:
                tail = view[: self._tail_nbytes]
                view = view[len(tail) :]
                self._tail_nbytes -= len(tail)
                yield from self._messages(tail)
                continue
            head, view = self._take_head(view)
            if head is None:
                return
            for frame in self._frames(head):
                yield frame
                if isinstance(frame, Data):  # messages without a byte have no tail to come with
                    yield from self._messages(memoryview(b""))

    def _messages(self, tail: memoryview) -> Iterator[Incoming]:
        for parts in self._assembler.fill(tail):
            yield Incoming(self._sequence, parts)
            self._sequence += 1

    def _take_head(self, view: memoryview) -> tuple[Chunk | None, memoryview]:
        """The next head, None if it has not arrived whole; and what follows it."""
        view = self._collect(view, _PREFIX_NBYTES)
        if len(self._head) < _PREFIX_NBYTES:
            return None, view
        nbytes = int.from_bytes(self._head[:_PREFIX_NBYTES], "big")
        limit = HEAD_NBYTES if self.trusted else HELLO_NBYTES
        if nbytes > limit:
            raise ProtocolError(
                Code.LIMIT, f"the head of a packet has {nbytes:,} bytes; {limit:,} are allowed"
            )
        view = self._collect(view, _PREFIX_NBYTES + nbytes)
        if len(self._head) < _PREFIX_NBYTES + nbytes:
            return None, view
        head = self._head[_PREFIX_NBYTES:]
        self._head = bytearray()
        return head, view

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
        for left, item in zip(range(len(frames) - 1, -1, -1), frames, strict=True):
            frame = frame_of(item)
            if isinstance(frame, (Data, Piece)):
                if left:
                    raise ProtocolError(Code.UNEXPECTED, "frames follow one that has a tail")
                self._expect_tail(frame)
            elif isinstance(frame, (Lost, Goodbye)) and self._assembler.busy:
                raise ProtocolError(Code.UNEXPECTED, "a message has begun and not ended")
            yield frame

    def _expect_tail(self, frame: Data | Piece) -> None:
        if isinstance(frame, Piece):
            self._assembler.extend(frame.nbytes)
        elif self._assembler.busy:
            raise ProtocolError(Code.UNEXPECTED, "a message has begun and not ended")
        else:
            self._assembler.begin(frame.shapes, frame.nbytes)
            self._sequence = frame.first
        self._tail_nbytes = frame.nbytes
