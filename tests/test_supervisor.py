"""What the supervisor survives: crashes of the actor, within limits, and faults of the machine."""

import logging
import threading
from collections.abc import Sequence
from typing import Any, NoReturn

import pytest
import trio
import trio.testing
from crashes import QUICK, Crash, Fragile, Instructions
from gates import AsyncGate, Gate, until, until_empty, worker_threads

from trouper.actors.actor import Stimuli
from trouper.actors.execute import execute
from trouper.actors.job import Job
from trouper.actors.store import Store
from trouper.runtime import ActorCrashed, RestartPolicy, Worker, WorkerFailed, open_worker
from trouper.runtime.bulk import Answers
from trouper.runtime.supervisor import BATCH_LIMIT
from trouper.wire.instructions import Gather
from trouper.wire.stimuli import ComputeTask, ExecuteSuccess, Stimulus


def same(value: Any) -> Any:
    return value


async def test_a_crash_ends_the_attempts_of_the_actor_and_no_other() -> None:
    actor = Fragile()
    async with open_worker(threads=1, execute_actor=actor, restart_policy=QUICK) as worker:
        coroutine, thread = AsyncGate(), Gate(5)
        hit = worker.submit(coroutine, key="hit")
        dependent = worker.submit(same, hit)
        survivor = worker.submit(thread)
        later = worker.submit(same, survivor)
        await coroutine.entered.wait()
        await thread.entered.wait()
        actor.crash.set()
        with trio.fail_after(5), pytest.raises(ActorCrashed, match="'hit'") as caught:
            await hit
        assert isinstance(caught.value.__cause__, ExceptionGroup)
        assert coroutine.cancelled
        with pytest.raises(ActorCrashed):
            await dependent
        assert worker.status().slots["thread"].used == 1
        thread.let_go()
        assert await survivor == 5
        assert await later == 5
        assert await worker.run(AsyncGate.__call__, finished(6)) == 6
        assert actor.begun == 2


def finished(result: object) -> AsyncGate:
    """A gate that stands open."""
    gate = AsyncGate(result)
    gate.let_go()
    return gate


async def test_jobs_that_were_not_taken_are_run_by_the_next_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    actor = Fragile(2)
    async with open_worker(threads=1, execute_actor=actor, restart_policy=QUICK) as worker:
        assert await worker.run(finished(5)) == 5
    assert actor.begun == 3
    assert [record.getMessage() for record in caplog.records] == 2 * [
        "the execute actor has crashed"
    ]


async def test_jobs_that_were_taken_end_with_the_crash() -> None:
    actor = Fragile(1, greedy=True)
    async with open_worker(threads=1, execute_actor=actor, restart_policy=QUICK) as worker:
        with pytest.raises(ActorCrashed):
            await worker.run(finished(5))
        assert await worker.run(finished(5)) == 5
        await until_empty(worker)


async def test_a_job_that_was_being_cancelled_ends_as_cancelled() -> None:
    actor = Fragile()
    async with open_worker(threads=1, execute_actor=actor, restart_policy=QUICK) as worker:
        gate = AsyncGate()

        async def lingering() -> None:
            try:
                await gate()
            finally:
                actor.crash.set()
                with trio.CancelScope(shield=True):
                    await trio.sleep(0.01)

        handle = worker.submit(lingering)
        await gate.entered.wait()
        handle.cancel()
        del handle
        await until(lambda: actor.begun == 2)
        await until_empty(worker)


async def test_an_actor_that_returns_has_crashed() -> None:
    begun: list[int] = []

    async def lazy(instructions: Instructions, stimuli: Stimuli, store: Store) -> None:
        begun.append(1)
        if len(begun) > 1:
            await execute(instructions, stimuli, store)

    async with open_worker(threads=1, execute_actor=lazy, restart_policy=QUICK) as worker:
        assert await worker.run(finished(5)) == 5


async def test_a_crash_while_the_block_is_left() -> None:
    actor = Fragile()
    gate = AsyncGate()
    async with open_worker(threads=1, execute_actor=actor, restart_policy=QUICK) as worker:
        worker.submit(gate)
        await gate.entered.wait()
        actor.crash.set()
    assert actor.begun == 2
    assert worker.status().state == "closed"


