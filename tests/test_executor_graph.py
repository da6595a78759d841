"""`WorkerExecutor.submit_task`: graphs of futures, and tasks that wait for tasks."""

# The parameters of a lambda have no types.
# pyright: reportUnknownLambdaType=false, reportUnknownArgumentType=false
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false

import concurrent.futures as cf
import contextvars
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import trio
from executors import PATIENCE_S, Gate, fail

from trouper.runtime import (
    ForeignHandle,
    InvalidKey,
    ResourceError,
    TaskCancelled,
    WorkerExecutor,
    WorkerFuture,
)


@pytest.fixture
def executor() -> Iterator[WorkerExecutor]:
    with WorkerExecutor(threads=1) as made:
        yield made


def test_futures_may_stand_anywhere_in_the_arguments(executor: WorkerExecutor) -> None:
    one, two = executor.submit_task(int, 1), executor.submit(int, 2)

    def collect(*args: Any, **kwargs: Any) -> Any:
        return args, kwargs

    got = executor.submit_task(collect, [one, (two, {one})], {"a": {two: one}}, 7, x=two).result()
    assert got == (([1, (2, {1})], {"a": {2: 1}}, 7), {"x": 2})


def test_arguments_are_taken_as_they_are_when_submitted(executor: WorkerExecutor) -> None:
    gate = Gate()
    gate.shut(executor)
    parts: list[Any] = [executor.submit_task(int, i) for i in range(3)]
    total = executor.submit_task(sum, parts)
    parts.append("nothing to add")
    gate.open.set()
    assert total.result(PATIENCE_S) == 3


def test_an_input_blocks_no_thread(executor: WorkerExecutor) -> None:
    gate = Gate()

    async def wait() -> int:
        while not gate.open.is_set():
            await trio.lowlevel.checkpoint()
        return 5

    slow = executor.submit_task(wait)
    after = executor.submit_task(pow, slow, 2)
    assert executor.submit(pow, 3, 3).result(PATIENCE_S) == 27
    assert not after.done()
    gate.open.set()
    assert after.result(PATIENCE_S) == 25


def test_a_failed_input_fails_its_dependents_with_a_note(executor: WorkerExecutor) -> None:
    error = ValueError("no")
    bad = executor.submit_task(fail, error, key="bad")
    middle = executor.submit_task(str, [bad], key="middle")
    last = executor.submit_task(str, middle, key=("last", 1))
    assert last.exception(PATIENCE_S) is error
    assert "'bad' -> 'middle' -> ('last', 1)" in error.__notes__[-1]
    assert bad.exception() is error
    assert not getattr(error, "__notes__", None)
    later = executor.submit_task(str, bad, key="later")
    assert later.exception(PATIENCE_S) is error
    assert "'bad' -> 'later'" in error.__notes__[-1]


def test_a_cancelled_input_cancels_its_dependents(executor: WorkerExecutor) -> None:
    gate = Gate()
    gate.shut(executor)
    first = executor.submit_task(int, 1, key="first")
    second = executor.submit_task(int, first)
    assert first.cancel()
    with pytest.raises(TaskCancelled, match="first"):
        second.result(PATIENCE_S)
    assert not second.cancelled()
    with pytest.raises(TaskCancelled, match="first"):
        executor.submit_task(int, first).result(PATIENCE_S)
    gate.open.set()
    with pytest.raises(cf.CancelledError):
        first.result()


def test_a_key_is_one_task(executor: WorkerExecutor) -> None:
    gate = Gate()
    gate.shut(executor)
    first = executor.submit_task(int, 1, key="k")
    assert executor.submit_task(int, 2, key="k") is first
    assert first.cancel()
    second = executor.submit_task(int, 3, key="k")
    third = executor.submit_task(int, 4, key="k")
    gate.open.set()
    assert second.result(PATIENCE_S) == third.result(PATIENCE_S) == 3
    assert executor.submit_task(int, 5, key="k").result(PATIENCE_S) == 3


