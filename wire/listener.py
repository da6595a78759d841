"""`open_listener`: take connections, let in who may come, and handle the session of each."""

import logging
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import TypeAlias

import trio

from trouper.wire.connection import Connection
from trouper.wire.endpoint import Endpoint
from trouper.wire.errors import CannotConnect, ConnectionBroken, SessionClosed
from trouper.wire.reception import Admitted, Reception, Refused
from trouper.wire.websocket import WebSocket, answer

logger = logging.getLogger(__name__)

Handler: TypeAlias = Callable[[Connection], Awaitable[None]]


class Listener:
    """Who listens: where, and with whom it has sessions."""

    def __init__(
        self,
        us: Endpoint,
        handler: Handler,
        listeners: list[trio.SocketListener],
        token: str | None,
        tls: ssl.SSLContext | None,
    ) -> None:
        self.port: int = listeners[0].socket.getsockname()[1]
        """The one that it listens on."""
        self._limits = us.limits
        self._handler = handler
        self._tls = tls
        self._reception = Reception(us, token=token)
        self._connections: dict[str, Connection] = {}
        self._gone = trio.lowlevel.ParkingLot()
        self._places = trio.Semaphore(us.limits.max_greetings)
        """For connections that have not said hello."""
        self._listeners = [_Doorway(listener, self._places) for listener in listeners]

    @property
    def sessions(self) -> int:
        """How many there are that have not ended, or whose handlers have not."""
        return len(self._connections)

    async def serve(self, nursery: trio.Nursery) -> None:
        """Take connections, until cancelled; what they lead to is the nursery's."""

        async def take(stream: trio.SocketStream) -> None:
            await self._take(stream, nursery)

        await trio.serve_listeners(take, self._listeners, handler_nursery=nursery)

    async def end_sessions(self, *, failed: bool) -> None:
        """Say goodbye to everybody, or that we failed; handlers have a moment to see it."""
        for connection in list(self._connections.values()):
            if failed:
                connection.abandon("the listener has failed")
            else:
                connection.start_closing("the listener has nothing more to say")
        with trio.move_on_after(self._limits.goodbye_s):
            while self._connections:
                await self._gone.park()

    async def _take(self, stream: trio.SocketStream, nursery: trio.Nursery) -> None:
        """The life of one connection; trio closes it at the end."""
        try:
            welcomed = await self._greet(stream)
        finally:
            self._places.release()
        if welcomed is None:
            return
        # Nothing is awaited between admission and `carry`: no link is left without a carrier.
        socket, (session, link, events) = welcomed
        connection = self._connections.get(session.session_id)
        if connection is None:
            connection = Connection(session, self._limits)
            self._connections[session.session_id] = connection
            nursery.start_soon(self._handle, connection)
        connection.take(events)
        await connection.carry(link, socket)

    async def _greet(self, stream: trio.SocketStream) -> tuple[WebSocket, Admitted] | None:
        """Whom a connection belongs to; None if it was refused, and has been told why."""
        where = _address_of(stream)
        try:
            with trio.fail_after(self._limits.handshake_s):
                socket = await answer(stream, self._tls)
                answered = await self._hear(socket)
        except (CannotConnect, ConnectionBroken) as error:
            logger.warning("the connection from %s was refused: %s", where, error)
            return None
        except trio.TooSlowError:
            handshake_s = self._limits.handshake_s
            logger.warning(
                "the connection from %s was refused: no hello within %.3g s", where, handshake_s
            )
            return None
        if isinstance(answered, Admitted):
            return socket, answered
        code, reason, reply = answered
        logger.warning("the connection from %s was refused (%s): %s", where, code, reason)
        with trio.move_on_after(self._limits.goodbye_s), suppress(ConnectionBroken):
            await socket.send(reply)
            await socket.aclose()
        return None

    async def _hear(self, socket: WebSocket) -> Admitted | Refused:
        """What the hello leads to that comes over a WebSocket."""
        greeting = self._reception.greet()
        while True:
            received = await socket.receive()
            if socket.waiting:
                await socket.send(())
            binary = b"".join(data for data in received if not isinstance(data, str))
            answered = greeting.receive_data("" if "" in received else binary, trio.current_time())
            if answered is not None:
                return answered

    async def _handle(self, connection: Connection) -> None:
        """The life of one session."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(connection.watch_clock)
                try:
                    await self._handler(connection)
                except SessionClosed as error:
                    logger.info("%s %r: %s", connection.peer.role, connection.peer.name, error)
                if connection.session.ended is None:
                    connection.start_closing("the listener has nothing more to say")
                await connection.wait_ended()
                nursery.cancel_scope.cancel()
        finally:
            del self._connections[connection.session.session_id]
            self._gone.unpark_all()


def _address_of(stream: trio.SocketStream) -> str:
    try:
        host, port, *_ = stream.socket.getpeername()
    except OSError:  # it has gone already
        return "an unknown address"
    return f"{host}:{port}"


class _Doorway(trio.abc.Listener[trio.SocketStream]):
    """Accepts no more connections than there are places for strangers."""

    def __init__(self, listener: trio.SocketListener, places: trio.Semaphore) -> None:
        self._listener = listener
        self._places = places

    async def accept(self) -> trio.SocketStream:
        await self._places.acquire()
        try:
            return await self._listener.accept()
        except BaseException:
            self._places.release()
            raise

    async def aclose(self) -> None:
        await self._listener.aclose()


@asynccontextmanager
async def open_listener(
    us: Endpoint,
    handler: Handler,
    *,
    token: str | None,
    host: str = "127.0.0.1",
    port: int = 0,
    tls: ssl.SSLContext | None = None,
) -> AsyncGenerator[Listener]:
    """Listen for the length of an ``async with`` block.

    Leaving the block says goodbye in every session and waits, `Limits.goodbye_s` at most. If it is
    left by an exception the sessions are given up at once, and the peers are told; a cancellation
    closes all connections without a word.

    Args:
        us: What this side says of itself, and its limits.
        handler: Is given each new session; when it returns, the session is closed. It may let
            `SessionLost` pass; any other exception of a handler ends the listener.
        token: What a dialler has to bring; None if whoever can connect may come in.
        host: Where to listen; all interfaces if it is empty.
        port: Where to listen; a free one if 0.
        tls: The certificate to show, and whom to trust; see `trouper.wire.tls`. None for ``ws``.

    Raises:
        OSError: It cannot listen there.
    """
    listeners = await trio.open_tcp_listeners(port, host=host or None)
    listener = Listener(us, handler, listeners, token, tls)
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(listener.serve, nursery)
        try:
            yield listener
        except Exception as error:  # noqa: BLE001 - is raised below
            failure = error
        await listener.end_sessions(failed=failure is not None)
        nursery.cancel_scope.cancel()
    if failure is not None:  # not from within the nursery, which would make a group of it
        raise failure
