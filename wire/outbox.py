"""What is to be sent, what was sent and is not acknowledged, and how it is cut into packets.

Sequence numbers count messages from 1, in one direction of one session, whatever connections it
has; a `Lost` and the `Goodbye` stand in that order too.

Invariants: `_sent`, then `_queued`, are consecutive numbers without a gap. `kept_nbytes` is what
both cost. Of what is not kept for resending, no bytes are left once it is handed over.
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
    """A message, or a frame in its place."""

    sequence: int
    parts: tuple[Chunk, ...]
    resend: bool
    nbytes: int
    kept: int
    frame: Lost | Goodbye | None = None

    @property
    def shape(self) -> Shape:
        return len(self.parts[0]) if len(self.parts) == 1 else tuple(map(len, self.parts))


class Outbox:
    """One direction of a session, on the side that sends."""

    def __init__(self, *, resumable: bool) -> None:
        self.kept_nbytes = 0
        self.last = 0
        """The last sequence number given out."""
        self.acknowledged = 0
        """All up to this one have arrived."""
        self._resumable = resumable
        self._sent: deque[_Entry] = deque()
        self._queued: deque[_Entry] = deque()
        self._rest: deque[memoryview] = deque()
        """What is still to be sent of the first one queued, if it has begun."""

    def put(self, parts: Sequence[Chunk], *, resend: bool, max_message_nbytes: int) -> int:
        """Queue a message; its sequence number. Its bytes may not change until it has arrived.

        Raises:
            NotEncodable: It is longer than the peer takes, has too many buffers, or one whose
                bytes do not lie in one row.
        """
        if len(parts) > PACKET_PARTS:
            raise NotEncodable(
                f"a message has {len(parts) - 1:,} buffers; {PACKET_PARTS - 1:,} are allowed"
            )
        flat = tuple(map(_flat, parts))
        nbytes = sum(map(len, flat))
        entry = _Entry(self.last + 1, flat, resend, nbytes, nbytes + _ENTRY_NBYTES)
        if len(entry.parts[0]) > BODY_NBYTES:
            raise NotEncodable(
                f"the body of a message has {len(entry.parts[0]):,} bytes; {BODY_NBYTES:,} are "
                "allowed. Bulk belongs in buffers"
            )
        if entry.nbytes > max_message_nbytes:
            raise NotEncodable(
                f"a message has {entry.nbytes:,} bytes; the peer takes {max_message_nbytes:,}"
            )
        self._put(entry)
        return entry.sequence

    def put_goodbye(self, code: Code, reason: str) -> None:
        """Queue the end of the session."""
        goodbye = Goodbye(self.last + 1, code, reason)
        self._put(_Entry(goodbye.sequence, (), True, 0, _ENTRY_NBYTES, goodbye))

    def _put(self, entry: _Entry) -> None:
        self._queued.append(entry)
        self.last = entry.sequence
        self.kept_nbytes += entry.kept

    @property
    def waiting(self) -> bool:
        """Whether there is something to send."""
        return bool(self._queued)

    def next_packet(self, frames: list[Frame]) -> list[Chunk]:
        """Add frames to a packet that has some already; the tail that they have."""
        if self._rest:
            tail = self._cut(PACKET_NBYTES)
            frames.append(Piece(sum(map(len, tail))))
            return tail
        while self._queued and self._queued[0].frame and len(frames) < PACKET_FRAMES:
            frames.append(self._queued[0].frame)
            self._hand_over()
        if self._queued and self._queued[0].frame is None and len(frames) < PACKET_FRAMES:
            return self._next_messages(frames)
        return []

    def _next_messages(self, frames: list[Frame]) -> list[Chunk]:
        first = self._queued[0].sequence
        shapes: list[Shape] = []
        tail: list[Chunk] = []
        nbytes = parts = 0
        while self._queued and nbytes < PACKET_NBYTES and len(shapes) < PACKET_MESSAGES:
            entry = self._queued[0]
            parts += len(entry.parts)
            if entry.frame is not None or parts > PACKET_PARTS:
                break
            shapes.append(entry.shape)
            if nbytes + entry.nbytes <= PACKET_NBYTES:
                tail += entry.parts
                nbytes += entry.nbytes
                self._hand_over()
            else:
                self._rest.extend(memoryview(part) for part in entry.parts if part)
                tail += self._cut(PACKET_NBYTES - nbytes)
                nbytes = PACKET_NBYTES
        frames.append(Data(first, tuple(shapes), nbytes))
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
            self._hand_over()
        return tail

    def _hand_over(self) -> None:
        """The first one queued has been given to the connection."""
        entry = self._queued.popleft()
        if not self._resumable:
            self.kept_nbytes -= entry.kept
            return
        if not entry.resend:
            self._forget_bytes(entry)
        self._sent.append(entry)

    def _forget_bytes(self, entry: _Entry) -> None:
        """Keep no more of a message than that it was."""
        entry.parts = ()
        self.kept_nbytes += _ENTRY_NBYTES - entry.kept
        entry.kept = _ENTRY_NBYTES

    def acknowledge(self, received: int) -> None:
        """The peer has all messages up to this one.

        Raises:
            ProtocolError: It cannot have, or it had more before.
        """
        handed_over = self._queued[0].sequence - 1 if self._queued else self.last
        if not self.acknowledged <= received <= handed_over:
            raise ProtocolError(
                Code.SEQUENCE,
                f"the peer says that it has received {received} messages; it had "
                f"{self.acknowledged} before, and {handed_over} were sent",
            )
        self.acknowledged = received
        while self._sent and self._sent[0].sequence <= received:
            self.kept_nbytes -= self._sent.popleft().kept

    def rewind(self, received: int) -> list[int]:
        """A new connection begins, and the peer has all up to `received`: the rest is sent again.

        Returns the numbers of those that cannot be, as they were not kept.

        Raises:
            ProtocolError: See `acknowledge`.
        """
        self.acknowledge(received)
        lost: list[int] = []
        if self._rest:
            self._rest.clear()
            self._give_up_unless_kept(self._queued[0], lost)
        while self._sent:
            entry = self._sent.pop()
            self._give_up_unless_kept(entry, lost)
            self._queued.appendleft(entry)
        return lost[::-1]

    def _give_up_unless_kept(self, entry: _Entry, lost: list[int]) -> None:
        if entry.resend:
            return
        lost.append(entry.sequence)
        self._forget_bytes(entry)
        entry.resend = True
        entry.frame = Lost(entry.sequence)

    def clear(self) -> None:
        """The session has ended: nothing is kept any more."""
        self._sent.clear()
        self._queued.clear()
        self._rest.clear()
        self.kept_nbytes = 0


def _flat(part: Chunk) -> Chunk:
    """The same bytes, of which `len` is the number."""
    if type(part) is bytes:
        return part
    view = memoryview(part)
    if not view.c_contiguous:
        raise NotEncodable(f"a buffer of shape {view.shape} whose bytes do not lie in one row")
    return view.cast("B") if view.nbytes else b""
