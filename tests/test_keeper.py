"""The keeper: what an actor owes ends in every case, and once."""

import math
from collections.abc import Sequence

import pytest
import trio
import trio.testing

from trouper.actors.actor import Actor, Stimuli, Terminal
from trouper.actors.errors import ActorCrashed
from trouper.actors.store import Store
from trouper.actors.timers import Timer, over
from trouper.runtime.keeper import Keeper, RestartPolicy
from trouper.wire.instructions import FindMissingLater
from trouper.wire.stimuli import FindMissing

Instructions = trio.MemoryReceiveChannel[list[Timer]]


class Crash(Exception):
    pass


class Even:
    """Takes a batch, ends those with an even number, and then does as it is told."""

    def __init__(self, *fates: Exception | None) -> None:
        self.fates = list(fates)
        self.taken: list[list[int]] = []

    async def __call__(self, instructions: Instructions, stimuli: Stimuli, store: Store) -> None:
        async for batch in instructions:
            self.taken.append([timer.attempt for timer in batch])
            for timer in batch:
                if timer.attempt % 2 == 0:
                    stimuli.send_nowait((over(timer),))
            if self.fates and (fate := self.fates.pop(0)):
                raise fate


class Kept:
    """A keeper, and what it has said."""

    def __init__(self, actor: Actor[Timer], policy: RestartPolicy) -> None:
        stimuli_in, self.stimuli = trio.open_memory_channel[Sequence[Terminal]](math.inf)

        def end(timer: Timer, error: Exception) -> Terminal:
            self.ended.append(timer.attempt)
            return over(timer)

        self.keeper = Keeper[Timer]("test", actor, Store(), stimuli_in.send_nowait, policy, end)
        self.ended: list[int] = []
        """As a crash wants it."""

    def begin(self, *attempts: int) -> None:
        for attempt in attempts:
            self.keeper.begin(FindMissingLater(attempt, 1.0))
        self.keeper.flush()

    def said(self) -> list[int]:
        attempts: list[int] = []
        while self.stimuli.statistics().current_buffer_used:
            for stimulus in self.stimuli.receive_nowait():
                assert isinstance(stimulus, FindMissing)
                attempts.append(stimulus.attempt)
        return attempts


QUICK = RestartPolicy(limit=2, period_s=60, backoff_s=1)


async def test_what_was_said_before_a_crash_is_not_said_again(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    kept = Kept(Even(Crash()), QUICK)
    kept.begin(1, 2, 3)
    nursery.start_soon(kept.keeper.run)
    await trio.testing.wait_all_tasks_blocked()
    assert kept.ended == [1, 3]
    assert kept.said() == [2, 1, 3]
    assert not kept.keeper.owed
    nursery.cancel_scope.cancel()


async def test_what_was_not_taken_is_for_the_next_one(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    actor = Even(Crash())
    kept = Kept(actor, QUICK)
    kept.begin(1, 2)
    kept.begin(3, 4)
    nursery.start_soon(kept.keeper.run)
    await trio.sleep(2)
    assert actor.taken == [[1, 2], [3, 4]]
    assert kept.ended == [1]
    assert kept.said() == [2, 1, 4]
    assert list(kept.keeper.owed) == [3]
    nursery.cancel_scope.cancel()


async def test_saying_the_same_twice_is_a_crash(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    async def stutter(instructions: Instructions, stimuli: Stimuli, store: Store) -> None:
        (timer,) = await instructions.receive()
        for _ in range(2):
            stimuli.send_nowait((over(timer),))

    kept = Kept(stutter, QUICK)
    kept.begin(1)
    nursery.start_soon(kept.keeper.run)
    await trio.testing.wait_all_tasks_blocked()
    assert kept.said() == [1]
    assert "the test actor has crashed" in caplog.text
    nursery.cancel_scope.cancel()


async def test_past_the_limit_it_raises_what_the_actor_has_crashed_of(
    autojump_clock: trio.testing.MockClock,
) -> None:
    crashes: list[float] = []

    async def broken(instructions: Instructions, stimuli: Stimuli, store: Store) -> None:
        crashes.append(trio.current_time())
        await instructions.receive()
        kept.begin(2 * len(crashes) + 1)
        raise Crash(f"crash {len(crashes)}")

    kept = Kept(broken, QUICK)
    kept.begin(1)
    with trio.fail_after(60), pytest.raises(Crash, match="crash 3"):
        await kept.keeper.run()
    assert [round(time - crashes[0]) for time in crashes] == [0, 1, 3]  # the wait doubles
    assert kept.said() == [1, 3, 5]
    assert list(kept.keeper.owed) == [7]


async def test_who_returns_without_being_told_has_crashed(
    autojump_clock: trio.testing.MockClock,
) -> None:
    kept = Kept(Even(), RestartPolicy(limit=0))
    kept.keeper.close()
    with pytest.raises(ActorCrashed, match="it has returned, and was not told to"):
        await kept.keeper.run()


async def test_at_the_end_it_may_return_or_crash() -> None:
    for fate in (None, Crash()):
        kept = Kept(Even(fate), QUICK)
        kept.begin(1)
        kept.keeper.expect_end()
        kept.keeper.close()
        with trio.fail_after(5):
            await kept.keeper.run()
