"""What the benchmark of the wire compares: five ways of bringing bytes to another process.

Each is a line with two ends that send and receive messages. Listening, the process prints its port
and serves one line; dialling, it does the work. What a line needs is imported when it is opened,
so that each process holds its own only.

- **raw TCP**: trio's streams and a length before each message; nothing is checked or survives.
- **trio-websocket**: as it comes, but for the longest message that it takes.
- **tcp://** and **ws://**: distributed's comms. Bulk is wrapped, so that it goes as a frame.
- **trouper**: a session that resumes; bulk is not kept for resending.
"""

import asyncio
import importlib
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeAlias

import trio

from trouper.wire.cbor import Chunk
from trouper.wire.connect import connect
from trouper.wire.connection import Connection
from trouper.wire.endpoint import Endpoint
from trouper.wire.errors import NotWritable
from trouper.wire.events import MessageReceived
from trouper.wire.listener import open_listener

BULK_NBYTES = 1 << 14
"""From here on, a message is bulk."""
MOST_NBYTES = 1 << 31


class Line(ABC):
    """One end."""

    @abstractmethod
    async def send(self, data: bytes) -> None:
        """A message."""

    @abstractmethod
    async def receive(self) -> Any:
        """A message; something that has a length."""

    async def send_many(self, data: bytes, count: int) -> None:
        """The same message again and again, none of which anybody waits for."""
        for _ in range(count):
            await self.send(data)


Work: TypeAlias = Callable[[Line], Awaitable[None]]
"""What is done over a line."""


def announce(port: int) -> None:
    """Tell the parent where."""
    print(port, flush=True)


class RawLine(Line):
    """Trio's TCP."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._rest = bytearray()

    async def send(self, data: bytes) -> None:
        head = len(data).to_bytes(4, "big")
        if len(data) < BULK_NBYTES:
            await self._stream.send_all(head + data)
        else:
            await self._stream.send_all(head)
            await self._stream.send_all(data)

    async def receive(self) -> bytes | bytearray:
        while len(self._rest) < 4:
            self._rest += await self._stream.receive_some(1 << 16)
        wanted = 4 + int.from_bytes(self._rest[:4], "big")
        while len(self._rest) < wanted:
            self._rest += await self._stream.receive_some(1 << 16)
        message = self._rest[4:wanted]
        del self._rest[:wanted]
        return message


async def raw_listen(work: Work) -> None:
    """Serve one line."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    announce(listener.socket.getsockname()[1])
    async with listener, await listener.accept() as stream:
        await work(RawLine(stream))


async def raw_dial(port: int, work: Work) -> None:
    """Do the work over one."""
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await work(RawLine(stream))


class StockLine(Line):
    """trio-websocket's."""

    def __init__(self, websocket: Any) -> None:
        self._websocket = websocket

    async def send(self, data: bytes) -> None:
        await self._websocket.send_message(data)

    async def receive(self) -> Any:
        return await self._websocket.get_message()


async def stock_listen(work: Work) -> None:
    """Serve one line."""
    from trio_websocket import WebSocketRequest, serve_websocket

    async def handle(request: WebSocketRequest) -> None:
        await work(StockLine(await request.accept()))
        nursery.cancel_scope.cancel()

    async def serve(task_status: trio.TaskStatus[Any]) -> None:
        await serve_websocket(
            handle, "127.0.0.1", 0, None, max_message_size=MOST_NBYTES, task_status=task_status
        )

    async with trio.open_nursery() as nursery:
        announce((await nursery.start(serve)).port)


async def stock_dial(port: int, work: Work) -> None:
    """Do the work over one."""
    from trio_websocket import open_websocket_url

    async with open_websocket_url(
        f"ws://127.0.0.1:{port}", max_message_size=MOST_NBYTES
    ) as websocket:
        await work(StockLine(websocket))


class DaskLine(Line):
    """A comm of distributed's."""

    def __init__(self, comm: Any) -> None:
        protocol: Any = importlib.import_module("distributed.protocol")
        self._comm = comm
        self._wrap = protocol.to_serialize

    async def send(self, data: bytes) -> None:
        await self._comm.write(data if len(data) < BULK_NBYTES else self._wrap(data))

    async def receive(self) -> Any:
        return await self._comm.read()


def dask_listen(scheme: str) -> "Listen":
    """Serve one line."""

    async def serve(work: Work) -> None:
        comms: Any = importlib.import_module("distributed.comm")
        done = asyncio.Event()

        async def handle(comm: Any) -> None:
            await work(DaskLine(comm))
            await comm.close()
            done.set()

        async with comms.listen(f"{scheme}://127.0.0.1:0", handle) as listener:
            announce(int(listener.contact_address.rpartition(":")[2]))
            await done.wait()

    return serve


def dask_dial(scheme: str) -> "Dial":
    """Do the work over one."""

    async def dial(port: int, work: Work) -> None:
        comms: Any = importlib.import_module("distributed.comm")
        comm = await comms.connect(f"{scheme}://127.0.0.1:{port}")
        await work(DaskLine(comm))
        await comm.close()

    return dial


class SessionLine(Line):
    """Ours."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def send(self, data: bytes) -> None:
        if len(data) < BULK_NBYTES:
            await self._connection.send(data)
        else:
            await self._connection.send(b"", [data], resend=False)

    async def send_many(self, data: bytes, count: int) -> None:
        for _ in range(count):
            try:
                self._connection.send_nowait(data)
            except NotWritable:
                await self._connection.send(data)

    async def receive(self) -> Chunk:
        message = await self._connection.receive()
        assert isinstance(message, MessageReceived)
        return message.buffers[0] if message.buffers else message.body


async def session_listen(work: Work) -> None:
    """Serve one line."""
    done = trio.Event()

    async def handle(connection: Connection) -> None:
        await work(SessionLine(connection))
        async for _ in connection:
            pass
        done.set()

    us = Endpoint(role="holder", name="bench")
    async with open_listener(us, handle, token="bench") as listener:
        announce(listener.port)
        await done.wait()


async def session_dial(port: int, work: Work) -> None:
    """Do the work over one."""
    us = Endpoint(role="fetcher", name="bench")
    url = f"ws://127.0.0.1:{port}"
    async with connect(url, us, token="bench", resumable=True) as connection:
        await work(SessionLine(connection))


def run_asyncio(function: Callable[..., Coroutine[Any, Any, None]], *arguments: Any) -> None:
    """As `trio.run`."""
    asyncio.run(function(*arguments))


Listen: TypeAlias = Callable[[Work], Coroutine[Any, Any, None]]
Dial: TypeAlias = Callable[[int, Work], Coroutine[Any, Any, None]]

LINES: dict[str, tuple[Listen, Dial, Callable[..., Any]]] = {
    "raw TCP": (raw_listen, raw_dial, trio.run),
    "trio-websocket": (stock_listen, stock_dial, trio.run),
    "tcp://": (dask_listen("tcp"), dask_dial("tcp"), run_asyncio),
    "ws://": (dask_listen("ws"), dask_dial("ws"), run_asyncio),
    "trouper": (session_listen, session_dial, trio.run),
}
"""How each is listened to, dialled and run."""
