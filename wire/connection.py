"""A session at work: what its user holds, and the tasks that drive it over its connections.

`Connection` is the same on both sides. `trouper.wire.connect` and `trouper.wire.listener` own one
and its nursery, make connections or take them, and give each to `carry`.

A session is told of everything as it happens (`_take`): then its deadline may have moved, and it
may have something to say, or room for more. Whoever waits for one of these looks again.
"""

from collections.abc import Sequence
from typing import TypeAlias, cast

import trio
from trio.lowlevel import checkpoint, checkpoint_if_cancelled

from trouper.wire.cbor import Chunk
from trouper.wire.errors import Code, ConnectionBroken, SessionClosed, SessionLost
from trouper.wire.events import (
    Ended,
    Established,
    IncomingLost,
    LinkLost,
    MessageReceived,
    OutgoingLost,
    Peer,
    Resumed,
    SessionEvent,
)
from trouper.wire.inbox import Inbox
from trouper.wire.limits import Limits
from trouper.wire.session import Session
from trouper.wire.websocket import WebSocket

Delivery: TypeAlias = MessageReceived | IncomingLost | OutgoingLost
"""What a user receives: messages; and of those sent with ``resend=False``, which were lost."""

_CHANGES = {Established, Resumed, LinkLost, Ended}
"""What else a session tells: it has another connection, or none, or is over."""

_WITHOUT_PAUSE = 64
"""So many messages are sent or received before other tasks run, which costs more than they do."""

_WITHOUT_WRITER = 256
"""So many messages are sent before they are written, even if the writer cannot run: so the other
side has something to do meanwhile."""


