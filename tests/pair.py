"""Two sessions and a connection between them that does as it is told."""

from trouper.wire.dialling import DialledSession
from trouper.wire.endpoint import Endpoint
from trouper.wire.events import Ended, MessageReceived, SessionEvent
from trouper.wire.limits import Limits
from trouper.wire.reception import AcceptedSession, Admitted, Reception, Refused
from trouper.wire.session import Session

LIMITS = Limits(
    heartbeat_interval_s=1.0,
    silence_s=4.0,
    handshake_s=3.0,
    resume_after_close_s=6.0,
    resume_after_silence_s=9.0,
    goodbye_s=5.0,
    ack_delay_s=0.05,
    resend_nbytes=10_000,
)


def endpoint(role: str, limits: Limits = LIMITS, **fields: tuple[str, ...]) -> Endpoint:
    return Endpoint(role=role, name=f"{role}-1", limits=limits, **fields)


def packet_of(session: Session, now: float) -> bytes:
    """What a session has to say in one packet."""
    return b"".join(session.data_to_send(session.link, now))


def all_of(session: Session, now: float) -> bytes:
    """What a session has to say."""
    said = b""
    while data := packet_of(session, now):
        said += data
    return said


def greet(reception: Reception, data: bytes | str, now: float = 0.0) -> Admitted | Refused | None:
    """What a new connection is told that brings this."""
    return reception.greet().receive_data(data, now)


class Pair:
    """A dialled and an accepted session, and what both have been told."""

    def __init__(self, *, resumable: bool = True, limits: Limits = LIMITS) -> None:
        self.reception = Reception(endpoint("scheduler", limits), token="secret")
        self.dialled = DialledSession(
            endpoint("worker", limits), "id-1", token="secret", resumable=resumable
        )
        self.dialled_events: list[SessionEvent] = []
        self.accepted_events: list[SessionEvent] = []
        self.accepted: AcceptedSession = self.connect(0.0)

    def connect(self, now: float) -> AcceptedSession:
        """A new connection, and the handshake on it."""
        link = self.dialled.connected(now)
        answer = greet(self.reception, packet_of(self.dialled, now), now)
        assert isinstance(answer, Admitted), answer
        self.accepted_events += answer.events
        welcome = packet_of(answer.session, now)
        self.dialled_events += self.dialled.receive_data(link, welcome, now)
        return answer.session

    def up(self, now: float) -> int:
        """What the dialled session has to say arrives; how many bytes it was."""
        data = all_of(self.dialled, now)
        self.accepted_events += self.accepted.receive_data(self.accepted.link, data, now)
        return len(data)

    def down(self, now: float) -> int:
        """What the accepted session has to say arrives; how many bytes it was."""
        data = all_of(self.accepted, now)
        self.dialled_events += self.dialled.receive_data(self.dialled.link, data, now)
        return len(data)

    def exchange(self, now: float) -> None:
        """Until neither has anything to say."""
        while self.up(now) + self.down(now):
            pass

    def cut(self, now: float) -> None:
        """The connection is closed, and what was under way is lost."""
        for session in (self.dialled, self.accepted):
            all_of(session, now)
        self.dialled_events += self.dialled.connection_lost(self.dialled.link, "reset", now)
        self.accepted_events += self.accepted.connection_lost(self.accepted.link, "reset", now)

    def pass_time(self, now: float) -> None:
        """Both look at the clock."""
        self.dialled_events += self.dialled.handle_timeout(now)
        self.accepted_events += self.accepted.handle_timeout(now)


def bodies(events: list[SessionEvent]) -> list[bytes]:
    """Of the messages among events."""
    return [bytes(event.body) for event in events if isinstance(event, MessageReceived)]


def end(session: Session) -> Ended:
    """How a session has ended."""
    assert session.ended is not None
    return session.ended
