"""The side that listens: who may come in, and which session a new connection belongs to.

A `Reception` keeps the sessions of one listening side. Each new connection gets a `Greeting`, which
takes its bytes until it knows: admitted, to a new session or to the one that it resumes, or
refused. Nothing of a session can be reached before.
"""

import hmac
from collections import OrderedDict
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from trouper.wire.cbor import Chunk
from trouper.wire.endpoint import Endpoint
from trouper.wire.errors import Code, ProtocolError
from trouper.wire.events import Ended, Established, Peer, Resumed, SessionEvent
from trouper.wire.frames import Abort, Frame, Hello, Welcome
from trouper.wire.limits import PROTOCOL_VERSIONS
from trouper.wire.packets import PacketReader, packet
from trouper.wire.session import Session


class AcceptedSession(Session):
    """A session from the side that listened. Made by a `Reception`."""

    def __init__(self, us: Endpoint, hello: Hello, when_ended: Callable[[Session], None]) -> None:
        super().__init__(us, hello.session_id, resumable=hello.resumable)
        self._who = (hello.role, hello.name, hello.resumable)
        self._when_ended = when_ended
        self._attempt = 0
        """The last one of the dialler's that was taken."""

    def attach(self, hello: Hello, now: float) -> list[SessionEvent]:
        """A connection has come whose hello is accepted: it is the session's link from now on.

        Raises:
            ProtocolError: The hello does not belong to this session, or no longer.
        """
        self._refuse_unless_resumed_by(hello)
        if self.linked:
            self._lose_link(Code.DISCONNECTED, "the peer has connected again", now)
        self._begin_link(now)
        self._attempt = hello.attempt
        try:
            self._open_link(hello.heartbeat_interval_ms, hello.received or 0, now)
        except ProtocolError as error:
            self._abort(error.code, error.reason)
            return self._take_events()
        self._outbox.max_message_nbytes = hello.max_message_nbytes
        version = max(set(PROTOCOL_VERSIONS).intersection(hello.versions))
        peer = Peer(hello.role, hello.name, version, _shared(self._us, hello))
        self._first = [self._welcome(peer)]
        if self.peer is None:
            self._events.append(Established(self.link, peer))
        else:
            self._events.append(Resumed(self.link))
        self.peer = peer
        return self._take_events()

    def _refuse_unless_resumed_by(self, hello: Hello) -> None:
        if hello.attempt <= self._attempt:
            raise ProtocolError(
                Code.STALE_RESUME,
                f"connection {hello.attempt} of this session came after connection {self._attempt}",
            )
        if self.peer is None:
            return
        who = (hello.role, hello.name, hello.resumable)
        forgotten = hello.received is None and (self.received or self._outbox.acknowledged)
        if forgotten or not self.resumable or who != self._who:
            raise ProtocolError(
                Code.UNKNOWN_SESSION, "a session of this id is there, which this does not resume"
            )

    def _welcome(self, peer: Peer) -> Welcome:
        limits = self._limits
        return Welcome(
            version=peer.version,
            role=self._us.role,
            name=self._us.name,
            capabilities=peer.capabilities,
            heartbeat_interval_ms=round(limits.heartbeat_interval_s * 1000),
            max_message_nbytes=limits.max_message_nbytes,
            resume_after_silence_ms=round(limits.resume_after_silence_s * 1000),
            received=self.received,
        )

    def _take_handshake(self, frame: Frame, now: float) -> None:
        raise AssertionError("a link on this side is open from its beginning")

    def _window_s(self, code: Code) -> float:
        if code is Code.DISCONNECTED:
            return self._limits.resume_after_close_s
        return self._limits.resume_after_silence_s

    def _end(self, code: Code, reason: str, *, by_peer: bool = False) -> None:
        super()._end(code, reason, by_peer=by_peer)
        self._when_ended(self)


class Admitted(NamedTuple):
    """The connection belongs to this session, as this link; what happened to it thereby.

    Among the events may be the loss of an older link, whose connection is to be closed.
    """

    session: AcceptedSession
    link: int
    events: list[SessionEvent]


class Refused(NamedTuple):
    """The connection is refused: write the reply and close it."""

    code: Code
    reason: str
    reply: list[Chunk]


