"""A session at work, on a clock that does not make anybody wait and a network in memory."""

import os
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TypeVar

import pytest
import trio
import trio.testing
from pair import endpoint
from trio.testing import MemoryReceiveStream, MemorySendStream, MockClock

from trouper.wire.connection import Connection, Delivery
from trouper.wire.dialling import DialledSession
from trouper.wire.errors import Code, NotEncodable, NotWritable, SessionClosed, SessionLost
from trouper.wire.events import IncomingLost, MessageReceived
from trouper.wire.framing import Framer
from trouper.wire.limits import PACKET_NBYTES, Limits
from trouper.wire.reception import Admitted, Reception
from trouper.wire.websocket import WebSocket

LIMITS = Limits(
    heartbeat_interval_s=1.0,
    silence_s=4.0,
    handshake_s=3.0,
    resend_nbytes=10_000,
    inbox_nbytes=10_000,
    goodbye_s=2.0,
)


class Line(trio.abc.Stream):
    """One end of a connection in memory: what was written to it, and what befalls it."""

    def __init__(self, stream: trio.StapledStream[MemorySendStream, MemoryReceiveStream]) -> None:
        self.stream = stream
        self.written: list[int] = []
        self.stuck = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(len(data))
        if self.stuck:
            await trio.sleep_forever()
        await self.stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self.stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self.stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self.stream.aclose()

    def hang_up(self) -> None:
        """Here, the connection is over."""
        self.stream.receive_stream.put_eof()


def body_of(delivery: Delivery) -> bytes:
    assert isinstance(delivery, MessageReceived)
    return bytes(delivery.body)


class Two:
    """Both sides of a session over one connection, and the streams that it has."""

    def __init__(self, *, resumable: bool = False, limits: Limits = LIMITS) -> None:
        self.limits = limits
        self.dialled = DialledSession(endpoint("worker", limits), "id", resumable=resumable)
        self.reception = Reception(endpoint("scheduler", limits), token=None)
        self.dialler = Connection(self.dialled, limits)
        self.listener: Connection | None = None
        self.lines: tuple[Line, Line]

    async def link(self, nursery: trio.Nursery) -> None:
        """Have a new connection carried by both."""
        one, other = self.streams()
        ours = WebSocket(one, Framer(lambda: b"mask"), b"")
        theirs = WebSocket(other, Framer(None), b"")
        nursery.start_soon(self.dialler.carry, self.dialled.connected(trio.current_time()), ours)
        greeting = self.reception.greet()
        (hello,) = [data for data in await theirs.receive() if not isinstance(data, str)]
        answer = greeting.receive_data(hello, trio.current_time())
        assert isinstance(answer, Admitted)
        if self.listener is None:
            self.listener = Connection(answer.session, self.limits)
            nursery.start_soon(self.dialler.watch_clock)
            nursery.start_soon(self.listener.watch_clock)
        self.listener.take(answer.events)
        nursery.start_soon(self.listener.carry, answer.link, theirs)
        while self.dialler.opened != self.dialled.link:
            await trio.testing.wait_all_tasks_blocked()

    def streams(self) -> tuple[trio.abc.Stream, trio.abc.Stream]:
        """Of a new connection."""
        one, other = trio.testing.memory_stream_pair()
        self.lines = (Line(one), Line(other))
        return self.lines

    def both(self) -> tuple[Connection, Connection]:
        assert self.listener is not None
        return self.dialler, self.listener


class TwoOverSockets(Two):
    """The same, where bytes can be written at once."""

    def streams(self) -> tuple[trio.abc.Stream, trio.abc.Stream]:
        self.sockets = trio.socket.socketpair()
        return trio.SocketStream(self.sockets[0]), trio.SocketStream(self.sockets[1])


@asynccontextmanager
async def two(*, resumable: bool = False) -> AsyncGenerator[Two]:
    async with at_work(Two(resumable=resumable)) as sides:
        yield sides


Sides = TypeVar("Sides", bound=Two)


@asynccontextmanager
async def at_work(sides: Sides) -> AsyncGenerator[Sides]:
    with trio.fail_after(10_000):
        async with trio.open_nursery() as nursery:
            await sides.link(nursery)
            yield sides
            nursery.cancel_scope.cancel()


async def test_messages_go_both_ways_in_order(autojump_clock: MockClock) -> None:
    async with two() as sides:
        dialler, listener = sides.both()
        for i in range(100):
            await dialler.send(b"%d" % i, [b"buffer"])
        for i in range(100):
            message = await listener.receive()
            assert isinstance(message, MessageReceived)
            assert (message.body, message.buffers) == (b"%d" % i, (b"buffer",))
        await listener.send(b"and back")
        assert body_of(await dialler.receive()) == b"and back"
        assert listener.peer.role == "worker"


async def test_what_is_sent_without_a_pause_leaves_as_one_message(
    autojump_clock: MockClock,
) -> None:
    async with two() as sides:
        dialler, listener = sides.both()
        sides.lines[0].written.clear()
        for i in range(50):
            dialler.send_nowait(b"%d" % i)
        for i in range(50):
            assert body_of(await listener.receive()) == b"%d" % i
        assert len(sides.lines[0].written) == 1


