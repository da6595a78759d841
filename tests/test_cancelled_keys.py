"""A key that was cancelled is submitted again."""

from typing import Any

import pytest
import trio
import trio.testing
from endings import assert_cancelled
from gates import AsyncGate, Gate, until, until_empty

from trouper.runtime import TaskCancelled, open_worker


def same(value: Any) -> Any:
    return value


async def test_cancelled_key_submitted_again_gives_the_new_result() -> None:
    async with open_worker(threads=2) as worker:
        gate = Gate("old")
        old = worker.submit(gate, key="k")
        await gate.entered.wait()
        old.cancel()
        new = worker.submit(same, "new", key="k")
        assert new != old
        assert not new.done()
        await trio.testing.wait_all_tasks_blocked()
        await assert_cancelled(old)
        dependent = worker.submit(same, new)
        with pytest.raises(TaskCancelled):
            worker.submit(same, old)
        gate.let_go()
        assert await new == "new"
        assert await dependent == "new"
        await assert_cancelled(old)


async def test_cancelled_key_whose_function_has_returned_submitted_again() -> None:
    async with open_worker(threads=1) as worker:
        gate = AsyncGate("old")
        old = worker.submit(gate, key="k")
        await gate.entered.wait()
        old.cancel()
        await until(lambda: not worker.supervisor.owed)
        new = worker.submit(same, "new", key="k")
        assert await new == "new"
        await assert_cancelled(old)
        del old
        await trio.testing.wait_all_tasks_blocked()
        assert await new == "new"
        assert await worker.submit(same, "newer", key="k") == "new"


async def test_again_and_again_under_one_key() -> None:
    async with open_worker(threads=2) as worker:
        for i in range(20):
            old = worker.submit(same, "old", key="k")
            if i % 3 == 0:
                await trio.lowlevel.checkpoint()
            old.cancel()
            if i % 2:
                old.release()
            new = worker.submit(same, i, key="k")
            assert await new == i
            new.release()
            old.release()
            await until_empty(worker)


async def test_released_handle_cancels_and_the_key_is_free() -> None:
    async with open_worker(threads=1) as worker:
        gate = AsyncGate()
        old = worker.submit(gate, key="k")
        await gate.entered.wait()
        old.release()
        await trio.testing.wait_all_tasks_blocked()
        assert old.cancel()
        assert await worker.submit(same, "new", key="k") == "new"


async def test_a_cancelled_task_is_no_input_of_its_own_successor() -> None:
    async with open_worker(threads=1) as worker:
        old = worker.submit(same, 1, key="k")
        old.cancel()
        with pytest.raises(TaskCancelled):
            worker.submit(same, old, key="k")
        assert await worker.submit(same, 2, key="k") == 2


async def test_a_cancelled_input_gives_a_cancelled_dependent() -> None:
    async with open_worker(threads=1) as worker:
        old = worker.submit(same, 1, key="k")
        old.cancel()
        dependent = worker.submit(same, old)
        await assert_cancelled(dependent)


async def test_key_of_a_cancelled_root_with_its_own_dependent_as_input() -> None:
    # What would be a cycle, had the old root not been cancelled, and its dependent with it.
    async with open_worker(threads=1) as worker:
        a = worker.submit(same, 1, key="a")
        b = worker.submit(same, a, key="b")
        a.cancel()
        again = worker.submit(same, b, key="a")
        await assert_cancelled(again, b, a)
        assert await worker.run(same, 1) == 1