def test_a_cancelled_key_may_be_submitted_again_from_the_callback(
    executor: WorkerExecutor,
) -> None:
    gate = Gate()
    gate.shut(executor)
    again: list[WorkerFuture[int]] = []
    first = executor.submit_task(int, 1, key="k")
    first.add_done_callback(lambda _: again.append(executor.submit_task(int, 2, key="k")))
    assert first.cancel()
    gate.open.set()
    assert again[0].result(PATIENCE_S) == 2


def test_priority_decides_among_those_that_are_ready(executor: WorkerExecutor) -> None:
    gate = Gate()
    gate.shut(executor)
    order: list[int] = []
    futures = [executor.submit_task(order.append, i, priority=i) for i in (1, 3, 2)]
    gate.open.set()
    cf.wait(futures, PATIENCE_S)
    assert order == [3, 2, 1]


def test_resources_are_respected() -> None:
    with WorkerExecutor(threads=4, resources={"gpu": 1}) as executor:
        lock = threading.Lock()

        def use() -> bool:
            with lock:
                pass
            alone = lock.acquire(blocking=False)
            lock.release()
            return alone

        uses = [executor.submit_task(use, resources={"gpu": 1}) for _ in range(50)]
        assert all(use.result(PATIENCE_S) for use in uses)


def test_what_is_wrong_with_a_task_is_said_at_once(executor: WorkerExecutor) -> None:
    with WorkerExecutor(threads=1) as other:
        theirs = other.submit(int)
        for foreign in (theirs, cf.Future[int]()):
            with pytest.raises(ForeignHandle):
                executor.submit_task(int, [foreign])
    with pytest.raises(ResourceError, match="no resource 'gpu'"):
        executor.submit_task(int, resources={"gpu": 1})
    with pytest.raises(InvalidKey):
        executor.submit_task(int, key=object())  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="cannot be called"):
        executor.submit_task(17)  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="not a number"):
        executor.submit_task(int, priority=float("nan"))
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(ValueError, match="contains itself"):
        executor.submit_task(len, loop)


def test_a_chain_of_ten_thousand(executor: WorkerExecutor) -> None:
    gate = Gate()
    future: Any = gate.shut(executor)
    future = executor.submit_task(int)
    for _ in range(10_000):
        future = executor.submit_task((1).__add__, future)
    gate.open.set()
    assert future.result(60) == 10_000


# Tasks that wait for tasks, with one thread


def fib(executor: WorkerExecutor, n: int) -> int:
    if n < 2:
        return n
    one = executor.submit(fib, executor, n - 1)
    two = executor.submit_task(fib, executor, n - 2)
    return one.result() + two.result()


def test_recursion_finishes_with_one_thread_and_goes_into_the_depth(
    executor: WorkerExecutor,
) -> None:
    most = 0

    def count(n: int) -> int:
        nonlocal most
        most = max(most, threading.active_count())
        return n if n < 2 else sum(executor.map(count, (n - 1, n - 2)))

    assert executor.submit(fib, executor, 11).result(60) == 89
    before = threading.active_count()
    assert executor.submit(count, 13).result(60) == 233
    assert most < before + 40  # and not hundreds


@pytest.mark.parametrize(
    "wait",
    [
        lambda futures: [future.result() for future in futures],
        lambda futures: [future.exception() for future in futures],
        lambda futures: cf.wait(futures),
        lambda futures: list(cf.as_completed(futures)),
        lambda futures: [future.result(PATIENCE_S) for future in futures],
    ],
)
def test_every_way_to_wait_gives_the_slot_back(executor: WorkerExecutor, wait: Any) -> None:
    def outer() -> list[int]:
        futures = [executor.submit(pow, 2, i) for i in range(5)]
        wait(futures)
        return [future.result() for future in futures]

    assert executor.submit(outer).result(PATIENCE_S) == [1, 2, 4, 8, 16]
    assert executor.submit_task(outer).result(PATIENCE_S) == [1, 2, 4, 8, 16]


def test_a_thread_that_waits_in_the_name_of_a_task_gives_its_slot_back(
    executor: WorkerExecutor,
) -> None:
    def outer() -> int:
        context = contextvars.copy_context()
        with cf.ThreadPoolExecutor(1) as helper:
            future = executor.submit(pow, 2, 5)
            return helper.submit(context.run, future.result).result(PATIENCE_S)

    assert executor.submit(outer).result(PATIENCE_S) == 32