async def test_idle_session_says_one_small_thing_an_interval(autojump_clock: MockClock) -> None:
    async with two(resumable=True) as sides:
        dialler, listener = sides.both()
        for line in sides.lines:
            line.written.clear()
        await trio.sleep(100 * LIMITS.heartbeat_interval_s)
        for line in sides.lines:
            assert 98 <= len(line.written) <= 101
            assert max(line.written) <= 20
        assert dialler.session.ended is listener.session.ended is None


async def test_sender_waits_while_there_is_no_room_and_goes_on_when_there_is(
    autojump_clock: MockClock,
) -> None:
    async with two() as sides:
        dialler, listener = sides.both()
        dialler.send_nowait(bytes(20_000))
        with pytest.raises(NotWritable):
            dialler.send_nowait(b"more")
        await dialler.send(b"more")
        assert len(body_of(await listener.receive())) == 20_000
        assert body_of(await listener.receive()) == b"more"


async def test_sender_can_wait_until_all_is_on_its_way(autojump_clock: MockClock) -> None:
    async with two() as sides, trio.open_nursery() as nursery:
        dialler, listener = sides.both()
        dialler.send_nowait(bytes(3 * PACKET_NBYTES))
        assert not dialler.session.all_sent
        await dialler.wait_sent()
        assert dialler.session.all_sent
        assert len(body_of(await listener.receive())) == 3 * PACKET_NBYTES

        async def give_up_later() -> None:
            await trio.testing.wait_all_tasks_blocked()
            dialler.abandon("enough")

        sides.lines[0].stuck = True
        dialler.send_nowait(bytes(3 * PACKET_NBYTES))
        nursery.start_soon(give_up_later)
        with pytest.raises(SessionLost, match="enough"):
            await dialler.wait_sent()


async def test_sender_waits_for_a_reader_that_takes_nothing_and_nobody_is_lost(
    autojump_clock: MockClock,
) -> None:
    async with two(resumable=True) as sides:
        dialler, listener = sides.both()
        sent = 0
        with trio.move_on_after(100 * LIMITS.silence_s):
            while True:
                await dialler.send(bytes(1000))
                sent += 1
        assert 10 < sent < 400
        assert dialler.link_lost is listener.link_lost is None
        for _ in range(sent):
            assert len(body_of(await listener.receive())) == 1000


async def test_silent_peer_is_lost_in_time(autojump_clock: MockClock) -> None:
    async with two() as sides:
        dialler, listener = sides.both()
        for line in sides.lines:
            line.stuck = True
        began = trio.current_time()
        for connection in (dialler, listener):
            with pytest.raises(SessionLost, match="nothing was heard for 4 s") as raised:
                await connection.receive()
            assert raised.value.code is Code.TIMEOUT
            await connection.wait_ended()
        lasted_s = trio.current_time() - began
        assert LIMITS.silence_s <= lasted_s <= LIMITS.silence_s + 0.1


async def test_close_waits_until_all_has_arrived(autojump_clock: MockClock) -> None:
    async with two() as sides:
        dialler, listener = sides.both()
        for i in range(50):
            await dialler.send(b"%d" % i)
        await dialler.close("enough")
        assert [body_of(delivery) async for delivery in listener] == [b"%d" % i for i in range(50)]
        for connection in (dialler, listener):
            await connection.wait_ended()
            with pytest.raises(SessionClosed, match="has ended"):
                await connection.send(b"more")
        with pytest.raises(SessionClosed, match="all that came was taken"):
            await listener.receive()
        await dialler.close("twice does no harm")


async def test_close_that_nobody_answers_says_what_may_not_have_arrived(
    autojump_clock: MockClock,
) -> None:
    async with two(resumable=True) as sides:
        dialler, _ = sides.both()
        sides.lines[1].stuck = True
        sides.lines[0].hang_up()
        dialler.send_nowait(b"into the void")
        with pytest.raises(SessionLost, match="1 messages may not have arrived") as raised:
            await dialler.close("enough")
        assert raised.value.unconfirmed == 1
        assert raised.value.code is Code.TIMEOUT


async def test_waiting_sender_learns_that_the_session_is_lost(autojump_clock: MockClock) -> None:
    async with two(resumable=True) as sides:
        dialler, listener = sides.both()

        async def fill() -> None:
            with pytest.raises(SessionLost, match="on purpose"):
                while True:
                    await dialler.send(bytes(5000))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(fill)
            await trio.testing.wait_all_tasks_blocked()
            listener.abandon("on purpose")
        with pytest.raises(SessionLost, match="on purpose"):
            await dialler.receive()