async def test_the_wait_before_a_restart_doubles(autojump_clock: trio.testing.MockClock) -> None:
    times: list[float] = []

    async def broken(instructions: Instructions, stimuli: Stimuli, store: Store) -> NoReturn:
        times.append(trio.current_time())
        raise Crash

    policy = RestartPolicy(limit=4, period_s=100, backoff_s=1)
    with pytest.raises(WorkerFailed):
        async with open_worker(threads=1, execute_actor=broken, restart_policy=policy):
            await trio.sleep(20)
    begun = times[0]
    assert [round(time - begun) for time in times] == [0, 1, 3, 7, 15]


async def test_crashes_long_ago_are_forgiven(autojump_clock: trio.testing.MockClock) -> None:
    actor = Fragile()
    policy = RestartPolicy(limit=1, period_s=10, backoff_s=0.1)
    async with open_worker(threads=1, execute_actor=actor, restart_policy=policy) as worker:
        for life in range(1, 6):
            await until(lambda life=life: actor.begun == life)  # type: ignore[misc]
            await trio.sleep(11)
            actor.crash.set()
        await until(lambda: actor.begun == 6)
        assert worker.status().state == "running"


# Past the limit


async def test_past_the_limit_everybody_who_waits_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    told: list[WorkerFailed] = []

    async def wait(worker: Worker) -> None:
        try:
            await worker.run(trio.sleep_forever)
        except WorkerFailed as error:
            told.append(error)

    actor = Fragile(3)
    with trio.fail_after(10), pytest.raises(WorkerFailed, match="'w' has failed") as caught:
        async with (
            open_worker(threads=1, name="w", execute_actor=actor, restart_policy=QUICK) as worker,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(wait, worker)
            nursery.start_soon(wait, worker)
            await until(lambda: len(told) == 2)
            with pytest.raises(WorkerFailed):
                worker.submit(same, 1)
            assert worker.status().state == "failed"
    assert type(caught.value.__cause__) is Crash
    assert type(told[0].__cause__) is Crash
    assert worker_threads() == []
    critical = [record for record in caplog.records if record.levelno == logging.CRITICAL]
    assert len(critical) == 1


async def test_past_the_limit_who_awaits_in_the_block_leaves_it_with_that() -> None:
    with trio.fail_after(10), pytest.raises(WorkerFailed) as caught:
        async with open_worker(threads=1, execute_actor=Fragile(3), restart_policy=QUICK) as worker:
            await worker.run(trio.sleep_forever)
    assert type(caught.value.__cause__) is Crash
    assert worker_threads() == []


async def test_past_the_limit_threads_are_waited_for() -> None:
    actor = Fragile()
    gate = Gate()
    policy = RestartPolicy(limit=0)
    with trio.fail_after(10), pytest.raises(WorkerFailed):
        async with open_worker(threads=1, execute_actor=actor, restart_policy=policy) as worker:
            handle = worker.submit(gate)
            await gate.entered.wait()
            actor.crash.set()
            with pytest.raises(WorkerFailed):
                await handle
            assert worker_threads() != []
            gate.let_go()
    assert worker_threads() == []


# Faults


class Fault(Exception):
    pass


def break_machine(worker: Worker, kind: type[Stimulus]) -> None:
    """Let the machine raise at the next stimulus of a kind."""
    machine = worker.supervisor.machine

    def broken(stimuli: Sequence[Stimulus], answers: Answers) -> None:
        for stimulus in stimuli[len(answers) :]:
            if type(stimulus) is kind:
                raise Fault
            answers.append(machine.handle(stimulus))

    machine.handle_all = broken  # type: ignore[method-assign]


@pytest.mark.parametrize("kind", [ComputeTask, ExecuteSuccess])
async def test_a_fault_of_the_machine_fails_the_worker(kind: type[Stimulus]) -> None:
    gate = AsyncGate()
    with trio.fail_after(10), pytest.raises(WorkerFailed) as caught:
        async with open_worker(threads=2) as worker:
            worker.submit(gate)
            await gate.entered.wait()
            break_machine(worker, kind)
            handle = worker.submit(same, 1)
            with pytest.raises(WorkerFailed) as told:
                await handle
            assert type(told.value.__cause__) is Fault
            assert not handle.cancel()
            assert worker.submit is not None
            with pytest.raises(WorkerFailed):
                worker.submit(same, 1)
    assert type(caught.value.__cause__) is Fault
    assert gate.cancelled
    assert worker_threads() == []


@pytest.mark.parametrize("first", ["thread", "coroutine"])
async def test_a_fault_waits_for_what_still_ends(first: str) -> None:
    gate = Gate()
    begun = trio.Event()
    ended: list[str] = []

    async def lingering() -> None:
        try:
            begun.set()
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                if first == "thread":
                    gate.let_go()
                    await until(lambda: not worker.supervisor.threads.owed)
            ended.append("coroutine")
            raise LookupError

    with trio.fail_after(10), pytest.raises(WorkerFailed):
        async with open_worker(threads=2) as worker:
            handle = worker.submit(gate)
            worker.submit(lingering)
            await gate.entered.wait()
            await begun.wait()
            break_machine(worker, ComputeTask)
            worker.submit(same, 1)
            with pytest.raises(WorkerFailed):
                await handle
            if first == "coroutine":
                await until(lambda: ended)
                gate.let_go()
    assert ended == ["coroutine"]
    assert worker_threads() == []


async def test_an_instruction_that_nobody_can_follow_is_a_fault() -> None:
    with trio.fail_after(10), pytest.raises(WorkerFailed) as caught:
        async with open_worker(threads=1) as worker:

            def gather(stimuli: Sequence[Stimulus], answers: Answers) -> None:
                answers += [[Gather("peer", 1, ("k",), 0)] for _ in stimuli]

            worker.supervisor.machine.handle_all = gather  # type: ignore[method-assign]
            await worker.run(same, 1)
    assert "no actor for Gather" in str(caught.value.__cause__)


async def test_a_fault_of_the_worker_itself_fails_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object) -> NoReturn:
        raise Fault

    with trio.fail_after(10), pytest.raises(WorkerFailed) as caught:
        async with open_worker(threads=1) as worker:
            monkeypatch.setattr(Worker, "on_batch_end", broken)
            handle = worker.submit(trio.sleep_forever)
            await until(lambda: worker.failure)
            monkeypatch.undo()
            with pytest.raises(WorkerFailed):
                await handle
    assert type(caught.value.__cause__) is Fault
    assert worker_threads() == []


