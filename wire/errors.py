"""What trouper raises at its users: the root of it, and what concerns words, keys and the wire."""

from enum import StrEnum

from trouper.wire.limits import REASON_LENGTH


class TrouperError(Exception):
    """Any error of trouper's own."""


class InvalidKey(TrouperError, TypeError):
    """A key that is not text, a number, bytes, None, or a tuple of such."""


class Code(StrEnum):
    """Why a message, a connection or a session was refused or has ended, for programs."""

    MALFORMED = "malformed"
    """Bytes that are no packet, no frame or no message."""
    UNEXPECTED = "unexpected"
    """A frame that may not come at this point."""
    SEQUENCE = "sequence"
    """Sequence numbers that do not fit what was sent."""
    LIMIT = "limit"
    """More, larger or deeper than is allowed."""
    VERSION = "version"
    """No version of the protocol is spoken by both."""
    UNAUTHORIZED = "unauthorized"
    """No token, or the wrong one."""
    CAPABILITY = "capability"
    """One side cannot do what the other requires."""
    UNKNOWN_SESSION = "unknown-session"
    """The session to be resumed is not, or no longer, known."""
    STALE_RESUME = "stale-resume"
    """A later connection of this session has been seen already."""
    BUSY = "busy"
    """As many sessions as there may be."""
    GOODBYE = "goodbye"
    """An orderly end."""
    TIMEOUT = "timeout"
    """What had to come did not come in time."""
    DISCONNECTED = "disconnected"
    """The connection is lost, and the session does not resume."""
    ABANDONED = "abandoned"
    """This side gave the session up."""


def cut_reason(reason: str) -> str:
    """A reason that fits into a frame, and is text in every language."""
    reason = reason.encode("utf-8", "replace").decode()
    return reason if len(reason) <= REASON_LENGTH else reason[: REASON_LENGTH - 1] + "…"


class ProtocolError(TrouperError):
    """What a peer sent breaks the protocol or a limit: a code for programs, a reason for people."""

    def __init__(self, code: Code, reason: str) -> None:
        self.code = code
        self.reason = cut_reason(reason)
        super().__init__(self.reason)


class SessionClosed(TrouperError):
    """Nothing can be sent in this session any more; the text says since when and why."""


class NotWritable(TrouperError):
    """The resend buffer is full, or the session not open yet: wait until `Session.writable`."""


class NotEncodable(TrouperError, ValueError):
    """A message or value of this side's that cannot be sent; the text says what and why."""


class TooLong(NotEncodable):
    """A body that is too long, where buffers would not be."""


class CannotConnect(TrouperError):
    """No connection could be made, or it was no WebSocket; the text says with whom and why."""


class ConnectionBroken(TrouperError):
    """A connection is over: it was closed or reset, or brought what is no WebSocket."""


class SessionLost(SessionClosed):
    """The session has ended otherwise than by a goodbye of this side."""

    def __init__(self, code: Code, reason: str, unconfirmed: int) -> None:
        self.code = code
        self.reason = reason
        self.unconfirmed = unconfirmed
        """How many messages were sent of which it is not known that they arrived."""
        said = f"; {unconfirmed} messages may not have arrived" if unconfirmed else ""
        super().__init__(f"the session is lost ({code}): {reason}{said}")


class SessionRefused(TrouperError):
    """The other side did not let us in: a code for programs, a reason for people."""

    def __init__(self, code: Code, reason: str) -> None:
        self.code = code
        self.reason = reason
        super().__init__(f"the session was refused ({code}): {reason}")
