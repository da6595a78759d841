"""An actor that runs without a supervisor, driven by hand through its channels."""

import math
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

import pytest
import trio

from trouper.actors.actor import Actor, Terminal
from trouper.actors.store import Store

C = TypeVar("C")


class Driven(Generic[C]):
    """The other ends of its channels."""

    def __init__(self) -> None:
        self.store = Store()
        self.instructions, self.actors_end = trio.open_memory_channel[list[C]](math.inf)
        self.stimuli_in, self._stimuli = trio.open_memory_channel[Sequence[Terminal]](math.inf)

    def tell(self, *commands: C) -> None:
        """Give it a batch."""
        self.instructions.send_nowait(list(commands))

    async def hear(self) -> Terminal:
        """What it says next."""
        with trio.fail_after(10):
            (stimulus,) = await self._stimuli.receive()
        return stimulus

    def says_nothing(self) -> bool:
        """Whether there is nothing to hear."""
        return not self._stimuli.statistics().current_buffer_used


@asynccontextmanager
async def driven(actor: Actor[C]) -> AsyncGenerator[Driven[C]]:
    """An actor for the length of a block, ended in order; all that it says has to be heard."""
    ends = Driven[C]()
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(actor, ends.actors_end, ends.stimuli_in, ends.store)
            yield ends
            ends.instructions.close()
    if not ends.says_nothing():
        pytest.fail("it has said more than was heard")
