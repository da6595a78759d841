"""Cancelling tasks in every state."""

import threading
from contextlib import suppress
from typing import Any

import pytest
import trio
import trio.testing
from endings import assert_cancelled
from gates import AsyncGate, Gate, until, until_empty

from trouper.runtime import TaskCancelled, TaskHandle, check_cancelled, open_worker


def same(value: Any) -> Any:
    return value


def never() -> None:
    """To be cancelled before it runs."""
    pytest.fail("it has run")


# A task in every state


async def test_before_the_machine_has_heard_of_it() -> None:
    async with open_worker(threads=1) as worker:
        handle = worker.submit(never)
        assert handle.cancel()
        await assert_cancelled(handle)


async def test_while_it_waits_for_an_input() -> None:
    async with open_worker(threads=1) as worker:
        gate = Gate(5)
        first = worker.submit(gate)
        second = worker.submit(same, first)
        third = worker.submit(same, second)
        await gate.entered.wait()
        assert second.phase == "waiting"
        assert second.cancel()
        await assert_cancelled(second, third)
        gate.let_go()
        assert await first == 5


async def test_while_it_is_ready() -> None:
    async with open_worker(threads=1) as worker:
        gate = Gate()
        worker.submit(gate)
        handle = worker.submit(never)
        await gate.entered.wait()
        assert handle.phase == "ready"
        assert handle.cancel()
        await assert_cancelled(handle)
        gate.let_go()
        del handle
        await until_empty(worker)


async def test_coroutine_is_stopped_at_its_next_checkpoint_and_cleans_up() -> None:
    steps: list[str] = []

    async def work() -> None:
        try:
            steps.append("begun")
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(0.01)
            steps.append("cleaned up")

    async with open_worker(threads=1) as worker:
        handle = worker.submit(work)
        await until(lambda: steps)
        assert handle.phase == "executing"
        assert handle.cancel()
        await assert_cancelled(handle)
        assert steps == ["begun"]  # who awaits need not wait for that
    assert steps == ["begun", "cleaned up"]


async def test_coroutine_that_is_cancelled_before_its_first_step() -> None:
    async with open_worker(threads=1) as worker:
        for steps in range(6):  # at one of them it has been told to start, and not started
            gate = AsyncGate()
            handle = worker.submit(gate)
            for _ in range(steps):
                await trio.lowlevel.cancel_shielded_checkpoint()
            handle.cancel()
            await assert_cancelled(handle)
            await until(lambda: not worker.supervisor.owed)
            assert gate.cancelled == gate.entered.is_set()


async def test_coroutine_that_succeeds_all_the_same() -> None:
    async with open_worker(threads=1) as worker:

        async def stubborn() -> int:
            with suppress(trio.Cancelled):
                await trio.sleep_forever()
            return 5

        handle = worker.submit(stubborn)
        await until(lambda: handle.phase == "executing")
        handle.cancel()
        await assert_cancelled(handle)
        handle.release()
        await until_empty(worker)


async def test_coroutine_that_fails_while_it_is_cancelled() -> None:
    async with open_worker(threads=1) as worker:

        async def failing() -> None:
            try:
                await trio.sleep_forever()
            finally:
                raise LookupError

        handle = worker.submit(failing)
        await until(lambda: handle.phase == "executing")
        handle.cancel()
        await assert_cancelled(handle)
        handle.release()
        await until_empty(worker)


async def test_coroutine_with_a_nursery_of_its_own() -> None:
    stopped: list[int] = []

    async def child(i: int) -> None:
        try:
            await trio.sleep_forever()
        finally:
            stopped.append(i)

    async def work() -> None:
        async with trio.open_nursery() as nursery:
            for i in range(3):
                nursery.start_soon(child, i)

    async with open_worker(threads=1) as worker:
        handle = worker.submit(work)
        await until(lambda: handle.phase == "executing")
        await trio.testing.wait_all_tasks_blocked()
        handle.cancel()
        await assert_cancelled(handle)
    assert sorted(stopped) == [0, 1, 2]


async def test_thread_is_asked_to_stop() -> None:
    begun = threading.Event()
    ended: list[str] = []

    def work() -> None:
        begun.set()
        try:
            while True:
                check_cancelled()
        except TaskCancelled:
            ended.append("asked")
            raise

    async with open_worker(threads=1) as worker:
        handle = worker.submit(work)
        await until(begun.is_set)
        handle.cancel()
        await assert_cancelled(handle)
        assert await worker.run(same, 1) == 1  # its slot has come back
        assert ended == ["asked"]


async def test_thread_that_ignores_it_keeps_its_slot_until_it_returns() -> None:
    async with open_worker(threads=1) as worker:
        gate = Gate()
        handle = worker.submit(gate)
        waiting = worker.submit(same, 1)
        await gate.entered.wait()
        handle.cancel()
        await assert_cancelled(handle)
        await trio.testing.wait_all_tasks_blocked()
        assert worker.status().slots["thread"].used == 1
        assert worker.status().tasks == {"cancelled(executing)": 1, "ready": 1} or (
            # a task that is remembered as cancelled, for the sake of its handle
            worker.status().tasks["ready"] == 1
        )
        assert waiting.phase == "ready"
        gate.let_go()
        assert await waiting == 1


