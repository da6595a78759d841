"""Handles: what keeps a result alive, and what happens when nothing does."""

import copy
import gc
import pickle
import threading
import weakref
from typing import Any

import pytest
import trio
import trio.testing
from gates import AsyncGate, Gate, until, until_empty

from trouper.runtime import TaskHandle, TaskReleased, open_worker
from trouper.runtime.embedded.handle import FAIRNESS


def same(value: Any) -> Any:
    return value


def class_of(value: object, _: object) -> type:
    return type(value)


class Value:
    """Something that can be seen to be gone."""


async def test_a_result_lives_as_long_as_a_handle() -> None:
    async with open_worker(threads=1) as worker:
        one = worker.submit(Value)
        other = worker.submit(Value, key=one.key)
        ref = weakref.ref(await one)
        del one
        await trio.testing.wait_all_tasks_blocked()
        assert await other is ref()
        assert worker.status().tasks == {"memory": 1}
        del other
        await until_empty(worker)
        assert ref() is None


async def test_a_result_lives_as_long_as_a_dependent_needs_it() -> None:
    async with open_worker(threads=1) as worker:
        gate = Gate()
        first = worker.submit(Value)
        ref = weakref.ref(await first)
        second = worker.submit(class_of, first, worker.submit(gate))
        del first
        await gate.entered.wait()
        gc.collect()
        assert ref() is not None
        gate.let_go()
        assert await second is Value
        await until(lambda: ref() is None)


async def test_the_inner_handle_is_gone_before_its_task_has_run() -> None:
    async with open_worker(threads=1) as worker:
        gate = Gate(5)
        blocker = worker.submit(gate)
        await gate.entered.wait()
        outer = worker.submit(same, worker.submit(same, worker.submit(same, 7)))
        gc.collect()
        await trio.testing.wait_all_tasks_blocked()
        gate.let_go()
        assert await outer == 7
        del blocker, outer
        await until_empty(worker)


async def test_a_handle_that_is_dropped_while_its_task_runs() -> None:
    async with open_worker(threads=1) as worker:
        gate, coroutine = Gate(5), AsyncGate(5)
        handles: list[TaskHandle[Any]] = [worker.submit(gate), worker.submit(coroutine)]
        await gate.entered.wait()
        await coroutine.entered.wait()
        handles.clear()
        await trio.testing.wait_all_tasks_blocked()
        assert worker.status().tasks == {"executing": 2}  # what was submitted is run
        gate.let_go()
        coroutine.let_go()
        await until_empty(worker)


async def test_a_handle_that_is_dropped_while_it_is_awaited() -> None:
    async with open_worker(threads=1) as worker:
        gate = AsyncGate(5)
        async with trio.open_nursery() as nursery:

            async def wait() -> None:
                assert await worker.submit(gate, key="k") == 5

            nursery.start_soon(wait)
            await gate.entered.wait()
            gc.collect()
            worker.submit(same, 0)  # a batch in which others are freed
            gate.let_go()
        await until_empty(worker)


async def test_a_handle_that_is_dropped_in_another_thread() -> None:
    async with open_worker(threads=1) as worker:
        for ended in (False, True):
            gate = Gate(5)
            handles: list[TaskHandle[Any]] = [worker.submit(gate) for _ in range(10)]
            await gate.entered.wait()
            if ended:
                gate.let_go()
                await handles[-1]
            thread = threading.Thread(target=handles.clear)
            thread.start()
            thread.join()
            assert not handles
            gate.let_go()
            await until_empty(worker)


async def test_handles_that_are_dropped_in_many_threads_at_once() -> None:
    async with open_worker(threads=2) as worker:

        def drop(handles: list[TaskHandle[int]]) -> None:
            while handles:
                handles.pop()

        lists = [[worker.submit(same, i) for i in range(300)] for _ in range(4)]
        threads = [threading.Thread(target=drop, args=(handles,)) for handles in lists]
        for thread in threads:
            thread.start()
        await until(lambda: not any(lists))
        for thread in threads:
            thread.join()
        await until_empty(worker)


