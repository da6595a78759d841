"""Tests of a WebSocket on asyncio: where it reads to."""

import asyncio
from collections.abc import Awaitable, Callable

from trouper.wire.asyncio_websocket import AsyncioWebSocket
from trouper.wire.cbor import Chunk
from trouper.wire.framing import BINARY, Framer
from trouper.wire.upgrade import Upgrade


class Taker:
    """Owner and assembly: some of what comes belongs into a buffer."""

    def __init__(self) -> None:
        self.place: bytearray | None = None
        self.filled = 0
        self.came: list[bytes] = []

    def upgraded(self, socket: AsyncioWebSocket) -> None:
        """Now it may be carried."""

    def received(self, socket: AsyncioWebSocket, data: Chunk | str) -> None:
        assert not isinstance(data, str)
        self.came.append(bytes(data))

    def writable(self, socket: AsyncioWebSocket) -> None:
        """Nothing is written here."""

    def broken(self, socket: AsyncioWebSocket, reason: str) -> None:
        self.came.append(reason.encode())

    def get_buffer(self, socket: AsyncioWebSocket) -> memoryview | None:
        return None if self.place is None else memoryview(self.place)[self.filled :]

    def buffer_updated(self, socket: AsyncioWebSocket, nbytes: int) -> None:
        self.filled += nbytes


def feed(socket: AsyncioWebSocket, data: bytes) -> None:
    """As a transport does, from one read to the next."""
    while data:
        room = socket.get_buffer(-1)
        part = data[: len(room)]
        room[: len(part)] = part
        data = data[len(part) :]
        socket.buffer_updated(len(part))


def run(test: Callable[[AsyncioWebSocket, Taker], None]) -> None:
    """Let a test have the listening side of an established connection."""

    async def main() -> None:
        taker = Taker()
        socket = AsyncioWebSocket(taker, Upgrade(client=False), client=False)
        asked = Upgrade(client=True, host="here")
        feed(socket, asked.to_send)
        socket.assembly = taker
        test(socket, taker)

    work: Awaitable[None] = main()
    asyncio.run(work)  # type: ignore[arg-type]


def masked(payload: bytes) -> bytes:
    return b"".join(Framer(lambda: b"mask").frame(BINARY, [payload]))


def test_payload_is_put_where_it_belongs_and_heads_are_not() -> None:
    def test(socket: AsyncioWebSocket, taker: Taker) -> None:
        payload = bytes(range(256)) * 1000
        sent = masked(payload)
        feed(socket, sent[:100])  # the head, and some of the payload with it
        begun = b"".join(taker.came)
        assert payload.startswith(begun)
        taker.place = bytearray(len(payload) - len(begun))
        feed(socket, sent[100:] + masked(b"next"))
        assert begun + taker.place == payload
        assert taker.came[-1] == b"next"

    run(test)


def test_what_is_read_to_is_let_go_of_when_it_was_read() -> None:
    def test(socket: AsyncioWebSocket, taker: Taker) -> None:
        feed(socket, masked(bytes(1000))[:20])
        taker.place = bytearray(500)
        assert len(socket.get_buffer(-1)) == 500
        socket.get_buffer(-1)  # nothing came, so nothing was updated
        socket.buffer_updated(200)
        taker.place.extend(bytes(500))  # a buffer in use cannot be made longer
        assert taker.filled == 200

    run(test)
