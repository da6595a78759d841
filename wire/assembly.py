"""Puts the parts of messages together from tails that come in pieces of any size.

Each byte is copied once, into the part it belongs to; or not at all, if a shell reads it to where
it belongs (`Assembler.buffer`). Memory grows with what has arrived, not with what was announced.
"""

from collections.abc import Sequence

from trouper.wire.cbor import Chunk
from trouper.wire.errors import Code, ProtocolError
from trouper.wire.frames import Shape
from trouper.wire.limits import BODY_NBYTES, PACKET_NBYTES, PACKET_PARTS
from trouper.wire.room import Slabs, grow

_DIRECT_NBYTES = 1 << 14
"""Less than this is not worth a read of its own."""

_ROOM_NBYTES = 1 << 28
"""When a first packet's worth of a part has come, there is room for so much of it at once. To move
it while it grows takes longer than to read it; and room that nothing was put into is no memory."""

Parts = tuple[Chunk, ...]
"""The body of a message, and its buffers: those can be written to, as arrays are made of them."""


class Assembler:
    """The messages that have begun and not ended, of which only the first has bytes."""

    def __init__(self, max_message_nbytes: int) -> None:
        self._max_message_nbytes = max_message_nbytes
        self._shapes: list[tuple[int, ...]] = []
        """Lengths of the parts of messages that have begun, the first last."""
        self._parts: list[Chunk] = []
        """Whole parts of the first of them."""
        self._partial: bytearray | memoryview = bytearray()
        """The part after these, with room for what comes."""
        self._slabs = Slabs()
        self._filled = 0
        """How much of it has arrived."""

    @property
    def busy(self) -> bool:
        """Whether a message has begun and not ended."""
        return bool(self._shapes)

    def begin(self, shapes: Sequence[Shape], nbytes: int) -> None:
        """Messages of these shapes follow, `nbytes` of them in this packet.

        Raises:
            ProtocolError: One is too large, or has too many buffers, or more than the last one
                would be unfinished at the end of the packet.
        """
        lengths = [(shape,) if isinstance(shape, int) else shape for shape in shapes]
        totals = list(map(sum, lengths))
        if max(totals) > self._max_message_nbytes:
            raise ProtocolError(
                Code.LIMIT,
                f"a message of {max(totals):,} bytes; {self._max_message_nbytes:,} are allowed",
            )
        if max(lengths)[0] > BODY_NBYTES:
            raise ProtocolError(
                Code.LIMIT, f"a message whose body is longer than {BODY_NBYTES:,} bytes"
            )
        if sum(map(len, lengths)) > PACKET_PARTS:
            raise ProtocolError(Code.LIMIT, f"more than {PACKET_PARTS:,} parts begin in one packet")
        whole = sum(totals)
        if not whole - totals[-1] <= nbytes <= whole:
            raise ProtocolError(
                Code.MALFORMED,
                f"a tail of {nbytes:,} bytes does not fit messages of {whole:,} bytes",
            )
        self._shapes = lengths[::-1]

    def extend(self, nbytes: int) -> None:
        """A piece of the message that has begun follows.

        Raises:
            ProtocolError: None has, or not so much of it is missing.
        """
        if not self._shapes:
            raise ProtocolError(Code.UNEXPECTED, "a piece of a message that has not begun")
        missing = sum(self._shapes[-1]) - sum(map(len, self._parts)) - self._filled
        if not 0 < nbytes <= missing:
            raise ProtocolError(
                Code.MALFORMED, f"a piece of {nbytes:,} bytes where {missing:,} are missing"
            )

    def fill(self, data: memoryview) -> list[Parts]:
        """The messages that are whole with this."""
        whole: list[Parts] = []
        offset = 0
        while self._shapes:
            shape = self._shapes[-1]
            end = offset + shape[0]
            if len(shape) == 1 and end <= len(data) and not self._partial:  # most go this way
                whole.append((bytes(data[offset:end]),))
                offset = end
            else:
                offset += self._fill_first(data[offset:])
                if len(self._parts) < len(shape):
                    return whole
                whole.append(tuple(self._parts))
                self._parts = []
                self._slabs.end()
            self._shapes.pop()
        return whole

    def buffer(self, most_nbytes: int) -> memoryview | None:
        """Where the next bytes belong, at most so many; None if a copy of them costs less.

        To be released before the next call.
        """
        if not self._shapes:
            return None
        length = self._shapes[-1][len(self._parts)]
        most_nbytes = min(most_nbytes, length - self._filled)
        if most_nbytes < _DIRECT_NBYTES:
            return None
        self._begin_room()
        if isinstance(self._partial, bytearray) and self._filled == len(self._partial):
            room = max(_ROOM_NBYTES, 2 * self._filled) if self._filled else PACKET_NBYTES
            grow(self._partial, min(length, room))
        return memoryview(self._partial)[self._filled :][:most_nbytes]

    def filled(self, nbytes: int) -> list[Parts]:
        """So much was put there; the messages that are whole with this."""
        self._filled += nbytes
        return self.fill(memoryview(b""))

    def _fill_first(self, data: memoryview) -> int:
        """Parts of the first message are whole with this; how much of it they took."""
        offset, shape = 0, self._shapes[-1]
        for index in range(len(self._parts), len(shape)):
            missing = shape[index] - self._filled
            arrived = data[offset : offset + missing]
            offset += len(arrived)
            if len(arrived) < missing:
                self._append(arrived)
                break
            self._parts.append(self._whole(index, arrived))
        return offset

    def _begin_room(self) -> None:
        """A part begins to come: it may be one of several that come to lie together."""
        index = len(self._parts)
        if index and not self._partial:
            self._partial = self._slabs.take(self._shapes[-1], index) or self._partial

    def _append(self, arrived: memoryview) -> None:
        """Where there is room, and beyond."""
        self._begin_room()
        self._partial[self._filled : self._filled + len(arrived)] = arrived
        self._filled += len(arrived)

    def _whole(self, index: int, last: memoryview) -> Chunk:
        if self._partial:
            self._append(last)
            whole, self._partial, self._filled = self._partial, bytearray(), 0
            return whole
        return bytearray(last) if index else bytes(last)


def nbytes_of(parts: Sequence[Chunk]) -> int:
    """How long parts are together."""
    return sum(map(len, parts))
