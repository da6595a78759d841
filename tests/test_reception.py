"""The side that listens: who comes in, and where a new connection belongs."""

import hmac

import msgspec
import pytest
from pair import LIMITS, Pair, all_of, bodies, end, endpoint, greet, packet_of

from trouper.wire.dialling import DialledSession
from trouper.wire.errors import Code
from trouper.wire.events import Ended, Established, LinkLost, Resumed
from trouper.wire.frames import Abort, Alive, Frame, Hello
from trouper.wire.limits import Limits
from trouper.wire.packets import packet
from trouper.wire.reception import Admitted, Reception, Refused

HELLO = Hello(
    magic="trouper",
    versions=(1,),
    role="worker",
    name="w",
    session_id="id-1",
    token="secret",
    capabilities=("a/1", "b/1"),
    required=(),
    resumable=True,
    heartbeat_interval_ms=1000,
    max_message_nbytes=1 << 30,
    attempt=1,
    received=None,
)


def listen(limits: Limits = LIMITS, **fields: tuple[str, ...]) -> Reception:
    return Reception(endpoint("scheduler", limits, **fields), token="secret")


def raw(*frames: Frame) -> bytes:
    return b"".join(packet(frames))


def hello(**fields: object) -> bytes:
    return raw(msgspec.structs.replace(HELLO, **fields))


def refused(reception: Reception, data: bytes | str) -> Refused:
    answer = greet(reception, data)
    assert isinstance(answer, Refused), answer
    return answer


def admitted(reception: Reception, data: bytes) -> Admitted:
    answer = greet(reception, data)
    assert isinstance(answer, Admitted), answer
    return answer


def test_hello_in_pieces_is_a_hello() -> None:
    greeting = listen().greet()
    data = hello()
    for i in range(len(data) - 1):
        assert greeting.receive_data(data[i : i + 1], 0.0) is None
    assert isinstance(greeting.receive_data(data[-1:], 0.0), Admitted)


@pytest.mark.parametrize(
    ("token", "sentence"),
    [("", "no token was given"), ("Secret", "the wrong token was given"), ("secre", "wrong token")],
)
def test_nothing_is_reached_without_the_token(token: str, sentence: str) -> None:
    reception = listen()
    answer = refused(reception, hello(token=token))
    assert answer.code is Code.UNAUTHORIZED
    assert sentence in answer.reason
    assert b"".join(answer.reply) == raw(Abort(Code.UNAUTHORIZED, answer.reason))
    assert not reception.sessions


def test_nobody_learns_of_a_session_without_the_token() -> None:
    reception = listen()
    admitted(reception, hello())
    for fields in ({"received": 0, "attempt": 2}, {}, {"session_id": "other"}):
        assert refused(reception, hello(token="x", **fields)).code is Code.UNAUTHORIZED


def test_tokens_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []

    def compare_digest(a: bytes, b: bytes) -> bool:
        compared.append((a, b))
        return a == b

    monkeypatch.setattr(hmac, "compare_digest", compare_digest)
    admitted(listen(), hello())
    assert compared == [(b"secret", b"secret")]


def test_where_no_token_is_asked_for_any_will_do() -> None:
    admitted(Reception(endpoint("scheduler"), token=None), hello(token=""))


@pytest.mark.parametrize(
    ("data", "code"),
    [
        ("hello", Code.MALFORMED),
        (b"GET / HTTP/1.1\r\n", Code.LIMIT),
        (raw(Alive(0)), Code.UNEXPECTED),
        (hello() + b"\x00", Code.UNEXPECTED),
        (hello() + hello(), Code.UNEXPECTED),
        (hello(name=""), Code.MALFORMED),
        (hello(versions=(9,)), Code.VERSION),
    ],
)
def test_what_is_no_hello_is_refused_with_a_reason(data: bytes | str, code: Code) -> None:
    answer = refused(listen(), data)
    assert answer.code is code
    assert answer.reason
    assert b"".join(answer.reply) == raw(Abort(code, answer.reason))


def test_dialler_that_changes_its_mind_gets_no_answer() -> None:
    assert refused(listen(), raw(Abort(Code.GOODBYE, "never mind"))) == (
        Code.GOODBYE,
        "never mind",
        [],
    )


def test_first_version_from_another_time_is_told_which_are_spoken() -> None:
    reason = refused(listen(), hello(versions=(2, 3))).reason
    assert reason == "the peer speaks versions [2, 3] of the protocol, this side [1]"


@pytest.mark.parametrize(
    ("ours", "theirs", "reason"),
    [
        (("c/1",), (), "scheduler 'scheduler-1' requires what the other side cannot do: ['c/1']"),
        ((), ("b/1",), "worker 'w' requires what the other side cannot do: ['b/1']"),
    ],
)
def test_lack_of_a_capability_is_refused(
    ours: tuple[str, ...], theirs: tuple[str, ...], reason: str
) -> None:
    reception = listen(capabilities=("a/1", "c/1"), required=ours)
    answer = refused(reception, hello(required=theirs))
    assert (answer.code, answer.reason) == (Code.CAPABILITY, reason)