def test_check_cancelled_is_for_tasks() -> None:
    with pytest.raises(RuntimeError, match="runs as a task"):
        check_cancelled()


async def test_after_the_end() -> None:
    async with open_worker(threads=1) as worker:
        handle = worker.submit(same, 5)
        await handle
        assert not handle.cancel()
        assert await handle == 5
        failed = worker.submit(int, "x")
        with pytest.raises(ValueError, match="invalid literal"):
            await failed
        assert not failed.cancel()
        assert failed.phase == "error"


async def test_whoever_else_holds_a_handle() -> None:
    async with open_worker(threads=1) as worker:
        gate = AsyncGate()
        one = worker.submit(gate, key="k")
        other = worker.submit(gate, key="k")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(assert_cancelled, other)
            await gate.entered.wait()
            one.cancel()
        await until(lambda: gate.cancelled)


async def test_with_dependents_that_run() -> None:
    # Both have run on what the first has brought; cancelling that comes too late.
    async with open_worker(threads=2) as worker:
        first = worker.submit(same, 5)
        gate = Gate(6)
        second = worker.submit(gate, first)
        third = worker.submit(same, second)
        await gate.entered.wait()
        assert not first.cancel()
        assert second.cancel()
        await assert_cancelled(second, third)
        gate.let_go()
        assert await first == 5


async def test_from_inside_of_the_task() -> None:
    async with open_worker(threads=1) as worker:
        handles: list[TaskHandle[None]] = []

        async def work() -> None:
            assert handles[0].cancel()
            await trio.lowlevel.checkpoint()
            pytest.fail("it went past a checkpoint")

        handles.append(worker.submit(work))
        await assert_cancelled(handles[0])


async def test_from_inside_of_a_thread() -> None:
    async with open_worker(threads=1) as worker:
        handles: list[TaskHandle[None]] = []
        token = trio.lowlevel.current_trio_token()

        def work() -> None:
            trio.from_thread.run_sync(lambda: handles[0].cancel(), trio_token=token)
            while True:
                check_cancelled()

        handles.append(worker.submit(work))
        await assert_cancelled(handles[0])


async def test_all_ten_thousand_of_a_chain() -> None:
    async with open_worker(threads=1) as worker:
        gate = Gate()
        root = handle = worker.submit(gate)
        for _ in range(10_000):
            handle = worker.submit(same, handle)
        await gate.entered.wait()
        root.cancel()
        await assert_cancelled(handle)
        gate.let_go()
        del root, handle
        await until_empty(worker)


async def test_all_ten_thousand_dependents() -> None:
    async with open_worker(threads=1) as worker:
        gate = Gate()
        root = worker.submit(gate)
        handles = [worker.submit(same, root) for _ in range(10_000)]
        await gate.entered.wait()
        root.cancel()
        await assert_cancelled(*handles[:3], *handles[-3:])
        gate.let_go()
        del root, handles
        await until_empty(worker)


# run, and who waits


async def test_cancelled_wait_leaves_the_task_alone() -> None:
    async with open_worker(threads=1) as worker:
        gate = AsyncGate(5)
        handle = worker.submit(gate)
        with trio.move_on_after(0) as scope:
            await handle
        assert scope.cancelled_caught
        gate.let_go()
        assert await handle == 5


async def test_cancelled_run_withdraws_its_task() -> None:
    async with open_worker(threads=1) as worker:
        gate = AsyncGate()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(worker.run, gate)
            await gate.entered.wait()
            nursery.cancel_scope.cancel()
        await until(lambda: gate.cancelled)
        await until_empty(worker)


async def test_cancelled_run_withdraws_its_task_before_it_began() -> None:
    async with open_worker(threads=1) as worker:
        with trio.move_on_after(0) as scope:
            await worker.run(never)
        assert scope.cancelled_caught
        await until_empty(worker)


@pytest.mark.parametrize("who", ["handle", "dependent", "dropped handle"])
async def test_cancelled_run_leaves_a_task_that_others_hold(who: str) -> None:
    async with open_worker(threads=1) as worker:
        gate = AsyncGate(5)
        other: TaskHandle[Any] | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: worker.run(gate, key="k"))
            await gate.entered.wait()
            other = worker.submit(gate, key="k")
            if who == "dependent":
                other = worker.submit(same, other)
                await trio.testing.wait_all_tasks_blocked()
            elif who == "dropped handle":
                other = None
            nursery.cancel_scope.cancel()
        if other is None:
            await until(lambda: gate.cancelled)
        else:
            gate.let_go()
            assert await other == 5
            other = None
        await until_empty(worker)


async def test_withdrawn_key_that_a_dependent_still_needs_is_still_that_task() -> None:
    async with open_worker(threads=1) as worker:
        gate = AsyncGate("first")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: worker.run(gate, key="k"))
            await gate.entered.wait()
            dependent = worker.submit(same, worker.submit(gate, key="k"), key="d")
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        again = worker.submit(same, dependent, key="k")
        gate.let_go()
        assert await dependent == "first"
        assert await again == "first"
