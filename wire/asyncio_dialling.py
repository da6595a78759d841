"""`open_session`: a session with whoever listens, on asyncio.

A resumable one makes its connections again when they are lost, in a task that only lives as long as
there is none.
"""

import asyncio
import logging
import random
import secrets
import ssl
from collections.abc import Callable

from trouper.wire.asyncio_connection import AsyncioConnection
from trouper.wire.asyncio_websocket import dial
from trouper.wire.backoff import Backoff
from trouper.wire.dialling import DialledSession
from trouper.wire.endpoint import Endpoint
from trouper.wire.errors import CannotConnect, SessionRefused

logger = logging.getLogger(__name__)


async def open_session(
    address: tuple[str, int],
    us: Endpoint,
    *,
    token: str = "",
    tls: ssl.SSLContext | None = None,
    server_hostname: str | None = None,
    resumable: bool = False,
    chance: Callable[[], float] = random.random,
) -> AsyncioConnection:
    """Connect, and open a session. It is the caller's to close or abandon.

    Args:
        address: Host and port.
        us: What this side says of itself, and its limits.
        token: What entitles to come in; empty for none.
        tls: Whom to trust, and what to show; None for a connection without TLS.
        server_hostname: Whose certificate is expected, if it is not the host's.
        resumable: Whether the session shall survive its connection, which is then made again.
        chance: Numbers from 0 up to 1, for the delays before that.

    Raises:
        CannotConnect: The first connection cannot be made; it is not tried again.
        SessionRefused: It was made, and the other side did not let us in.
        ValueError: The token cannot be one.
    """
    dialler = _Dialler(address, us, token, tls, server_hostname, resumable, chance)
    connection = dialler.connection
    try:
        await dialler.dial()
        refusal = await connection.wait_open_or_over()
    except BaseException:
        connection.abandon("the dialler does not want it any more")
        raise
    if refusal is not None:
        connection.abandon("it was not opened")
        raise SessionRefused(refusal.code, refusal.reason)
    return connection


class _Dialler:
    """The connections of one session."""

    def __init__(
        self,
        address: tuple[str, int],
        us: Endpoint,
        token: str,
        tls: ssl.SSLContext | None,
        server_hostname: str | None,
        resumable: bool,
        chance: Callable[[], float],
    ) -> None:
        self._address = address
        self._limits = us.limits
        self._tls = tls
        self._server_hostname = server_hostname
        self._backoff = Backoff(us.limits.retry_first_s, us.limits.retry_most_s, chance)
        self._session = DialledSession(us, secrets.token_hex(16), token=token, resumable=resumable)
        self._redialling: asyncio.Task[None] | None = None
        self.connection = AsyncioConnection(
            self._session, us.limits, when_link_lost=self._link_lost, when_ended=self._ended
        )

    async def dial(self) -> None:
        """Make a connection, and let the session have it."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._limits.handshake_s):
                socket = await dial(*self._address, self._tls, self._server_hostname)
        except TimeoutError:
            where, patience_s = ":".join(map(str, self._address)), self._limits.handshake_s
            raise CannotConnect(
                f"cannot connect to {where}: no answer within {patience_s:.3g} s"
            ) from None
        if self._session.ended:
            socket.abort()
            return
        self.connection.carry(self._session.connected(loop.time()), socket)

    def _link_lost(self) -> None:
        """The session waits for another connection."""
        if self.connection.opened == self._session.link:
            self._backoff.reset()
        if self._redialling is None or self._redialling.done():
            self._redialling = asyncio.get_running_loop().create_task(self._redial())

    def _ended(self) -> None:
        if self._redialling is not None:
            self._redialling.cancel()

    async def _redial(self) -> None:
        while True:  # the session's own clock ends it when nobody waits any more
            await asyncio.sleep(self._backoff.next_delay_s())
            try:
                await self.dial()
            except CannotConnect as error:
                logger.info("%s", error)
            else:
                return