async def test_new_link_goes_on_where_the_last_one_was_cut(autojump_clock: MockClock) -> None:
    async with two(resumable=True) as sides, trio.open_nursery() as nursery:
        dialler, listener = sides.both()
        got: list[bytes] = []
        for i in range(30):
            await dialler.send(b"%d" % i)
            if i % 10 == 5:
                for line in sides.lines:
                    line.hang_up()
                await trio.testing.wait_all_tasks_blocked()
                await sides.link(nursery)
        while len(got) < 30:
            got.append(body_of(await listener.receive()))
        assert got == [b"%d" % i for i in range(30)]
        assert dialler.opened == 4
        nursery.cancel_scope.cancel()


async def test_message_not_kept_for_resending_is_told_to_be_lost(
    autojump_clock: MockClock,
) -> None:
    async with two(resumable=True) as sides, trio.open_nursery() as nursery:
        dialler, listener = sides.both()
        sides.lines[0].stuck = True
        dialler.send_nowait(b"bulk", resend=False)
        await trio.testing.wait_all_tasks_blocked()
        for line in sides.lines:
            line.hang_up()
        await trio.testing.wait_all_tasks_blocked()
        await sides.link(nursery)
        assert await listener.receive() == IncomingLost(1)
        nursery.cancel_scope.cancel()


async def test_message_that_cannot_be_sent_is_refused(autojump_clock: MockClock) -> None:
    async with two() as sides:
        dialler, _ = sides.both()
        with pytest.raises(NotEncodable, match="bytes do not lie in one row"):
            await dialler.send(b"", [memoryview(bytes(10))[::2]])


async def test_ping_of_the_peer_is_answered(autojump_clock: MockClock) -> None:
    async with two() as sides:
        dialler, listener = sides.both()
        sides.lines[0].written.clear()
        await sides.lines[1].stream.send_all(b"\x89\x01?")
        await trio.testing.wait_all_tasks_blocked()
        assert sides.lines[0].written == [7]
        await dialler.send(b"after the pong")
        assert body_of(await listener.receive()) == b"after the pong"


def arrived_at(end: trio.socket.SocketType) -> bytes:
    """What nobody has read yet."""
    with socket.socket(fileno=os.dup(end.fileno())) as same:
        return same.recv(1000, socket.MSG_PEEK | socket.MSG_DONTWAIT)


async def test_answer_is_written_at_once_and_what_follows_without_a_pause_together() -> None:
    """Not when other tasks have had their turn: nothing is awaited after `send_nowait` here."""
    async with at_work(TwoOverSockets()) as sides:
        dialler, listener = sides.both()
        await dialler.send(b"question")
        assert body_of(await listener.receive()) == b"question"
        listener.send_nowait(b"answer")
        written = arrived_at(sides.sockets[0])
        assert written.endswith(b"answer")
        for _ in range(10):
            listener.send_nowait(b"more")
        assert arrived_at(sides.sockets[0]) == written
        assert body_of(await dialler.receive()) == b"answer"
        assert [body_of(await dialler.receive()) for _ in range(10)] == [b"more"] * 10


async def test_of_many_messages_some_are_written_before_who_sends_them_pauses() -> None:
    async with at_work(TwoOverSockets(resumable=True, limits=Limits())) as sides:
        dialler, listener = sides.both()
        for i in range(100):
            dialler.send_nowait(b"%d" % i)
        with pytest.raises(BlockingIOError):
            arrived_at(sides.sockets[1])
        for i in range(100, 1000):
            dialler.send_nowait(b"%d" % i)
        assert arrived_at(sides.sockets[1])
        for i in range(1000):
            assert body_of(await listener.receive()) == b"%d" % i


@pytest.mark.parametrize("resumable", [False, True])
async def test_long_answer_that_is_not_taken_at_once_arrives(resumable: bool) -> None:
    bulk = bytes(range(256)) * 40_000
    async with at_work(TwoOverSockets(resumable=resumable)) as sides:
        dialler, listener = sides.both()
        for _ in range(3):
            await dialler.send(b"question")
            await listener.receive()
            await listener.send(b"", [bulk], resend=False)
            await listener.send(b"after it")
            answer = await dialler.receive()
            assert isinstance(answer, MessageReceived)
            assert answer.buffers == (bulk,)
            assert body_of(await dialler.receive()) == b"after it"


async def test_long_question_is_unmasked_where_it_belongs() -> None:
    bulk = bytes(range(256)) * 10_000
    async with at_work(TwoOverSockets()) as sides:
        dialler, listener = sides.both()
        for first in range(4):
            await dialler.send(b"x" * first, [bulk, bulk[:20_000]], resend=False)
            question = await listener.receive()
            assert isinstance(question, MessageReceived)
            assert question.buffers == (bulk, bulk[:20_000])


async def test_answer_to_somebody_who_has_gone_ends_the_session() -> None:
    async with at_work(TwoOverSockets()) as sides:
        dialler, listener = sides.both()
        await dialler.send(b"question")
        await listener.receive()
        sides.sockets[0].shutdown(socket.SHUT_RDWR)
        sides.sockets[1].shutdown(socket.SHUT_WR)
        listener.send_nowait(b"answer")
        with pytest.raises(SessionLost, match="Broken pipe"):
            await listener.receive()
