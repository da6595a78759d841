"""In which order tasks run, how many at once, and how many at all."""

import threading
from typing import Any

import trio
import trio.testing
from gates import AsyncGate, Gate, until, until_empty, worker_threads

from trouper.runtime import TaskHandle, Worker, open_worker


def same(value: Any) -> Any:
    return value


async def async_same(value: Any) -> Any:
    await trio.lowlevel.checkpoint()
    return value


# Limits and order


async def test_never_more_plain_functions_at_once_than_threads() -> None:
    lock = threading.Lock()
    running = most = 0
    barrier = threading.Barrier(3)

    def work(_: int) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        barrier.wait(10)  # there are always three
        with lock:
            running -= 1
        barrier.wait(10)

    async with open_worker(threads=3) as worker:
        worker.map(work, range(30))
    assert most == 3


async def test_never_more_coroutines_at_once_than_allowed() -> None:
    async with open_worker(threads=1, coroutines=2) as worker:
        gates = [AsyncGate(i) for i in range(4)]
        handles = [worker.submit(gate) for gate in gates]
        await gates[1].entered.wait()
        await trio.testing.wait_all_tasks_blocked()
        assert [handle.phase for handle in handles] == ["executing"] * 2 + ["ready"] * 2
        assert worker.status().slots["coroutine"].used == 2
        gates[1].let_go()
        await gates[2].entered.wait()
        assert not gates[3].entered.is_set()
        for gate in gates:
            gate.let_go()
        assert [await handle for handle in handles] == [0, 1, 2, 3]


async def test_the_higher_priority_goes_first_and_among_equals_the_older() -> None:
    order: list[str] = []
    async with open_worker(threads=1) as worker:
        gate = Gate()
        worker.submit(gate)
        await gate.entered.wait()
        for name, priority in [("a", 0), ("b", 10), ("c", -1), ("d", 10), ("e", 0.5)]:
            worker.submit(order.append, name, priority=priority)
        gate.let_go()
    assert order == ["b", "d", "e", "a", "c"]


async def test_resources_are_given_to_one_task_at_a_time() -> None:
    async with open_worker(threads=1, resources={"gpu": 1, "net": 2, "disk": 1}) as worker:
        first, second = AsyncGate(), AsyncGate()
        a = worker.submit(first, resources={"gpu": 1})
        b = worker.submit(second, resources={"gpu": 1, "net": 1})
        c = worker.submit(same, 3, resources={"net": 2})  # would be in the way of the older one
        d = worker.submit(same, 4, resources={"disk": 1})
        assert await d == 4
        await first.entered.wait()
        assert b.phase == c.phase == "constrained"
        assert worker.status().resources["gpu"].used == 1
        assert not second.entered.is_set()
        first.let_go()
        await second.entered.wait()
        assert a.phase == "memory"
        second.let_go()
        await b
        assert worker.status().resources["gpu"].used == 0


# Tasks that wait for tasks


async def test_a_coroutine_that_waits_for_another_gives_its_slot_back() -> None:
    async def depth(n: int) -> int:
        return 0 if n == 0 else 1 + int(await worker.run(depth, n - 1))

    async with open_worker(threads=1, coroutines=1) as worker:
        with trio.fail_after(10):
            assert await worker.run(depth, 50) == 50
        assert worker.status().slots["coroutine"].used == 0


async def test_a_thread_that_waits_for_another_gives_its_slot_back() -> None:
    token = trio.lowlevel.current_trio_token()

    def depth(n: int) -> int:
        if n == 0:
            return 0
        return 1 + int(trio.from_thread.run(worker.run, depth, n - 1, trio_token=token))

    async with open_worker(threads=1) as worker:
        with trio.fail_after(10):
            assert await worker.run(depth, 20) == 20
        assert worker.status().slots["thread"].used == 0
        await until(lambda: len(worker_threads()) == 1)


async def test_phase_of_a_task_that_has_given_its_slot_back() -> None:
    async with open_worker(threads=1, coroutines=1) as worker:
        gate = Gate(5)

        async def outer() -> Any:
            async for handle in worker.as_completed([worker.submit(gate)]):
                return await handle

        handle = worker.submit(outer)
        await gate.entered.wait()
        assert handle.phase == "long-running"
        assert worker.status().slots["coroutine"].used == 0
        gate.let_go()
        assert await handle == 5


async def test_waiting_for_a_task_of_another_worker_keeps_the_slot() -> None:
    async with open_worker(threads=1) as one, open_worker(threads=1) as two:
        gate = Gate(5)

        async def outer() -> Any:
            return await two.run(gate)

        handle = one.submit(outer)
        await gate.entered.wait()
        assert handle.phase == "executing"
        gate.let_go()
        assert await handle == 5


# Many


async def test_ten_thousand_dependents_on_one_task() -> None:
    async with open_worker(threads=2) as worker:
        gate = Gate(1)
        root = worker.submit(gate)
        handles = [worker.submit(same, root) for _ in range(10_000)]
        gate.let_go()
        assert sum([await handle for handle in handles]) == 10_000
        del root, handles
        await until_empty(worker)


async def test_a_chain_ten_thousand_deep() -> None:
    def increment(value: int) -> int:
        return value + 1

    async with open_worker(threads=2) as worker:
        gate = Gate(0)
        handle: TaskHandle[int] = worker.submit(gate)
        for _ in range(10_000):
            handle = worker.submit(increment, handle)
        gate.let_go()
        assert await handle == 10_000
        del handle
        await until_empty(worker)


async def test_a_task_may_be_submitted_between_any_two_steps_of_another() -> None:
    async def submit_many(worker: Worker, results: list[Any]) -> None:
        for i in range(50):
            results.append(await worker.run(same if i % 2 else async_same, i))

    async with open_worker(threads=2) as worker:
        results: list[list[Any]] = [[] for _ in range(5)]
        async with trio.open_nursery() as nursery:
            for part in results:
                nursery.start_soon(submit_many, worker, part)
        assert results == [list(range(50))] * 5
        await until_empty(worker)
