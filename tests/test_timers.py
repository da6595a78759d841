"""Timers say so when their time has come, and not before."""

import trio
import trio.testing
from driven import driven

from trouper.actors.timers import timers
from trouper.wire.instructions import FindMissingLater, RetryBusyWorkerLater
from trouper.wire.stimuli import FindMissing, RetryBusyWorker


async def test_each_timer_is_over_after_its_delay(autojump_clock: trio.testing.MockClock) -> None:
    async with driven(timers) as actor:
        began = trio.current_time()
        actor.tell(FindMissingLater(1, 2.0), RetryBusyWorkerLater("ws://a", 2, 0.5))
        assert await actor.hear() == RetryBusyWorker("ws://a", 2)
        assert trio.current_time() - began == 0.5
        assert await actor.hear() == FindMissing(1)
        assert trio.current_time() - began == 2.0


async def test_nobody_waits_for_timers_at_the_end(autojump_clock: trio.testing.MockClock) -> None:
    async with driven(timers) as actor:
        began = trio.current_time()
        actor.tell(FindMissingLater(1, 5.0))
        await trio.testing.wait_all_tasks_blocked()
    assert trio.current_time() == began
