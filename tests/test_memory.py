"""The memory actor, with a process that takes what it is told to."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
import trio

from trouper.actors.memory import INTERVAL_S, watch_memory


@asynccontextmanager
async def watched(taken: list[int]) -> AsyncGenerator[list[bool]]:
    """What it says about a process with a limit of 1000 bytes."""
    said: list[bool] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch_memory, 1000, lambda: taken[0], said.append)
        yield said
        nursery.cancel_scope.cancel()


@pytest.mark.usefixtures("autojump_clock")
async def test_it_pauses_at_four_fifths_and_resumes_a_little_below() -> None:
    taken = [799]
    async with watched(taken) as said:
        for nbytes, expected in (
            (799, []),
            (800, [True]),
            (2000, [True]),
            (750, [True]),
            (749, [True, False]),
            (790, [True, False]),
            (900, [True, False, True]),
        ):
            taken[0] = nbytes
            await trio.sleep(2 * INTERVAL_S)
            assert said == expected