def test_unknown_session_is_said_to_be_unknown_and_both_learn() -> None:
    pair = Pair()
    pair.cut(1.0)
    restarted = listen()
    link = pair.dialled.connected(2.0)
    answer = refused(restarted, packet_of(pair.dialled, 2.0))
    assert answer.code is Code.UNKNOWN_SESSION
    assert answer.reason == "scheduler 'scheduler-1' knows no such session"
    assert pair.dialled.receive_data(link, b"".join(answer.reply), 2.0) == [
        Ended(Code.UNKNOWN_SESSION, answer.reason, True, 0)
    ]


def test_late_comer_is_told_how_the_session_ended() -> None:
    pair = Pair()
    pair.cut(1.0)
    pair.accepted.handle_timeout(7.0)
    pair.dialled.connected(8.0)
    answer = refused(pair.reception, packet_of(pair.dialled, 8.0))
    assert answer.code is Code.UNKNOWN_SESSION
    assert answer.reason.startswith("the session has ended (timeout): the connection was lost")


def test_late_first_hello_does_not_bring_an_ended_session_back() -> None:
    reception = listen()
    admitted(reception, hello()).session.abandon("over")
    assert refused(reception, hello(attempt=2)).code is Code.UNKNOWN_SESSION


def test_ended_sessions_are_forgotten_in_the_end() -> None:
    reception = listen(Limits(ended_remembered=2))
    for number in range(3):
        admitted(reception, hello(session_id=f"id-{number}")).session.abandon("over")
    assert refused(reception, hello(session_id="id-1")).code is Code.UNKNOWN_SESSION
    assert admitted(reception, hello(session_id="id-0"))


def test_there_is_an_end_to_sessions() -> None:
    reception = listen(Limits(max_sessions=1))
    admitted(reception, hello())
    answer = refused(reception, hello(session_id="id-2"))
    assert answer.code is Code.BUSY
    assert "has as many sessions as it may" in answer.reason


def test_stale_resume_is_refused_and_does_no_harm() -> None:
    pair = Pair()
    pair.cut(1.0)
    pair.dialled.connected(2.0)
    late = packet_of(pair.dialled, 2.0)
    pair.dialled.connection_lost(2, "gave up", 2.5)
    pair.connect(3.0)
    assert refused(pair.reception, late).code is Code.STALE_RESUME
    pair.dialled.send(b"x")
    pair.exchange(3.0)
    assert bodies(pair.accepted_events) == [b"x"]


def test_duplicate_of_a_hello_is_refused() -> None:
    reception = listen()
    admitted(reception, hello())
    answer = refused(reception, hello())
    assert answer.code is Code.STALE_RESUME
    assert answer.reason == "connection 1 of this session came after connection 1"


def test_resumed_connection_takes_the_place_of_one_that_seemed_well() -> None:
    pair = Pair()
    pair.dialled.connection_lost(1, "reset", 1.0)
    pair.connect(2.0)
    assert pair.accepted_events[1:] == [
        LinkLost(1, Code.DISCONNECTED, "the peer has connected again", 8.0),
        Resumed(2),
    ]
    assert list(pair.reception.sessions) == ["id-1"]


def test_welcome_that_was_lost_is_asked_for_again() -> None:
    reception = listen()
    first = admitted(reception, hello())
    first.session.send(b"x")
    all_of(first.session, 0.0)
    second = admitted(reception, hello(attempt=2))
    assert second.session is first.session
    dialled = DialledSession(endpoint("worker"), "id-1", token="secret", resumable=True)
    events = dialled.receive_data(dialled.connected(0.0), all_of(second.session, 0.0), 0.0)
    assert isinstance(events[0], Established)
    assert bodies(events) == [b"x"]


@pytest.mark.parametrize(
    "fields", [{"name": "other"}, {"role": "client"}, {"resumable": False}, {"received": None}]
)
def test_session_belongs_to_who_began_it(fields: dict[str, object]) -> None:
    reception = listen()
    session = admitted(reception, hello()).session
    session.receive_data(1, b"".join(packet([Alive(0)])), 0.0)
    session.received = 1
    answer = refused(reception, hello(**({"attempt": 2, "received": 0} | fields)))
    assert answer.code is Code.UNKNOWN_SESSION
    assert session.ended is None


def test_session_that_does_not_resume_is_not_resumed() -> None:
    reception = listen()
    admitted(reception, hello(resumable=False))
    answer = refused(reception, hello(resumable=False, attempt=2, received=0))
    assert answer.code is Code.UNKNOWN_SESSION


def test_dialler_that_has_received_what_was_never_sent_ends_the_session() -> None:
    reception = listen()
    session = admitted(reception, hello()).session
    answer = admitted(reception, hello(attempt=2, received=5))
    assert end(session).code is Code.SEQUENCE
    assert answer.events[-1] == session.ended
    assert all_of(session, 0.0) == raw(Abort(Code.SEQUENCE, end(session).reason))
    assert not reception.sessions


def test_first_hello_that_cannot_be_leaves_no_session() -> None:
    reception = listen()
    assert refused(reception, hello(received=5)).code is Code.UNKNOWN_SESSION
    assert not reception.sessions
