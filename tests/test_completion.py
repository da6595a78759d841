"""Many tasks at once: `map` and `as_completed`; and one from its submission to its result."""

from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from typing import Any

import pytest
import trio
from gates import AsyncGate, until, until_empty

from trouper.runtime import TaskHandle, open_worker
from trouper.runtime.bulk import Answers
from trouper.runtime.supervisor import AT_ONCE
from trouper.wire.stimuli import Stimulus


def everything(*args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return args, kwargs


variable: ContextVar[str] = ContextVar("variable", default="none")


def same(value: Any) -> Any:
    return value


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
