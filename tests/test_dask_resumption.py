"""Comms that outlive their connections: what Dask sees of a cut, which is nothing."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import dask.config
import pytest
from dask_comms import CommClosedError, core, run
from proxy import Proxy, proxy

from trouper.wire import dask_comm
from trouper.wire.limits import Limits

MESSAGES = 300


@asynccontextmanager
async def behind_a_proxy(
    *, resume: bool = True
) -> AsyncGenerator[tuple[Any, Any, Proxy, list[Any]]]:
    """A comm from both its sides, the proxy between them, and all comms that were accepted."""
    accepted: list[Any] = []
    came, done = asyncio.Event(), asyncio.Event()

    async def handle(comm: Any) -> None:
        accepted.append(comm)
        came.set()
        await done.wait()

    async with core.listen("cws://127.0.0.1:0", handle) as listener:
        _, _, port = listener.contact_address.rpartition(":")
        with proxy(int(port)) as between, dask.config.set({"trouper.resume": resume}):
            dialled = await core.connect(f"cws://127.0.0.1:{between.port}")
            await came.wait()
            try:
                yield dialled, accepted[0], between, accepted
            finally:
                dialled.abort()
                accepted[0].abort()
                done.set()


def test_a_cut_comm_goes_on_and_nothing_is_lost_or_doubled() -> None:
    async def story() -> None:
        async with behind_a_proxy() as (dialled, listening, between, accepted):

            async def write(comm: Any) -> None:
                for number in range(MESSAGES):
                    await comm.write([number, b"x" * 20_000])

            async def read(comm: Any) -> list[int]:
                return [(await comm.read())[0] for _ in range(MESSAGES)]

            async def cut() -> None:
                for _ in range(4):
                    await asyncio.sleep(0.2)
                    assert await asyncio.to_thread(between.cut) in (0, 1)

            _, _, *received, _ = await asyncio.gather(
                write(dialled), write(listening), read(dialled), read(listening), cut()
            )
            assert received == [list(range(MESSAGES))] * 2
            assert between.accepted > 1
            assert accepted == [listening]
            await dialled.close()
            with pytest.raises(CommClosedError, match="the comm is closed"):
                await listening.read()

    run(story)


def test_a_comm_waits_while_no_connection_can_be_made() -> None:
    async def story() -> None:
        async with behind_a_proxy() as (dialled, listening, between, accepted):
            reading = asyncio.create_task(listening.read())
            await asyncio.to_thread(between.cut, refuse=True)
            await dialled.write("through thick and thin")
            await asyncio.wait([reading], timeout=1)
            assert not reading.done()
            assert not dialled.closed()
            between.refusing = False
            assert await reading == "through thick and thin"
            assert accepted == [listening]

    run(story)


def test_each_connection_of_a_comm_is_watched_by_the_kernel(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watched: list[Any] = []

    def watch(stream: Any) -> None:
        watched.append(stream.socket)

    monkeypatch.setattr(dask_comm, "set_tcp_timeout", watch)

    async def story() -> None:
        async with behind_a_proxy() as (dialled, listening, between, _):
            assert len(watched) == 2
            await asyncio.to_thread(between.cut)
            await dialled.write("again")
            assert await listening.read() == "again"
            assert len(watched) >= 4

    run(story)


def test_a_comm_that_is_cut_for_good_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = Limits(resume_after_close_s=0.3, resume_after_silence_s=0.3, silence_s=0.3)
    monkeypatch.setattr(dask_comm, "DASK_LIMITS", limits)

    async def story() -> None:
        async with behind_a_proxy() as (dialled, listening, between, _):
            reading = [asyncio.create_task(comm.read()) for comm in (dialled, listening)]
            await asyncio.to_thread(between.cut, refuse=True)
            for one in reading:
                with pytest.raises(CommClosedError, match="none came in its place in time"):
                    await one
            assert dialled.closed()
            assert listening.closed()

    run(story)


def test_a_comm_that_does_not_resume_ends_with_its_connection() -> None:
    async def story() -> None:
        async with behind_a_proxy(resume=False) as (dialled, listening, between, _):
            reading = [asyncio.create_task(comm.read()) for comm in (dialled, listening)]
            await asyncio.to_thread(between.cut)
            for one in reading:
                with pytest.raises(CommClosedError, match="disconnected"):
                    await one
            with pytest.raises(CommClosedError):
                await dialled.write("nobody hears this")

    run(story)


def test_aborting_while_there_is_no_connection_leaves_nothing_behind() -> None:
    async def story() -> None:
        async with behind_a_proxy() as (dialled, _, between, _):
            await asyncio.to_thread(between.cut, refuse=True)
            await asyncio.sleep(0.1)
            dialled.abort()
            with pytest.raises(CommClosedError):
                await dialled.read()

    run(story)
