"""How a node reaches its scheduler and other workers."""

import logging
import random
import ssl
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import trio

from trouper.actors.dask_fetch import get_data
from trouper.actors.dask_link import DaskLink
from trouper.actors.errors import PeerUnreachable
from trouper.actors.fetched import Answer
from trouper.runtime.cluster.addresses import websocket_url
from trouper.runtime.errors import NodeRefused
from trouper.wire.backoff import Backoff
from trouper.wire.connect import connect
from trouper.wire.endpoint import Endpoint
from trouper.wire.errors import CannotConnect, ProtocolError, SessionClosed, SessionRefused
from trouper.wire.vocabulary import Key, Peer

logger = logging.getLogger(__name__)


class Dialler:
    """Opens comms.

    Args:
        us: What the node says of itself.
        address: Where others reach the node.
        token: What entitles to connect; empty for none.
        tls: Whom to trust, and what to show.
    """

    def __init__(self, us: Endpoint, address: Peer, token: str, tls: ssl.SSLContext | None) -> None:
        self._us = us
        self._address = address
        self._token = token
        self._tls = tls

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
        try:
            async with self.dial(peer) as link:
                return await get_data(link, keys, self._address)
        except (CannotConnect, SessionRefused, SessionClosed, ProtocolError, ValueError) as error:
            raise PeerUnreachable(f"peer {peer}: {error}") from error
