"""The pool of connections, with real listeners."""

import math
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
from pair import endpoint
from sides import QUICK, until
from test_connect import sockets_of, url_of

from trouper.wire.connection import Connection
from trouper.wire.endpoint import Endpoint
from trouper.wire.errors import CannotConnect, Code, SessionLost, SessionRefused
from trouper.wire.events import MessageReceived
from trouper.wire.limits import Limits
from trouper.wire.listener import Listener, open_listener
from trouper.wire.pool import Pool, PoolLimits, open_pool

FETCHER = endpoint("fetcher", QUICK, capabilities=("talk",), required=("talk",))
HOLDER = endpoint("holder", QUICK, capabilities=("talk",))
PATIENCE_S = 20.0


class Holder:
    """Says everything again, and counts those who have come."""

    def __init__(self) -> None:
        self.came = 0
        self.listener: Listener

    @property
    def url(self) -> str:
        return url_of(self.listener.port)

    async def handle(self, connection: Connection) -> None:
        self.came += 1
        async for message in connection:
            assert isinstance(message, MessageReceived)
            await connection.send(message.body)


@asynccontextmanager
async def holding(us: Endpoint = HOLDER) -> AsyncGenerator[Holder]:
    holder = Holder()
    with trio.fail_after(PATIENCE_S):
        async with open_listener(us, holder.handle, token="secret") as holder.listener:
            yield holder


@asynccontextmanager
async def pooling(**limits: float) -> AsyncGenerator[Pool]:
    chosen = PoolLimits(**limits)  # type: ignore[arg-type]
    async with open_pool(FETCHER, token="secret", limits=chosen) as pool:
        yield pool
    assert not pool.connections


async def ask(connection: Connection, body: bytes = b"?") -> None:
    await connection.send(body)
    message = await connection.receive()
    assert isinstance(message, MessageReceived)
    assert message.body == body


async def test_an_idle_connection_is_used_again() -> None:
    async with holding() as holder:
        async with pooling() as pool:
            for _ in range(3):
                async with pool.lease(holder.url) as connection:
                    assert pool.idle == 0
                    await ask(connection)
                assert pool.idle == pool.connections == 1
            assert holder.came == 1
        assert sockets_of(holder.listener.port) == []
        await until(lambda: holder.listener.sessions == 0)


async def test_a_lease_has_its_connection_for_itself() -> None:
    async with holding() as holder, pooling() as pool:
        async with pool.lease(holder.url) as one, pool.lease(holder.url) as another:
            assert one is not another
            await ask(one)
            await ask(another)
        assert pool.idle == 2


async def test_whoever_finds_as_many_as_may_be_to_one_peer_waits(nursery: trio.Nursery) -> None:
    async with holding() as holder, pooling(connections_per_peer=1) as pool:
        asked = trio.Event()

        async def wait() -> None:
            async with pool.lease(holder.url) as connection:
                await ask(connection)
            asked.set()

        async with pool.lease(holder.url):
            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            assert not asked.is_set()
        await asked.wait()
        assert holder.came == 1


async def test_the_one_idle_longest_makes_room() -> None:
    async with holding() as a, holding() as b, holding() as c, pooling(connections=2) as pool:
        for holder in (a, b, a, c):
            async with pool.lease(holder.url) as connection:
                await ask(connection)
        await until(lambda: b.listener.sessions == 0)
        assert [a.listener.sessions, c.listener.sessions] == [1, 1]
        assert (a.came, b.came, c.came) == (1, 1, 1)
        assert pool.connections == pool.idle == 2


async def test_an_idle_connection_is_closed_after_a_while() -> None:
    async with holding() as holder, pooling(idle_s=0.05) as pool:
        async with pool.lease(holder.url) as connection:
            await trio.sleep(0.1)  # in use for longer than that
            await ask(connection)
        await until(lambda: pool.connections == 0)
        assert connection.session.ended is not None
        assert connection.session.ended.code is Code.GOODBYE
        async with pool.lease(holder.url) as another:
            await ask(another)
        assert holder.came == 2


async def test_a_connection_that_is_lost_while_idle_is_dropped() -> None:
    async with pooling() as pool:
        async with holding() as holder:
            url = holder.url
            async with pool.lease(url) as connection:
                await ask(connection)
        await until(lambda: pool.connections == 0)
        with pytest.raises(CannotConnect):
            async with pool.lease(url):
                pytest.fail("nobody listens")
        assert pool.connections == 0


