"""Fetches values from peers that speak `peer-exchange/1`, over a pool of connections.

A request has a connection for itself until its answer has come; the answer is deserialised after
that, in a thread, which no cancellation can stop: it is waited for. What a holder says is checked:
an answer to something else ends the session.
"""

from collections.abc import Iterator, Sequence
from functools import partial

import trio

from trouper.actors.errors import PeerUnreachable, ValueUnreadable, text_of
from trouper.actors.fetched import Answer, Fetched, Found, PeerBusy
from trouper.actors.job import is_ours
from trouper.actors.serialize import THREADS, deserialize, in_thread
from trouper.wire import messages
from trouper.wire.cbor import Chunk
from trouper.wire.codec import MessageDecoder, encode_message
from trouper.wire.connection import Connection
from trouper.wire.errors import (
    CannotConnect,
    Code,
    NotEncodable,
    ProtocolError,
    SessionClosed,
    SessionRefused,
)
from trouper.wire.events import MessageReceived
from trouper.wire.messages import MAX_KEYS, Busy, DataReply, Failed, GetData
from trouper.wire.pool import Pool
from trouper.wire.vocabulary import Key, Peer


class PeerFetcher:
    """See the module's text. Its `fetch` is a `trouper.actors.fetched.Fetch`.

    Args:
        pool: Of connections to peers that can do `PEER_EXCHANGE`.
        limiter: How many threads may deserialise at once.
    """

    def __init__(self, pool: Pool, *, limiter: trio.CapacityLimiter | None = None) -> None:
        self._pool = pool
        self._limiter = limiter or trio.CapacityLimiter(THREADS)

    async def fetch(self, peer: Peer, keys: Sequence[Key], max_nbytes: int) -> Answer:
        """Ask a peer for values, once; see `Fetch`."""
        asked, request, unsayable = _request(keys[:MAX_KEYS], max_nbytes)
        left = frozenset(keys[MAX_KEYS:])
        if not asked:
            return Fetched({}, unsayable, left)
        try:
            async with self._pool.lease(peer) as connection:
                reply, buffers = await _ask(connection, asked, request)
        except SessionRefused as error:
            if error.code is Code.BUSY:
                return PeerBusy()
            raise PeerUnreachable(f"peer {peer} lets nobody in: {error}") from error
        except (CannotConnect, SessionClosed, ProtocolError) as error:
            raise PeerUnreachable(f"peer {peer} gives no answer: {error}") from error
        except ValueError as error:
            raise PeerUnreachable(f"peer {peer!r} has no address to connect to: {error}") from error
        if isinstance(reply, Busy):
            return PeerBusy()
        if isinstance(reply, Failed):
            failed = ValueUnreadable(f"peer {peer} could not answer: {reply.reason}")
            return Fetched({}, {**unsayable, **dict.fromkeys(asked, failed)}, left)
        opened = await in_thread(
            partial(_open, peer, reply, buffers),
            ((found.type_name, found.nbytes) for found in reply.found),
            self._limiter,
        )
        opened.unreadable.update(unsayable)
        return Fetched(opened.found, opened.unreadable, left.union(reply.left))


def _request(
    keys: Sequence[Key], max_nbytes: int
) -> tuple[tuple[Key, ...], bytes, dict[Key, Exception]]:
    """The keys that a request can have in it, the request, and why it cannot have the others."""
    try:
        return tuple(keys), encode_message(GetData(tuple(keys), max_nbytes)), {}
    except NotEncodable:
        unsayable = {key: error for key in keys if (error := _why_unsayable(key)) is not None}
    asked = tuple([key for key in keys if key not in unsayable])
    return asked, encode_message(GetData(asked, max_nbytes)) if asked else b"", unsayable


def _why_unsayable(key: Key) -> Exception | None:
    try:
        encode_message(GetData((key,), 0))
    except NotEncodable as error:
        return error
    return None


async def _ask(
    connection: Connection, keys: tuple[Key, ...], request: bytes
) -> tuple[DataReply | Busy | Failed, Sequence[Chunk]]:
    """What the holder answers.

    Raises:
        ProtocolError: It is no answer to this. The session is given up.
        SessionClosed: The session is lost, or the holder has closed it.
    """
    await connection.send(request)
    delivery = await connection.receive()
    try:
        if not isinstance(delivery, MessageReceived):
            raise ProtocolError(Code.UNEXPECTED, "the answer was lost in a session that goes on")
        reply = MessageDecoder().decode(delivery.body, delivery.buffers)
        if isinstance(reply, GetData):
            raise ProtocolError(Code.UNEXPECTED, "a holder asks a fetcher for values")
        if isinstance(reply, DataReply):
            _check(reply, keys)
    except ProtocolError as error:
        connection.abandon(error.reason, error.code)
        raise
    return reply, delivery.buffers


def _check(reply: DataReply, keys: tuple[Key, ...]) -> None:
    """Whether each key that was asked for is in one place of a reply, and no other.

    Raises:
        ProtocolError: It is not so.
    """
    told = [
        *(found.key for found in reply.found),
        *(unreadable.key for unreadable in reply.unreadable),
        *reply.missing,
        *reply.left,
    ]
    if len(told) != len(keys) or set(told) != set(keys):
        raise ProtocolError(
            Code.MALFORMED, "a data-reply does not tell once of each key that was asked for"
        )


def _open(peer: Peer, reply: DataReply, buffers: Sequence[Chunk]) -> Fetched:
    """The values in a reply. Raises nothing."""
    opened = Fetched({}, {})
    for unreadable in reply.unreadable:
        opened.unreadable[unreadable.key] = ValueUnreadable(
            f"peer {peer} cannot send the value of {unreadable.key!r}: {unreadable.reason}"
        )
    for found, parts in _parted(reply, buffers):
        try:
            opened.found[found.key] = Found(deserialize(parts), found.nbytes, found.type_name)
        except BaseException as error:  # noqa: BLE001 - of whatever is not as it was at the holder
            why = ValueUnreadable(
                f"the value of {found.key!r}, a {found.type_name} of peer {peer}, cannot be read "
                f"here: {type(error).__name__}: {text_of(error)}"
            )
            # Without our own part, whose frames would keep the buffers as long as the error.
            traceback = error.__traceback__
            while traceback is not None and is_ours(traceback):
                traceback = traceback.tb_next
            why.__cause__ = error.with_traceback(traceback)
            opened.unreadable[found.key] = why
    return opened


def _parted(
    reply: DataReply, buffers: Sequence[Chunk]
) -> Iterator[tuple[messages.Found, Sequence[Chunk]]]:
    """Each value with its own buffers; the decoder has counted them."""
    begin = 0
    for found in reply.found:
        yield found, buffers[begin : begin + found.buffers]
        begin += found.buffers
