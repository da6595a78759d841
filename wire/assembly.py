"""Puts the parts of messages together from tails that come in pieces of any size.

Each byte is copied once, into the part it belongs to; or not at all, if a shell reads it to where
it belongs (`Assembler.buffer`). Memory grows with what has arrived, not with what was announced.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from io import BytesIO
from itertools import accumulate, count, repeat
from typing import cast

import msgspec

from trouper.wire.cbor import Chunk
from trouper.wire.errors import Code, ProtocolError
from trouper.wire.events import MessageReceived
from trouper.wire.frames import Shape
from trouper.wire.limits import BODY_NBYTES, PACKET_NBYTES, PACKET_PARTS
from trouper.wire.room import Slabs, grow

_DIRECT_NBYTES = 1 << 14
"""Less than this is not worth a read of its own."""

_ROOM_NBYTES = 1 << 28
"""When a first packet's worth of a part has come, there is room for so much of it at once. To move
it while it grows takes longer than to read it; and room that nothing was put into is no memory."""


class Arrived(msgspec.Struct, frozen=True, gc=False):
    """Messages that are whole, in order, and how long they are together."""

    messages: list[MessageReceived]
    nbytes: int


class Assembler:
    """The messages that have begun and not ended, of which only the first has bytes."""

    def __init__(self, max_message_nbytes: int) -> None:
        self._max_message_nbytes = max_message_nbytes
        self._first = 0
        """Sequence number of the first message of the packet that they began in."""
        self._shapes: Sequence[Shape] = ()
        """Of its messages."""
        self._ends: list[int] = []
        """How long its messages are together, up to each."""
        self._bodies_only = False
        """Whether none of them has buffers, as is so most often."""
        self._whole = 0
        """How many of them are whole."""
        self._parts: list[Chunk] = []
        """Whole parts of the first one that is not."""
        self._partial: bytearray | memoryview = bytearray()
        """The part after these, with room for what comes."""
        self._slabs = Slabs()
        self._filled = 0
        """How much of it has arrived."""

    @property
    def busy(self) -> bool:
        """Whether a message has begun and not ended."""
        return self._whole < len(self._shapes)

    def begin(self, first: int, shapes: Sequence[Shape], nbytes: int) -> None:
        """Messages of these shapes follow, `nbytes` of them in this packet.

        Raises:
            ProtocolError: One is too large, or has too many buffers, or more than the last one
                would be unfinished at the end of the packet.
        """
        bodies_only = tuple not in map(type, shapes)
        if bodies_only:
            totals = bodies = cast("Sequence[int]", shapes)
            parts = len(shapes)
        else:
            lengths = list(map(_lengths, shapes))
            totals, bodies = list(map(sum, lengths)), [each[0] for each in lengths]
            parts = sum(map(len, lengths))
        if max(totals) > self._max_message_nbytes:
            raise ProtocolError(
                Code.LIMIT,
                f"a message of {max(totals):,} bytes; {self._max_message_nbytes:,} are allowed",
            )
        if max(bodies) > BODY_NBYTES:
            raise ProtocolError(
                Code.LIMIT, f"a message whose body is longer than {BODY_NBYTES:,} bytes"
            )
        if parts > PACKET_PARTS:
            raise ProtocolError(Code.LIMIT, f"more than {PACKET_PARTS:,} parts begin in one packet")
        ends = list(accumulate(totals))
        if not ends[-1] - totals[-1] <= nbytes <= ends[-1]:
            raise ProtocolError(
                Code.MALFORMED,
                f"a tail of {nbytes:,} bytes does not fit messages of {ends[-1]:,} bytes",
            )
        self._first, self._shapes, self._bodies_only = first, shapes, bodies_only
        self._ends, self._whole = ends, 0

    def extend(self, nbytes: int) -> None:
        """A piece of the message that has begun follows.

        Raises:
            ProtocolError: None has, or not so much of it is missing.
        """
        if not self.busy:
            raise ProtocolError(Code.UNEXPECTED, "a piece of a message that has not begun")
        arrived = self._whole_nbytes + sum(map(len, self._parts)) + self._filled
        missing = self._ends[-1] - arrived
        if not 0 < nbytes <= missing:
            raise ProtocolError(
                Code.MALFORMED, f"a piece of {nbytes:,} bytes where {missing:,} are missing"
            )

    @property
    def _whole_nbytes(self) -> int:
        return self._ends[self._whole - 1] if self._whole else 0

    def fill(self, data: memoryview) -> Arrived:
        """The messages that are whole with this."""
        before_nbytes = self._whole_nbytes
        messages: list[MessageReceived] = []
        while self._whole < len(self._shapes):
            begin, whole = self._whole_nbytes, self._whole
            if self._bodies_only and not self._partial:
                whole = bisect_right(self._ends, begin + len(data), whole)
            if whole > self._whole:
                nbytes = self._ends[whole - 1] - begin
                messages += self._bodies(data[:nbytes], whole)
                self._whole = whole
            else:
                nbytes = self._fill_first(data)
                if len(self._parts) < len(_lengths(self._shapes[whole])):
                    break
                body, *buffers = self._parts
                messages.append(MessageReceived(self._first + whole, body, tuple(buffers)))
                self._parts = []
                self._slabs.end()
                self._whole += 1
            data = data[nbytes:]
        return Arrived(messages, self._whole_nbytes - before_nbytes)

    def _bodies(self, data: memoryview, whole: int) -> Iterator[MessageReceived]:
        """Messages without buffers, until so many are whole: no loop of ours would be as fast."""
        bodies = map(BytesIO(data).read, cast("Sequence[int]", self._shapes[self._whole : whole]))
        return map(MessageReceived, count(self._first + self._whole), bodies, repeat(()))

    def buffer(self, most_nbytes: int) -> memoryview | None:
        """Where the next bytes belong, at most so many; None if a copy of them costs less.

        To be released before the next call.
        """
        if not self.busy:
            return None
        length = _lengths(self._shapes[self._whole])[len(self._parts)]
        most_nbytes = min(most_nbytes, length - self._filled)
        if most_nbytes < _DIRECT_NBYTES:
            return None
        self._begin_room()
        if isinstance(self._partial, bytearray) and self._filled == len(self._partial):
            room = max(_ROOM_NBYTES, 2 * self._filled) if self._filled else PACKET_NBYTES
            grow(self._partial, min(length, room))
        return memoryview(self._partial)[self._filled :][:most_nbytes]

    def filled(self, nbytes: int) -> Arrived:
        """So much was put there; the messages that are whole with this."""
        self._filled += nbytes
        return self.fill(memoryview(b""))

    def _fill_first(self, data: memoryview) -> int:
        """Parts of the first message are whole with this; how much of it they took."""
        offset, lengths = 0, _lengths(self._shapes[self._whole])
        for index in range(len(self._parts), len(lengths)):
            missing = lengths[index] - self._filled
            arrived = data[offset : offset + missing]
            offset += len(arrived)
            if len(arrived) < missing:
                self._append(arrived)
                break
            self._parts.append(self._whole_part(index, arrived))
        return offset

    def _begin_room(self) -> None:
        """A part begins to come: it may be one of several that come to lie together."""
        index = len(self._parts)
        if index and not self._partial:
            lengths = _lengths(self._shapes[self._whole])
            self._partial = self._slabs.take(lengths, index) or self._partial

    def _append(self, arrived: memoryview) -> None:
        """Where there is room, and beyond."""
        self._begin_room()
        self._partial[self._filled : self._filled + len(arrived)] = arrived
        self._filled += len(arrived)

    def _whole_part(self, index: int, last: memoryview) -> Chunk:
        if self._partial:
            self._append(last)
            whole, self._partial, self._filled = self._partial, bytearray(), 0
            return whole
        return bytearray(last) if index else bytes(last)


def _lengths(shape: Shape) -> tuple[int, ...]:
    """Of body and buffers."""
    return (shape,) if isinstance(shape, int) else shape
