"""Sessions over real sockets, from the side that connects."""

import ssl
import subprocess
import sys
from pathlib import Path

import pytest
import trio
from pair import endpoint
from sides import echo, open_cutter, scheduler, until, worker

from trouper.wire.connect import connect
from trouper.wire.connection import Connection
from trouper.wire.errors import CannotConnect, Code, SessionLost, SessionRefused
from trouper.wire.events import MessageReceived
from trouper.wire.limits import Limits
from trouper.wire.listener import open_listener

PATIENCE_S = 30.0


def url_of(port: int, scheme: str = "ws") -> str:
    return f"{scheme}://127.0.0.1:{port}"


async def body(connection: Connection) -> bytes:
    message = await connection.receive()
    assert isinstance(message, MessageReceived)
    return bytes(message.body)


def sockets_of(port: int) -> list[str]:
    """Connections of this machine that are open and have to do with a port."""
    rows = Path("/proc/net/tcp").read_text().splitlines()[1:]
    established = [row.split() for row in rows if row.split()[3] == "01"]
    return [row[1] for row in established if f":{port:04X}" in (row[1] + row[2])]


async def test_exchange() -> None:
    with trio.fail_after(PATIENCE_S):
        async with (
            open_listener(scheduler(), echo, token="secret") as listener,
            connect(url_of(listener.port), worker(), token="secret") as connection,
        ):
            assert connection.peer.role == "scheduler"
            buffers = [b"", b"x", bytes(range(256)) * 40_000]
            await connection.send(b"hello", buffers)
            message = await connection.receive()
            assert isinstance(message, MessageReceived)
            assert message.body == b"hello"
            assert list(message.buffers) == buffers


@pytest.mark.parametrize("seed", range(3))
async def test_nothing_is_lost_or_doubled_while_connections_are_cut(seed: int) -> None:
    messages = 2000
    with trio.fail_after(PATIENCE_S * 2):
        async with (
            open_listener(scheduler(), echo, token=None) as listener,
            open_cutter(listener.port, seed=seed, cuts=25, most_nbytes=60_000) as cutter,
            connect(url_of(cutter.port), worker(), resumable=True) as connection,
            trio.open_nursery() as nursery,
        ):

            async def say() -> None:
                for i in range(messages):
                    await connection.send(b"%d" % i, [bytes(i % 1000)])

            nursery.start_soon(say)
            for i in range(messages):
                message = await connection.receive()
                assert isinstance(message, MessageReceived)
                assert message.body == b"%d" % i
                assert len(message.buffers[0]) == i % 1000
            assert cutter.cuts_left < 15
            assert connection.opened > 10


async def test_session_that_does_not_resume_is_lost_with_its_connection() -> None:
    with trio.fail_after(PATIENCE_S):
        async with (
            open_listener(scheduler(), echo, token=None) as listener,
            open_cutter(listener.port, seed=0, cuts=1, most_nbytes=30_000) as cutter,
            connect(url_of(cutter.port), worker()) as connection,
        ):
            with pytest.raises(SessionLost) as raised:
                while True:
                    await connection.send(bytes(1000))
                    await connection.receive()
            assert raised.value.code is Code.DISCONNECTED


@pytest.mark.parametrize(("token", "why"), [("wrong", "the wrong token"), ("", "no token")])
async def test_without_the_token_nobody_comes_in(token: str, why: str) -> None:
    with trio.fail_after(PATIENCE_S):
        async with open_listener(scheduler(), echo, token="secret") as listener:
            with pytest.raises(SessionRefused, match=f"{why} was given") as raised:
                async with connect(url_of(listener.port), worker(), token=token):
                    pytest.fail("let in")
            assert raised.value.code is Code.UNAUTHORIZED


async def test_wrong_version_is_refused_with_both_versions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("trouper.wire.dialling.PROTOCOL_VERSIONS", (7,))
    with trio.fail_after(PATIENCE_S):
        async with open_listener(scheduler(), echo, token=None) as listener:
            with pytest.raises(SessionRefused, match=r"speaks versions \[7\]") as raised:
                async with connect(url_of(listener.port), worker(), resumable=True):
                    pytest.fail("let in")
            assert raised.value.code is Code.VERSION


async def test_nobody_listens() -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    await listener.aclose()
    with pytest.raises(CannotConnect, match=rf"cannot connect to ws://127.0.0.1:{port}: "):
        async with connect(url_of(port), worker()):
            pytest.fail("connected")


async def test_who_listens_and_says_nothing_is_given_up() -> None:
    limits = Limits(handshake_s=0.2)
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        with pytest.raises(CannotConnect, match=r"no answer within 0\.2 s"):
            async with connect(url_of(listener.socket.getsockname()[1]), worker(limits)):
                pytest.fail("connected")


async def test_exception_in_the_block_comes_out_as_it_is_and_the_peer_is_told() -> None:
    ends: list[SessionLost] = []

    async def handler(connection: Connection) -> None:
        try:
            await connection.receive()
        except SessionLost as lost:
            ends.append(lost)

    with trio.fail_after(PATIENCE_S):
        async with open_listener(scheduler(), handler, token=None) as listener:
            with pytest.raises(ZeroDivisionError):
                async with connect(url_of(listener.port), worker(), resumable=True):
                    raise ZeroDivisionError
    assert [(lost.code, lost.reason) for lost in ends] == [
        (Code.ABANDONED, "the dialler has failed")
    ]


