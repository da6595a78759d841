"""Our WebSocket and others': what a stock client and a stock server make of it."""

import socket

import pytest
import trio
import trio.testing
from trio_websocket import ConnectionClosed as StockClosed
from trio_websocket import WebSocketRequest, open_websocket_url, serve_websocket
from wsproto import ConnectionType
from wsproto.events import AcceptConnection
from wsproto.handshake import H11Handshake

from trouper.wire.errors import CannotConnect, ConnectionBroken
from trouper.wire.framing import Framer
from trouper.wire.websocket import WebSocket, answer, dial

PATIENCE_S = 30.0
MESSAGES = [b"", b"x", bytes(range(256)) * 400, bytes(900_000)]


async def received(websocket: WebSocket, nbytes: int) -> bytes:
    """So many bytes of messages, some of which are put where they belong."""
    data = bytearray()
    while len(data) < nbytes:
        if websocket.payload_left:
            buffer = bytearray(min(100_000, nbytes - len(data)))
            data += buffer[: await websocket.receive_into(memoryview(buffer))]
            continue
        for part in await websocket.receive():
            assert not isinstance(part, str)
            data += part
    return bytes(data)


async def test_stock_client_talks_to_us() -> None:
    async def serve(stream: trio.SocketStream) -> None:
        websocket = await answer(stream, None)
        for message in MESSAGES:
            await websocket.send([await received(websocket, len(message)), b"!"])
        with pytest.raises(ConnectionBroken, match=r"\(1000\)"):
            while True:
                await websocket.receive()
        await websocket.aclose()

    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
            nursery.start_soon(trio.serve_listeners, serve, [listener])
            url = f"ws://127.0.0.1:{listener.socket.getsockname()[1]}/any/path?at=all"
            async with open_websocket_url(url) as stock:
                for message in MESSAGES:
                    await stock.send_message(message)
                    assert await stock.get_message() == message + b"!"
            nursery.cancel_scope.cancel()


async def test_peer_that_goes_in_the_middle_of_a_frame_is_gone() -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    websocket = WebSocket(ours, Framer(None), b"")
    await theirs.send_all(b"\x82\x85....ab")
    await websocket.receive()
    assert websocket.payload_left == 3
    await theirs.send_eof()
    with pytest.raises(ConnectionBroken, match="gone without a word"):
        await websocket.receive_into(memoryview(bytearray(3)))


async def test_what_cannot_be_sent_at_once_goes_before_what_is_sent_next() -> None:
    one, other = trio.socket.socketpair()
    async with trio.SocketStream(one) as stream, trio.SocketStream(other) as peer:
        websocket, theirs = (
            WebSocket(stream, Framer(None), b""),
            WebSocket(peer, Framer(lambda: b"mask"), b""),
        )
        message = MESSAGES[2] * 50
        websocket.send_now([message])
        assert websocket.waiting
        websocket.send_now([b"next"])
        with trio.fail_after(PATIENCE_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(websocket.send, [b"last"])
                assert await received(theirs, len(message) + 8) == message + b"nextlast"
        assert not websocket.waiting


async def test_broken_connection_is_told_to_whoever_sends() -> None:
    one, other = trio.socket.socketpair()
    async with trio.SocketStream(one) as stream:
        other.close()
        websocket = WebSocket(stream, Framer(None), b"")
        with pytest.raises(ConnectionBroken, match="Broken pipe"):
            websocket.send_now([b"x"])
        with pytest.raises(ConnectionBroken, match="Broken pipe"):
            await websocket.send([b"x"])


async def test_we_talk_to_a_stock_server() -> None:
    async def serve(request: WebSocketRequest) -> None:
        stock = await request.accept()
        for _ in MESSAGES:
            message = await stock.get_message()
            assert isinstance(message, bytes)
            await stock.send_message(message + b"!")
        with pytest.raises(StockClosed, match="1000"):
            await stock.get_message()
        done.set()

    done = trio.Event()
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            server = await nursery.start(serve_websocket, serve, "127.0.0.1", 0, None)
            websocket = await dial(f"ws://127.0.0.1:{server.port}", None)
            for message in MESSAGES:
                await websocket.send([message[:5], memoryview(message)[5:]])
                assert await received(websocket, len(message) + 1) == message + b"!"
            await websocket.aclose()
            await done.wait()
            nursery.cancel_scope.cancel()


async def test_stock_server_that_refuses_is_told_with_its_status() -> None:
    async def serve(request: WebSocketRequest) -> None:
        await request.reject(403, body=b"go away")

    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            server = await nursery.start(serve_websocket, serve, "127.0.0.1", 0, None)
            with pytest.raises(CannotConnect, match="it answered with HTTP status 403"):
                await dial(f"ws://127.0.0.1:{server.port}", None)
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (b"220 mail.example.org ESMTP\r\n\r\n", "its answer is no WebSocket's: Bad HTTP message"),
        (b"HTTP/1.1 101 Fine\r\n\r\n", "its answer is no WebSocket's: Missing header"),
        (b"\x15\x03\x01\x00\x02\x02\x46", "it speaks TLS: wss is wanted, not ws"),
        (b"", "it has gone before the upgrade was done"),
    ],
)
async def test_other_servers_are_named(said: bytes, why: str) -> None:
    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some()
            await stream.send_all(said)

    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
            nursery.start_soon(trio.serve_listeners, serve, [listener])
            with pytest.raises(CannotConnect, match=why):
                await dial(f"ws://127.0.0.1:{listener.socket.getsockname()[1]}", None)
            nursery.cancel_scope.cancel()


async def test_what_comes_together_with_the_upgrade_is_not_lost() -> None:
    async def serve(stream: trio.SocketStream) -> None:
        request = bytearray()
        while b"\r\n\r\n" not in request:
            request += await stream.receive_some()
        handshake = H11Handshake(ConnectionType.SERVER)
        handshake.receive_data(bytes(request))
        await stream.send_all(handshake.send(AcceptConnection()) + b"\x82\x07at once")

    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
            nursery.start_soon(trio.serve_listeners, serve, [listener])
            websocket = await dial(f"ws://127.0.0.1:{listener.socket.getsockname()[1]}", None)
            assert await received(websocket, 7) == b"at once"
            await trio.aclose_forcefully(websocket.stream)
            nursery.cancel_scope.cancel()


async def test_small_things_are_not_delayed_on_either_side() -> None:
    no_delay: list[int] = []

    def look(websocket: WebSocket) -> None:
        assert isinstance(websocket.stream, trio.SocketStream)
        no_delay.append(websocket.stream.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    async def serve(stream: trio.SocketStream) -> None:
        look(await answer(stream, None))

    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
            nursery.start_soon(trio.serve_listeners, serve, [listener])
            ours = await dial(f"ws://127.0.0.1:{listener.socket.getsockname()[1]}", None)
            look(ours)
            await ours.aclose()
            nursery.cancel_scope.cancel()
    assert len(no_delay) == 2
    assert all(no_delay)
