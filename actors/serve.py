"""Serves values to peers that speak `peer-exchange/1`: the other side of `trouper.actors.fetch`.

A `PeerServer` handles any number of sessions of a listener. It answers some requests at once, lets
some more wait, and says *busy* to the others. Whatever a fetcher sends, or leaves unread, ends its
session at most. What it was to be given stays alive while it is under way, and no longer than the
session.
"""

import logging
from collections.abc import Callable
from typing import TypeAlias

import msgspec
import trio

from trouper.actors.errors import text_of
from trouper.actors.fetched import Found
from trouper.actors.serialize import THREADS, in_thread, serialize
from trouper.wire import messages
from trouper.wire.cbor import Chunk
from trouper.wire.codec import MessageDecoder, encode_message
from trouper.wire.connection import Connection
from trouper.wire.errors import Code, NotEncodable, ProtocolError, SessionClosed, cut_reason
from trouper.wire.events import MessageReceived
from trouper.wire.limits import PACKET_PARTS
from trouper.wire.messages import Busy, DataReply, Failed, GetData, Unreadable
from trouper.wire.vocabulary import Key

logger = logging.getLogger(__name__)

ValueOf: TypeAlias = Callable[[Key], Found | None]
"""What is held under a key; None if there is nothing."""


class ServingLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How much a holder does for others. Counts, seconds and bytes."""

    serving: int = 8
    """Answers that are made and sent at once: enough to fill a network with some slow fetchers
    among them, and few enough that what they copy fits into memory."""
    waiting: int = 32
    """Requests that wait for their turn; further ones are told to come later, which costs them
    less than to wait for a minute."""
    taking_s: float = 30.0
    """An answer has to be taken in this time, and more for its length, see below."""
    slowest_nbytes_per_s: float = 1e5
    """A line of one megabit: whoever reads more slowly holds up others."""

    def __post_init__(self) -> None:
        """Whoever sets a limit that makes no sense learns it here.

        Raises:
            ValueError: A limit is not positive.
        """
        for name in self.__struct_fields__:
            if not (getattr(self, name) > 0 or (name == "waiting" and self.waiting == 0)):
                raise ValueError(f"{name} has to be positive, not {getattr(self, name)!r}")


class PeerServer:
    """See the module's text.

    Args:
        value_of: What is held under a key, say `Supervisor.value_of`.
        limits: How much is done for others.
        limiter: How many threads may serialise at once.
    """

    def __init__(
        self,
        value_of: ValueOf,
        *,
        limits: ServingLimits | None = None,
        limiter: trio.CapacityLimiter | None = None,
    ) -> None:
        self.requests = 0
        """How many are being served, or wait."""
        self._value_of = value_of
        self._limits = limits or ServingLimits()
        self._limiter = limiter or trio.CapacityLimiter(THREADS)
        self._turns = trio.Semaphore(self._limits.serving)

    async def serve(self, connection: Connection) -> None:
        """Answer a fetcher until its session ends. Raises nothing of what it says or does."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_cancel_at_end, connection, nursery.cancel_scope)
            try:
                await self._converse(connection)
            except SessionClosed as error:
                logger.info("fetcher %r: %s", connection.peer.name, error)
            nursery.cancel_scope.cancel()

    async def _converse(self, connection: Connection) -> None:
        decoder = MessageDecoder()
        async for delivery in connection:
            if not isinstance(delivery, MessageReceived):
                continue  # an answer of ours that was cut: the fetcher knows, and asks again
            try:
                message = decoder.decode(delivery.body, delivery.buffers)
                if not isinstance(message, GetData):
                    name = type(message).__name__
                    raise ProtocolError(Code.UNEXPECTED, f"a fetcher sends no {name}")
            except ProtocolError as error:
                logger.warning("fetcher %r is sent away: %s", connection.peer.name, error)
                connection.abandon(error.reason, error.code)
                return
            if self.requests >= self._limits.serving + self._limits.waiting:
                await connection.send(encode_message(Busy()))
            else:
                await self._serve(connection, message)

    async def _serve(self, connection: Connection, request: GetData) -> None:
        self.requests += 1
        try:
            async with self._turns:
                reply, buffers = await self._answer(request)
                await self._send(connection, reply, buffers)
        finally:
            self.requests -= 1

    async def _answer(self, request: GetData) -> tuple[DataReply | Failed, list[Chunk]]:
        """The answer to a request, and its buffers."""
        try:
            values: list[tuple[Key, Found]] = []
            missing: list[Key] = []
            for key in dict.fromkeys(request.keys):
                found = self._value_of(key)
                if found is None:
                    missing.append(key)
                else:
                    values.append((key, found))
            packing = _Packing(request.max_nbytes)
            await in_thread(
                lambda: packing.add_all(values),
                ((found.type_name, found.nbytes) for _, found in values),
                self._limiter,
            )
            return packing.reply(missing), packing.buffers
        except Exception as error:  # a fault of ours; the fetcher shall not suspect its own
            logger.exception("a request could not be answered")
            return Failed(cut_reason(f"{type(error).__name__}: {error}")), []

    async def _send(
        self, connection: Connection, reply: DataReply | Failed, buffers: list[Chunk]
    ) -> None:
        """Send an answer, and wait until the fetcher has taken it, as far as can be seen."""
        nbytes = sum(map(len, buffers))
        taking_s = self._limits.taking_s + nbytes / self._limits.slowest_nbytes_per_s
        with trio.move_on_after(taking_s) as scope:
            try:
                await connection.send(encode_message(reply), buffers, resend=False)
            except NotEncodable as error:
                await connection.send(encode_message(_too_large(reply, error)))
            await connection.wait_sent()
        if scope.cancelled_caught:
            reason = f"an answer of {nbytes:,} bytes was not taken within {taking_s:.3g} s"
            logger.warning("fetcher %r is sent away: %s", connection.peer.name, reason)
            connection.abandon(reason, Code.TIMEOUT)


