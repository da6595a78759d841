"""Comms of Dask's in one process: both sides of one, in a loop that must leave nothing behind."""

import asyncio
import gc
import importlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import psutil

core: Any = importlib.import_module("distributed.comm.core")
protocol: Any = importlib.import_module("distributed.protocol")
CommClosedError: type[OSError] = core.CommClosedError
Serialize: Any = protocol.Serialize
ToPickle: Any = protocol.ToPickle

PATIENCE_S = 30.0


def own_sockets() -> set[int]:
    """The descriptors of this process's connections."""
    return {one.fd for one in psutil.Process().net_connections("inet")}


def run(story: Callable[[], Awaitable[None]]) -> None:
    """In a loop of its own, which must leave nothing behind."""

    async def in_time() -> None:
        before = own_sockets()
        async with asyncio.timeout(PATIENCE_S):
            await story()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if others:  # that have just been told
            _, others = await asyncio.wait(others, timeout=5)
        assert not others, "tasks were left behind"
        async with asyncio.timeout(PATIENCE_S):
            while own_sockets() - before:  # noqa: ASYNC110 - nobody tells; a goodbye takes a while
                await asyncio.sleep(0.01)

    asyncio.run(in_time())
    gc.collect()  # a socket that was left behind warns now, and warnings are errors


@asynccontextmanager
async def comms(
    scheme: str = "cws", *, deserialize: bool = True, **connection_args: Any
) -> AsyncGenerator[tuple[Any, Any]]:
    """A comm from both its sides: who dialled, and who listened."""
    accepted: asyncio.Queue[Any] = asyncio.Queue()
    done = asyncio.Event()

    async def handle(comm: Any) -> None:
        await accepted.put(comm)
        await done.wait()

    listener = await core.listen(
        f"{scheme}://127.0.0.1:0", handle, deserialize=deserialize, **connection_args
    )
    try:
        dialled = await core.connect(
            listener.contact_address, deserialize=deserialize, **connection_args
        )
        listening = await accepted.get()
        try:
            yield dialled, listening
            await dialled.close()
            await listening.close()
        finally:
            dialled.abort()
            listening.abort()
    finally:
        done.set()
        listener.stop()
