"""Stepping: a machine that handles its stimuli one at a time, each when it is told. For tests."""

import math
from collections.abc import Callable, Sequence
from contextlib import suppress

import trio

from trouper.wire.stimuli import Stimulus


class Stepper:
    """Stands between a supervisor and its machine; made by `Supervisor.stepping`."""

    def __init__(self) -> None:
        self.waiting = 0
        """Stimuli that have come and are not handled."""
        self._permits_out, self._permits_in = trio.open_memory_channel[None](0)
        self._done_out, self._done_in = trio.open_memory_channel[Stimulus](math.inf)

    async def step(self) -> Stimulus:
        """Have the next stimulus handled, and give it. Waits for one if none has come."""
        await self._permits_out.send(None)
        return await self._done_in.receive()

    def release(self) -> None:
        """Hold nothing up from now on."""
        self._permits_out.close()

    async def lead(self, batch: Sequence[Stimulus], handle: Callable[[Stimulus], None]) -> None:
        """Have a batch handled, each stimulus when its time has come."""
        self.waiting = len(batch)
        for stimulus in batch:
            with suppress(trio.EndOfChannel):  # released
                await self._permits_in.receive()
            self.waiting -= 1
            handle(stimulus)
            self._done_out.send_nowait(stimulus)
