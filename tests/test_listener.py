"""Who is let in and who is not, with real sockets and certificates; both sides are told why."""

import datetime
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
import trio
import trustme
from sides import QUICK, echo, refusals, scheduler, worker

from trouper.wire.connect import connect
from trouper.wire.connection import Connection
from trouper.wire.dialling import DialledSession
from trouper.wire.errors import (
    CannotConnect,
    Code,
    ConnectionBroken,
    NotEncodable,
    SessionLost,
    SessionRefused,
)
from trouper.wire.events import Ended, MessageReceived, SessionEvent
from trouper.wire.limits import Limits
from trouper.wire.listener import Listener, open_listener
from trouper.wire.tls import client_tls, server_tls
from trouper.wire.websocket import WebSocket, dial

PATIENCE_S = 30.0

AUTHORITY = trustme.CA()


def shown_by(
    *, authority: trustme.CA = AUTHORITY, expired: bool = False, asks: bool = False
) -> ssl.SSLContext:
    """A listener's side of TLS."""
    then = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    issued = authority.issue_cert("127.0.0.1", not_after=then if expired else None)
    with (
        issued.private_key_and_cert_chain_pem.tempfile() as shown,
        AUTHORITY.cert_pem.tempfile() as trusted,
    ):
        return server_tls(shown, shown, client_authority=trusted if asks else None)


def trusting(shows: trustme.CA | None = None) -> ssl.SSLContext:
    """A dialler's."""
    with AUTHORITY.cert_pem.tempfile() as trusted:
        if shows is None:
            return client_tls(trusted)
        issued = shows.issue_cert("worker@example.org")
        with issued.private_key_and_cert_chain_pem.tempfile() as shown:
            return client_tls(trusted, certificate=shown)


def url_of(listener: Listener, scheme: str = "ws") -> str:
    return f"{scheme}://127.0.0.1:{listener.port}"


@asynccontextmanager
async def listening(
    *, tls: ssl.SSLContext | None = None, limits: Limits = QUICK
) -> AsyncGenerator[Listener]:
    with trio.fail_after(PATIENCE_S):
        async with open_listener(scheduler(limits), echo, token="secret", tls=tls) as listener:
            yield listener


async def exchange(listener: Listener, tls: ssl.SSLContext | None, scheme: str = "wss") -> None:
    """A message goes there and back."""
    async with connect(url_of(listener, scheme), worker(), token="secret", tls=tls) as connection:
        await connection.send(b"hello", [bytes(300_000)])
        message = await connection.receive()
        assert isinstance(message, MessageReceived)
        assert (message.body, message.buffers) == (b"hello", (bytes(300_000),))


async def refused(listener: Listener, tls: ssl.SSLContext | None, scheme: str = "wss") -> str:
    """Why there is no session."""
    with pytest.raises((CannotConnect, SessionRefused)) as raised:
        await exchange(listener, tls, scheme)
    return str(raised.value)


@asynccontextmanager
async def stranger(listener: Listener) -> AsyncGenerator[WebSocket]:
    """A WebSocket to it, over which nothing has been said."""
    socket = await dial(url_of(listener), None)
    try:
        yield socket
    finally:
        await trio.aclose_forcefully(socket.stream)


def session() -> DialledSession:
    return DialledSession(worker(), "a session of this test's", token="secret")


async def greeted(socket: WebSocket, session: DialledSession) -> int:
    """Say hello and hear welcome; the link."""
    link = session.connected(trio.current_time())
    await socket.send(session.data_to_send(link, trio.current_time()))
    while session.peer is None:
        for data in await socket.receive():
            session.receive_data(link, data, trio.current_time())
    return link


async def heard(socket: WebSocket, session: DialledSession, link: int) -> Ended:
    """How a session ends by what the other side says."""
    while session.ended is None:
        for data in await socket.receive():
            session.receive_data(link, data, trio.current_time())
    return session.ended


async def test_exchange_over_tls() -> None:
    async with listening(tls=shown_by()) as listener:
        await exchange(listener, trusting())


async def test_client_certificate_lets_in_and_its_lack_does_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with listening(tls=shown_by(asks=True)) as listener:
        await exchange(listener, trusting(shows=AUTHORITY))
        assert "a certificate that it trusts" in await refused(listener, trusting())
        unknown_to_it = trusting(shows=trustme.CA())
        assert "a certificate that it trusts" in await refused(listener, unknown_to_it)
        without, unknown = await refusals(caplog, 2)
    assert "peer did not return a certificate" in without
    assert "certificate verify failed" in unknown


async def test_expired_certificate_is_not_trusted(caplog: pytest.LogCaptureFixture) -> None:
    async with listening(tls=shown_by(expired=True)) as listener:
        assert "certificate has expired" in await refused(listener, trusting())
        (refusal,) = await refusals(caplog)
    assert "a certificate that it trusts" in refusal


async def test_certificate_of_an_unknown_authority_is_not_trusted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with listening(tls=shown_by(authority=trustme.CA())) as listener:
        assert "certificate verify failed" in await refused(listener, trusting())
        (refusal,) = await refusals(caplog)
    assert "a certificate that it trusts" in refusal


