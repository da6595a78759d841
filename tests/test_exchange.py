"""Two nodes in two processes exchange values over a bad network; and one of them is killed."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from functools import partial

import pytest
import trio
from sides import QUICK
from soak_exchange import Process, exchange, open_process
from test_connect import url_of

DEADLINE_S = QUICK.silence_s + 2 * QUICK.heartbeat_interval_s + 0.5
"""When whoever says nothing is known to be lost, and has been cleared away; on a busy machine."""


@pytest.mark.parametrize("seed", range(2))
async def test_all_values_arrive_and_none_twice_while_connections_are_cut(seed: int) -> None:
    with trio.fail_after(60):
        told = await exchange(small=500, large=12, nbytes=1 << 18, cuts=50, seed=seed)
    assert 5 <= told["network_failures"] <= told["cuts"]


async def test_a_large_value_takes_little_more_memory_than_it_has() -> None:
    nbytes = 1 << 27
    with trio.fail_after(60):
        told = await exchange(small=0, large=1, nbytes=nbytes, cuts=0, seed=0)
    # Linux counts pages for each thread, and adds them up now and then: some are always missing.
    uncounted = 1 << 20
    assert nbytes - uncounted <= told["grown_nbytes"] <= 1.3 * nbytes


@asynccontextmanager
async def open_swamp(target: int, sinks_after_nbytes: int) -> AsyncGenerator[int]:
    """A port in front of another, behind which all is lost after a while: no end is passed on."""
    left = sinks_after_nbytes

    async def carry(source: trio.SocketStream, sink: trio.SocketStream) -> None:
        nonlocal left
        with suppress(trio.BrokenResourceError):
            while left > 0 and (data := await source.receive_some(1 << 16)):
                left -= len(data)
                await sink.send_all(data)
        await trio.sleep_forever()

    async def serve(near: trio.SocketStream) -> None:
        with suppress(OSError):  # it does not listen any more
            far = await trio.open_tcp_stream("127.0.0.1", target)
            async with far, trio.open_nursery() as pair:
                pair.start_soon(carry, near, far)
                pair.start_soon(carry, far, near)

    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        yield listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def in_the_middle_of_a_transfer(network: str) -> AsyncGenerator[tuple[Process, Process]]:
    """A holder and a fetcher, in the middle of so many bytes."""
    sizes = (1, 1, 1 << 27 if network == "direct" else 1 << 24)
    with trio.fail_after(60):
        async with open_process("hold", *sizes) as holder:
            port = await holder.hear("port")
            async with open_swamp(port, 1 << 20) as swamp:
                url = url_of(port if network == "direct" else swamp)
                async with open_process("fetch", *sizes, url) as fetcher:
                    await fetcher.hear("fetching")
                    await holder.hear("serving")
                    yield holder, fetcher


@pytest.mark.parametrize("network", ["direct", "silent"])
async def test_a_holder_that_is_killed_leaves_nothing_at_the_fetcher(network: str) -> None:
    async with in_the_middle_of_a_transfer(network) as (holder, fetcher):
        holder.kill()
        with trio.fail_after(DEADLINE_S):
            await fetcher.hear("free")


@pytest.mark.parametrize("network", ["direct", "silent"])
async def test_a_fetcher_that_is_killed_leaves_nothing_at_the_holder(network: str) -> None:
    async with in_the_middle_of_a_transfer(network) as (holder, fetcher):
        fetcher.kill()
        with trio.fail_after(DEADLINE_S):
            await holder.hear("free")
