"""Two sessions, a network that does what it likes, and what has to hold all the same.

Time is a number, chance is one seeded source, so every run can be had again. Connections delay
bytes, cut them anywhere, fall silent in one direction or both, and bring what was sent on an old
connection after what was sent on a new one. Somebody repeats hellos that he has seen.
"""

import heapq
from collections import deque
from collections.abc import Callable
from functools import wraps
from itertools import count
from math import inf
from random import Random
from typing import ParamSpec, TypeVar
from unittest.mock import patch

from trouper.wire.cbor import Chunk
from trouper.wire.dialling import DialledSession
from trouper.wire.endpoint import Endpoint
from trouper.wire.errors import Code
from trouper.wire.events import (
    Ended,
    IncomingLost,
    LinkLost,
    MessageReceived,
    OutgoingLost,
    SessionEvent,
)
from trouper.wire.limits import Limits
from trouper.wire.reception import AcceptedSession, Admitted, Greeting, Reception
from trouper.wire.session import Session

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

LIMITS = Limits(
    heartbeat_interval_s=1.0,
    silence_s=4.0,
    handshake_s=3.0,
    resume_after_close_s=6.0,
    resume_after_silence_s=9.0,
    resend_nbytes=20_000,
)
WINDOW_NBYTES = 30_000
"""What a connection takes before its writer has to wait."""


