"""How a node reaches its scheduler and other workers."""

import logging
import random
import ssl
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from weakref import WeakSet

import trio

from trouper.actors.dask_fetch import ask_for_data, load_data
from trouper.actors.dask_link import DaskLink
from trouper.actors.dask_tcp import SCHEMES, dial_tcp
from trouper.actors.errors import PeerUnreachable
from trouper.actors.fetched import Answer
from trouper.runtime.cluster.addresses import websocket_url
from trouper.runtime.errors import NodeRefused
from trouper.wire.backoff import Backoff
from trouper.wire.connect import connect
from trouper.wire.connection import Connection
from trouper.wire.endpoint import Endpoint
from trouper.wire.errors import CannotConnect, ProtocolError, SessionClosed, SessionRefused
from trouper.wire.pool import Pool, open_pool
from trouper.wire.vocabulary import Key, Peer

logger = logging.getLogger(__name__)


class Dialler:
    """Opens comms. Those on which values are fetched are kept for a while, in a pool.

    Made by `open_dialler`.

    Args:
        us: What the node says of itself.
        address: Where others reach the node.
        token: What entitles to connect; empty for none.
        tls: Whom to trust, and what to show.
        pool: Of connections to other workers.
    """

    def __init__(
        self, us: Endpoint, address: Peer, token: str, tls: ssl.SSLContext | None, pool: Pool
    ) -> None:
        self._us = us
        self._address = address
        self._token = token
        self._tls = tls
        self._pool = pool
        self._greeted = WeakSet[Connection]()
        """The pool's connections on which both sides have said what they can do."""

    @asynccontextmanager
    async def dial(self, address: str, *, resumable: bool = False) -> AsyncGenerator[DaskLink]:
        """A comm for the length of an ``async with`` block.

        Raises:
            CannotConnect: Nobody answers there.
            SessionRefused: Somebody does, and does not let us in.
            ProtocolError: It is no Dask comm.
        """
        url = websocket_url(address)
        async with connect(
            url, self._us, token=self._token, tls=self._tls, resumable=resumable
        ) as connection:
            link = DaskLink(connection)
            await link.shake_hands()
            yield link

    async def dial_patiently(
        self, stack: AsyncExitStack, address: str, deadline: float
    ) -> DaskLink:
        """A comm that resumes, for as long as `stack` is open; tried again until the deadline.

        Raises:
            CannotConnect: Nobody has answered in time.
            SessionRefused: Somebody has, and does not let us in.
            NodeRefused: Who answers is no scheduler of Dask's.
        """
        limits = self._us.limits
        backoff = Backoff(limits.retry_first_s, limits.retry_most_s, random.random)
        while True:
            try:
                return await stack.enter_async_context(self.dial(address, resumable=True))
            except ProtocolError as error:
                raise NodeRefused(f"{address} is no scheduler of Dask's: {error}") from error
            except (CannotConnect, SessionClosed) as error:
                delay_s = backoff.next_delay_s()
                if trio.current_time() + delay_s >= deadline:
                    raise CannotConnect(str(error)) from error
                logger.info("%s; trying again", error)
            await trio.sleep(delay_s)

    async def fetch(self, peer: Peer, keys: Sequence[Key], max_nbytes: int) -> Answer:
        """The link of the gather actor: see `trouper.actors.fetched.Fetch`."""
        if peer.startswith(SCHEMES):  # a stock worker
            async with dial_tcp(peer, self._tls, self._us.limits) as tcp_link:
                answer = await ask_for_data(tcp_link, keys, self._address)
            return await load_data(answer)
        try:
            async with self._pool.lease(websocket_url(peer)) as connection:
                answer = await ask_for_data(await self._link_on(connection), keys, self._address)
        except (CannotConnect, SessionRefused, SessionClosed, ProtocolError, ValueError) as error:
            raise PeerUnreachable(f"peer {peer}: {error}") from error
        return await load_data(answer)

    async def _link_on(self, connection: Connection) -> DaskLink:
        """The comm on a connection, which begins when it is new."""
        link = DaskLink(connection)
        if connection not in self._greeted:
            await link.shake_hands()
            self._greeted.add(connection)
        return link

    def forget(self, peer: Peer) -> None:
        """A worker is gone: keep no connection to it."""
        with suppress(ValueError):  # one of another scheme, to which there is none
            self._pool.forget(websocket_url(peer))


@asynccontextmanager
async def open_dialler(
    us: Endpoint, address: Peer, token: str, tls: ssl.SSLContext | None
) -> AsyncGenerator[Dialler]:
    """A dialler for the length of an ``async with`` block; see `Dialler`."""
    async with open_pool(us, token=token, tls=tls) as pool:
        yield Dialler(us, address, token, tls, pool)
