"""A machine that takes one stimulus at a time, each when it is told; and copies of it."""

import pytest
import trio
import trio.testing
from gates import AsyncGate

from trouper.runtime import open_worker
from trouper.runtime.invariants import check
from trouper.wire.stimuli import ComputeTask, ExecuteSuccess, Stimulus


def same(value: object) -> object:
    return value


async def test_between_two_steps_nothing_changes() -> None:
    async with open_worker(threads=1) as worker:
        with worker.supervisor.stepping() as stepper:
            first = worker.submit(same, 1, key="first")
            worker.submit(same, first, key="second")
            phases: list[tuple[str, str, str]] = []
            for _ in range(4):
                stimulus = await stepper.step()
                machine = worker.freeze()
                check(machine)
                assert machine.fingerprint() == worker.supervisor.machine.fingerprint()
                for _ in range(10):
                    await trio.lowlevel.checkpoint()
                assert machine.fingerprint() == worker.supervisor.machine.fingerprint()
                name = type(stimulus).__name__
                phases.append((name, machine.phase("first"), machine.phase("second")))
            assert phases == [
                ("ComputeTask", "executing", "released"),
                ("ComputeTask", "executing", "waiting"),
                ("ExecuteSuccess", "memory", "executing"),
                ("ExecuteSuccess", "memory", "memory"),
            ]
            assert await first == 1


async def test_a_copy_stays_as_it_was_while_the_worker_goes_on() -> None:
    async with open_worker(threads=1) as worker:
        gate = AsyncGate()
        handle = worker.submit(gate, key="k")
        await gate.entered.wait()
        frozen = worker.freeze()
        assert frozen.phase("k") == "executing"
        gate.let_go()
        await handle
        assert worker.supervisor.machine.phase("k") == "memory"
        assert frozen.phase("k") == "executing"
        frozen.handle(ExecuteSuccess("k", 1, 8, "NoneType"))
        assert frozen.phase("k") == "memory"


async def test_a_step_waits_for_a_stimulus() -> None:
    taken: list[Stimulus] = []
    async with open_worker(threads=1) as worker, trio.open_nursery() as nursery:
        with worker.supervisor.stepping() as stepper:

            async def step() -> None:
                taken.append(await stepper.step())

            nursery.start_soon(step)
            await trio.testing.wait_all_tasks_blocked()
            assert taken == []
            worker.submit(same, 1, key="k")
            await trio.testing.wait_all_tasks_blocked()
            assert [type(stimulus) for stimulus in taken] == [ComputeTask]


async def test_what_the_block_has_not_let_through_comes_behind_it() -> None:
    with trio.fail_after(5):
        async with open_worker(threads=1) as worker:
            with worker.supervisor.stepping() as stepper:
                handles = [worker.submit(same, number) for number in range(5)]
                await stepper.step()
                assert not worker.is_idle()
                with trio.move_on_after(0.01):
                    await handles[1]
                assert not handles[1].done()
            assert [await handle for handle in handles] == list(range(5))


async def test_a_worker_is_not_idle_while_a_stimulus_waits() -> None:
    async with open_worker(threads=1) as worker:
        handle = worker.submit(same, 1)
        await handle
        await worker.wait_idle()
        with worker.supervisor.stepping() as stepper:
            handle.release()
            del handle
            await trio.testing.wait_all_tasks_blocked()
            assert not worker.supervisor.is_idle()
            await stepper.step()
            await trio.testing.wait_all_tasks_blocked()
            assert worker.supervisor.is_idle()


async def test_an_exception_in_the_block_lets_everything_through() -> None:
    with trio.fail_after(5), pytest.raises(LookupError):
        async with open_worker(threads=1) as worker:
            with worker.supervisor.stepping():
                worker.submit(same, 1)
                await trio.testing.wait_all_tasks_blocked()
                raise LookupError
