"""The side that dials."""

import msgspec
import pytest
from pair import LIMITS, Pair, all_of, end, endpoint, packet_of

from trouper.wire.dialling import DialledSession
from trouper.wire.errors import Code, SessionClosed
from trouper.wire.events import LinkLost
from trouper.wire.frames import Abort, Alive, Frame, Hello, Welcome
from trouper.wire.packets import PacketReader, packet

WELCOME = Welcome(
    version=1,
    role="scheduler",
    name="s",
    capabilities=("dask/1",),
    heartbeat_interval_ms=1000,
    max_message_nbytes=1000,
    resume_after_silence_ms=2000,
    received=0,
)


def dial(*required: str) -> DialledSession:
    us = endpoint("worker", capabilities=("dask/1", "other/1"), required=required)
    session = DialledSession(us, "id-1", token="secret", resumable=True)
    session.connected(0.0)
    return session


def answer(session: DialledSession, frame: Frame) -> None:
    session.receive_data(session.link, b"".join(packet([frame])), 0.0)


def test_hello_says_all_that_matters() -> None:
    (hello,) = PacketReader(0).read(packet_of(dial("dask/1"), 0.0))
    assert hello == Hello(
        magic="trouper",
        versions=(1,),
        role="worker",
        name="worker-1",
        session_id="id-1",
        token="secret",
        capabilities=("dask/1", "other/1"),
        required=("dask/1",),
        resumable=True,
        heartbeat_interval_ms=1000,
        max_message_nbytes=LIMITS.max_message_nbytes,
        attempt=1,
        received=None,
    )


def test_hello_of_a_session_that_was_open_says_where_it_stands() -> None:
    pair = Pair()
    pair.accepted.send(b"x")
    pair.exchange(0.0)
    pair.cut(1.0)
    pair.dialled.connected(2.0)
    (hello,) = PacketReader(0).read(packet_of(pair.dialled, 2.0))
    assert isinstance(hello, Hello)
    assert (hello.attempt, hello.received) == (2, 1)


def test_nothing_is_said_between_hello_and_welcome() -> None:
    session = dial()
    packet_of(session, 0.0)
    assert session.next_deadline() == LIMITS.handshake_s
    assert session.handle_timeout(2.9) == []
    assert packet_of(session, 2.9) == b""


def test_capabilities_are_those_of_both() -> None:
    session = dial("dask/1")
    answer(session, WELCOME)
    assert session.peer is not None
    assert session.peer.capabilities == ("dask/1",)


def test_lack_of_what_is_required_is_refused_and_both_are_told() -> None:
    session = dial("other/1")
    packet_of(session, 0.0)
    answer(session, WELCOME)
    assert end(session).code is Code.CAPABILITY
    assert end(session).reason == "scheduler 's' cannot do what is required: ['other/1']"
    told = packet([Abort(Code.CAPABILITY, end(session).reason)])
    assert all_of(session, 0.0) == b"".join(told)


@pytest.mark.parametrize(
    ("frame", "code", "sentence"),
    [
        (Alive(0), Code.UNEXPECTED, "frame 'alive' came, where a welcome was expected"),
        (Abort(Code.UNAUTHORIZED, "no token was given"), Code.UNAUTHORIZED, "no token was given"),
    ],
)
def test_other_answers_end_the_session(frame: Frame, code: Code, sentence: str) -> None:
    session = dial()
    answer(session, frame)
    assert (end(session).code, end(session).reason) == (code, sentence)


def test_version_that_was_not_offered_is_refused() -> None:
    session = dial()
    answer(
        session,
        msgspec.structs.replace(WELCOME, version=2),
    )
    assert end(session).code is Code.VERSION


def test_first_handshake_may_fail_any_number_of_times() -> None:
    session = dial()
    assert session.handle_timeout(3.0) == [
        LinkLost(1, Code.TIMEOUT, "the handshake was not answered in time", None)
    ]
    assert session.next_deadline() is None
    assert session.connected(1000.0) == 2
    answer(session, WELCOME)
    assert session.peer is not None


def test_session_that_has_ended_makes_no_connections() -> None:
    session = dial()
    session.abandon("over")
    with pytest.raises(SessionClosed, match=r"has ended \(abandoned\): over"):
        session.connected(1.0)


def test_somebody_else_cannot_take_over_a_session() -> None:
    session = dial()
    answer(session, WELCOME)
    session.connected(1.0)
    other = msgspec.structs.replace(WELCOME, name="t")
    answer(session, other)
    assert end(session).reason == "scheduler 't' is not who was here before"


def test_hello_that_was_overtaken_is_said_again_on_another_connection() -> None:
    pair = Pair()
    pair.cut(1.0)
    link = pair.dialled.connected(2.0)
    stale = b"".join(packet([Abort(Code.STALE_RESUME, "too late")]))
    (lost,) = pair.dialled.receive_data(link, stale, 2.0)
    assert lost == LinkLost(2, Code.STALE_RESUME, "too late", 14.0)
    pair.connect(3.0)
    assert pair.dialled.linked
