"""Serving peers, whatever they say, read or leave."""

import logging
import math
import weakref
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import numpy as np
import pytest
import trio
import trio.testing
from exchange import FETCHER, HOLDER, MUCH, PATIENCE_S, Shelf, fetching_from, hear, say
from pair import endpoint
from sides import QUICK, until
from test_connect import url_of

from trouper.actors.fetched import Found
from trouper.actors.serve import PeerServer, ServingLimits
from trouper.wire.connect import connect
from trouper.wire.connection import Connection
from trouper.wire.errors import Code, SessionLost
from trouper.wire.limits import Limits
from trouper.wire.listener import Listener, open_listener
from trouper.wire.messages import PEER_EXCHANGE, Busy, DataReply, Failed, GetData, PeerMessage
from trouper.wire.vocabulary import Key

LARGE_NBYTES = 1 << 26
"""More than sockets and buffers between two sides take."""


@asynccontextmanager
async def serving(server: PeerServer) -> AsyncGenerator[Listener]:
    with trio.fail_after(PATIENCE_S):
        async with open_listener(HOLDER, server.serve, token=None) as listener:
            yield listener


async def reply_to(connection: Connection, *keys: Key, max_nbytes: int = MUCH) -> DataReply:
    await say(connection, GetData(keys, max_nbytes))
    reply, _ = await hear(connection)
    assert isinstance(reply, DataReply)
    return reply


async def test_each_key_is_told_of_once_even_if_it_is_asked_for_twice() -> None:
    async with (
        serving(Shelf(a=1).server()) as listener,
        connect(url_of(listener.port), FETCHER) as connection,
    ):
        reply = await reply_to(connection, "a", "b", "a", "b")
        assert [found.key for found in reply.found] == ["a"]
        assert reply.missing == ("b",)


class Deaf:
    """A fetcher that asks, and reads nothing: its connection is stopped in front of it."""

    def __init__(self, port: int) -> None:
        self._port = port

    @asynccontextmanager
    async def asking(self, *keys: Key) -> AsyncGenerator[Connection]:
        async with connect(url_of(self._port), FETCHER_OF_LITTLE) as connection:
            await say(connection, GetData(("small",), MUCH))
            await until(lambda: connection.session.received == 1)  # and nobody takes it
            await say(connection, GetData(keys, MUCH))
            yield connection


FETCHER_OF_LITTLE = endpoint(
    "fetcher",
    Limits(inbox_nbytes=1, heartbeat_interval_s=0.2, goodbye_s=0.2),
    capabilities=(PEER_EXCHANGE,),
)
"""Reads nothing more as soon as something has arrived."""


async def test_the_busy_say_so() -> None:
    block = np.zeros(LARGE_NBYTES, "u1")
    server = Shelf(small=1, a=block).server(serving=1, waiting=1)
    async with serving(server) as listener:
        deaf = Deaf(listener.port)
        async with (
            deaf.asking("a") as first,
            connect(url_of(listener.port), FETCHER) as second,
            connect(url_of(listener.port), FETCHER) as third,
        ):
            await until(lambda: server.requests == 1)
            await say(second, GetData(("small",), MUCH))
            await until(lambda: server.requests == 2)
            await say(third, GetData(("small",), MUCH))
            assert (await hear(third))[0] == Busy()
            assert server.requests == 2
            await hear(first)
            await hear(first)  # who takes its answer lets the next one have its turn
            reply, _ = await hear(second)
            assert isinstance(reply, DataReply)
            await until(lambda: server.requests == 0)
            assert (await reply_to(third, "small")).found


async def test_what_is_being_served_stays_alive_and_no_longer() -> None:
    shelf = Shelf(small=1, a=np.zeros(LARGE_NBYTES, "u1"))
    block = weakref.ref(shelf.values["a"])
    server = shelf.server()
    async with serving(server) as listener, Deaf(listener.port).asking("a") as connection:
        await until(lambda: server.requests == 1)
        await trio.testing.wait_all_tasks_blocked()
        shelf.values.clear()
        assert block() is not None
        await hear(connection)
        _, (_, buffer) = await hear(connection)
        assert len(buffer) == LARGE_NBYTES
        await until(lambda: block() is None)


@pytest.mark.parametrize("how", ["goes away", "does not read"])
async def test_a_fetcher_that_takes_nothing_costs_nothing_in_the_end(
    how: str, caplog: pytest.LogCaptureFixture
) -> None:
    shelf = Shelf(small=1, a=np.zeros(LARGE_NBYTES, "u1"))
    block = weakref.ref(shelf.values["a"])
    server = shelf.server(taking_s=30 if how == "goes away" else 0.2, slowest_nbytes_per_s=1e10)
    limits = Limits(goodbye_s=0.2)
    holder = endpoint("holder", limits, capabilities=(PEER_EXCHANGE,))
    with trio.fail_after(PATIENCE_S):
        async with open_listener(holder, server.serve, token=None) as listener:
            with trio.CancelScope() as scope:
                async with Deaf(listener.port).asking("a") as connection:
                    await until(lambda: server.requests == 1)
                    await trio.testing.wait_all_tasks_blocked()
                    shelf.values.clear()
                    if how == "goes away":
                        scope.cancel()
                        await trio.lowlevel.checkpoint()
                    await until(lambda: server.requests == 0)
                    await until(lambda: block() is None)
                    await hear(connection)
                    with pytest.raises(SessionLost):
                        await hear(connection)
            await until(lambda: server.requests == listener.sessions == 0)
            await until(lambda: block() is None)
    sent_away = "fetcher 'fetcher-1' is sent away: an answer of 67,108," in caplog.text
    assert sent_away is (how == "does not read")


