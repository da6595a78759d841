"""How a worker's block is left: at the end, by an exception, by a cancellation."""

from typing import Any

import pytest
import trio
import trio.testing
from gates import AsyncGate, Gate, until, worker_threads

from trouper.runtime import (
    TaskCancelled,
    TaskHandle,
    Worker,
    WorkerClosed,
    check_cancelled,
    open_worker,
)
from trouper.runtime.invariants import check


def same(value: Any) -> Any:
    return value


def assert_closed(worker: Worker | None) -> None:
    """Nothing is left of it, and nothing more can be begun."""
    assert worker is not None
    assert worker.status().state == "closed"
    assert not worker.supervisor.owed
    assert worker.status().slots["thread"].used == 0
    assert worker_threads() == []
    check(worker.supervisor.machine)
    with pytest.raises(WorkerClosed):
        worker.submit(same, 1)


# At the end of the block


async def test_leaving_waits_for_what_was_submitted() -> None:
    done: list[int] = []
    gate = Gate()

    async def later(_: object) -> None:
        await trio.sleep(0.01)
        done.append(2)

    async with open_worker(threads=1) as worker:
        first = worker.submit(gate)
        worker.submit(done.append, 1)
        worker.submit(later, first)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(gate.entered.wait)
        gate.let_go()
    assert sorted(done) == [1, 2]
    assert_closed(worker)


async def test_leaving_waits_for_tasks_that_tasks_have_submitted() -> None:
    done: list[int] = []

    async def work(depth: int) -> None:
        if depth:
            worker.submit(work, depth - 1)  # while the block is being left
        else:
            done.append(1)

    async with open_worker(threads=1) as worker:
        worker.submit(work, 10)
    assert done == [1]


async def test_results_can_be_had_after_the_block() -> None:
    async with open_worker(threads=1) as worker:
        value = worker.submit(same, 5)
        error = worker.submit(int, "x")
    assert await value == 5
    with pytest.raises(ValueError, match="invalid literal"):
        await error
    del value, error
    await trio.testing.wait_all_tasks_blocked()


async def test_empty_block() -> None:
    async with open_worker(threads=2) as worker:
        pass
    assert_closed(worker)


async def test_several_workers_inside_each_other() -> None:
    async with open_worker(threads=1, name="one") as one, open_worker(threads=1, name="two") as two:
        assert await one.run(same, 1) == await two.run(same, 1)
        assert one.name == "one"
        assert two.status().name == "two"
    assert_closed(one)
    assert_closed(two)


# By an exception, by a cancellation


class Boom(Exception):
    pass


@pytest.mark.parametrize("error", [Boom(), KeyboardInterrupt(), SystemExit(1)])
async def test_an_exception_cancels_what_runs_and_leaves_as_itself(error: BaseException) -> None:
    worker: Worker | None = None
    gate = AsyncGate()
    handles: list[TaskHandle[Any]] = []
    with pytest.raises(type(error)) as caught:
        async with open_worker(threads=1) as worker:
            handles.append(worker.submit(gate))
            handles.append(worker.submit(same, handles[0]))
            await gate.entered.wait()
            raise error
    assert caught.value is error
    assert error.__context__ is None
    assert gate.cancelled
    for handle in handles:
        with pytest.raises(TaskCancelled):
            await handle
    assert_closed(worker)


async def test_an_exception_waits_for_threads_and_asks_them_to_stop() -> None:
    worker: Worker | None = None
    begun = trio.Event()
    token = trio.lowlevel.current_trio_token()
    stopped: list[int] = []

    def work() -> None:
        trio.from_thread.run_sync(begun.set, trio_token=token)
        try:
            while True:
                check_cancelled()
        finally:
            stopped.append(1)

    with pytest.raises(Boom):
        async with open_worker(threads=1) as worker:
            worker.submit(work)
            await begun.wait()
            raise Boom
    assert stopped == [1]
    assert_closed(worker)


async def test_closing_says_which_tasks_it_waits_for(caplog: pytest.LogCaptureFixture) -> None:
    gate = Gate()
    with pytest.raises(Boom):
        async with open_worker(threads=1, name="w") as worker:

            async def let_go() -> None:
                await until(lambda: caplog.records)
                gate.let_go()

            worker.submit(gate, key=("k", 1))
            await gate.entered.wait()
            trio.lowlevel.spawn_system_task(let_go)
            raise Boom
    (record,) = caplog.records
    assert record.getMessage() == (
        "worker w is closing and waits for 1 task(s) that do not stop: ('k', 1); "
        "Ctrl-C leaves without waiting"
    )


async def test_a_group_leaves_as_that_very_group() -> None:
    with pytest.raises(ExceptionGroup) as caught:
        async with open_worker(threads=1), trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            raise Boom
    assert [type(error) for error in caught.value.exceptions] == [Boom]


async def test_a_cancellation_from_outside_is_absorbed_by_its_own_scope() -> None:
    worker: Worker | None = None
    gate = AsyncGate()
    with trio.CancelScope() as outer:
        with trio.CancelScope() as scope:
            async with open_worker(threads=1) as worker:
                worker.submit(gate)
                await gate.entered.wait()
                scope.cancel()
                await trio.sleep_forever()
        assert scope.cancelled_caught
        assert gate.cancelled
        assert_closed(worker)
        await trio.lowlevel.checkpoint()
    assert not outer.cancelled_caught


async def test_a_cancellation_while_leaving_waits() -> None:
    worker: Worker | None = None
    gate = AsyncGate()
    with trio.CancelScope() as scope:
        async with open_worker(threads=1) as worker:
            worker.submit(gate)
            worker.submit(trio.sleep_forever)
            trio.lowlevel.spawn_system_task(cancel_once, gate, scope)
    assert scope.cancelled_caught
    assert gate.cancelled
    assert_closed(worker)


async def cancel_once(gate: AsyncGate, scope: trio.CancelScope) -> None:
    await gate.entered.wait()
    await trio.testing.wait_all_tasks_blocked()
    scope.cancel()


async def test_tasks_go_on_cleaning_up_under_a_cancellation_from_outside() -> None:
    worker: Worker | None = None
    # Also a second one, that comes while the first is being answered.
    cleaned: list[int] = []

    async def work() -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                scope.cancel()
                await trio.sleep(0.01)
            cleaned.append(1)

    with trio.move_on_after(0.01) as scope:
        async with open_worker(threads=1) as worker:
            worker.submit(work)
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert cleaned == [1]
    assert_closed(worker)


async def test_submitting_while_it_closes() -> None:
    refused: list[BaseException] = []

    async def work() -> None:
        try:
            await trio.sleep_forever()
        finally:
            try:
                worker.submit(same, 1)
            except WorkerClosed as error:
                refused.append(error)

    with pytest.raises(Boom):
        async with open_worker(threads=1) as worker:
            handle = worker.submit(work)
            await until(lambda: handle.phase == "executing")
            await trio.testing.wait_all_tasks_blocked()
            raise Boom
    assert len(refused) == 1
