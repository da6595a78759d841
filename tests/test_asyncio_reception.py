"""A node on trio dials Dask's processes on asyncio: the two shells of a session, face to face."""

import asyncio
import socket
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import pytest
import trio
from dask_comms import CommClosedError, Serialize, core
from proxy import proxy

from trouper.wire import dask_comm
from trouper.wire.connect import connect
from trouper.wire.connection import Connection
from trouper.wire.dask_message import (
    DASK_COMM,
    DaskMessageDecoder,
    Serialized,
    encode_dask_message,
)
from trouper.wire.endpoint import Endpoint
from trouper.wire.errors import Code, SessionLost, SessionRefused
from trouper.wire.events import MessageReceived
from trouper.wire.limits import Limits

PATIENCE_S = 30.0
NODE = Endpoint(role="node", name="me", capabilities=(DASK_COMM,), required=(DASK_COMM,))
GREETING = {"compression": None, "python": (3, 11, 0), "pickle-protocol": 5}


@contextmanager
def dask_listener(handle: Callable[[Any], Awaitable[None]]) -> Generator[int]:
    """The port of a listener of Dask's, in a thread and a loop of its own."""
    ports: list[int] = []
    ready, loop, stop = threading.Event(), asyncio.new_event_loop(), asyncio.Event()

    async def serve() -> None:
        async with core.listen("cws://127.0.0.1:0", handle, deserialize=False) as listener:
            ports.append(listener.get_host_port()[1])
            ready.set()
            await stop.wait()

    def run() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(serve())

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert ready.wait(PATIENCE_S)
    try:
        yield ports[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


async def echo(comm: Any) -> None:
    """Until the other side ends it."""
    while True:
        try:
            await comm.write(await comm.read())
        except CommClosedError:
            return


@asynccontextmanager
async def dialled(port: int, *, resumable: bool = True) -> AsyncGenerator[Connection]:
    """A node's session with it, after Dask's own handshake."""
    with trio.fail_after(PATIENCE_S):
        async with connect(f"ws://127.0.0.1:{port}", NODE, resumable=resumable) as connection:
            await say(connection, GREETING)
            assert (await heard(connection))["pickle-protocol"] == 5
            yield connection


async def say(connection: Connection, message: object) -> None:
    await connection.send(*encode_dask_message(message))


async def heard(connection: Connection) -> Any:
    delivery = await connection.receive()
    assert isinstance(delivery, MessageReceived)
    return DaskMessageDecoder().decode(delivery.body, delivery.buffers)


async def test_a_node_and_dask_understand_each_other() -> None:
    with dask_listener(echo) as port:
        async with dialled(port) as connection:
            batch = [{"op": "task-finished", "key": ("x", 1), "type": b"\x80", "nbytes": 28}]
            await say(connection, batch)
            assert await heard(connection) == tuple(batch)


async def test_what_a_node_has_serialised_is_relayed_as_it_is() -> None:
    frames = [b"short", bytes(3_000_000)]
    with dask_listener(echo) as port:
        async with dialled(port) as connection:
            await say(connection, {"data": Serialized({"serializer": "pickle"}, frames)})
            arrived = (await heard(connection))["data"]
            assert arrived.header == {"serializer": "pickle"}
            assert list(arrived.frames) == frames


async def test_a_node_opens_what_dask_has_serialised() -> None:
    async def send(comm: Any) -> None:
        await comm.write({"data": Serialize(b"value")})
        await echo(comm)

    with dask_listener(send) as port:
        async with dialled(port) as connection:
            marker = (await heard(connection))["data"]
            assert b"".join(marker.frames) == b"value"


async def test_a_node_that_is_cut_comes_back_to_the_same_comm() -> None:
    comms: list[Any] = []

    async def handle(comm: Any) -> None:
        comms.append(comm)
        await echo(comm)

    with dask_listener(handle) as port, proxy(port) as between:
        async with dialled(between.port) as connection:
            for number in range(5):
                await trio.to_thread.run_sync(between.cut)
                await say(connection, number)
                assert await heard(connection) == number
        assert between.accepted > 1
        assert len(comms) == 1


async def test_bulk_that_a_node_does_not_keep_and_that_is_cut_ends_the_comm() -> None:
    with dask_listener(echo) as port, proxy(port) as between:
        with pytest.raises(SessionLost) as error:
            async with dialled(between.port) as connection:
                await trio.to_thread.run_sync(lambda: between.silence(silent=True))
                bulk = bytes(40_000_000)
                await connection.send(*encode_dask_message({"data": bulk[:1000]}), resend=False)
                await connection.send(encode_dask_message(0)[0], (bulk,), resend=False)
                await trio.to_thread.run_sync(between.cut)
                await trio.to_thread.run_sync(lambda: between.silence(silent=False))
                while True:
                    await connection.receive()
        assert error.value.code is Code.ABANDONED
        assert "not kept for resending, and is lost" in error.value.reason


async def test_a_dialler_of_another_language_is_refused() -> None:
    other = Endpoint(role="node", name="me", capabilities=("peer-exchange/1",))
    with dask_listener(echo) as port:
        with pytest.raises(SessionRefused) as error:
            async with connect(f"ws://127.0.0.1:{port}", other):
                pass
        assert error.value.code is Code.CAPABILITY


async def hung_up(stranger: socket.socket) -> None:
    """The other side has closed the connection, or reset it."""
    stranger.settimeout(PATIENCE_S)
    with suppress(ConnectionResetError):
        assert await trio.to_thread.run_sync(stranger.recv, 1) == b""


async def test_a_stranger_that_says_nothing_is_given_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(dask_comm, "DASK_LIMITS", Limits(handshake_s=0.2))
    with (
        dask_listener(echo) as port,
        socket.create_connection(("127.0.0.1", port)) as stranger,
    ):
        await hung_up(stranger)
    assert "was refused: no hello within 0.2 s" in caplog.text


async def test_no_more_strangers_than_there_are_places_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(dask_comm, "DASK_LIMITS", Limits(max_greetings=1))
    with (
        dask_listener(echo) as port,
        socket.create_connection(("127.0.0.1", port)),
        socket.create_connection(("127.0.0.1", port)) as second,
    ):
        await hung_up(second)
    assert "too many connections have not said hello" in caplog.text
