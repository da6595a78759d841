"""`WorkerExecutor` as the executor of the standard library and of asyncio."""

# The parameters of a lambda have no types.
# pyright: reportUnknownLambdaType=false, reportUnknownArgumentType=false
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false

import asyncio
import concurrent.futures as cf
import contextvars
import functools
import gc
import logging
import threading
import traceback
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
import trio
from executors import PATIENCE_S, Gate, fail

from trouper.runtime import ForeignHandle, WorkerExecutor


@pytest.fixture
def executor() -> Iterator[WorkerExecutor]:
    with WorkerExecutor(threads=1) as made:
        yield made


def test_submit_gives_the_result(executor: WorkerExecutor) -> None:
    future = executor.submit(pow, 2, 8)
    assert isinstance(future, cf.Future)
    assert future.result(PATIENCE_S) == 256
    keywords = {"a": 1, "fn": 2, "self": 3, "key": 4}
    assert executor.submit(dict, **keywords).result() == keywords


def test_arguments_of_submit_are_passed_as_they_are(executor: WorkerExecutor) -> None:
    first = executor.submit(pow, 2, 8)
    nested = [first, {"a": first}]
    assert executor.submit(lambda x, y: (x is first, y is nested), first, nested).result() == (
        True,
        True,
    )


def test_a_callable_that_is_none_fails_in_the_future(executor: WorkerExecutor) -> None:
    with pytest.raises(TypeError, match="not callable"):
        executor.submit(17).result()  # type: ignore[arg-type]


def test_a_plain_function_may_return_a_coroutine(executor: WorkerExecutor) -> None:
    async def nothing() -> None: ...

    coroutine = executor.submit(lambda: nothing())
    with pytest.raises(TypeError, match="returned a coroutine"):
        executor.submit_task(lambda: nothing()).result()
    coroutine.result().close()


def test_map_is_in_order_and_ends_with_the_shortest(executor: WorkerExecutor) -> None:
    assert list(executor.map(pow, range(10), range(7))) == list(map(pow, range(10), range(7)))
    assert list(executor.map(pow, [3] * 4, range(4), chunksize=3)) == [1, 3, 9, 27]


def test_map_raises_where_the_failure_stands(executor: WorkerExecutor) -> None:
    results = executor.map(divmod, [1, 1, 1], [2, 3, 0])
    assert next(results) == (0, 1)
    assert next(results) == (0, 1)
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_map_takes_a_timeout(executor: WorkerExecutor) -> None:
    gate = Gate()
    results = executor.map(lambda fn: fn(), [lambda: 1, gate], timeout=0.2)
    assert next(results) == 1
    with pytest.raises(TimeoutError):
        next(results)
    gate.open.set()


def test_a_pending_future_can_be_cancelled_and_never_runs(executor: WorkerExecutor) -> None:
    gate = Gate()
    running = gate.shut(executor)
    ran: list[int] = []
    pending = executor.submit(ran.append, 1)
    told: list[Any] = []
    pending.add_done_callback(told.append)
    assert running.running()
    assert not running.cancel()
    assert pending.cancel()
    assert pending.cancel()
    assert pending.cancelled()
    assert pending.done()
    assert told == [pending]
    assert cf.wait([pending], PATIENCE_S).done == {pending}
    with pytest.raises(cf.CancelledError):
        pending.result()
    gate.open.set()
    assert running.result(PATIENCE_S) is None
    assert executor.submit(pow, 2, 3).result() == 8
    assert not ran


def test_cancelling_everything_everywhere_leaves_nothing_undone() -> None:
    with WorkerExecutor(threads=4) as executor:
        for _ in range(20):
            ran: list[int] = []
            futures = [executor.submit(ran.append, i) for i in range(100)]
            cancelled = {i for i, future in enumerate(futures) if future.cancel()}
            done, not_done = cf.wait(futures, PATIENCE_S)
            assert len(done) == 100
            assert not not_done
            assert cancelled.isdisjoint(ran)
            assert sorted({*cancelled, *ran}) == list(range(100))


def test_wait_and_as_completed(executor: WorkerExecutor) -> None:
    gate = Gate()
    first: Any = executor.submit(pow, 2, 2)
    held = executor.submit(gate, "held")
    bad: Any = executor.submit(fail, ValueError("bad"))
    assert cf.wait([held, first], PATIENCE_S, cf.FIRST_COMPLETED).done == {first}
    assert cf.wait([held], 0.01) == (set(), {held})
    with pytest.raises(TimeoutError):
        held.result(timeout=0.01)
    gate.open.set()
    assert set(cf.as_completed([first, held, bad], PATIENCE_S)) == {first, held, bad}
    assert cf.wait([first, bad], return_when=cf.FIRST_EXCEPTION).done == {first, bad}
    assert held.result() == "held"


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), SystemExit(3)])
def test_whatever_a_task_raises_is_raised_with_its_own_traceback(
    executor: WorkerExecutor, error: BaseException
) -> None:
    future = executor.submit(fail, error)
    assert future.exception(PATIENCE_S) is error
    for _ in range(3):
        with pytest.raises(type(error)) as caught:
            future.result()
        assert caught.value is error
        names = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
        assert names[-1] == "fail"
        assert names.count("fail") == 1
        assert len(names) <= 3
    assert executor.submit(pow, 2, 3).result() == 8