async def test_ws_to_a_port_that_speaks_wss(caplog: pytest.LogCaptureFixture) -> None:
    async with listening(tls=shown_by()) as listener:
        reason = await refused(listener, None, "ws")
        assert reason.startswith(f"cannot connect to ws://127.0.0.1:{listener.port}: ")
        assert "TLS" in reason
        (refusal,) = await refusals(caplog)
    assert "http request" in refusal.lower()


async def test_wss_to_a_port_that_speaks_ws(caplog: pytest.LogCaptureFixture) -> None:
    async with listening() as listener:
        reason = await refused(listener, trusting())
        assert reason.startswith(f"cannot connect to wss://127.0.0.1:{listener.port}: ")
        (refusal,) = await refusals(caplog)
    assert "ws is wanted, not wss" in refusal


async def test_wrong_token_is_told_on_both_sides_and_opens_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with listening() as listener:
        with pytest.raises(SessionRefused, match="the wrong token was given"):
            async with connect(url_of(listener), worker(), token="Secret"):
                pytest.fail("let in")
        assert listener.sessions == 0
        (refusal,) = await refusals(caplog)
    assert refusal.endswith("was refused (unauthorized): the wrong token was given")


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\nHost: "])
async def test_who_says_nothing_or_never_ends_is_given_up(
    said: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with listening(limits=Limits(handshake_s=0.2)) as listener:
        async with await trio.open_tcp_stream("127.0.0.1", listener.port) as stream:
            if said:
                await stream.send_all(said)
            assert await stream.receive_some() == b""
        (refusal,) = await refusals(caplog)
    assert refusal.endswith("was refused: no hello within 0.2 s")


async def test_websocket_that_says_no_hello_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    async with listening(limits=Limits(handshake_s=0.2)) as listener:
        async with stranger(listener) as socket:
            assert await socket.stream.receive_some() == b""
        (refusal,) = await refusals(caplog)
    assert refusal.endswith("was refused: no hello within 0.2 s")


@pytest.mark.parametrize(
    ("request_", "status", "why"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"400", "Missing header, 'Connection: Upgrade'"),
        (b"POST / HTTP/1.1\r\nHost: x\r\n\r\n", b"400", "Request method must be GET"),
        (b"nonsense\r\n\r\n", b"400", "Bad HTTP message"),
    ],
)
async def test_other_requests_get_an_answer_in_http(
    request_: bytes, status: bytes, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with listening() as listener:
        async with await trio.open_tcp_stream("127.0.0.1", listener.port) as stream:
            await stream.send_all(request_)
            answer = b"".join([data async for data in stream])
            assert answer.startswith(b"HTTP/1.1 " + status)
        (refusal,) = await refusals(caplog)
    assert refusal.endswith(f"its request is no WebSocket's: {why}")


async def test_headers_without_an_end_are_refused(caplog: pytest.LogCaptureFixture) -> None:
    async with listening() as listener:
        async with await trio.open_tcp_stream("127.0.0.1", listener.port) as stream:
            with pytest.raises(trio.BrokenResourceError):
                while True:
                    await stream.send_all(b"GET / HTTP/1.1\r\nX: " + b"x" * 10_000)
        (refusal,) = await refusals(caplog)
    assert refusal.endswith("its headers are longer than 8,192 bytes")


async def test_no_more_strangers_than_there_are_places_for() -> None:
    limits = Limits(handshake_s=0.5, max_greetings=2)
    async with listening(limits=limits) as listener:
        began = trio.current_time()
        async with stranger(listener), stranger(listener):
            await exchange(listener, None, "ws")  # as soon as one of the two was given up
            assert trio.current_time() - began >= 0.4
            for _ in range(5):  # sessions take no such place
                await exchange(listener, None, "ws")


async def test_new_connection_takes_the_place_of_one_that_seems_well() -> None:
    ours = DialledSession(worker(), "a session that resumes", token="secret", resumable=True)
    async with listening() as listener, stranger(listener) as old, stranger(listener) as new:
        await greeted(old, ours)
        link = ours.connected(trio.current_time())
        await new.send(ours.data_to_send(link, trio.current_time()))
        with pytest.raises(ConnectionBroken):  # the old one is let go of
            while True:
                await old.receive()
        ours.send(b"over the new one")
        events: list[SessionEvent] = []
        while not any(isinstance(event, MessageReceived) for event in events):
            if chunks := ours.data_to_send(link, trio.current_time()):
                await new.send(chunks)
            for data in await new.receive():
                events += ours.receive_data(link, data, trio.current_time())
        assert listener.sessions == 1
        ours.abandon("enough")
        await new.send(ours.data_to_send(link, trio.current_time()))
        await new.aclose()


async def test_text_frame_in_the_place_of_a_hello_is_refused(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with listening() as listener, stranger(listener) as socket:
        ours = session()
        link = ours.connected(trio.current_time())
        await socket.stream.send_all(b"\x81\x85\0\0\0\0hello")
        ended = await heard(socket, ours, link)
        assert (ended.code, ended.by_peer) == (Code.MALFORMED, True)
        assert ended.reason == "text arrived, where only binary is spoken"
        (refusal,) = await refusals(caplog)
    assert "text arrived, where only binary is spoken" in refusal


async def test_text_frame_ends_an_open_session() -> None:
    async with listening() as listener, stranger(listener) as socket:
        ours = session()
        link = await greeted(socket, ours)
        await socket.stream.send_all(b"\x81\x85\0\0\0\0hello")
        ended = await heard(socket, ours, link)
        assert ended.reason == "text arrived, where only binary is spoken"


async def test_compressed_frame_ends_the_connection() -> None:
    async with listening() as listener, stranger(listener) as socket:
        ours = session()
        await greeted(socket, ours)
        await socket.stream.send_all(b"\xc2\x81\0\0\0\0x")
        assert b"say compression" in await socket.stream.receive_some()


async def test_message_that_is_too_long_for_the_other_side_is_not_sent() -> None:
    limits = Limits(max_message_nbytes=1000)
    async with (
        listening(limits=limits) as listener,
        connect(url_of(listener), worker(), token="secret") as connection,
    ):
        with pytest.raises(NotEncodable, match=r"has 1,001 bytes; the peer takes 1,000"):
            await connection.send(b"x", [bytes(1000)])


async def test_message_that_is_too_long_and_is_sent_ends_the_session() -> None:
    limits = Limits(max_message_nbytes=1000)
    async with listening(limits=limits) as listener, stranger(listener) as socket:
        ours = session()
        link = await greeted(socket, ours)
        ours._outbox.max_message_nbytes = 1 << 30  # pyright: ignore[reportPrivateUsage]
        ours.send(bytes(1001))
        await socket.send(ours.data_to_send(link, trio.current_time()))
        ended = await heard(socket, ours, link)
        assert (ended.code, ended.by_peer) == (Code.LIMIT, True)


async def test_as_many_sessions_as_there_may_be() -> None:
    limits = Limits(max_sessions=1)
    async with (
        listening(limits=limits) as listener,
        connect(url_of(listener), worker(), token="secret"),
    ):
        assert "has as many sessions as it may" in await refused(listener, None, "ws")


async def test_handler_that_returns_closes_its_session() -> None:
    async def once(connection: Connection) -> None:
        message = await connection.receive()
        assert isinstance(message, MessageReceived)
        await connection.send(message.body)

    with trio.fail_after(PATIENCE_S):
        async with (
            open_listener(scheduler(), once, token=None) as listener,
            connect(url_of(listener), worker()) as connection,
        ):
            await connection.send(b"only one")
            bodies = [m.body async for m in connection if isinstance(m, MessageReceived)]
            assert bodies == [b"only one"]
            assert connection.session.ended is not None
            assert connection.session.ended.by_peer


async def test_handler_that_fails_ends_the_listener() -> None:
    async def fail(connection: Connection) -> None:
        raise ZeroDivisionError

    with trio.fail_after(PATIENCE_S):
        with pytest.RaisesGroup(ZeroDivisionError, flatten_subgroups=True):
            async with open_listener(scheduler(), fail, token=None) as listener:
                with pytest.raises(SessionLost):
                    async with connect(url_of(listener), worker()) as connection:
                        await connection.receive()
                await trio.sleep_forever()


async def test_leaving_says_goodbye_to_everybody() -> None:
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            ended: list[Ended] = []

            async def stay(url: str, there: trio.Event) -> None:
                async with connect(url, worker(), resumable=True) as connection:
                    there.set()
                    async for _ in connection:
                        pass
                    assert connection.session.ended is not None
                    ended.append(connection.session.ended)

            async with open_listener(scheduler(), echo, token=None) as listener:
                for _ in range(3):
                    there = trio.Event()
                    nursery.start_soon(stay, url_of(listener), there)
                    await there.wait()
        assert [end.code for end in ended] == [Code.GOODBYE] * 3


async def test_exception_in_the_block_is_told_to_everybody_and_comes_out_as_it_is() -> None:
    lost: list[SessionLost] = []

    async def stay(url: str, there: trio.Event) -> None:
        async with connect(url, worker(), resumable=True) as connection:
            there.set()
            with pytest.raises(SessionLost) as raised:
                await connection.receive()
            lost.append(raised.value)

    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            there = trio.Event()
            with pytest.raises(ZeroDivisionError):
                async with open_listener(scheduler(), echo, token=None) as listener:
                    nursery.start_soon(stay, url_of(listener), there)
                    await there.wait()
                    raise ZeroDivisionError
    assert [(error.code, error.reason) for error in lost] == [
        (Code.ABANDONED, "the listener has failed")
    ]


async def test_port_that_is_taken_is_an_error() -> None:
    async with listening() as listener:
        with pytest.raises(OSError, match="in use"):
            async with open_listener(scheduler(), echo, token=None, port=listener.port):
                pytest.fail("listening")
