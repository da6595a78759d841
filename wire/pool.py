"""A pool of connections to listening peers: dialled when needed, kept for a while, never too many.

A connection is *leased* by one task at a time, which has it for itself. Given back in order it
becomes idle, and the next lease takes the one last used. It is dropped when the lease ends with an
exception, since nobody knows what would still come; when its session ends; when it was idle for too
long, or longest while others need its place; and when its peer is forgotten.

Which language is spoken on it is the endpoint's to require; see `Endpoint.required`.
"""

import logging
import math
import ssl
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import msgspec
import trio

from trouper.wire.connect import connect
from trouper.wire.connection import Connection
from trouper.wire.endpoint import Endpoint
from trouper.wire.errors import SessionLost
from trouper.wire.vocabulary import Peer

logger = logging.getLogger(__name__)


class PoolLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How many connections there may be, and for how long. Counts and seconds."""

    connections_per_peer: int = 2
    """Most to one peer; whoever needs another waits. A worker asks a peer one thing at a time, and
    the second is for what was cancelled and is being closed."""
    connections: int = 256
    """Most in all: a quarter of the files that a process may usually have open."""
    idle_s: float = 60.0
    """An idle connection is closed after this: it costs a heartbeat every few seconds, and making
    another one some round trips."""

    def __post_init__(self) -> None:
        """Whoever sets a limit that makes no sense learns it here.

        Raises:
            ValueError: A limit is not positive.
        """
        for name in self.__struct_fields__:
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} has to be positive, not {getattr(self, name)!r}")


class _Pooled:
    """A connection, and two ways to end it."""

    def __init__(self, peer: Peer, connection: Connection, cut: trio.CancelScope) -> None:
        self.peer = peer
        self.connection = connection
        self.cut = cut
        """At once and without a word."""
        self.leave = trio.CancelScope()
        """With a goodbye; its deadline is the end of its idle time."""


class Pool:
    """See the module's text; made by `open_pool`."""

    def __init__(
        self,
        us: Endpoint,
        nursery: trio.Nursery,
        *,
        token: str,
        tls: ssl.SSLContext | None,
        limits: PoolLimits,
    ) -> None:
        self._us = us
        self._nursery = nursery
        self._token = token
        self._tls = tls
        self._limits = limits
        self._counts: Counter[Peer] = Counter()
        """Of connections, by peer: those being dialled or closed too."""
        self._all: set[_Pooled] = set()
        self._idle: dict[_Pooled, None] = {}
        """Least recently used first."""
        self._changed = trio.lowlevel.ParkingLot()

    @property
    def connections(self) -> int:
        """How many there are, idle or not, being dialled and closed included."""
        return self._counts.total()

    @property
    def idle(self) -> int:
        """How many nobody has leased."""
        return len(self._idle)

    @asynccontextmanager
    async def lease(self, peer: Peer) -> AsyncGenerator[Connection]:
        """Have a connection for the length of an ``async with`` block.

        Waits while there are as many as there may be. If the block is left by an exception the
        connection is closed without a word, unless its session was abandoned before.

        Args:
            peer: ``ws://host:port`` or ``wss://host:port``.

        Raises:
            CannotConnect: The peer cannot be reached.
            SessionRefused: It does not let us in.
            ValueError: The address cannot be one.
        """
        pooled = await self._take(peer)
        try:
            yield pooled.connection
        except BaseException:
            if pooled.connection.session.ended is None:  # else it has last words to say
                pooled.cut.cancel()
            raise
        if pooled in self._all and pooled.connection.session.ended is None:
            pooled.leave.deadline = trio.current_time() + self._limits.idle_s
            self._idle[pooled] = None
            self._changed.unpark_all()

    def forget(self, peer: Peer) -> None:
        """Drop all connections to a peer; who has leased one finds its session lost."""
        for pooled in [pooled for pooled in self._all if pooled.peer == peer]:
            self._idle.pop(pooled, None)
            pooled.connection.abandon("the peer was removed")
            pooled.cut.cancel()

    def close(self) -> None:
        """Say goodbye on all connections."""
        for pooled in self._all:
            pooled.leave.cancel()

    async def wait_closed(self) -> None:
        """Until no connection is left."""
        while self._counts:
            await self._changed.park()

    async def _take(self, peer: Peer) -> _Pooled:
        while True:
            for pooled in reversed(self._idle):
                if pooled.peer == peer and not pooled.leave.cancel_called:
                    del self._idle[pooled]
                    pooled.leave.deadline = math.inf
                    return pooled
            if self._counts[peer] < self._limits.connections_per_peer:
                if self.connections < self._limits.connections:
                    dialled: _Pooled = await self._nursery.start(self._keep, peer)
                    return dialled
                self._make_room()
            await self._changed.park()

    def _make_room(self) -> None:
        """Close the idle connection that was used the longest time ago, unless one is closing."""
        if self._idle and not any(pooled.leave.cancel_called for pooled in self._all):
            pooled = next(iter(self._idle))
            del self._idle[pooled]
            pooled.leave.cancel()

    async def _keep(self, peer: Peer, task_status: trio.TaskStatus[_Pooled]) -> None:
        """The life of a connection."""
        self._counts[peer] += 1
        pooled: _Pooled | None = None
        try:
            with trio.CancelScope() as cut:
                async with connect(peer, self._us, token=self._token, tls=self._tls) as connection:
                    pooled = _Pooled(peer, connection, cut)
                    self._all.add(pooled)
                    task_status.started(pooled)
                    with pooled.leave:
                        await connection.wait_ended()
                    self._idle.pop(pooled, None)
        except SessionLost as error:
            logger.debug("the connection to %s did not end in order: %s", peer, error)
        finally:
            if pooled is not None:
                self._all.discard(pooled)
                self._idle.pop(pooled, None)
                # Whoever has it is not this task, and shall not wait for ever.
                pooled.connection.abandon("the connection was dropped")
            self._counts[peer] -= 1
            self._counts += Counter()  # without those that are zero
            self._changed.unpark_all()


@asynccontextmanager
async def open_pool(
    us: Endpoint,
    *,
    token: str = "",
    tls: ssl.SSLContext | None = None,
    limits: PoolLimits | None = None,
) -> AsyncGenerator[Pool]:
    """Pool connections for the length of an ``async with`` block; all leases end before it does.

    Leaving the block says goodbye on all of them; if it is left by an exception or a cancellation,
    they are closed without a word.

    Args:
        us: What this side says of itself, and which capabilities it requires of peers.
        token: What entitles to come in; empty for none.
        tls: Whom to trust with ``wss``, and what to show.
        limits: How many there may be, and for how long.
    """
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        pool = Pool(us, nursery, token=token, tls=tls, limits=limits or PoolLimits())
        try:
            yield pool
            pool.close()
            await pool.wait_closed()
        except Exception as error:  # noqa: BLE001 - is raised below
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:  # not from within the nursery, which would make a group of it
        raise failure
