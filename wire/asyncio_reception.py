"""Take connections on asyncio, let in who may come, and let sessions have their connections."""

import asyncio
import logging
import socket as sockets
import ssl
from collections.abc import Callable, Sequence

from trouper.wire.asyncio_connection import AsyncioConnection
from trouper.wire.asyncio_websocket import AsyncioWebSocket
from trouper.wire.cbor import Chunk
from trouper.wire.endpoint import Endpoint
from trouper.wire.limits import Limits
from trouper.wire.reception import Admitted, Greeting, Reception, Refused
from trouper.wire.upgrade import Upgrade

logger = logging.getLogger(__name__)


class AsyncioReception:
    """Who listens.

    Args:
        us: What this side says of itself, and its limits.
        taker: Is given each new session, at once; never one that is resumed.
        token: What a dialler has to bring; None if whoever can connect may come in.
        tls: The certificate to show, and whom to trust; None for connections without TLS.
    """

    def __init__(
        self,
        us: Endpoint,
        taker: Callable[[AsyncioConnection], None],
        *,
        token: str | None,
        tls: ssl.SSLContext | None,
    ) -> None:
        self._limits = us.limits
        self._taker = taker
        self._tls = tls
        self._reception = Reception(us, token=token)
        self._servers: list[asyncio.Server] = []
        self._connections: dict[str, AsyncioConnection] = {}
        self._greeters: set[_Greeter] = set()

    async def listen(self, bound: Sequence[sockets.socket], backlog: int) -> None:
        """Take connections from these sockets, until `stop`."""
        loop = asyncio.get_running_loop()
        for one in bound:
            server = await loop.create_server(
                self._new_socket,
                sock=one,
                backlog=backlog,
                ssl=self._tls,
                ssl_handshake_timeout=self._limits.handshake_s if self._tls else None,
            )
            self._servers.append(server)

    def stop(self) -> None:
        """Take no more, neither those that have not said hello; sessions go on."""
        for server in self._servers:
            server.close()
        for greeter in list(self._greeters):
            greeter.give_up("the listener has stopped")

    def admit(self, socket: AsyncioWebSocket, admitted: Admitted) -> None:
        """Let a session have its connection."""
        session, link, events = admitted
        connection = self._connections.get(session.session_id)
        if connection is not None:
            connection.take(events)
            connection.carry(link, socket)
            return
        connection = AsyncioConnection(
            session, self._limits, when_ended=lambda: self._forget(session.session_id)
        )
        self._connections[session.session_id] = connection
        connection.take(events)
        connection.carry(link, socket)
        self._taker(connection)

    def _forget(self, session_id: str) -> None:
        del self._connections[session_id]

    def _new_socket(self) -> AsyncioWebSocket:
        """A connection has come. More strangers than may be are shown the door at once."""
        greeter = _Greeter(self, self._reception.greet(), self._limits, self._greeters)
        if len(self._greeters) > self._limits.max_greetings:
            greeter.give_up("too many connections have not said hello")
        return greeter.socket


class _Greeter:
    """A connection of which it is not known yet where it belongs."""

    def __init__(
        self,
        reception: AsyncioReception,
        greeting: Greeting,
        limits: Limits,
        greeters: "set[_Greeter]",
    ) -> None:
        self.socket = AsyncioWebSocket(self, Upgrade(client=False), client=False)
        self._reception = reception
        self._greeting = greeting
        self._limits = limits
        self._greeters = greeters
        greeters.add(self)
        self._alarm = asyncio.get_running_loop().call_later(
            limits.handshake_s, self.give_up, f"no hello within {limits.handshake_s:.3g} s"
        )

    def give_up(self, reason: str) -> None:
        """Let go of the connection."""
        self._refused(reason)
        self.socket.abort()

    def upgraded(self, socket: AsyncioWebSocket) -> None:
        """Next comes the hello."""

    def received(self, socket: AsyncioWebSocket, data: Chunk | str) -> None:
        """Part of a hello, maybe all of it."""
        answered = self._greeting.receive_data(data, asyncio.get_running_loop().time())
        if isinstance(answered, Admitted):
            self._done()
            self._reception.admit(socket, answered)
        elif isinstance(answered, Refused):
            self._refused(f"{answered.reason} ({answered.code})")
            if answered.reply:
                socket.send(answered.reply)
            socket.finish(self._limits.goodbye_s)

    def writable(self, socket: AsyncioWebSocket) -> None:
        """It has nothing to write."""

    def broken(self, socket: AsyncioWebSocket, reason: str) -> None:
        """It has gone, or speaks something else."""
        self._refused(reason)

    def _refused(self, reason: str) -> None:
        self._done()
        where = self.socket.extra_info("peername")
        logger.warning("the connection from %s was refused: %s", where, reason)

    def _done(self) -> None:
        self._alarm.cancel()
        self._greeters.discard(self)
