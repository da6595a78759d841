"""The execute actor, driven by hand through its channels."""

import math
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from contextvars import copy_context
from typing import Any, NoReturn

import pytest
import trio
import trio.testing
from gates import AsyncGate

from trouper.actors.execute import ExecuteCommand, execute
from trouper.actors.job import NO_INPUTS, Job, current_job, terminal_stimulus
from trouper.actors.spec import Spec
from trouper.actors.store import Store
from trouper.wire.instructions import CancelExecute
from trouper.wire.stimuli import ExecuteCancelled, ExecuteFailure, ExecuteSuccess, Stimulus


class Actor:
    """An actor that runs, and the ends of its channels."""

    def __init__(self) -> None:
        self.store = Store()
        self.instructions, self.actors_end = trio.open_memory_channel[list[ExecuteCommand]](
            math.inf
        )
        self.stimuli_in, self.stimuli = trio.open_memory_channel[Sequence[Stimulus]](math.inf)

    def send(self, *commands: ExecuteCommand) -> None:
        """Give it a batch."""
        self.instructions.send_nowait(list(commands))

    async def receive(self) -> Stimulus:
        """What it says next."""
        with trio.fail_after(10):
            (stimulus,) = await self.stimuli.receive()
        return stimulus


@asynccontextmanager
async def running() -> AsyncGenerator[Actor]:
    """An actor, ended in order."""
    actor = Actor()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(execute, actor.actors_end, actor.stimuli_in, actor.store)
        yield actor
        actor.instructions.close()
    with pytest.raises(trio.WouldBlock):
        actor.stimuli.receive_nowait()


def job(attempt: int, fn: Any, *args: Any) -> Job:
    """An attempt at a coroutine function."""
    spec = Spec(fn, args, {}, copy_context())
    return Job("k", attempt, spec, NO_INPUTS, None)


async def test_success_is_stored_and_said() -> None:
    async with running() as actor:

        async def work(value: int) -> int:
            assert current_job.get().attempt == 1
            return value

        actor.send(job(1, work, 5))
        stimulus = await actor.receive()
        assert isinstance(stimulus, ExecuteSuccess)
        assert (stimulus.key, stimulus.attempt, stimulus.type_name) == ("k", 1, "int")
        assert actor.store.values["k", 1] == 5


async def test_failure_is_stored_and_said() -> None:
    async with running() as actor:
        error = LookupError()

        async def work() -> NoReturn:
            raise error

        actor.send(job(1, work))
        assert await actor.receive() == ExecuteFailure("k", 1, "LookupError")
        assert actor.store.values["k", 1] is error


async def test_cancellation() -> None:
    async with running() as actor:
        running_gate, unbegun = AsyncGate(), AsyncGate()
        actor.send(job(1, running_gate))
        await running_gate.entered.wait()
        actor.send(CancelExecute("k", 1), job(2, unbegun), CancelExecute("k", 2))
        got = [await actor.receive(), await actor.receive()]
        assert sorted(got, key=lambda stimulus: stimulus.attempt) == [  # type: ignore[union-attr]
            ExecuteCancelled("k", 1),
            ExecuteCancelled("k", 2),
        ]
        assert running_gate.cancelled
        assert len(actor.store) == 0
        actor.send(CancelExecute("k", 1), CancelExecute("k", 77))  # too late, and never heard of


async def test_it_ends_when_all_have_ended() -> None:
    gate = AsyncGate()
    ended = trio.Event()
    actor = Actor()

    async def run() -> None:
        await execute(actor.actors_end, actor.stimuli_in, actor.store)
        ended.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        actor.send(job(1, gate))
        await gate.entered.wait()
        actor.instructions.close()
        await trio.testing.wait_all_tasks_blocked()
        assert not ended.is_set()
        gate.let_go()
    assert ended.is_set()


async def test_one_task_that_fails_leaves_the_others_alone() -> None:
    async with running() as actor:
        gate = AsyncGate(5)

        async def work() -> NoReturn:
            raise BaseExceptionGroup("", [KeyboardInterrupt(), SystemExit()])

        actor.send(job(1, gate), job(2, work))
        assert await actor.receive() == ExecuteFailure("k", 2, "BaseExceptionGroup")
        gate.let_go()
        assert isinstance(await actor.receive(), ExecuteSuccess)


def test_the_terminal_stimulus_of_a_job_that_has_not_ended_is_a_fault() -> None:
    with pytest.raises(AssertionError, match="has not ended"):
        terminal_stimulus(job(1, int), Store())


def test_what_has_succeeded_before_the_cancellation_came_counts() -> None:
    done = job(1, int)
    done.run()
    done.cancelled = True
    assert isinstance(terminal_stimulus(done, Store()), ExecuteSuccess)
