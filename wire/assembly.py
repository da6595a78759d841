"""Puts the parts of messages together from tails that come in pieces of any size.

Each byte is copied once, into the part it belongs to. Memory grows with what has arrived, not with
what was announced.
"""

from collections.abc import Iterator, Sequence

from trouper.wire.cbor import Chunk
from trouper.wire.errors import Code, ProtocolError
from trouper.wire.frames import Shape
from trouper.wire.limits import BODY_NBYTES, PACKET_PARTS

Parts = tuple[bytes | bytearray, ...]
"""The body of a message, and its buffers: those are bytearrays, so that arrays made of them can be
written to."""


class Assembler:
    """The messages that have begun and not ended, of which only the first has bytes."""

    def __init__(self, max_message_nbytes: int) -> None:
        self._max_message_nbytes = max_message_nbytes
        self._shapes: list[tuple[int, ...]] = []
        """Lengths of the parts of messages that have begun, the first last."""
        self._parts: list[bytes | bytearray] = []
        """Whole parts of the first of them."""
        self._partial = bytearray()
        """What is there of the part after these."""

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
        totals = [sum(parts) for parts in lengths]
        if max(totals) > self._max_message_nbytes:
            raise ProtocolError(
                Code.LIMIT,
                f"a message of {max(totals):,} bytes; {self._max_message_nbytes:,} are allowed",
            )
        if max(parts[0] for parts in lengths) > BODY_NBYTES:
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
        done = sum(map(len, self._parts)) + len(self._partial)
        missing = sum(self._shapes[-1]) - done
        if not 0 < nbytes <= missing:
            raise ProtocolError(
                Code.MALFORMED, f"a piece of {nbytes:,} bytes where {missing:,} are missing"
            )

    def fill(self, data: memoryview) -> Iterator[Parts]:
        """The messages that are whole with this."""
        offset = 0
        while self._shapes:
            shape = self._shapes[-1]
            index = len(self._parts)
            while index < len(shape):
                missing = shape[index] - len(self._partial)
                arrived = data[offset : offset + missing]
                offset += len(arrived)
                if len(arrived) < missing:
                    self._partial += arrived
                    return
                self._parts.append(self._whole(index, arrived))
                index += 1
            parts = tuple(self._parts)
            self._shapes.pop()
            self._parts = []
            yield parts

    def _whole(self, index: int, last: memoryview) -> bytes | bytearray:
        if self._partial:
            whole = self._partial
            whole += last
            self._partial = bytearray()
            return whole
        return bytearray(last) if index else bytes(last)


def nbytes_of(parts: Sequence[Chunk]) -> int:
    """How long parts are together."""
    return sum(map(len, parts))
