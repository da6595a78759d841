"""An execute actor that crashes when a test wants it to."""

import trio

from trouper.actors.actor import Stimuli
from trouper.actors.execute import ExecuteCommand, execute
from trouper.actors.store import Store
from trouper.runtime import RestartPolicy

Instructions = trio.MemoryReceiveChannel[list[ExecuteCommand]]

QUICK = RestartPolicy(limit=2, period_s=60, backoff_s=0)
"""Two crashes are forgiven, without a wait."""


class Crash(Exception):
    """What it raises."""


class Fragile:
    """The real actor, which can be made to crash.

    Args:
        lives: How many of its lives it crashes in at once; it takes a batch before, if `greedy`.
    """

    def __init__(self, lives: int = 0, *, greedy: bool = False) -> None:
        self.lives = lives
        self.begun = 0
        self.crash = trio.Event()
        self._greedy = greedy

    async def __call__(self, instructions: Instructions, stimuli: Stimuli, store: Store) -> None:
        self.begun += 1
        if self.begun <= self.lives:
            if self._greedy:
                await instructions.receive()
            raise Crash
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._crash_when_told)
            await execute(instructions, stimuli, store)
            nursery.cancel_scope.cancel()

    async def _crash_when_told(self) -> None:
        await self.crash.wait()
        self.crash = trio.Event()
        raise Crash
