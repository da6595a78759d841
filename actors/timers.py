"""The timers' actor: says so when a wait is over that the machine has asked for."""

from typing import TypeAlias

import trio

from trouper.actors.actor import Stimuli
from trouper.actors.store import Store
from trouper.wire.instructions import FindMissingLater, RetryBusyWorkerLater
from trouper.wire.stimuli import FindMissing, RetryBusyWorker

Timer: TypeAlias = RetryBusyWorkerLater | FindMissingLater


async def timers(
    instructions: trio.MemoryReceiveChannel[list[Timer]], stimuli: Stimuli, store: Store
) -> None:
    """Wait until the channel of instructions is closed; then nobody waits for the rest.

    Args:
        instructions: Batches of timers.
        stimuli: Takes one terminal stimulus for each.
        store: Is not touched.
    """
    async with trio.open_nursery() as nursery:
        async for batch in instructions:
            for timer in batch:
                nursery.start_soon(_wait, timer, stimuli)
        nursery.cancel_scope.cancel()


async def _wait(timer: Timer, stimuli: Stimuli) -> None:
    await trio.sleep(timer.delay_s)
    stimuli.send_nowait((over(timer),))


def over(timer: Timer) -> RetryBusyWorker | FindMissing:
    """What is said when a wait is over."""
    if isinstance(timer, RetryBusyWorkerLater):
        return RetryBusyWorker(timer.peer, timer.attempt)
    return FindMissing(timer.attempt)
