"""Both ends of a Dask comm, in one program."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import trio
from fake_scheduler import US
from gates import PATIENCE_S

from trouper.actors.dask_link import DaskLink
from trouper.wire.connect import connect
from trouper.wire.connection import Connection
from trouper.wire.listener import open_listener


@asynccontextmanager
async def links() -> AsyncGenerator[tuple[DaskLink, DaskLink]]:
    """Both ends of a comm, before the handshake."""
    accepted: list[DaskLink] = []
    came = trio.Event()

    async def serve(connection: Connection) -> None:
        accepted.append(DaskLink(connection))
        came.set()
        await connection.wait_ended()

    with trio.fail_after(PATIENCE_S):
        async with (
            open_listener(US, serve, token=None) as listener,
            connect(f"ws://127.0.0.1:{listener.port}", US) as connection,
        ):
            await came.wait()
            yield DaskLink(connection), accepted[0]