class Connection:
    """One session with a peer, over successive connections.

    Its users `send`, iterate over what arrives, and `close`. Any number of tasks may send, and one
    may receive.
    """

    def __init__(self, session: Session, limits: Limits) -> None:
        self.session = session
        self.link_lost: LinkLost | None = None
        """How the last connection was lost."""
        self.opened = 0
        """The last link on which the session was open."""
        self._limits = limits
        self._inbox: Inbox[Delivery] = Inbox()
        self._paused = False
        """Whether nothing is read because nobody takes what has arrived."""
        self._closing = False
        self._without_pause = 0
        self._answering = False
        """Whether somebody has waited for a message, and not sent one since."""
        self._at_rest: tuple[int, WebSocket] | None = None
        """The link whose writer waits until there is something to write."""
        self._writer_sleeps = False
        """Whether it has to be told when there is."""
        self._scopes: dict[int, trio.CancelScope] = {}
        """Of the links that are carried."""
        self._alarm = trio.CancelScope()
        self._arrived = trio.lowlevel.ParkingLot()
        self._taken = trio.lowlevel.ParkingLot()
        self._to_write = trio.lowlevel.ParkingLot()
        self._to_send = trio.lowlevel.ParkingLot()
        self._changed = trio.lowlevel.ParkingLot()

    # what its user says

    @property
    def peer(self) -> Peer:
        """Who is on the other side."""
        assert self.session.peer is not None, "a connection is handed out when it is open"
        return self.session.peer

    async def send(self, body: Chunk, buffers: Sequence[Chunk] = (), *, resend: bool = True) -> int:
        """Queue a message, as soon as there is room for it; its sequence number.

        What is sent without a pause leaves in one WebSocket message: other tasks run when there is
        no room, or after some messages. But who has waited in `receive` is taken to answer: the
        first message that is sent then leaves at once. See `Session.send`.

        Raises:
            NotEncodable: It is longer than the peer takes, or has too many buffers.
            SessionLost: The session has ended otherwise than by a goodbye.
            SessionClosed: It has ended, or is closing.
        """
        if self._pause_is_due():
            await checkpoint()
        else:
            await checkpoint_if_cancelled()
        while not (self.session.writable or self._closing or self.session.ended):
            await self._to_send.park()
        return self.send_nowait(body, buffers, resend=resend)

    def send_nowait(
        self, body: Chunk, buffers: Sequence[Chunk] = (), *, resend: bool = True
    ) -> int:
        """The same without waiting. Of many messages, some are written now and then.

        Raises:
            NotWritable: There is no room: see `send`, which waits for it.
        """
        try:
            sequence = self.session.send(body, buffers, resend=resend)
        except SessionClosed:
            self._raise_if_lost()
            raise
        if self._answering or not sequence % _WITHOUT_WRITER:
            self._answering = False
            self._write_now()
        elif self._writer_sleeps:
            self._wake_writer()
        return sequence

    async def receive(self) -> Delivery:
        """What has arrived, in order.

        Raises:
            SessionLost: All was taken, and the session has ended otherwise than by a goodbye.
            SessionClosed: All was taken, and it has ended.
        """
        if not self._inbox:
            await self._wait_for_delivery()
        elif self._pause_is_due():
            await checkpoint()
        else:
            await checkpoint_if_cancelled()
        delivery = self._inbox.popleft()
        if self._paused:
            self._taken.unpark_all()
        return delivery

    async def wait_sent(self) -> None:
        """Until all that was queued has been given to the network, but for a last packet.

        Raises:
            SessionLost: The session has ended before, otherwise than by a goodbye.
        """
        while not (self.session.all_sent or self.session.ended):
            await self._to_send.park()
        self._raise_if_lost()

    def __aiter__(self) -> "Connection":
        return self

    async def __anext__(self) -> Delivery:
        try:
            return await self.receive()
        except SessionLost:
            raise
        except SessionClosed:
            raise StopAsyncIteration from None

    async def close(self, reason: str) -> None:
        """End the session after what was sent before has arrived; wait until it is so.

        Raises:
            SessionLost: It has ended otherwise; some of what was sent may not have arrived.
        """
        self.start_closing(reason)
        await self.wait_ended()
        self._raise_if_lost()

    # what its owner says

    def start_closing(self, reason: str) -> None:
        """Say goodbye."""
        self._closing = True
        self._taken.unpark_all()
        self.take(self.session.close(reason, trio.current_time()))

    def abandon(self, reason: str, code: Code = Code.ABANDONED) -> None:
        """End the session at once; the peer is told, if it can be."""
        self.take(self.session.abandon(reason, code))

    async def wait_ended(self) -> None:
        """Until the session has ended and its last words are said."""
        while self.session.ended is None or self._scopes:
            await self._changed.park()

    async def wait_open_or_over(self) -> None:
        """Until the session was open for the first time, or the first link was lost before."""
        while not (self.opened or self.session.ended or self.link_lost):
            await self._changed.park()

    async def watch_clock(self) -> None:
        """Tell the session when its deadlines pass, until it has ended."""
        while self.session.ended is None:
            with self._alarm:
                await trio.sleep_forever()
            self._alarm = trio.CancelScope()
            now = trio.current_time()
            if self._paused:
                # Who does not read cannot say that the peer is silent.
                self.take(self.session.receive_data(self.session.link, b"", now))
            self.take(self.session.handle_timeout(now))

    async def carry(self, link: int, socket: WebSocket) -> None:
        """Let a link of the session have a connection, until it is lost; the connection is closed.

        After a loss there is nothing more to say. When the session has ended there are last words,
        and some time for them.
        """
        try:
            with trio.CancelScope() as self._scopes[link]:
                self._set_deadlines()
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._read, link, socket)
                    await self._write(link, socket)
                    nursery.cancel_scope.cancel()
                await socket.aclose()
        finally:
            del self._scopes[link]
            await trio.aclose_forcefully(socket.stream)
            self._changed.unpark_all()

    def take(self, events: list[SessionEvent]) -> None:
        """What a session has told, whenever it was told something."""
        if events:
            if _CHANGES.isdisjoint(map(type, events)):  # most often all is for the user
                deliveries: Sequence[Delivery] = cast("list[Delivery]", events)
            else:
                deliveries = self._take_changes(events)
            if deliveries:
                self._inbox.put(deliveries, self.session.received_nbytes)
            self._arrived.unpark_all()
        if self._to_send and (self.session.writable or self.session.ended):
            self._to_send.unpark_all()
        if self.session.waiting or not self.session.linked:
            self._wake_writer()
        self._set_deadlines()

    # how it goes on inside

    def _take_changes(self, events: list[SessionEvent]) -> list[Delivery]:
        """The session has another connection, or none, or is over; what else is told."""
        self._changed.unpark_all()
        deliveries: list[Delivery] = []
        for event in events:
            match event:
                case LinkLost():
                    self.link_lost = event
                    if event.link in self._scopes:
                        self._scopes[event.link].cancel()
                case Ended():
                    silent = event.code is Code.TIMEOUT and not event.by_peer
                    if silent and not self.session.waiting:  # there is nobody to say anything to
                        for scope in self._scopes.values():
                            scope.cancel()
                case Established() | Resumed():
                    self.opened = event.link
                case _:
                    deliveries.append(event)
        return deliveries

    def _pause_is_due(self) -> bool:
        """Whether to let other tasks run, as so much was sent or received since they did."""
        self._without_pause = (self._without_pause + 1) % _WITHOUT_PAUSE
        return self._without_pause == 0

    async def _wait_for_delivery(self) -> None:
        while not self._inbox:
            self._raise_if_lost()
            if self.session.ended:
                raise SessionClosed("the session has ended, and all that came was taken")
            await self._arrived.park()
        self._answering = True

    @trio.lowlevel.enable_ki_protection
    def _write_now(self) -> None:
        """Write a packet without the writer, to which is left what the connection does not take.

        Whoever has waited for a message may be waited for, and the way through the writer takes
        longer than a small message does.
        """
        if self._at_rest is None:
            return  # the writer is at it, and looks again
        link, socket = self._at_rest
        if socket.waiting:
            return  # it is about to be
        chunks = self.session.data_to_send(link, trio.current_time())
        if not chunks:
            return  # the link is lost already
        try:
            socket.send_now(chunks)
        except ConnectionBroken as broken:
            self.take(self.session.connection_lost(link, str(broken), trio.current_time()))
        if socket.waiting or self.session.waiting:
            self._wake_writer()
        self._set_deadlines()

    def _set_deadlines(self) -> None:
        """Wake the clock in time, and give last words the time that they have."""
        if self.session.ended is None:
            # Too early does no harm, and costs less than to move it with every message.
            deadline = self.session.next_deadline()
            if deadline is not None and deadline < self._alarm.deadline:
                self._alarm.deadline = deadline
            return
        self._alarm.cancel()
        until = trio.current_time() + self._limits.goodbye_s
        for scope in self._scopes.values():
            scope.deadline = min(scope.deadline, until)

    async def _read(self, link: int, socket: WebSocket) -> None:
        try:
            while True:
                if self._inbox.nbytes >= self._limits.inbox_nbytes:
                    await self._wait_for_taker()
                buffer = self.session.get_buffer(link) if socket.payload_left else None
                if buffer is not None:
                    with buffer:
                        nbytes = await socket.receive_into(buffer)
                    now = trio.current_time()
                    self.take(self.session.buffer_updated(link, nbytes, now))
                    continue
                for data in await socket.receive():
                    self.take(self.session.receive_data(link, data, trio.current_time()))
                if socket.waiting:
                    self._wake_writer()
        except ConnectionBroken as broken:
            self.take(self.session.connection_lost(link, str(broken), trio.current_time()))

    async def _wait_for_taker(self) -> None:
        """While there is more than a user has taken; but a goodbye has to be heard."""
        try:
            while self._inbox.nbytes >= self._limits.inbox_nbytes and not self._closing:
                self._paused = True
                await self._taken.park()
        finally:
            self._paused = False

    async def _write(self, link: int, socket: WebSocket) -> None:
        try:
            while True:
                chunks = self.session.data_to_send(link, trio.current_time())
                if chunks or socket.waiting:
                    self._set_deadlines()
                    if self.session.writable:
                        self._to_send.unpark_all()
                    await socket.send(chunks)
                elif self.session.link != link or not self.session.linked:
                    return
                else:
                    await self._rest(link, socket)
        except ConnectionBroken as broken:
            self.take(self.session.connection_lost(link, str(broken), trio.current_time()))

    def _wake_writer(self) -> None:
        """It looks again whether there is something to write."""
        self._writer_sleeps = False
        self._to_write.unpark_all()

    async def _rest(self, link: int, socket: WebSocket) -> None:
        """Until there is something to write; meanwhile, others may."""
        self._at_rest = at_rest = (link, socket)
        self._writer_sleeps = True
        try:
            await self._to_write.park()
        finally:
            if self._at_rest is at_rest:
                self._at_rest = None

    def _raise_if_lost(self) -> None:
        ended = self.session.ended
        if ended is not None and ended.code is not Code.GOODBYE:
            raise SessionLost(ended.code, ended.reason, ended.unconfirmed)