class Reception:
    """The sessions of one listening side, and who is let in.

    Args:
        us: What this side says of itself.
        token: What a hello has to bring; None if whoever can connect may come in.
    """

    def __init__(self, us: Endpoint, *, token: str | None) -> None:
        self._us = us
        self._token = None if token is None else token.encode()
        self._sessions: dict[str, AcceptedSession] = {}
        self._ended: OrderedDict[str, Ended] = OrderedDict()

    @property
    def sessions(self) -> Mapping[str, AcceptedSession]:
        """Those that have not ended, by id."""
        return MappingProxyType(self._sessions)

    def greet(self) -> "Greeting":
        """A connection has come. Its shell gives it `Limits.handshake_s` to say hello."""
        return Greeting(self)

    def admit(self, hello: Hello, now: float) -> Admitted:
        """What a hello leads to.

        Raises:
            ProtocolError: It is refused.
        """
        if self._token is not None and not hmac.compare_digest(hello.token.encode(), self._token):
            said = "the wrong token" if hello.token else "no token"
            raise ProtocolError(Code.UNAUTHORIZED, f"{said} was given")
        _check_capabilities(self._us, hello)
        session = self._sessions.get(hello.session_id)
        if session is None:
            session = self._new_session(hello)
        return Admitted(session, events=session.attach(hello, now), link=session.link)

    def _new_session(self, hello: Hello) -> AcceptedSession:
        ended = self._ended.get(hello.session_id)
        if ended is not None and ended.code is Code.GOODBYE:
            raise ProtocolError(Code.GOODBYE, f"the session has ended: {ended.reason}")
        if ended is not None:
            raise ProtocolError(
                Code.UNKNOWN_SESSION, f"the session has ended ({ended.code}): {ended.reason}"
            )
        if hello.received is not None:
            raise ProtocolError(
                Code.UNKNOWN_SESSION, f"{self._us.role} {self._us.name!r} knows no such session"
            )
        if len(self._sessions) >= self._us.limits.max_sessions:
            raise ProtocolError(
                Code.BUSY, f"{self._us.role} {self._us.name!r} has as many sessions as it may"
            )
        session = AcceptedSession(self._us, hello, self._forget)
        self._sessions[hello.session_id] = session
        return session

    def _forget(self, session: Session) -> None:
        del self._sessions[session.session_id]
        assert session.ended is not None
        self._ended[session.session_id] = session.ended
        while len(self._ended) > self._us.limits.ended_remembered:
            self._ended.popitem(last=False)


class Greeting:
    """A connection of which it is not known yet where it belongs."""

    def __init__(self, reception: Reception) -> None:
        self._reception = reception
        self._reader = PacketReader(max_message_nbytes=0)

    def receive_data(self, data: Chunk | str, now: float) -> Admitted | Refused | None:
        """What has arrived says who it is; None if it has not said enough."""
        try:
            frames = list(self._reader.read(data))
            if not frames:
                return None
            if isinstance(frames[0], Abort):
                return Refused(frames[0].code, frames[0].reason, [])
            if not isinstance(frames[0], Hello):
                name = type(frames[0]).__name__.lower()
                raise ProtocolError(
                    Code.UNEXPECTED, f"frame {name!r} came, where a hello was expected"
                )
            if len(frames) > 1 or not self._reader.idle:
                raise ProtocolError(Code.UNEXPECTED, "more came before the hello was answered")
            return self._reception.admit(frames[0], now)
        except ProtocolError as error:
            abort = Abort(error.code, error.reason)
            return Refused(error.code, error.reason, packet([abort]))


def _shared(us: Endpoint, hello: Hello) -> tuple[str, ...]:
    return tuple(sorted(set(us.capabilities).intersection(hello.capabilities)))


def _check_capabilities(us: Endpoint, hello: Hello) -> None:
    shared = _shared(us, hello)
    for who, required in (
        (f"{us.role} {us.name!r}", us.required),
        (f"{hello.role} {hello.name!r}", hello.required),
    ):
        lacking = sorted(set(required).difference(shared))
        if lacking:
            raise ProtocolError(
                Code.CAPABILITY, f"{who} requires what the other side cannot do: {lacking}"
            )