def small_packets(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Messages that go in pieces, and are read to where they belong, need not be large."""

    @wraps(function)
    def patched(*arguments: Arguments.args, **named: Arguments.kwargs) -> Result:
        with (
            patch("trouper.wire.outbox.PACKET_NBYTES", 10_000),
            patch("trouper.wire.assembly._DIRECT_NBYTES", 500),
        ):
            return function(*arguments, **named)

    return patched


HONEST = {Code.GOODBYE, Code.TIMEOUT, Code.UNKNOWN_SESSION, Code.DISCONNECTED}
"""How a session may end between two that keep to the protocol, whatever the network does."""
NOTICE_S = LIMITS.silence_s * 2 + LIMITS.resume_after_silence_s * 2 + LIMITS.goodbye_s
"""How long after the one side at most the other learns that a session has ended."""


class Pipe:
    """One direction of a connection."""

    def __init__(self, network: "Network", receive: Callable[[bytes], None]) -> None:
        self.network = network
        self.receive = receive
        self.hang_up: Callable[[], None] = lambda: None
        self.flying: deque[bytes] = deque()
        self.last_at = 0.0
        self.delay_s = network.rng.choice((0.0, 0.001, 0.02, 0.3))
        self.swallows = False

    @property
    def nbytes(self) -> int:
        return sum(map(len, self.flying))

    def write(self, chunks: list[Chunk]) -> None:
        """In pieces that have nothing to do with the chunks."""
        data = b"".join(chunks)
        rng = self.network.rng
        while data and not self.swallows:
            piece = data if rng.random() < 0.7 else data[: rng.randint(1, len(data))]
            data = data[len(piece) :]
            self.flying.append(piece)
            self._later(self._arrive)

    def close(self) -> None:
        """What has been written arrives, and then the end."""
        if not self.swallows:
            self._later(lambda: self.hang_up())

    def cut(self, *, silently: bool) -> None:
        """Nothing arrives any more but some of what is under way, down to a byte."""
        rng = self.network.rng
        kept: deque[bytes] = deque()
        while self.flying and rng.random() < 0.5:
            kept.append(self.flying.popleft())
        if self.flying and rng.random() < 0.8:
            kept.append(self.flying[0][: rng.randint(0, len(self.flying[0]))])
        self.flying = kept
        self.swallows = True
        if not silently:
            self._later(lambda: self.hang_up())

    def _later(self, action: Callable[[], None]) -> None:
        self.last_at = max(self.last_at, self.network.now + self.delay_s)
        self.network.at(self.last_at, action)

    def _arrive(self) -> None:
        if self.flying:
            self.receive(self.flying.popleft())


class Connection:
    """A connection that the dialler has made, with what each side knows of it."""

    def __init__(self, network: "Network", link: int) -> None:
        self.network = network
        self.dialler_link = link
        self.greeting: Greeting | None = network.reception.greet()
        self.listener_link = 0
        self.said = b""
        """What came before the listener knew who it is."""
        self.up = Pipe(network, self.listener_receives)
        self.down = Pipe(network, self.dialler_receives)
        self.up.hang_up = self.listener_hung_up
        self.down.hang_up = self.dialler_hung_up
        self.dialler_closed = self.listener_closed = False

    def listener_receives(self, data: bytes) -> None:
        network = self.network
        if self.greeting is None and network.accepted:  # late bytes too, of an older connection
            network.happened(
                "listener", read(network.listener, self.listener_link, data, network.now)
            )
            return
        if self.greeting is None or self.listener_closed:
            return
        self.said += data
        answer = self.greeting.receive_data(data, network.now)
        if answer is None:
            return
        self.greeting = None
        network.repeated_hellos.append(self.said)
        if isinstance(answer, Admitted):
            self.listener_link = answer.link
            network.admitted(answer)
        else:
            network.refusals[answer.code] = network.refusals.get(answer.code, 0) + 1
            self.down.write(answer.reply)
            self.close_listener()

    def dialler_receives(self, data: bytes) -> None:
        network = self.network
        network.happened("dialler", read(network.dialler, self.dialler_link, data, network.now))

    def listener_hung_up(self) -> None:
        network = self.network
        if self.greeting is None and not self.listener_closed:
            network.happened(
                "listener", network.listener.connection_lost(self.listener_link, "end", network.now)
            )
        self.close_listener()

    def dialler_hung_up(self) -> None:
        network = self.network
        if not self.dialler_closed:
            network.happened(
                "dialler", network.dialler.connection_lost(self.dialler_link, "end", network.now)
            )
        self.close_dialler()

    def close_listener(self) -> None:
        if not self.listener_closed:
            self.listener_closed = True
            self.down.close()

    def close_dialler(self) -> None:
        if not self.dialler_closed:
            self.dialler_closed = True
            self.up.close()

    def pump(self) -> None:
        """Write what both sides have to say, as far as the connection takes it."""
        network = self.network
        if not self.dialler_closed:
            pump(network.dialler, self.dialler_link, self.up, network.now)
            if not current(network.dialler, self.dialler_link):
                self.close_dialler()
        if not self.listener_closed and self.greeting is None:
            pump(network.listener, self.listener_link, self.down, network.now)
            if not current(network.listener, self.listener_link):
                self.close_listener()

    @property
    def over(self) -> bool:
        return self.dialler_closed and self.listener_closed and not self.up.flying


def current(session: Session, link: int) -> bool:
    return session.linked and session.link == link


def read(session: Session, link: int, data: bytes, now: float) -> list[SessionEvent]:
    """Bytes have arrived: what a buffer waits for is put there, as a shell does with bulk."""
    events: list[SessionEvent] = []
    while data:
        buffer = session.get_buffer(link)
        if buffer is None:
            taken = data[:1000]  # in what comes after that, there may be more of a buffer
            events += session.receive_data(link, taken, now)
        else:
            with buffer:
                taken = data[: len(buffer)]
                buffer[: len(taken)] = taken
            events += session.buffer_updated(link, len(taken), now)
        data = data[len(taken) :]
    return events


def pump(session: Session, link: int, pipe: Pipe, now: float) -> None:
    while pipe.nbytes < WINDOW_NBYTES:
        chunks = session.data_to_send(link, now)
        if not chunks:
            break
        pipe.write(chunks)


class Traffic:
    """What one side has sent, and what of it the other has to see."""

    def __init__(self) -> None:
        self.sent: deque[tuple[int, bytes, bool]] = deque()
        """Number, content and whether it is kept, of what was not seen by the other side."""
        self.lost: set[int] = set()
        """Reported as lost to its sender."""
        self.lost_seen: set[int] = set()
        self.delivered = 0

    def saw(self, event: MessageReceived) -> None:
        number, content, _ = self.sent.popleft()
        assert event.sequence == number, "out of order, doubled, or lost without a word"
        assert b"".join((event.body, *event.buffers)) == content
        self.delivered += 1

    def saw_loss(self, event: IncomingLost) -> None:
        number, _, kept = self.sent.popleft()
        assert event.sequence == number
        assert not kept, "a message that is kept for resending got lost"
        self.lost_seen.add(number)


class Network:
    """One session, from its first hello to its end on both sides."""

    def __init__(self, rng: Random, session_id: str = "s", *, resumable: bool = True) -> None:
        self.rng = rng
        self.now = 0.0
        self.refusals: dict[Code, int] = {}
        self.repeated_hellos: list[bytes] = []
        self.cuts = self.silences = self.resumptions = 0
        self.to_listener = Traffic()
        self.to_dialler = Traffic()
        self.ended: dict[str, tuple[float, Ended]] = {}
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._connections: list[Connection] = []
        self.reception = Reception(
            Endpoint(role="scheduler", name="s", limits=LIMITS), token="secret"
        )
        self.dialler = DialledSession(
            Endpoint(role="worker", name="w", limits=LIMITS),
            session_id,
            token="secret",
            resumable=resumable,
        )
        self._listener: AcceptedSession | None = None
        self.connect()

    @property
    def listener(self) -> AcceptedSession:
        assert self._listener is not None
        return self._listener

    @property
    def accepted(self) -> bool:
        return self._listener is not None

    def at(self, when: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, (when, next(self._order), action))

    def connect(self) -> None:
        """The dialler tries; sometimes nobody is there."""
        if self.dialler.ended or self.dialler.linked:
            return
        if self.rng.random() < 0.2:
            self.at(self.now + self.rng.random() * 2, self.connect)
            return
        self._connections.append(Connection(self, self.dialler.connected(self.now)))

    def admitted(self, answer: Admitted) -> None:
        assert self._listener in (None, answer.session), "a session was started twice"
        self._listener = answer.session
        self.happened("listener", answer.events)

    def happened(self, who: str, events: list[SessionEvent]) -> None:
        incoming, outgoing = self.to_dialler, self.to_listener
        if who == "listener":
            incoming, outgoing = outgoing, incoming
        for event in events:
            assert who not in self.ended, f"{who} was told {event} after the end"
            if isinstance(event, MessageReceived):
                incoming.saw(event)
            elif isinstance(event, IncomingLost):
                incoming.saw_loss(event)
            elif isinstance(event, OutgoingLost):
                assert event.sequence not in outgoing.lost
                outgoing.lost.add(event.sequence)
            elif isinstance(event, Ended):
                self.ended[who] = (self.now, event)
            elif isinstance(event, LinkLost):
                if who == "dialler":
                    self.at(self.now + self.rng.random(), self.connect)
            else:
                self.resumptions += 1

    def say(self, session: Session, traffic: Traffic, number: int) -> bool:
        """Send a message, if the session takes one."""
        if not session.writable:
            return False
        body = b"%d" % number
        buffers: list[bytes] = []
        if self.rng.random() < 0.02:
            size = self.rng.choice((0, 10, 3_000, 70_000))
            buffers = [bytes([number % 256]) * size for _ in range(self.rng.randint(1, 3))]
        kept = self.rng.random() < 0.95
        sequence = session.send(body, buffers, resend=kept)
        traffic.sent.append((sequence, b"".join((body, *buffers)), kept))
        return True

    def fault(self) -> None:
        """Something happens to a connection that is there."""
        alive = [c for c in self._connections if not c.over]
        if not alive:
            return
        connection = self.rng.choice(alive)
        kind = self.rng.random()
        if kind < 0.70:
            self.cuts += 1
            connection.up.cut(silently=self.rng.random() < 0.1)
            connection.down.cut(silently=self.rng.random() < 0.1)
        elif kind < 0.80:
            self.silences += 1
            self.rng.choice((connection.up, connection.down)).cut(silently=True)
        elif kind < 0.95:
            self.rng.choice((connection.up, connection.down)).delay_s = self.rng.random() * 3
        elif self.repeated_hellos:
            ghost = Connection(self, 0)
            ghost.dialler_closed = True
            ghost.up.write([self.rng.choice(self.repeated_hellos)])
            self._connections.append(ghost)

    def pump(self) -> None:
        for connection in self._connections:
            connection.pump()
        self._connections = [c for c in self._connections if not c.over]

    def advance(self, until: float) -> None:
        """Let time pass, and everything happen that is due meanwhile."""
        while True:
            self.pump()
            sessions: list[tuple[str, Session]] = [("dialler", self.dialler)]
            if self._listener is not None:
                sessions.append(("listener", self._listener))
            due = [
                (deadline, who, session)
                for who, session in sessions
                if (deadline := session.next_deadline()) is not None
            ]
            next_at = min([d[0] for d in due] + [a[0] for a in self._agenda[:1]], default=inf)
            if next_at > until:
                self.now = until
                return
            assert next_at >= self.now or not due or self._agenda, "a deadline in the past"
            self.now = max(self.now, next_at)
            if self._agenda and self._agenda[0][0] <= self.now:
                heapq.heappop(self._agenda)[2]()
                continue
            for deadline, who, session in due:
                if deadline <= self.now:
                    self.happened(who, session.handle_timeout(self.now))
                    new = session.next_deadline()
                    assert new is None or new > self.now, "a deadline that does not pass"

    def settle(self) -> None:
        """No more faults: everything arrives; say goodbye, and wait until both know the end."""
        for connection in self._connections:
            connection.up.delay_s = connection.down.delay_s = 0.0
        self.advance(self.now + NOTICE_S)
        if not self.ended and self.accepted:
            assert self.dialler.writable
            assert self.listener.writable
            assert not self.to_listener.sent
            assert not self.to_dialler.sent
        self.happened("dialler", self.dialler.close("done", self.now))
        self.advance(self.now + NOTICE_S)
        self.check()

    def check(self) -> None:
        """Both know the end; and if it was an orderly one, everything has arrived."""
        assert "dialler" in self.ended
        if self._listener is None:
            return
        assert "listener" in self.ended, "one side knows that the session is lost, one does not"
        assert not self.reception.sessions
        assert self.to_listener.lost_seen <= self.to_listener.lost
        assert self.to_dialler.lost_seen <= self.to_dialler.lost
        ends = {end.code for _, end in self.ended.values()}
        assert ends <= HONEST, self.ended
        if ends == {Code.GOODBYE} and self.ended["listener"][1].by_peer:
            assert not self.to_listener.sent, "goodbye, but not everything has arrived"
            assert self.to_listener.lost_seen == self.to_listener.lost
        for who, traffic in (("dialler", self.to_listener), ("listener", self.to_dialler)):
            unconfirmed = self.ended[who][1].unconfirmed
            assert unconfirmed >= len(traffic.sent), "more was lost than its sender was told"
