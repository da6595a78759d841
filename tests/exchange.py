"""A holder and a fetcher of values in this process, with real sockets between them."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

import trio
from pair import endpoint
from sides import QUICK
from test_connect import url_of

from trouper.actors.fetch import PeerFetcher
from trouper.actors.fetched import Fetched, Found
from trouper.actors.serve import PeerServer, ServingLimits
from trouper.wire.cbor import Chunk
from trouper.wire.codec import MessageDecoder, encode_message
from trouper.wire.connection import Connection
from trouper.wire.events import MessageReceived
from trouper.wire.limits import Limits
from trouper.wire.listener import Handler, Listener, open_listener
from trouper.wire.messages import PEER_EXCHANGE, PeerMessage
from trouper.wire.pool import Pool, open_pool
from trouper.wire.vocabulary import Key

PATIENCE_S = 20.0
MUCH = 1 << 40
FETCHER = endpoint("fetcher", QUICK, capabilities=(PEER_EXCHANGE,), required=(PEER_EXCHANGE,))
HOLDER = endpoint("holder", QUICK, capabilities=(PEER_EXCHANGE,))


class Fetching:
    """What a fetcher works with."""

    def __init__(self, listener: Listener, pool: Pool) -> None:
        self.listener = listener
        self.pool = pool
        self.url = url_of(listener.port)
        self.fetcher = PeerFetcher(pool)

    async def fetch(self, *keys: Key, max_nbytes: int = MUCH) -> Fetched:
        """What comes, which is not busy."""
        answer = await self.fetcher.fetch(self.url, keys, max_nbytes)
        assert isinstance(answer, Fetched)
        return answer


@asynccontextmanager
async def fetching_from(handler: Handler, limits: Limits = QUICK) -> AsyncGenerator[Fetching]:
    """A fetcher, and a holder that handles sessions like this."""
    holder = endpoint("holder", limits, capabilities=(PEER_EXCHANGE,))
    with trio.fail_after(PATIENCE_S):
        async with (
            open_listener(holder, handler, token=None) as listener,
            open_pool(FETCHER) as pool,
        ):
            yield Fetching(listener, pool)


class Shelf:
    """What a holder has."""

    def __init__(self, **values: object) -> None:
        self.values: dict[Key, object] = dict(values)

    def value_of(self, key: Key) -> Found | None:
        """For a `PeerServer`."""
        if key not in self.values:
            return None
        value = self.values[key]
        nbytes: int = getattr(value, "nbytes", 10)
        return Found(value, nbytes, type(value).__qualname__)

    def server(self, **limits: float) -> PeerServer:
        """Serves what is on the shelf."""
        chosen = ServingLimits(**limits)  # type: ignore[arg-type]
        return PeerServer(self.value_of, limits=chosen)


async def say(connection: Connection, message: PeerMessage, *buffers: Chunk) -> None:
    """Send a message."""
    await connection.send(encode_message(message), buffers)


async def hear(connection: Connection) -> tuple[PeerMessage, Sequence[Chunk]]:
    """The next message, and its buffers."""
    delivery = await connection.receive()
    assert isinstance(delivery, MessageReceived)
    return MessageDecoder().decode(delivery.body, delivery.buffers), delivery.buffers
