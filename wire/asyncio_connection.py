"""A session at work on asyncio, over successive connections: `trouper.wire.connection` for Dask.

Everything that happens is a callback: bytes, room to write, time. So an established session has no
task of its own, and nothing that could be left behind. A session is told of everything as it
happens (`take`); then it may have something to say, room for more, or another deadline.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeAlias

from trouper.wire.asyncio_websocket import AsyncioWebSocket
from trouper.wire.cbor import Chunk
from trouper.wire.errors import Code, SessionClosed, SessionLost
from trouper.wire.events import (
    Ended,
    Established,
    IncomingLost,
    LinkLost,
    MessageReceived,
    OutgoingLost,
    Resumed,
    SessionEvent,
)
from trouper.wire.inbox import Inbox
from trouper.wire.limits import Limits
from trouper.wire.session import Session

_Waiters: TypeAlias = set[asyncio.Future[None]]


class AsyncioConnection:
    """One session with a peer, over successive connections.

    Any number of tasks may send, and one may receive. Not for another thread than the loop's.

    Args:
        session: What it drives.
        limits: Those of this side.
        when_ended: Is called when the session has ended.
        when_link_lost: Is called when it waits for another connection.
    """

    def __init__(
        self,
        session: Session,
        limits: Limits,
        *,
        when_ended: Callable[[], None],
        when_link_lost: Callable[[], None] | None = None,
    ) -> None:
        self.session = session
        self.opened = 0
        """The last link on which the session was open."""
        self.first_socket: AsyncioWebSocket | None = None
        self.prepare: Callable[[AsyncioWebSocket], None] | None = None
        """Is called with each connection from now on, say to set options of it."""
        self._limits = limits
        self._link_lost: LinkLost | None = None
        """How the last connection was lost."""
        self._when_ended = when_ended
        self._when_link_lost = when_link_lost
        self._loop = asyncio.get_running_loop()
        self._links: dict[AsyncioWebSocket, int] = {}
        """The connections that are carried, of which the newest is in use."""
        self._inbox: Inbox[MessageReceived] = Inbox()
        self._closing = False
        self._paused = False
        """Whether nothing is read because nobody takes what has arrived."""
        self._waiting: _Waiters = set()
        """Who waits for something to happen, and looks again when it does."""
        self._senders: _Waiters = set()
        """Who waits for room, too: there may be some after each read, and nothing else new."""
        self._alarm: asyncio.TimerHandle | None = None

    # what its user says

    @property
    def drained(self) -> bool:
        """Whether the session has ended, and all that came was taken."""
        return self.session.ended is not None and not self._inbox

    @property
    def end(self) -> str:
        """Why the session is of no more use, for people."""
        ended = self.session.ended
        return "it is closing" if ended is None else f"{ended.reason} ({ended.code})"

    async def send(self, body: Chunk, buffers: Sequence[Chunk] = ()) -> None:
        """Queue a message, as soon as there is room for it.

        Raises:
            NotEncodable: It is longer than the peer takes.
            SessionLost: The session has ended otherwise than by a goodbye.
            SessionClosed: It has ended, or is closing.
        """
        while not (self.session.writable or self._closing or self.session.ended):
            await self._woken(self._senders)
        self._raise_if_lost()
        self.session.send(body, buffers)
        self._go_on()

    async def receive(self) -> MessageReceived:
        """What has arrived, in order. A cancellation loses nothing.

        Raises:
            SessionLost: All was taken, and the session has ended otherwise than by a goodbye.
            SessionClosed: All was taken, and it has ended.
        """
        while not self._inbox:
            self._raise_if_lost()
            if self.session.ended:
                raise SessionClosed(f"the session has ended: {self.end}")
            await self._woken(self._waiting)
        message = self._inbox.popleft()
        self._hold_or_go_on()
        return message

    async def wait_open_or_over(self) -> Ended | LinkLost | None:
        """Until the session was open for the first time; or how that came to nothing."""
        while not self.opened:
            if self._link_lost or self.session.ended:
                return self._link_lost or self.session.ended
            await self._woken(self._waiting)
        return None

    async def close(self, reason: str) -> None:
        """End the session after what was sent before has arrived; wait until nothing is left."""
        self._closing = True
        self.take(self.session.close(reason, self._loop.time()))
        while self.session.ended is None:
            await self._woken(self._waiting)
        for socket in list(self._links):
            await asyncio.shield(socket.gone)

    def abandon(self, reason: str) -> None:
        """End the session at once, and let go of its connections; the peer is told, if it can be.

        A peer that waits for a resumption has to hear of it, and is given some time.
        """
        if self.session.ended is None:
            self.take(self.session.abandon(reason))
        if not self.session.resumable:
            for socket in self._links:
                socket.abort()

    # what its owner says

    def carry(self, link: int, socket: AsyncioWebSocket) -> None:
        """Let a link of the session have a connection."""
        self.first_socket = self.first_socket or socket
        socket.owner = socket.assembly = self
        self._links[socket] = link
        if self.prepare is not None:
            self.prepare(socket)
        if self._paused:
            socket.hold(paused=True)
        self._go_on()

    def take(self, events: list[SessionEvent]) -> None:
        """What a session has told, whenever it was told something."""
        messages = [event for event in events if isinstance(event, MessageReceived)]
        if messages:
            self._inbox.put(messages, self.session.received_nbytes)
        for event in events:
            match event:
                case MessageReceived():
                    pass  # it is in the inbox
                case Established() | Resumed():
                    self.opened = event.link
                case LinkLost():
                    self._link_lost = event
                    self._drop(event.link)
                    if self._when_link_lost is not None and self.opened:
                        self._when_link_lost()
                case Ended():
                    self._when_ended()
                case IncomingLost():
                    self.abandon("a message of the peer's was not kept for resending, and is lost")
                case OutgoingLost():
                    raise AssertionError("all that is sent here is kept for resending")
        if events:
            _wake(self._waiting)
            _wake(self._senders)
        self._hold_or_go_on()
        self._go_on()

    # what its WebSockets say

    def upgraded(self, socket: AsyncioWebSocket) -> None:
        """Nothing new: a connection is upgraded before it is carried."""

    def received(self, socket: AsyncioWebSocket, data: Chunk | str) -> None:
        """Bytes have come."""
        self.take(self.session.receive_data(self._links[socket], data, self._loop.time()))

    def get_buffer(self, socket: AsyncioWebSocket) -> memoryview | None:
        """Where the next bytes belong."""
        return self.session.get_buffer(self._links[socket])

    def buffer_updated(self, socket: AsyncioWebSocket, nbytes: int) -> None:
        """They are there."""
        now = self._loop.time()
        self.take(self.session.buffer_updated(self._links[socket], nbytes, now))

    def writable(self, socket: AsyncioWebSocket) -> None:
        """There is room to write."""
        self._go_on()

    def broken(self, socket: AsyncioWebSocket, reason: str) -> None:
        """A connection is over."""
        link = self._links.pop(socket)
        self.take(self.session.connection_lost(link, reason, self._loop.time()))

    # how it goes on inside

    def _go_on(self) -> None:
        """Write what there is to say, wake who waits for room, and set the alarm."""
        if self.session.ended:
            self._say_last_words()
            return
        for socket, link in self._links.items():
            while socket.writable:
                chunks = self.session.data_to_send(link, self._loop.time())
                if not chunks:
                    break
                socket.send(chunks)
        if self._senders and self.session.writable:
            _wake(self._senders)
        deadline = self.session.next_deadline()
        if deadline is None or (self._alarm is not None and self._alarm.when() <= deadline):
            return  # too early does no harm, and costs less than to move it with every message
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = self._loop.call_at(deadline, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        now = self._loop.time()
        if self._paused:  # who does not read cannot say that the peer is silent
            self.take(self.session.receive_data(self.session.link, b"", now))
        self.take(self.session.handle_timeout(now))

    def _hold_or_go_on(self) -> None:
        """Read nothing while there is more than a user has taken; but a goodbye has to be heard."""
        full = self._inbox.nbytes >= self._limits.inbox_nbytes
        paused = full and not self._closing and not self.session.ended
        if paused is not self._paused:
            self._paused = paused
            for socket in self._links:
                socket.hold(paused)

    def _drop(self, link: int) -> None:
        for socket in [socket for socket, its_link in self._links.items() if its_link == link]:
            del self._links[socket]
            socket.abort()

    def _say_last_words(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        for socket, link in self._links.items():
            chunks = self.session.data_to_send(link, self._loop.time())
            if chunks:
                socket.send(chunks)
            socket.finish(self._limits.goodbye_s)

    async def _woken(self, waiters: _Waiters) -> None:
        """Wait with these until they are woken."""
        waiter: asyncio.Future[None] = self._loop.create_future()
        waiters.add(waiter)
        try:
            await waiter
        finally:
            waiters.discard(waiter)

    def _raise_if_lost(self) -> None:
        ended = self.session.ended
        if ended is not None and ended.code is not Code.GOODBYE:
            raise SessionLost(ended.code, ended.reason, ended.unconfirmed)


def _wake(waiters: _Waiters) -> None:
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(None)