def test_the_caller_s_context_variables_reach_the_task(executor: WorkerExecutor) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")

    async def read() -> str:
        return variable.get()

    variable.set("mine")
    assert executor.submit(variable.get).result() == "mine"
    assert executor.submit_task(variable.get).result() == "mine"
    assert executor.submit(read).result() == "mine"  # type: ignore[comparison-overlap]


def test_coroutine_functions_run_on_trio(executor: WorkerExecutor) -> None:
    async def rest(value: int) -> int:
        await trio.lowlevel.checkpoint()
        return value + 1

    first: Any = executor.submit(rest, 1)
    assert first.result(PATIENCE_S) == 2
    assert executor.submit_task(rest, executor.submit_task(rest, 1)).result(PATIENCE_S) == 3


def test_a_coroutine_that_would_block_its_loop_is_told_so(executor: WorkerExecutor) -> None:
    gate = Gate()
    pending = gate.shut(executor)

    async def block() -> Any:
        return pending.result()

    async def wait() -> Any:
        return cf.wait([pending])

    async def by_thread() -> Any:
        return await trio.to_thread.run_sync(pending.result)

    for function in (block, wait):
        with pytest.raises(RuntimeError, match="block the worker's event loop"):
            executor.submit_task(function).result(PATIENCE_S)
    patient = executor.submit_task(by_thread)
    gate.open.set()
    assert patient.result(PATIENCE_S) is None


@pytest.mark.parametrize("error", [ValueError("broken"), SystemExit("broken")])
def test_a_broken_callback_is_logged(
    executor: WorkerExecutor, caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    gate = Gate()
    held = gate.shut(executor)

    async def nothing(after: object) -> None: ...

    called: list[object] = []

    def broken(future: object) -> None:
        called.append(future)
        raise error

    futures: list[Any] = [
        executor.submit(pow, 2, 2),
        executor.submit(fail, KeyError()),
        executor.submit_task(nothing, held),
    ]
    for future in futures:
        future.add_done_callback(broken)
    with caplog.at_level(logging.ERROR):
        gate.open.set()
        cf.wait(futures, PATIENCE_S)
        executor.shutdown()
    assert sorted(map(id, called)) == sorted(map(id, futures))
    assert caplog.text.count("broken") >= 3


def test_a_failure_that_nobody_looks_at_is_logged_for_graphs_only(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with WorkerExecutor(threads=1) as executor:
        executor.submit(fail, ValueError("as in the standard library"))
        executor.submit_task(fail, ValueError("nobody knows of me"))
        seen = executor.submit_task(fail, ValueError("somebody does"))
        assert seen.exception() is not None
    assert "nobody knows of me" in caplog.text
    assert "standard library" not in caplog.text
    assert "somebody" not in caplog.text


def test_objects_are_released_after_the_task(executor: WorkerExecutor) -> None:
    class Value:
        pass

    argument, gone = Value(), threading.Event()
    weakref.finalize(argument, gone.set)
    future = executor.submit_task(lambda value: None, argument)
    future.result()
    del argument
    assert gone.wait(PATIENCE_S)


def test_a_result_lives_as_long_as_its_future(executor: WorkerExecutor) -> None:
    class Value:
        pass

    gone = threading.Event()

    def make() -> Value:
        value = Value()
        weakref.finalize(value, gone.set)
        return value

    gc.disable()  # reference counts alone shall do it
    try:
        future = executor.submit_task(make, key="value")
        assert executor.submit_task(isinstance, future, Value).result(PATIENCE_S)
        assert not gone.is_set()
        del future
        assert gone.wait(PATIENCE_S)
    finally:
        gc.enable()


# asyncio


def test_asyncio_uses_it_as_any_executor(executor: WorkerExecutor) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert await loop.run_in_executor(executor, pow, 2, 5) == 32
        assert await loop.run_in_executor(executor, functools.partial(int, "7", base=8)) == 7
        parts = [executor.submit_task(pow, 2, i) for i in range(5)]
        assert await asyncio.wrap_future(executor.submit_task(sum, parts)) == 31
        with pytest.raises(ValueError, match="no"):
            await asyncio.wrap_future(executor.submit_task(fail, ValueError("no")))
        with pytest.raises(ForeignHandle):
            executor.submit_task(int, [loop.create_future()])

    asyncio.run(main())


def test_cancelling_in_asyncio_cancels_a_pending_task(executor: WorkerExecutor) -> None:
    gate = Gate()
    gate.shut(executor)

    async def main() -> None:
        pending = executor.submit_task(int)
        waiting = asyncio.wrap_future(pending)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await asyncio.sleep(0)  # asyncio says so to the future by a callback
        assert pending.cancelled()

    asyncio.run(main())
    gate.open.set()
