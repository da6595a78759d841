"""The embedded API: what is submitted, in which order it runs, and what is refused."""

import functools
import threading
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from typing import Any, NamedTuple

import pytest
import trio
import trio.testing
from gates import AsyncGate, Gate, until, until_empty, worker_threads

from trouper.runtime import (
    ForeignHandle,
    InvalidKey,
    ResourceError,
    TaskHandle,
    TaskReleased,
    Worker,
    WorkerClosed,
    open_worker,
)
from trouper.runtime.bulk import Answers
from trouper.runtime.supervisor import AT_ONCE
from trouper.wire.stimuli import Stimulus


def same(value: Any) -> Any:
    return value


def everything(*args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return args, kwargs


async def async_same(value: Any) -> Any:
    await trio.lowlevel.checkpoint()
    return value


# What may be submitted


class Callables:
    async def method(self, value: int) -> int:
        return value

    def plain(self, value: int) -> int:
        return value

    @staticmethod
    async def static(value: int) -> int:
        return value

    async def __call__(self, value: int) -> int:
        return value


@pytest.mark.parametrize(
    "fn",
    [
        same,
        async_same,
        Callables().method,
        Callables().plain,
        Callables.static,
        Callables(),
        functools.partial(same),
        functools.partial(async_same),
        functools.partial(Callables().method),
        int,
        [5, 6].pop,
    ],
)
async def test_any_callable(fn: Any) -> None:
    async with open_worker(threads=1) as worker:
        handle = worker.submit(fn, 0)
        assert await handle in (0, 5)
        assert isinstance(handle.key, str)


async def test_plain_functions_run_in_threads_and_coroutines_in_the_loop() -> None:
    async def in_loop() -> str:
        return threading.current_thread().name

    async with open_worker(threads=1, name="w") as worker:
        assert await worker.run(in_loop) == threading.current_thread().name
        assert await worker.run(lambda: threading.current_thread().name) == "w-thread-1"


async def test_a_plain_function_that_returns_a_coroutine_has_failed() -> None:
    async with open_worker(threads=1) as worker:
        with pytest.raises(TypeError, match="submit the coroutine function itself"):
            await worker.submit(lambda: async_same(1))


# Inputs


class Point(NamedTuple):
    x: Any
    y: Any


async def test_handles_anywhere_in_the_arguments() -> None:
    async with open_worker(threads=1) as worker:
        a, b = worker.submit(same, 1), worker.submit(async_same, 2)
        default: defaultdict[str, Any] = defaultdict(list, {"a": a})
        args, kwargs = await worker.submit(
            everything,
            a,
            [a, [b, (a, {b})]],
            {"v": a, b: "k", "deep": {"er": [b]}},
            {a, b, 3},
            frozenset([a]),
            Point(a, [b]),
            OrderedDict([("z", a), ("y", b)]),
            default,
            Counter({"n": b}),
            named=a,
            nested=[b],
        )
        assert args[:5] == (
            1,
            [1, [2, (1, {2})]],
            {"v": 1, 2: "k", "deep": {"er": [2]}},
            {1, 2, 3},
            {1},
        )
        assert type(args[4]) is frozenset
        assert args[5] == Point(1, [2])
        assert type(args[5]) is Point
        assert list(args[6].items()) == [("z", 1), ("y", 2)]
        assert type(args[6]) is OrderedDict
        assert args[7] == {"a": 1}
        assert args[7]["new"] == []
        assert args[8] == Counter({"n": 2})
        assert kwargs == {"named": 1, "nested": [2]}
        assert default == {"a": a}


async def test_arguments_without_handles_arrive_as_they_are() -> None:
    async with open_worker(threads=1) as worker:
        value = [object(), {"x": ({1},)}]
        args, _ = await worker.submit(everything, value)
        assert args[0] is value


async def test_the_same_handle_twice() -> None:
    async with open_worker(threads=1) as worker:
        a = worker.submit(same, 1)
        assert await worker.submit(everything, a, a, k=a) == ((1, 1), {"k": 1})


@pytest.mark.parametrize("kind", [set, frozenset, dict])
async def test_an_unhashable_result_in_a_set_fails_the_task_clearly(kind: type) -> None:
    async with open_worker(threads=1) as worker:
        a: TaskHandle[Any] = worker.submit(list)
        with pytest.raises(TypeError, match="unhashable type: 'list'") as caught:
            await worker.submit(everything, {a: 1} if kind is dict else kind([a]))
        assert "when results were put into an argument" in caught.value.__notes__[0]
        assert await a == []


async def test_an_argument_that_contains_itself_is_refused() -> None:
    async with open_worker(threads=1) as worker:
        knot: list[Any] = [worker.submit(same, 1)]
        knot.append(knot)
        with pytest.raises(ValueError, match="contains itself"):
            worker.submit(everything, knot)
        assert await worker.run(same, 2) == 2
        knot.clear()
        await until_empty(worker)


async def test_inputs_are_looked_for_when_the_task_is_submitted() -> None:
    async with open_worker(threads=1) as worker:
        gate = Gate(1)
        argument = [worker.submit(gate)]
        handle = worker.submit(same, argument)
        argument.clear()
        gate.let_go()
        assert await handle == [1]


# Keys


async def test_the_same_key_is_the_same_task() -> None:
    async with open_worker(threads=1) as worker:
        a = worker.submit(same, 1, key=("k", 1))
        b = worker.submit(same, 2, key=("k", 1))
        assert a == b
        assert hash(a) == hash(b)
        assert a is not b
        assert a.key == ("k", 1)
        assert await b == 1
        assert worker.submit(same, 3, key=("k", 1)) == a
        assert a != worker.submit(same, 1, key=("k", 1.0))
        assert a != "k"


async def test_a_failed_key_is_the_same_task_too() -> None:
    async with open_worker(threads=1) as worker:
        a = worker.submit(int, "x", key="k")
        await until(a.done)
        b = worker.submit(same, 2, key="k")
        assert a == b
        with pytest.raises(ValueError, match="invalid literal"):
            await b
        del a, b
        await until_empty(worker)
        assert await worker.submit(same, 2, key="k") == 2


async def test_a_key_is_free_again_when_nobody_has_a_handle() -> None:
    async with open_worker(threads=1) as worker:
        for i in range(3):
            assert await worker.submit(same, i, key="k") == i
            await until_empty(worker)


async def test_keys_that_were_given_and_keys_that_are_made() -> None:
    async with open_worker(threads=1) as worker:
        given = [worker.submit(same, i, key=f"same-{i}") for i in range(1, 8)]
        made = [worker.submit(same, -i) for i in range(4)] + worker.map(same, range(-4, -8, -1))
        assert len({handle.key for handle in given + made}) == 15
        assert [await handle for handle in made] == [-i for i in range(8)]


async def test_keys_that_are_made_of_a_name_that_looks_like_a_key_that_is_no_text() -> None:
    def odd(value: int) -> int:
        return value

    odd.__qualname__ = "~odd"
    async with open_worker(threads=1) as worker:
        handles = [worker.submit(odd, 1), *worker.map(odd, [2, 3])]
        assert [handle.key for handle in handles] == ["task ~odd-1", "task ~odd-2", "task ~odd-3"]
        assert [await handle for handle in handles] == [1, 2, 3]


@pytest.mark.parametrize("key", [["k"], {"k": 1}, object(), ("k", []), float("nan")])
async def test_keys_that_are_none(key: Any) -> None:
    async with open_worker(threads=1) as worker:
        with pytest.raises(InvalidKey):
            worker.submit(same, 1, key=key)


# What is refused


async def test_what_cannot_be_called() -> None:
    async with open_worker(threads=1) as worker:
        coroutine = async_same(1)
        wrongs: list[Any] = [5, None, coroutine]
        for wrong in wrongs:
            with pytest.raises(TypeError, match="cannot be called"):
                worker.submit(wrong)
        coroutine.close()


async def test_resources_that_are_not_there() -> None:
    async with open_worker(threads=1, resources={"gpu": 2, "ram": 0.5}) as worker:
        with pytest.raises(ResourceError, match="no resource 'tpu'; it has gpu, ram"):
            worker.submit(same, 1, resources={"tpu": 1})
        for amount in (3, 0, -1, float("nan"), float("inf")):
            with pytest.raises(ResourceError, match="gpu"):
                worker.submit(same, 1, resources={"gpu": amount})
        assert await worker.run(same, 1, resources={"gpu": 2, "ram": 0.5}) == 1


async def test_a_priority_that_is_no_number() -> None:
    async with open_worker(threads=1) as worker:
        with pytest.raises(ValueError, match="priority"):
            worker.submit(same, 1, priority=float("nan"))
        with pytest.raises(TypeError):
            worker.submit(same, 1, priority="high")  # type: ignore[call-overload]
        assert await worker.run(same, 1, priority=float("-inf")) == 1


async def test_a_handle_of_another_worker() -> None:
    async with open_worker(threads=1) as one, open_worker(threads=1) as two:
        handle = one.submit(same, 1)
        with pytest.raises(ForeignHandle, match="another worker"):
            two.submit(same, [handle])


async def test_a_released_handle() -> None:
    async with open_worker(threads=1) as worker:
        handle = worker.submit(same, 1, key="k")
        handle.release()
        with pytest.raises(TaskReleased, match="'k'"):
            worker.submit(same, handle)
        with pytest.raises(TaskReleased):
            worker.as_completed([handle])


async def test_a_closed_worker() -> None:
    async with open_worker(threads=1, name="w") as worker:
        pass
    with pytest.raises(WorkerClosed, match="'w'"):
        worker.submit(same, 1)
    with pytest.raises(WorkerClosed):
        await worker.run(same, 1)
    with pytest.raises(WorkerClosed):
        worker.map(same, [1])


async def test_use_from_another_thread() -> None:
    async with open_worker(threads=1) as worker:
        handle = worker.submit(trio.sleep_forever)

        def use() -> list[BaseException]:
            errors: list[BaseException] = []
            for call in (
                lambda: worker.submit(same, 1),
                lambda: worker.map(same, [1]),
                handle.cancel,
            ):
                try:
                    call()
                except RuntimeError as error:
                    errors.append(error)
            return errors

        errors = await worker.run(use)
        assert ["thread of its event loop" in str(error) for error in errors] == [True] * 3
        assert not handle.done()
        handle.cancel()


async def test_nothing_is_left_of_what_is_refused() -> None:
    async with open_worker(threads=1) as worker:
        a = worker.submit(same, 1)
        released = worker.submit(same, 2)
        released.release()
        for _ in range(3):
            with pytest.raises(TaskReleased):
                worker.submit(everything, a, released)
        assert await a == 1
        del a, released
        await until_empty(worker)


# Context variables


variable: ContextVar[str] = ContextVar("variable", default="none")


async def test_context_variables_reach_tasks_and_do_not_leave_them() -> None:
    def plain() -> str:
        seen = variable.get()
        variable.set("changed")
        return seen

    async def coroutine() -> str:
        await trio.lowlevel.checkpoint()
        return plain()

    async with open_worker(threads=1) as worker:
        variable.set("one")
        first = [worker.submit(plain), worker.submit(coroutine)]
        variable.set("two")
        second = [worker.submit(plain), worker.submit(coroutine)]
        assert [await handle for handle in first] == ["one", "one"]
        assert [await handle for handle in second] == ["two", "two"]
        assert variable.get() == "two"


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


# map, as_completed, run


async def test_map_over_one_and_several_iterables() -> None:
    async with open_worker(threads=2) as worker:
        handles = worker.map(same, range(5))
        assert [await handle for handle in handles] == [0, 1, 2, 3, 4]
        pairs = worker.map(everything, handles, "ab", priority=3)
        assert [(await pair)[0] for pair in pairs] == [(0, "a"), (1, "b")]
        assert worker.map(same, []) == []
        with pytest.raises(TypeError, match="at least one iterable"):
            worker.map(same)


async def test_map_reads_the_iterables_to_their_end_first() -> None:
    def numbers() -> Iterator[int]:
        yield 1
        inner.append(worker.submit(same, "between"))
        yield 2
        raise LookupError

    async with open_worker(threads=1) as worker:
        inner: list[TaskHandle[Any]] = []
        with pytest.raises(LookupError):
            worker.map(same, numbers())
        assert [await handle for handle in inner] == ["between"]
        assert worker.status().tasks == {"memory": 1}


async def test_the_tasks_of_a_map_each_see_the_context_variables_and_change_their_own() -> None:
    def plain(value: int) -> str:
        seen = variable.get()
        variable.set(f"changed by {value}")
        return seen

    async with open_worker(threads=1) as worker:
        variable.set("one")
        handles = worker.map(plain, range(5))
        variable.set("two")
        assert [await handle for handle in handles] == ["one"] * 5
        assert variable.get() == "two"


async def test_the_first_of_thousands_are_begun_before_the_last_are_handled() -> None:
    async with open_worker(threads=1) as worker:
        supervisor = worker.supervisor
        handle_all = supervisor.machine.handle_all
        calls: list[tuple[int, bool]] = []

        def noted(stimuli: Sequence[Stimulus], answers: Answers) -> None:
            calls.append((len(stimuli), bool(supervisor.threads.owed)))
            handle_all(stimuli, answers)

        supervisor.machine.handle_all = noted  # type: ignore[method-assign]
        handles = worker.map(same, range(2 * AT_ONCE + 1))
        assert [await handle for handle in handles] == list(range(2 * AT_ONCE + 1))
        assert calls[:3] == [(AT_ONCE, False), (AT_ONCE, True), (1, True)]


async def test_as_completed_gives_them_as_they_end_however_they_end() -> None:
    async with open_worker(threads=3) as worker:
        gates = [AsyncGate(i) for i in range(3)]
        handles: list[TaskHandle[Any]] = [worker.submit(gate) for gate in gates]
        failed = worker.submit(int, "x")
        await until(failed.done)
        seen: list[TaskHandle[Any]] = []
        gates[2].let_go()
        async for handle in worker.as_completed([*handles, failed]):
            seen.append(handle)
            if handle == handles[2]:
                handles[0].cancel()
            elif handle == handles[0]:
                gates[1].let_go()
        assert seen == [failed, handles[2], handles[0], handles[1]]
        with pytest.raises(ValueError, match="invalid literal"):
            await failed


async def test_as_completed_of_none_and_of_the_same_twice() -> None:
    async with open_worker(threads=1) as worker:
        none: list[TaskHandle[int]] = []
        assert [handle async for handle in worker.as_completed(none)] == []
        a = worker.submit(same, 1)
        assert [await handle async for handle in worker.as_completed([a, a])] == [1, 1]


async def test_as_completed_can_be_cancelled_and_gone_on_with() -> None:
    async with open_worker(threads=1) as worker:
        gate = AsyncGate(1)
        completed = worker.as_completed([worker.submit(gate), worker.submit(same, 2)])
        assert await (await anext(completed)) == 2
        with trio.move_on_after(0.01) as scope:
            await anext(completed)
        assert scope.cancelled_caught
        gate.let_go()
        assert await (await anext(completed)) == 1
        with pytest.raises(StopAsyncIteration):
            await anext(completed)


async def test_run_gives_the_result_or_raises() -> None:
    async with open_worker(threads=1) as worker:
        assert await worker.run(everything, 1, key="k", x=2) == ((1,), {"x": 2})
        with pytest.raises(ValueError, match="invalid literal"):
            await worker.run(int, "x")
        await until_empty(worker)


# Phases and status


async def test_the_phases_of_a_task() -> None:
    async with open_worker(threads=1) as worker:
        gate, other = Gate(1), Gate(2)
        a = worker.submit(gate, key="a")
        assert a.phase == "waiting"  # the machine has not heard of it
        b = worker.submit(other, a, key="b")
        c = worker.submit(same, 3)
        await gate.entered.wait()
        assert (a.phase, b.phase, c.phase) == ("executing", "waiting", "ready")
        assert repr(a) == "<TaskHandle 'a' executing>"
        gate.let_go()
        assert await a == 1
        assert a.phase == "memory"
        await other.entered.wait()
        assert b.phase == "executing"
        assert b.cancel()
        assert b.phase == "cancelled"
        other.let_go()
        await c
        c.release()
        assert c.phase == "released"


async def test_status() -> None:
    async with open_worker(threads=2, name="w", coroutines=5, resources={"gpu": 1.5}) as worker:
        gate = Gate(b"x" * 1000)
        a = worker.submit(gate, resources={"gpu": 0.5})
        b = worker.submit(same, a)
        await gate.entered.wait()
        status = worker.status()
        assert (status.name, status.state) == ("w", "running")
        assert status.tasks == {"executing": 1, "waiting": 1}
        assert (status.slots["thread"].used, status.slots["thread"].total) == (1, 2)
        assert (status.slots["coroutine"].used, status.slots["coroutine"].total) == (0, 5)
        assert (status.resources["gpu"].used, status.resources["gpu"].total) == (0.5, 1.5)
        assert status.nbytes == 0
        gate.let_go()
        await b
        assert worker.status().tasks == {"memory": 2}
        assert 2000 < worker.status().nbytes < 3000
    assert worker.status().state == "closed"


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
