"""A session: messages in both directions, exactly once and in order, above successive connections.

Sans-IO, in the manner of h11 and wsproto: bytes and the time go in, events and bytes come out. No
socket, no clock, no chance; a *shell* owns those::

    link = session.connected(now)                    a connection is up (the dialling side)
    events = session.receive_data(link, data, now)   whatever has arrived, cut anywhere
    chunks = session.data_to_send(link, now)         one packet; again until it is empty
    events = session.connection_lost(link, reason, now)
    events = session.handle_timeout(now)             at `next_deadline()`, which any call may move

Bulk need not be copied: where it belongs is known before it comes, see `get_buffer`.

`send` queues a message, `close` ends the session in an orderly way. Each connection of a session is
a *link*, counted from 1; what a shell says for an older link than the present one is ignored.

The state is three independent facts: whether there is a link, whether the handshake on it is done
(*open*), and whether the session has ended. `trouper.wire.dialling` and `trouper.wire.reception`
add what differs between the two sides: the handshake, and how long a lost link is waited for.

Invariants: an ended session keeps nothing, and gives no event after `Ended`. `received` counts
messages delivered as events, so what is acknowledged was delivered.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

from trouper.wire.assembly import Arrived
from trouper.wire.cbor import Chunk
from trouper.wire.endpoint import Endpoint
from trouper.wire.errors import Code, NotWritable, ProtocolError, SessionClosed, cut_reason
from trouper.wire.events import (
    Ended,
    IncomingLost,
    LinkLost,
    OutgoingLost,
    Peer,
    SessionEvent,
)
from trouper.wire.frames import Abort, Alive, Data, Frame, Goodbye, Lost, Piece
from trouper.wire.liveness import Liveness
from trouper.wire.outbox import Outbox
from trouper.wire.packets import PacketItem, PacketReader, packet, small_packet


class Session(ABC):
    """What both sides have in common."""

    def __init__(self, us: Endpoint, session_id: str, *, resumable: bool) -> None:
        self.session_id = session_id
        self.resumable = resumable
        self.link = 0
        """The present connection, or the last one."""
        self.linked = False
        """Whether it is up."""
        self.peer: Peer | None = None
        """Known since the session was open for the first time."""
        self.ended: Ended | None = None
        self.received = 0
        """How many messages of the peer's have been delivered, lost ones included."""
        self.received_nbytes = 0
        """How long those that have come are together."""
        self._us = us
        self._limits = us.limits
        self._open = False
        self._outbox = Outbox(resumable=resumable, max_message_nbytes=us.limits.max_message_nbytes)
        self._room_nbytes = 0
        """How much it may keep for `send` to take more; nothing before the session is open for the
        first time, and when it ends."""
        self._reader = PacketReader(us.limits.max_message_nbytes)
        self._liveness = Liveness(us.limits, 0.0)
        self._first: list[Frame] = []
        """To be sent before anything else: of the handshake, or the last words."""
        self._handshake_until: float | None = None
        self._resume_until: float | None = None
        """When the session must be open again, since it lost a link."""
        self._goodbye_until: float | None = None
        self._events: list[SessionEvent] = []

    # what an application says

    @property
    def writable(self) -> bool:
        """Whether `send` takes another message. May change with every call; to be looked at."""
        return self._outbox.kept_nbytes < self._room_nbytes

    def send(self, body: Chunk, buffers: Sequence[Chunk] = (), *, resend: bool = True) -> int:
        """Queue a message: its body, and buffers that travel beside it; its sequence number.

        Nothing is copied: bytes that are given away may not change until they have arrived.

        Args:
            body: What the message says, encoded.
            buffers: Bulk, raw, in an order that the body explains.
            resend: Whether it is kept until it is acknowledged. A message that is not kept, and cut
                by the loss of the connection, is reported as lost on both sides.

        Raises:
            NotEncodable: It is longer than the peer takes, or has too many buffers.
            NotWritable: The resend buffer is full, or the session was never open: see `writable`.
            SessionClosed: The session has ended, or is about to.
        """
        if self._outbox.kept_nbytes >= self._room_nbytes:
            raise self._why_not_writable()
        return self._outbox.put(body, buffers, resend=resend)

    def close(self, reason: str, now: float) -> list[SessionEvent]:
        """End the session after what was sent before has arrived. `Ended` follows, some time."""
        if self.ended or self._goodbye_until is not None:
            return []
        if self.peer is None:
            self._abort(Code.GOODBYE, reason)
        else:
            self._room_nbytes = 0
            self._goodbye_until = now + self._limits.goodbye_s
            self._outbox.put_goodbye(Code.GOODBYE, cut_reason(reason))
        return self._take_events()

    def abandon(self, reason: str, code: Code = Code.ABANDONED) -> list[SessionEvent]:
        """End the session at once, whatever is under way; the peer is told, if it can be."""
        if self.ended is None:
            self._abort(code, reason)
        return self._take_events()

    @property
    def all_sent(self) -> bool:
        """Whether all messages have been given to a connection, as far as it is known."""
        return not self._outbox.waiting

    # what a shell says

    def receive_data(self, link: int, data: Chunk | str, now: float) -> list[SessionEvent]:
        """Bytes have arrived on a connection; a text frame is given as text, and is an error.

        Any number of bytes will do, and any of them say that the peer is alive. What is needed of
        them is copied, so a shell may read into one buffer again and again.
        """
        if link != self.link or not self.linked:
            return []
        self._liveness.heard(now)
        return self._take_all(self._reader.read(data), now)

    def get_buffer(self, link: int) -> memoryview | None:
        """Where the next bytes on a connection may be put rather than given to `receive_data`.

        None unless they are many, and of a buffer that is on its way: so they need not be copied.
        To be released before the session is told anything else.
        """
        return self._reader.buffer() if link == self.link and self.linked else None

    def buffer_updated(self, link: int, nbytes: int, now: float) -> list[SessionEvent]:
        """So many bytes have arrived, and been put into what `get_buffer` gave."""
        if link != self.link or not self.linked:
            return []
        self._liveness.heard(now)
        return self._take_all(self._reader.filled(nbytes), now)

    def data_to_send(self, link: int, now: float) -> list[Chunk]:
        """The next packet for a connection, to be written chunk by chunk; empty if there is none.

        Of an ended session, last words. What says that we are alive goes before any data.
        """
        if link != self.link:
            return []
        frames, self._first = self._first, []
        tail: list[Chunk] = []
        if self._open and self.linked:
            received = self._to_acknowledge()
            if not frames and (body := self._outbox.next_body()) is not None:
                self._liveness.sent(now)
                return small_packet(received, self._outbox.last, body)
            if received is not None:
                frames.append(Alive(received))
            tail = self._outbox.next_packet(frames)
        if not frames:
            return []
        self._liveness.sent(now)
        return packet(frames, tail)

    def _to_acknowledge(self) -> int | None:
        """What the next packet says to have arrived, if it says so."""
        liveness = self._liveness
        if not (
            liveness.alive_due or (self.resumable and liveness.owes_ack and self._outbox.waiting)
        ):
            return None
        liveness.acknowledged()
        return self.received

    @property
    def waiting(self) -> bool:
        """Whether `data_to_send` has something for the present connection."""
        if self._first:
            return True
        return self._open and (self._outbox.waiting or self._liveness.alive_due)

    def connection_lost(self, link: int, reason: str, now: float) -> list[SessionEvent]:
        """A connection was closed or reset, or could not be made."""
        if link == self.link and self.linked:
            self._lose_link(Code.DISCONNECTED, reason, now)
        return self._take_events()

    def next_deadline(self) -> float | None:
        """When `handle_timeout` is to be called, if nothing else happens before."""
        if self._open and self._goodbye_until is None:  # most of its life
            return self._liveness.deadline
        if self.ended:
            return None
        liveness = self._liveness.deadline if self._open else None
        deadlines = (self._handshake_until, self._resume_until, self._goodbye_until, liveness)
        return min((at for at in deadlines if at is not None), default=None)

    def handle_timeout(self, now: float) -> list[SessionEvent]:
        """Time has passed. Too early does no harm."""
        if self.ended:
            return []
        if _passed(self._goodbye_until, now):
            self._abort(Code.TIMEOUT, "goodbye was not acknowledged in time")
        elif _passed(self._resume_until, now):
            self._abort(Code.TIMEOUT, "the connection was lost, and none came in its place in time")
        elif _passed(self._handshake_until, now):
            self._lose_link(Code.TIMEOUT, "the handshake was not answered in time", now)
        elif self._open:
            silence_s = self._liveness.check(now)
            if silence_s is not None:
                self._lose_link(Code.TIMEOUT, f"nothing was heard for {silence_s:.3g} s", now)
        return self._take_events()

    # what differs between the two sides

    @abstractmethod
    def _take_handshake(self, frame: Frame, now: float) -> None:
        """A frame has arrived on a link that is not open."""

    @abstractmethod
    def _window_s(self, code: Code) -> float:
        """How long to wait for another connection, after one was lost for this reason."""

    # how it goes on inside

    def _refuse_if_ended(self) -> None:
        if self.ended:
            raise SessionClosed(f"the session has ended ({self.ended.code}): {self.ended.reason}")

    def _why_not_writable(self) -> SessionClosed | NotWritable:
        self._refuse_if_ended()
        if self._goodbye_until is not None:
            return SessionClosed("the session is closing: goodbye has been said")
        if self.peer is None:
            return NotWritable("the session is not open yet")
        return NotWritable(
            f"{self._outbox.kept_nbytes:,} bytes wait to be sent or acknowledged; "
            f"{self._limits.resend_nbytes:,} are kept"
        )

    def _begin_link(self, now: float) -> None:
        self.link += 1
        self.linked = True
        self._open = False
        self._first = []
        self._reader = PacketReader(self._limits.max_message_nbytes)
        self._liveness = Liveness(self._limits, now)
        self._handshake_until = now + self._limits.handshake_s

    def _open_link(self, peer_interval_ms: int, peer_received: int, now: float) -> None:
        """The handshake is done: go on where the peer stands.

        Raises:
            ProtocolError: It stands where it cannot.
        """
        for sequence in self._outbox.rewind(peer_received):
            self._events.append(OutgoingLost(sequence))
        if self.peer is None:
            self._room_nbytes = self._limits.resend_nbytes
        self._reader.trusted = True
        self._liveness.agree(peer_interval_ms / 1000)
        self._liveness.check(now)  # a handshake may take longer than an interval
        self._open = True
        self._handshake_until = self._resume_until = None

    def _take_all(self, items: Iterator[PacketItem], now: float) -> list[SessionEvent]:
        before, before_nbytes = self.received, self.received_nbytes
        try:
            for item in items:
                if isinstance(item, Arrived):
                    self.received += len(item.messages)
                    self.received_nbytes += item.nbytes
                    self._events += item.messages
                else:
                    self._take(item, now)
                    if not self.linked:
                        break
        except ProtocolError as error:
            self._abort(error.code, error.reason)
        if self.resumable and self.received > before:
            nbytes = self.received_nbytes - before_nbytes
            self._liveness.received(nbytes, now, messages=self.received - before)
        return self._take_events()

    def _take(self, frame: Frame, now: float) -> None:
        if not self._open and type(frame) is not Abort:
            self._take_handshake(frame, now)
        elif type(frame) is Data:
            self._expect(frame.first)
        elif type(frame) is Alive:
            self._acknowledge(frame.received)
        elif isinstance(frame, Lost):
            self._expect(frame.sequence)
            self.received += 1
            self._events.append(IncomingLost(frame.sequence))
        elif isinstance(frame, Goodbye):
            self._expect(frame.sequence)
            self.received += 1
            self._first.append(Alive(self.received))
            self._end(frame.code, frame.reason, by_peer=True)
        elif isinstance(frame, Abort):
            self._take_abort(frame, now)
        elif not isinstance(frame, Piece):
            name = type(frame).__name__.lower()
            raise ProtocolError(Code.UNEXPECTED, f"frame {name!r} came in an open session")

    def _take_abort(self, abort: Abort, now: float) -> None:
        """The end; unless an older connection came after this one, where a newer one will do."""
        if abort.code is Code.STALE_RESUME:
            self._lose_link(abort.code, abort.reason, now)
        else:
            self._end(abort.code, abort.reason, by_peer=True)

    def _expect(self, sequence: int) -> None:
        if sequence != self.received + 1:
            raise ProtocolError(
                Code.SEQUENCE, f"message {sequence} came, where {self.received + 1} was expected"
            )

    def _acknowledge(self, received: int) -> None:
        self._outbox.acknowledge(received)
        if self._goodbye_until is not None and received == self._outbox.last:
            self._end(Code.GOODBYE, "goodbye was said and acknowledged")

    def _lose_link(self, code: Code, reason: str, now: float) -> None:
        self.linked = self._open = False
        self._handshake_until = None
        self._first = []
        if not self.resumable:
            self._end(code, reason)
            return
        if self._resume_until is None and self.peer is not None:
            self._resume_until = now + self._window_s(code)
        self._events.append(LinkLost(self.link, code, reason, self._resume_until))

    def _abort(self, code: Code, reason: str) -> None:
        """End the session because of what this side has seen, and tell the peer."""
        self._first.append(Abort(code, cut_reason(reason)))
        self._end(code, reason)

    def _end(self, code: Code, reason: str, *, by_peer: bool = False) -> None:
        """The last words, if any, stand in `_first`."""
        goodbyes = 1 if self._goodbye_until is not None else 0
        sent = self._outbox.last - goodbyes
        unconfirmed = max(0, sent - self._outbox.acknowledged)
        self.ended = Ended(code, reason, by_peer, unconfirmed)
        self.linked = self._open = False
        self._room_nbytes = 0
        self._handshake_until = self._resume_until = self._goodbye_until = None
        self._outbox.clear()
        self._events.append(self.ended)

    def _take_events(self) -> list[SessionEvent]:
        events, self._events = self._events, []
        return events


def _passed(deadline: float | None, now: float) -> bool:
    return deadline is not None and now >= deadline