async def test_a_lease_that_ends_with_an_exception_drops_its_connection() -> None:
    async with holding() as holder, pooling() as pool:
        with pytest.raises(LookupError):
            async with pool.lease(holder.url) as connection:
                await connection.send(b"an answer nobody waits for")
                raise LookupError
        await until(lambda: pool.connections == 0)
        await until(lambda: holder.listener.sessions == 0)


async def test_a_lease_that_is_cancelled_drops_its_connection() -> None:
    async with holding() as holder, pooling() as pool:
        with trio.move_on_after(0.05):
            async with pool.lease(holder.url) as connection:
                await connection.receive()
        await until(lambda: pool.connections == 0)
        await until(lambda: holder.listener.sessions == 0)


async def test_last_words_are_said_of_a_session_that_was_given_up() -> None:
    async with holding() as holder, pooling() as pool:
        async with pool.lease(holder.url) as connection:
            session = connection.session
        with pytest.raises(LookupError):
            async with pool.lease(holder.url) as connection:
                connection.abandon("nonsense", Code.MALFORMED)
                raise LookupError
        await until(lambda: pool.connections == 0)
        assert session.ended is not None
        assert session.ended.code is Code.MALFORMED
        assert not session.waiting  # the last words too have been said


async def test_dialling_can_be_cancelled() -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")  # which says nothing
    port = listeners[0].socket.getsockname()[1]
    async with pooling() as pool:
        with trio.move_on_after(0.05) as scope:
            async with pool.lease(url_of(port)):
                pytest.fail("connected")
        assert scope.cancelled_caught
        assert pool.connections == 0
    await listeners[0].aclose()


async def test_a_peer_that_cannot_do_what_is_required_is_refused() -> None:
    async with holding(endpoint("holder", QUICK)) as holder, pooling() as pool:
        with pytest.raises(SessionRefused) as raised:
            async with pool.lease(holder.url):
                pytest.fail("let in")
        assert raised.value.code is Code.CAPABILITY
        assert pool.connections == 0


async def test_an_address_that_is_none() -> None:
    async with pooling() as pool:
        with pytest.raises(ValueError, match="not of the form"):
            async with pool.lease("tcp://127.0.0.1:1"):
                pytest.fail("connected")
        assert pool.connections == 0


async def test_a_peer_that_is_forgotten_has_no_connections() -> None:
    async with holding() as holder, holding() as other, pooling() as pool:
        async with pool.lease(other.url) as connection:
            await ask(connection)
        async with pool.lease(holder.url) as connection:
            await ask(connection)
        pool.forget(holder.url)
        await until(lambda: pool.connections == pool.idle == 1)
        with pytest.raises(SessionLost, match="the peer was removed"):
            async with pool.lease(holder.url) as connection:
                pool.forget(holder.url)
                await connection.receive()
        await until(lambda: pool.connections == 1)
        await until(lambda: holder.listener.sessions == 0)


async def test_a_pool_that_is_left_by_an_exception_leaves_nothing() -> None:
    async with holding() as holder:
        with pytest.raises(LookupError):
            async with open_pool(FETCHER, token="secret") as pool:
                async with pool.lease(holder.url) as connection:
                    await ask(connection)
                raise LookupError
        await until(lambda: holder.listener.sessions == 0)


async def test_a_pool_that_is_cancelled_leaves_nothing() -> None:
    async with holding() as holder:
        with trio.CancelScope() as scope:
            async with open_pool(FETCHER, token="secret") as pool:
                async with pool.lease(holder.url) as connection:
                    await ask(connection)
                scope.cancel()
                await trio.sleep_forever()
        await until(lambda: holder.listener.sessions == 0)


async def test_a_peer_that_does_not_say_goodbye_is_left_in_time() -> None:
    limits = Limits(goodbye_s=0.1)
    us = endpoint("fetcher", limits)
    deaf = trio.Event()

    async def handle(connection: Connection) -> None:
        with trio.CancelScope(shield=True):
            await deaf.wait()

    async with open_listener(endpoint("holder"), handle, token=None) as listener:
        async with open_pool(us) as pool, pool.lease(url_of(listener.port)):
            pass
        deaf.set()


@pytest.mark.parametrize("value", [0, -1, math.nan])
@pytest.mark.parametrize("name", PoolLimits.__struct_fields__)
def test_limit_has_to_be_positive(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} has to be positive, not"):
        PoolLimits(**{name: value})  # type: ignore[arg-type]
