"""`connect`: a session with whoever listens, over connections that are made again when lost."""

import logging
import random
import secrets
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import trio

from trouper.wire.backoff import Backoff
from trouper.wire.connection import Connection
from trouper.wire.dialling import DialledSession
from trouper.wire.endpoint import Endpoint
from trouper.wire.errors import CannotConnect, SessionRefused
from trouper.wire.limits import Limits
from trouper.wire.websocket import WebSocket, dial

logger = logging.getLogger(__name__)


@asynccontextmanager
async def connect(
    url: str,
    us: Endpoint,
    *,
    token: str = "",
    tls: ssl.SSLContext | None = None,
    resumable: bool = False,
    chance: Callable[[], float] = random.random,
) -> AsyncGenerator[Connection]:
    """Open a session for the length of an ``async with`` block.

    Leaving the block says goodbye, and waits until what was sent has arrived. If it is left by an
    exception the session is given up at once, and the peer is told; a cancellation closes the
    connection without a word.

    Args:
        url: ``ws://host:port`` or ``wss://host:port``.
        us: What this side says of itself, and its limits.
        token: What entitles to come in; empty for none.
        tls: Whom to trust with ``wss``, and what to show; those whom the system trusts if None.
        resumable: Whether the session shall survive its connection, which is then made again.
        chance: Numbers from 0 up to 1, for the delays before that.

    Raises:
        CannotConnect: The first connection cannot be made; it is not tried again.
        SessionRefused: It was made, and the other side did not let us in.
        SessionLost: On leaving the block, if goodbye was not acknowledged.
        ValueError: The URL or the token cannot be one.
    """
    limits = us.limits
    session = DialledSession(us, secrets.token_hex(16), token=token, resumable=resumable)
    connection = Connection(session, limits)
    dial_in_time = partial(_dial, url, tls, limits)
    socket = await dial_in_time()
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.watch_clock)
        backoff = Backoff(limits.retry_first_s, limits.retry_most_s, chance)
        nursery.start_soon(_keep_linked, connection, session, socket, dial_in_time, backoff)
        try:
            await connection.wait_open_or_over()
            _raise_if_refused(connection)
            yield connection
            if session.ended is None:
                await connection.close("the dialler has nothing more to say")
        except Exception as error:  # noqa: BLE001 - is raised below
            failure = error
            connection.abandon("the dialler has failed")
        await connection.wait_ended()
        nursery.cancel_scope.cancel()
    if failure is not None:  # not from within the nursery, which would make a group of it
        raise failure


async def _dial(url: str, tls: ssl.SSLContext | None, limits: Limits) -> WebSocket:
    with trio.move_on_after(limits.handshake_s):
        return await dial(url, tls)
    raise CannotConnect(f"cannot connect to {url}: no answer within {limits.handshake_s:.3g} s")


def _raise_if_refused(connection: Connection) -> None:
    cause = connection.link_lost or connection.session.ended
    if not connection.opened and cause is not None:
        raise SessionRefused(cause.code, cause.reason)


async def _keep_linked(
    connection: Connection,
    session: DialledSession,
    socket: WebSocket,
    dial_in_time: Callable[[], Awaitable[WebSocket]],
    backoff: Backoff,
) -> None:
    """Give the session one connection after the other, until it has ended or was never open."""
    while True:
        link = session.connected(trio.current_time())
        await connection.carry(link, socket)
        if connection.opened == link:
            backoff.reset()
        if not connection.opened:
            return
        again: WebSocket | None = None
        while again is None:  # the session's own clock ends it when nobody waits any more
            if session.ended:
                return
            await trio.sleep(backoff.next_delay_s())
            try:
                again = await dial_in_time()
            except CannotConnect as error:
                logger.info("%s", error)
        socket = again
        if session.ended:
            await trio.aclose_forcefully(socket.stream)
            return
