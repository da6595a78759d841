"""The side that dials: it says hello, asks for resumption, and is the one that connects again."""

from trouper.wire.endpoint import Endpoint, check_name
from trouper.wire.errors import Code, ProtocolError
from trouper.wire.events import Established, Peer, Resumed
from trouper.wire.frames import MAGIC, Frame, Hello, Welcome
from trouper.wire.limits import PROTOCOL_VERSIONS
from trouper.wire.session import Session


class DialledSession(Session):
    """A session from the side that dialled.

    Args:
        us: What this side says of itself.
        session_id: Never used twice, and not to be guessed, say 128 random bits.
        token: What entitles to come in; empty for none.
        resumable: Whether the session shall survive the loss of a connection.

    Raises:
        ValueError: The id or the token is too long.
    """

    def __init__(
        self, us: Endpoint, session_id: str, *, token: str = "", resumable: bool = False
    ) -> None:
        check_name(session_id)
        if token:
            check_name(token)
        super().__init__(us, session_id, resumable=resumable)
        self._token = token
        self._patience_s = 0.0
        """How long the listening side may be waiting for us."""

    def connected(self, now: float) -> int:
        """A connection is up: say hello. The link; the one before counts as lost.

        Raises:
            SessionClosed: The session has ended.
        """
        self._refuse_if_ended()
        self._begin_link(now)
        limits = self._limits
        hello = Hello(
            magic=MAGIC,
            versions=PROTOCOL_VERSIONS,
            role=self._us.role,
            name=self._us.name,
            session_id=self.session_id,
            token=self._token,
            capabilities=self._us.capabilities,
            required=self._us.required,
            resumable=self.resumable,
            heartbeat_interval_ms=round(limits.heartbeat_interval_s * 1000),
            max_message_nbytes=limits.max_message_nbytes,
            attempt=self.link,
            received=None if self.peer is None else self.received,
        )
        self._first = [hello]
        return self.link

    def _take_handshake(self, frame: Frame, now: float) -> None:
        if not isinstance(frame, Welcome):
            name = type(frame).__name__.lower()
            raise ProtocolError(
                Code.UNEXPECTED, f"frame {name!r} came, where a welcome was expected"
            )
        peer = Peer(frame.role, frame.name, frame.version, frame.capabilities)
        self._check(peer)
        self._open_link(frame.heartbeat_interval_ms, frame.received, now)
        self._outbox.max_message_nbytes = frame.max_message_nbytes
        self._patience_s = self._limits.silence_s + frame.resume_after_silence_ms / 1000
        if self.peer is None:
            self.peer = peer
            self._events.append(Established(self.link, peer))
        else:
            self._events.append(Resumed(self.link))

    def _check(self, peer: Peer) -> None:
        if peer.version not in PROTOCOL_VERSIONS:
            raise ProtocolError(
                Code.VERSION, f"version {peer.version} was chosen, which was not offered"
            )
        lacking = sorted(set(self._us.required) - set(peer.capabilities))
        if lacking:
            raise ProtocolError(
                Code.CAPABILITY, f"{peer.role} {peer.name!r} cannot do what is required: {lacking}"
            )
        if self.peer not in (None, peer):
            raise ProtocolError(
                Code.UNKNOWN_SESSION, f"{peer.role} {peer.name!r} is not who was here before"
            )

    def _window_s(self, code: Code) -> float:
        return self._patience_s