async def _cancel_at_end(connection: Connection, scope: trio.CancelScope) -> None:
    """Who has gone waits for no turn."""
    await connection.wait_ended()
    scope.cancel()


def _too_large(reply: DataReply | Failed, error: NotEncodable) -> DataReply | Failed:
    """In the place of an answer that the fetcher does not take: one value is alone too large."""
    if isinstance(reply, DataReply) and len(reply.found) == 1:
        unreadable = Unreadable(reply.found[0].key, cut_reason(str(error)))
        return msgspec.structs.replace(reply, found=(), unreadable=(*reply.unreadable, unreadable))
    return Failed(cut_reason(str(error)))


class _Packing:
    """An answer that is being made: as many values as it may have."""

    def __init__(self, max_nbytes: int) -> None:
        self.buffers: list[Chunk] = []
        self._max_nbytes = max_nbytes
        self._nbytes = 0
        self._found: list[messages.Found] = []
        self._unreadable: list[Unreadable] = []
        self._left: list[Key] = []

    def add_all(self, values: list[tuple[Key, Found]]) -> None:
        """Add values until one is too many; the rest is left out."""
        for index, (key, found) in enumerate(values):
            if not self._add(key, found):
                self._left = [key for key, _ in values[index:]]
                return

    def reply(self, missing: list[Key]) -> DataReply:
        """The answer, with what is not held."""
        return DataReply(
            tuple(self._found), tuple(missing), tuple(self._unreadable), tuple(self._left)
        )

    def _add(self, key: Key, found: Found) -> bool:
        """Add a value; whether it fits."""
        if not self._has_room(found.nbytes, 1):  # before the work is done in vain
            return False
        try:
            buffers = serialize(found.value)
        except BaseException as error:  # noqa: BLE001 - a value may raise anything when asked
            why = f"{type(error).__name__}: {text_of(error)}"
            reason = f"a {found.type_name} cannot be serialised: {why}"
            self._unreadable.append(Unreadable(key, cut_reason(reason)))
            return True
        nbytes = sum(map(len, buffers))
        if not self._has_room(nbytes, len(buffers)):
            return False
        self._nbytes += nbytes
        self.buffers += buffers
        type_name = cut_reason(found.type_name)
        self._found.append(messages.Found(key, type_name, found.nbytes, len(buffers)))
        return True

    def _has_room(self, nbytes: int, buffers: int) -> bool:
        """Whether something fits; the first value always does."""
        if not self._found:
            return True
        fits = self._nbytes + nbytes <= self._max_nbytes
        return fits and 1 + len(self.buffers) + buffers <= PACKET_PARTS
