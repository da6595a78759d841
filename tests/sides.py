"""A listener and diallers on this machine, and what stands between them."""

import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from random import Random

import pytest
import trio
from pair import endpoint

from trouper.wire.connection import Connection
from trouper.wire.endpoint import Endpoint
from trouper.wire.events import MessageReceived
from trouper.wire.limits import Limits

QUICK = Limits(
    heartbeat_interval_s=0.2,
    silence_s=2.0,
    handshake_s=5.0,
    resume_after_close_s=20.0,
    resume_after_silence_s=20.0,
    retry_first_s=0.01,
    retry_most_s=0.05,
)
"""Short intervals; windows so long that a busy machine does not end a session."""


def scheduler(limits: Limits = QUICK) -> Endpoint:
    return endpoint("scheduler", limits)


def worker(limits: Limits = QUICK) -> Endpoint:
    return endpoint("worker", limits)


async def echo(connection: Connection) -> None:
    """Say everything again."""
    async for message in connection:
        assert isinstance(message, MessageReceived)
        await connection.send(message.body, message.buffers)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that nobody tells."""
    while True:
        if condition():
            return
        await trio.sleep(0.001)


async def refusals(caplog: pytest.LogCaptureFixture, count: int = 1) -> list[str]:
    """What a listener logs of those it does not let in, as soon as there are so many."""

    def logged() -> list[str]:
        return [
            record.getMessage()
            for record in caplog.records
            if record.name == "trouper.wire.listener" and record.levelno >= logging.WARNING
        ]

    await until(lambda: len(logged()) >= count)
    return logged()


class Cutter:
    """Stands in front of a listener and cuts connections, each after a random number of bytes.

    A cut closes both sides in the middle of what is under way. After so many cuts there are no
    more.
    """

    def __init__(self, target: int, rng: Random, cuts: int, most_nbytes: int) -> None:
        self.cuts_left = cuts
        self.port = 0
        self._target = target
        self._rng = rng
        self._most_nbytes = most_nbytes

    async def carry(self, near: trio.SocketStream) -> None:
        async with near, await trio.open_tcp_stream("127.0.0.1", self._target) as far:
            left = self._rng.randrange(self._most_nbytes) if self.cuts_left else None
            scope = trio.CancelScope()

            async def pump(source: trio.SocketStream, sink: trio.SocketStream) -> None:
                nonlocal left
                async for data in source:
                    if left is not None:
                        data, left = data[:left], left - len(data)
                    await sink.send_all(data)
                    if left is not None and left <= 0:
                        break
                scope.cancel()

            with scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(pump, near, far)
                    nursery.start_soon(pump, far, near)
            if left is not None and left <= 0:
                self.cuts_left = max(0, self.cuts_left - 1)


@asynccontextmanager
async def open_cutter(
    target: int, *, seed: int, cuts: int, most_nbytes: int
) -> AsyncGenerator[Cutter]:
    cutter = Cutter(target, Random(seed), cuts, most_nbytes)

    async def carry(stream: trio.SocketStream) -> None:
        try:
            await cutter.carry(stream)
        except* (trio.BrokenResourceError, OSError):
            pass  # one side has gone: so has the connection

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, carry, 0, host="127.0.0.1"))
        cutter.port = listeners[0].socket.getsockname()[1]
        yield cutter
        nursery.cancel_scope.cancel()
