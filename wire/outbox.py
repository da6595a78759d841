"""What is to be sent, what was sent and is not acknowledged, and how it is cut into packets.

Sequence numbers count messages from 1, in one direction of one session, whatever connections it
has; a `Lost` and the `Goodbye` stand in that order too.

Invariants: the numbers in `_entries` have no gap. They begin after `acknowledged`, or with `_next`
where nothing is resumed, and end with `last`. `kept_nbytes` is what they cost. Of what is not kept
for resending, no bytes are left once it is handed over.
"""

from collections import deque
from collections.abc import Sequence

import msgspec

from trouper.wire.cbor import Chunk
from trouper.wire.errors import Code, NotEncodable, ProtocolError
from trouper.wire.frames import Data, Frame, Goodbye, Lost, Piece, Shape
from trouper.wire.limits import (
    BODY_NBYTES,
    PACKET_FRAMES,
    PACKET_MESSAGES,
    PACKET_NBYTES,
    PACKET_PARTS,
)

_ENTRY_NBYTES = 128
"""What an entry costs beside its bytes, so that empty messages do not come for nothing."""


class _Entry(msgspec.Struct, gc=False):
    """A message with buffers, or one that is not kept for resending, or a frame in its place."""

    parts: tuple[Chunk, ...]
    resend: bool
    frame: Lost | Goodbye | None = None

    def __len__(self) -> int:
        return sum(map(len, self.parts))


class Outbox:
    """One direction of a session, on the side that sends."""

    def __init__(self, *, resumable: bool, max_message_nbytes: int) -> None:
        self.max_message_nbytes = max_message_nbytes
        """The longest that the peer takes."""
        self.kept_nbytes = 0
        self.last = 0
        """The last sequence number given out."""
        self.acknowledged = 0
        """All up to this one have arrived."""
        self._resumable = resumable
        self._entries: dict[int, bytes | _Entry] = {}
        """What is kept, by sequence number. Most messages are a body, which stands for itself."""
        self._next = 1
        """All before this one have been handed over."""
        self._rest: deque[memoryview] = deque()
        """What is still to be sent of the next one, if it has begun."""

    def put(self, body: Chunk, buffers: Sequence[Chunk], *, resend: bool) -> int:
        """Queue a message; its sequence number. Its bytes may not change until it has arrived.

        Raises:
            NotEncodable: It is longer than the peer takes, has too many buffers, or one whose
                bytes do not lie in one row.
        """
        entry: bytes | _Entry
        if type(body) is bytes and resend and not buffers:
            entry = body
        else:
            entry = _Entry(_flat((body, *buffers)), resend)
        nbytes = len(entry)
        if nbytes > BODY_NBYTES or nbytes > self.max_message_nbytes:
            _refuse_if_too_long(entry, self.max_message_nbytes)
        sequence = self.last + 1
        self._entries[sequence] = entry
        self.last = sequence
        self.kept_nbytes += nbytes + _ENTRY_NBYTES
        return sequence

    def put_goodbye(self, code: Code, reason: str) -> None:
        """Queue the end of the session."""
        sequence = self.last + 1
        self._entries[sequence] = _Entry((), True, Goodbye(sequence, code, reason))
        self.last = sequence
        self.kept_nbytes += _ENTRY_NBYTES

    @property
    def waiting(self) -> bool:
        """Whether there is something to send."""
        return self._next <= self.last

    def next_body(self) -> bytes | None:
        """What waits, if that is one message without buffers, and not too long for a packet.

        Its sequence number is `last`. If there is none or something else, see `next_packet`.
        """
        if self._next != self.last or self._rest:
            return None
        body = self._entries[self.last]
        if not isinstance(body, bytes) or len(body) > PACKET_NBYTES:
            return None
        self._hand_over(self.last)
        return body

    def next_packet(self, frames: list[Frame]) -> list[Chunk]:
        """Add frames to a packet that has some already; the tail that they have."""
        if self._rest:
            tail = self._cut(PACKET_NBYTES)
            frames.append(Piece(sum(map(len, tail))))
            return tail
        while self._next <= self.last and len(frames) < PACKET_FRAMES:
            entry = self._entries[self._next]
            if isinstance(entry, bytes) or entry.frame is None:
                return self._next_messages(frames)
            frames.append(entry.frame)
            self._hand_over(self._next)
        return []

    def _next_messages(self, frames: list[Frame]) -> list[Chunk]:
        """As many as go into a packet; the last one may be cut."""
        first, last = self._next, min(self.last, self._next + PACKET_MESSAGES - 1)
        shapes: list[Shape] = []
        tail: list[Chunk] = []
        nbytes = 0
        for entry in map(self._entries.__getitem__, range(first, last + 1)):
            if isinstance(entry, bytes):
                shapes.append(len(entry))
                tail.append(entry)
            elif entry.frame is not None or len(tail) + len(entry.parts) > PACKET_PARTS:
                break
            else:
                shapes.append(_shape_of(entry.parts))
                tail += entry.parts
            nbytes += len(entry)
            if nbytes >= PACKET_NBYTES or len(tail) >= PACKET_PARTS:
                break
        excess = max(0, nbytes - PACKET_NBYTES)
        frames.append(Data(first, tuple(shapes), nbytes - excess))
        last = first + len(shapes) - 1
        if excess:
            self._keep_back(excess, tail)
            last -= 1
        self._hand_over(last)
        return tail

    def _cut(self, room: int) -> list[Chunk]:
        """So many bytes of the message that has begun."""
        tail: list[Chunk] = []
        while self._rest and room:
            chunk = self._rest.popleft()
            if len(chunk) > room:
                self._rest.appendleft(chunk[room:])
                chunk = chunk[:room]
            tail.append(chunk)
            room -= len(chunk)
        if not self._rest:
            self._hand_over(self._next)
        return tail

    def _keep_back(self, excess: int, tail: list[Chunk]) -> None:
        """So many bytes at the end go into the next packets."""
        while excess:
            view = memoryview(tail.pop())
            here = max(0, len(view) - excess)
            if here:
                tail.append(view[:here])
            if view:
                self._rest.appendleft(view[here:])
            excess -= len(view) - here

    def _hand_over(self, last: int) -> None:
        """All up to this one have been given to the connection."""
        sequences = range(self._next, last + 1)
        self._next = last + 1
        if not self._resumable:
            self._drop(sequences)
            return
        for entry in map(self._entries.__getitem__, sequences):
            if not (isinstance(entry, bytes) or entry.resend):
                self._forget_bytes(entry)

    def _drop(self, sequences: range) -> None:
        for sequence in sequences:
            self.kept_nbytes -= len(self._entries.pop(sequence)) + _ENTRY_NBYTES

    def _forget_bytes(self, entry: _Entry) -> None:
        """Keep no more of a message than that it was."""
        self.kept_nbytes -= len(entry)
        entry.parts = ()

    def acknowledge(self, received: int) -> None:
        """The peer has all messages up to this one.

        Raises:
            ProtocolError: It cannot have, or it had more before.
        """
        if not self.acknowledged <= received < self._next:
            raise ProtocolError(
                Code.SEQUENCE,
                f"the peer says that it has received {received} messages; it had "
                f"{self.acknowledged} before, and {self._next - 1} were sent",
            )
        if self._resumable:
            self._drop(range(self.acknowledged + 1, received + 1))
        self.acknowledged = received

    def rewind(self, received: int) -> list[int]:
        """A new connection begins, and the peer has all up to `received`: the rest is sent again.

        Returns the numbers of those that cannot be, as they were not kept.

        Raises:
            ProtocolError: See `acknowledge`.
        """
        self.acknowledge(received)
        begun = self._next if self._rest else self._next - 1
        lost: list[int] = []
        for sequence in range(received + 1, begun + 1):
            entry = self._entries[sequence]
            if not (isinstance(entry, bytes) or entry.resend):
                lost.append(sequence)
                self._forget_bytes(entry)
                entry.resend = True
                entry.frame = Lost(sequence)
        self._rest.clear()
        self._next = received + 1
        return lost

    def clear(self) -> None:
        """The session has ended: nothing is kept any more."""
        self._entries.clear()
        self._rest.clear()
        self._next = self.last + 1
        self.kept_nbytes = 0


