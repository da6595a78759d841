"""What is said in the log of failures, and of which."""

import gc
import logging
import weakref
from typing import Any

import pytest
import trio
from endings import Boom, fail, fail_later, raised_by
from gates import PATIENCE_S, Gate, until, until_empty

from trouper.runtime import TaskCancelled, TaskHandle, Worker, open_worker
from trouper.runtime.embedded.failure import Failure
from trouper.runtime.embedded.unobserved import LIMIT, Unobserved
from trouper.wire.stimuli import ComputeTask, ExecuteFailure


def same(value: Any) -> Any:
    return value


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


async def test_a_failure_that_nobody_awaited_is_logged_once_with_its_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with open_worker(threads=1) as worker:
        a = worker.submit(fail, key="a")
        worker.submit(same, a, key="b")
        worker.submit(fail_later, key="c")
        await until(lambda: a.done() and not worker.pending)
        assert logged(caplog) == []
    assert sorted(logged(caplog)) == [
        "task 'a' failed, and nobody awaited it",
        "task 'c' failed, and nobody awaited it",
    ]
    assert 'raise Boom("in the user\'s function")' in caplog.text
    assert 'raise Boom("in the user\'s coroutine")' in caplog.text
    assert "/actors/" not in caplog.text


@pytest.mark.parametrize("by", ["itself", "dependent", "run"])
async def test_a_failure_that_somebody_awaited_is_not_logged(
    caplog: pytest.LogCaptureFixture, by: str
) -> None:
    async with open_worker(threads=1) as worker:
        if by == "run":
            with pytest.raises(Boom):
                await worker.run(fail)
        else:
            handle = worker.submit(fail)
            await raised_by(handle if by == "itself" else worker.submit(same, handle))
    assert logged(caplog) == []


async def test_a_failure_is_logged_when_the_block_is_left_by_an_exception(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(LookupError):
        async with open_worker(threads=1) as worker:
            handle = worker.submit(fail, key="a")
            await until(handle.done)
            raise LookupError
    assert logged(caplog) == ["task 'a' failed, and nobody awaited it"]


async def test_cancellations_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with open_worker(threads=1) as worker:
        worker.submit(trio.sleep_forever).cancel()
        gate = Gate(Boom("too late"))
        handle = worker.submit(gate)
        await gate.entered.wait()
        handle.cancel()
        gate.let_go()
    assert logged(caplog) == []


async def cancel_while_it_fails(worker: Worker, fn: Any) -> TaskHandle[Any]:
    """Cancel a task that has failed, which the machine does not know yet; give a dependent of it.

    All handles of the task itself are gone then.
    """
    with worker.supervisor.stepping() as stepper:
        handle = worker.submit(fn, key="a")
        dependent = worker.submit(same, handle, key="b")
        for _ in range(2):
            assert isinstance(await stepper.step(), ComputeTask)
        await until(lambda: stepper.waiting)
        assert handle.cancel()
        handle.release()
        assert isinstance(await stepper.step(), ExecuteFailure)
    return dependent


async def test_who_fails_before_the_cancellation_is_heard_of_is_cancelled(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with open_worker(threads=1) as worker:
        error = await raised_by(await cancel_while_it_fails(worker, fail_later))
        assert isinstance(error, TaskCancelled)
        assert "'a' -> 'b'" in str(error)
        del error
        await until_empty(worker)
    assert logged(caplog) == []


async def test_an_interrupt_counts_even_if_it_hits_who_was_just_cancelled(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def interrupted(*_: object) -> None:
        await trio.lowlevel.checkpoint()
        raise KeyboardInterrupt

    with trio.fail_after(PATIENCE_S), pytest.raises(KeyboardInterrupt):
        async with open_worker(threads=1) as worker:
            await cancel_while_it_fails(worker, interrupted)
            await trio.sleep_forever()
    assert logged(caplog) == []


async def test_a_service_that_never_awaits_is_told_before_it_closes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    unobserved = Unobserved()
    first = Failure("first", Boom(), None)
    unobserved.add(first)
    seen = Failure("seen", Boom(), None)
    seen.observed = True
    unobserved.add(seen)
    for i in range(LIMIT - 1):
        unobserved.add(Failure(f"k{i}", Boom(), None))
    assert logged(caplog) == []
    unobserved.add(Failure("one too many", Boom(), None))
    assert logged(caplog) == ["task 'first' failed, and nobody awaited it"]
    unobserved.log_all()
    assert len(logged(caplog)) == LIMIT + 1
    unobserved.log_all()
    assert len(logged(caplog)) == LIMIT + 1


async def test_a_failure_is_forgotten_once_it_was_awaited() -> None:
    async with open_worker(threads=1) as worker:
        ref: weakref.ref[BaseException] | None = None
        handle = worker.submit(fail)
        ref = weakref.ref(await raised_by(handle))
        del handle
        await until_empty(worker)
        gc.collect()
        assert ref() is None