async def test_a_fault_while_the_block_is_being_left() -> None:
    with trio.fail_after(10), pytest.raises(WorkerFailed):
        async with open_worker(threads=1) as worker:
            worker.submit(same, 1)
            break_machine(worker, ExecuteSuccess)


async def test_the_blocks_own_exception_goes_before_a_failure() -> None:
    with trio.fail_after(10), pytest.raises(LookupError):
        async with open_worker(threads=1) as worker:
            break_machine(worker, ComputeTask)
            worker.submit(same, 1)
            await until(lambda: worker.failure)
            raise LookupError


# Batches


async def test_other_tasks_have_their_turn_between_batches() -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with open_worker(threads=1) as worker, trio.open_nursery() as nursery:
        nursery.start_soon(count)
        handles = [worker.submit(same, i) for i in range(3 * BATCH_LIMIT)]
        for handle in reversed(handles):
            await handle
        assert turns > 3
        nursery.cancel_scope.cancel()


async def test_owed_knows_every_attempt_until_it_is_handled() -> None:
    async with open_worker(threads=1) as worker:
        gate = Gate()
        handle = worker.submit(gate, key="k")
        await gate.entered.wait()
        (job,) = worker.supervisor.owed
        assert isinstance(job, Job)
        assert job.key == "k"
        assert threading.current_thread().name not in worker_threads()
        gate.let_go()
        await handle
        assert not worker.supervisor.owed