def _flat(parts: Sequence[Chunk]) -> tuple[Chunk, ...]:
    """The same bytes, in parts of which `len` is the number.

    Raises:
        NotEncodable: There are too many parts, or one whose bytes do not lie in one row.
    """
    if len(parts) > PACKET_PARTS:
        raise NotEncodable(
            f"a message has {len(parts) - 1:,} buffers; {PACKET_PARTS - 1:,} are allowed"
        )
    return tuple(part if type(part) is bytes else _flat_part(part) for part in parts)


def _flat_part(part: Chunk) -> Chunk:
    view = memoryview(part)
    if not view.c_contiguous:
        raise NotEncodable(f"a buffer of shape {view.shape} whose bytes do not lie in one row")
    return view.cast("B") if view.nbytes else b""


def _shape_of(parts: Sequence[Chunk]) -> Shape:
    return len(parts[0]) if len(parts) == 1 else tuple(map(len, parts))


def _refuse_if_too_long(entry: bytes | _Entry, max_message_nbytes: int) -> None:
    body = entry if isinstance(entry, bytes) else entry.parts[0]
    if len(body) > BODY_NBYTES:
        raise NotEncodable(
            f"the body of a message has {len(body):,} bytes; {BODY_NBYTES:,} are allowed. Bulk "
            "belongs in buffers"
        )
    if len(entry) > max_message_nbytes:
        raise NotEncodable(
            f"a message has {len(entry):,} bytes; the peer takes {max_message_nbytes:,}"
        )