async def test_release() -> None:
    async with open_worker(threads=1) as worker:
        handle = worker.submit(Value, key="k")
        other = worker.submit(Value, key="k")
        ref = weakref.ref(await handle)
        handle.release()
        handle.release()
        with pytest.raises(TaskReleased, match="'k' was released"):
            await handle
        assert handle.phase == "released"
        await trio.testing.wait_all_tasks_blocked()
        assert await other is ref()
        other.release()
        await until_empty(worker)
        assert ref() is None


async def test_released_before_it_has_run_it_is_run() -> None:
    async with open_worker(threads=1) as worker:
        ran: list[int] = []
        worker.submit(ran.append, 1).release()
        await until(lambda: ran)
        await until_empty(worker)


async def test_arguments_are_dropped_when_the_function_has_returned() -> None:
    async with open_worker(threads=1) as worker:
        argument = Value()
        ref = weakref.ref(argument)
        gate = Gate(5)
        handle = worker.submit(gate, argument)
        del argument
        await gate.entered.wait()
        assert ref() is not None
        gate.let_go()
        await handle
        await until(lambda: ref() is None)


async def test_arguments_of_a_cancelled_task_are_dropped() -> None:
    async with open_worker(threads=1) as worker:
        gate = Gate()
        worker.submit(gate)
        argument = Value()
        ref = weakref.ref(argument)
        handle = worker.submit(same, argument)
        del argument
        await gate.entered.wait()
        handle.cancel()
        await until(lambda: ref() is None)
        gate.let_go()


async def test_many_tasks_leave_nothing_behind() -> None:
    def objects() -> int:
        gc.collect()
        return len(gc.get_objects())

    async def wave() -> None:
        handles = [worker.submit(same, i) for i in range(500)]
        handles += [worker.submit(same, handle) for handle in handles]
        for handle in handles:
            await handle
        failed = worker.submit(int, "x")
        with pytest.raises(ValueError, match="invalid literal"):
            await failed
        worker.submit(trio.sleep_forever).cancel()

    async with open_worker(threads=2) as worker:
        for _ in range(2):
            await wave()
        await until_empty(worker)
        before = objects()
        for _ in range(6):
            await wave()
        await until_empty(worker)
        assert objects() < before + 100


async def test_a_handle_outlives_its_event_loop() -> None:
    handles: list[TaskHandle[int]] = []

    def run() -> None:
        async def main() -> None:
            async with open_worker(threads=1) as worker:
                handles.append(worker.submit(same, 1))

        trio.run(main)

    thread = threading.Thread(target=run)
    thread.start()
    await until(lambda: not thread.is_alive())
    (handle,) = handles
    assert handle.done()
    assert handle.phase == "memory"
    handles.clear()
    del handle  # and nothing is said of it


async def test_when_done_calls_back_once() -> None:
    async with open_worker(threads=1) as worker:
        gate = AsyncGate(1)
        called: list[str] = []
        handle = worker.submit(gate)
        handle.when_done(lambda done: called.append(f"one {done == handle}"))
        handle.when_done(lambda _: called.append("two"))
        await gate.entered.wait()
        assert called == []
        gate.let_go()
        await handle
        assert called == ["one True", "two"]
        handle.when_done(lambda _: called.append("at once"))
        assert called[2:] == ["at once"]
        handle.cancel()
        assert len(called) == 3


async def test_other_tasks_have_their_turn_between_awaits_that_need_not_wait() -> None:
    async with open_worker(threads=1) as worker:
        handle = worker.submit(same, 1)
        await handle
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                await trio.lowlevel.checkpoint()
                turns += 1

        async with trio.open_nursery() as nursery:
            nursery.start_soon(count)
            for _ in range(1000):
                await handle
            assert turns > 5
            nursery.cancel_scope.cancel()
        with trio.CancelScope() as scope:
            scope.cancel()
            for _ in range(FAIRNESS):
                await handle
        assert scope.cancelled_caught


async def test_a_copy_of_a_handle_is_the_handle() -> None:
    async with open_worker(threads=1) as worker:
        handle = worker.submit(same, 1)
        assert copy.copy(handle) is copy.deepcopy(handle) is handle
        assert await handle == 1


async def test_a_handle_cannot_be_pickled() -> None:
    async with open_worker(threads=1) as worker:
        handle = worker.submit(same, 1, key="x")
        with pytest.raises(TypeError, match="handle of task 'x' cannot leave its process"):
            pickle.dumps(handle)