async def test_who_has_gone_waits_for_no_turn() -> None:
    server = Shelf(small=1, a=np.zeros(LARGE_NBYTES, "u1")).server(serving=1, waiting=1)
    async with serving(server) as listener, Deaf(listener.port).asking("a") as deaf:
        await until(lambda: server.requests == 1)
        with trio.CancelScope() as scope:
            async with connect(url_of(listener.port), FETCHER) as connection:
                await say(connection, GetData(("small",), MUCH))
                await until(lambda: server.requests == 2)
                scope.cancel()
                await trio.lowlevel.checkpoint()
        await until(lambda: server.requests == 1)
        deaf.abandon("enough")


@pytest.mark.parametrize(
    ("message", "code", "why"),
    [
        (b"\xff", Code.MALFORMED, "the session is lost"),
        (Busy(), Code.UNEXPECTED, "a fetcher sends no Busy"),
        (DataReply(missing=("a",)), Code.UNEXPECTED, "a fetcher sends no DataReply"),
    ],
)
async def test_nonsense_ends_its_session_and_nothing_else(
    message: bytes | PeerMessage, code: Code, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(Shelf(a=1).server()) as listener:
        with pytest.raises(SessionLost, match=why) as raised:
            async with connect(url_of(listener.port), FETCHER) as connection:
                if isinstance(message, bytes):
                    await connection.send(message)
                else:
                    await say(connection, message)
                await connection.receive()
        assert raised.value.code is code
        assert "fetcher 'fetcher-1' is sent away" in caplog.text
        async with connect(url_of(listener.port), FETCHER) as connection:
            assert (await reply_to(connection, "a")).found


async def test_a_fault_of_the_holders_is_told_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    def broken(key: Key) -> Found | None:
        raise LookupError("the shelf is broken")

    async with (
        serving(PeerServer(broken)) as listener,
        connect(url_of(listener.port), FETCHER) as connection,
    ):
        await say(connection, GetData(("a",), 1))
        assert (await hear(connection))[0] == Failed("LookupError: the shelf is broken")
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


async def test_a_value_that_is_longer_than_the_fetcher_takes_is_unreadable() -> None:
    fetcher = endpoint("fetcher", Limits(max_message_nbytes=10_000), capabilities=(PEER_EXCHANGE,))
    shelf = Shelf(a=1, b=np.zeros(20_000, "u1"), c=np.zeros(9_000, "u1"))
    async with (
        serving(shelf.server()) as listener,
        connect(url_of(listener.port), fetcher) as connection,
    ):
        reply = await reply_to(connection, "b", "x")
        assert reply.missing == ("x",)
        (unreadable,) = reply.unreadable
        assert unreadable.key == "b"
        assert "the peer takes 10,000" in unreadable.reason
        await say(connection, GetData(("a", "b"), MUCH))
        failed, _ = await hear(connection)
        assert isinstance(failed, Failed)
        assert "the peer takes 10,000" in failed.reason
        assert (await reply_to(connection, "c")).found


async def test_a_fetcher_that_says_goodbye_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "trouper")
    async with fetching_from(Shelf(a=1).server().serve) as fetching:
        await fetching.fetch("a")
        async with connect(fetching.url, endpoint("fetcher", QUICK, capabilities=(PEER_EXCHANGE,))):
            pass
    assert not caplog.records


async def test_a_fetcher_whose_session_is_lost_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "trouper")
    async with serving(Shelf(a=1).server()) as listener:
        with trio.CancelScope() as scope:
            async with connect(url_of(listener.port), FETCHER):
                scope.cancel()
                await trio.lowlevel.checkpoint()
        await until(lambda: listener.sessions == 0)
    assert "fetcher 'fetcher-1': the session is lost (disconnected)" in caplog.text


@pytest.mark.parametrize("value", [0, -1, math.nan])
@pytest.mark.parametrize("name", ServingLimits.__struct_fields__)
def test_limit_has_to_be_positive(name: str, value: float) -> None:
    if (name, value) == ("waiting", 0):
        assert ServingLimits(waiting=0).waiting == 0
        return
    with pytest.raises(ValueError, match=f"{name} has to be positive, not"):
        ServingLimits(**{name: value})  # type: ignore[arg-type]