@pytest.mark.parametrize("resumable", [False, True])
async def test_cancellation_leaves_no_socket(resumable: bool) -> None:
    with trio.fail_after(PATIENCE_S):
        async with open_listener(scheduler(), echo, token=None) as listener:
            for moment in range(60):
                with trio.CancelScope() as scope:
                    async with trio.open_nursery() as nursery:

                        async def cancel_then(moment: int, scope: trio.CancelScope) -> None:
                            for _ in range(moment):
                                await trio.lowlevel.checkpoint()
                            scope.cancel()

                        nursery.start_soon(cancel_then, moment, scope)
                        async with connect(
                            url_of(listener.port), worker(), resumable=resumable
                        ) as connection:
                            while True:
                                await connection.send(b"x")
                                await connection.receive()
            await until(lambda: not sockets_of(listener.port))


SILENT = """
import sys, trio
from trouper.wire.connect import connect
from trouper.wire.endpoint import Endpoint

async def main():
    us = Endpoint(role="worker", name="doomed")
    async with connect(sys.argv[1], us, resumable=True) as connection:
        await connection.send(b"here I am")
        await trio.sleep_forever()

trio.run(main)
"""


async def test_killed_process_is_noticed_in_time_and_leaves_nothing_behind() -> None:
    limits = Limits(heartbeat_interval_s=0.2, silence_s=2.0, resume_after_close_s=1.0)
    lost: list[tuple[SessionLost, float]] = []
    there = trio.Event()

    async def handler(connection: Connection) -> None:
        assert await body(connection) == b"here I am"
        there.set()
        try:
            await connection.receive()
        except SessionLost as error:
            lost.append((error, trio.current_time()))
            raise

    with trio.fail_after(PATIENCE_S):
        async with open_listener(scheduler(limits), handler, token=None) as listener:
            process = await trio.lowlevel.open_process(
                [sys.executable, "-c", SILENT, url_of(listener.port)], stderr=subprocess.DEVNULL
            )
            await there.wait()
            process.kill()
            killed_at = trio.current_time()
            await process.wait()
            await until(lambda: not listener.sessions)
            ((error, at),) = lost
            assert error.code is Code.TIMEOUT
            assert limits.resume_after_close_s <= at - killed_at
            assert at - killed_at < limits.silence_s + limits.resume_after_close_s
            assert not sockets_of(listener.port)


EXCHANGE = """
import sys, trio
from trouper.wire.connect import connect
from trouper.wire.endpoint import Endpoint
from trouper.wire.limits import Limits

async def main():
    us = Endpoint(role="worker", name="elsewhere", limits=Limits(retry_first_s=0.01))
    async with connect(sys.argv[1], us, resumable=True) as connection:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(say, connection)
            for i in range(10_000):
                message = await connection.receive()
                assert message.body == b"%d" % i, (message.body, i)
        print(connection.opened)

async def say(connection):
    for i in range(10_000):
        buffers = [bytes(1_000_000)] if i % 200 == 199 else []
        await connection.send(b"%d" % i, buffers)

trio.run(main)
"""


async def test_two_processes_exchange_small_and_large_values_while_connections_are_cut() -> None:
    large: list[int] = []

    async def handler(connection: Connection) -> None:
        i = 0
        async for message in connection:
            assert isinstance(message, MessageReceived)
            assert message.body == b"%d" % i
            large.extend(map(len, message.buffers))
            await connection.send(message.body)
            i += 1

    with trio.fail_after(PATIENCE_S * 4):
        async with (
            open_listener(scheduler(), handler, token=None) as listener,
            open_cutter(listener.port, seed=1, cuts=40, most_nbytes=4_000_000) as cutter,
        ):
            result = await trio.run_process(
                [sys.executable, "-c", EXCHANGE, url_of(cutter.port)], capture_stdout=True
            )
            assert int(result.stdout) > 15
    assert large == [1_000_000] * 50


async def test_late_comer_is_told_that_the_session_is_not_known() -> None:
    limits = Limits(resume_after_close_s=0.05, retry_first_s=0.5, retry_most_s=0.5)
    us = endpoint("worker", limits)
    with trio.fail_after(PATIENCE_S):
        async with (
            open_listener(scheduler(limits), echo, token=None) as listener,
            open_cutter(listener.port, seed=1, cuts=1, most_nbytes=30_000) as cutter,
            connect(url_of(cutter.port), us, resumable=True, chance=lambda: 0.99) as connection,
        ):
            with pytest.raises(SessionLost) as raised:
                while True:
                    await connection.send(bytes(1000))
                    await connection.receive()
            assert raised.value.code is Code.UNKNOWN_SESSION


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "ws://", "127.0.0.1:8080", "ws://h:x"])
async def test_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"is not of the form|Port could not be cast"):
        async with connect(url, worker()):
            pytest.fail("connected")


async def test_tls_is_not_taken_for_a_url_without() -> None:
    with pytest.raises(ValueError, match="wss:// is wanted"):
        async with connect("ws://127.0.0.1:1", worker(), tls=ssl.create_default_context()):
            pytest.fail("connected")
