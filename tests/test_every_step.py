"""Being cancelled at every step of a worker's life."""

from contextlib import suppress
from typing import Any

import trio
from gates import cancelled_at_every_step, worker_threads

from trouper.runtime import Worker, open_worker
from trouper.runtime.invariants import check


def same(value: Any) -> Any:
    return value


async def scenario_of_submit_and_await() -> None:
    async with open_worker(threads=2) as worker:
        try:
            a = worker.submit(same, 1)
            b = worker.submit(same, [a, a])

            async def coroutine(value: Any) -> Any:
                await trio.lowlevel.checkpoint()
                return await worker.run(same, value)

            c = worker.submit(coroutine, b)
            assert await c == [1, 1]
            assert await a == 1
            assert await worker.run(coroutine, 5) == 5
            async for handle in worker.as_completed([a, b, c]):
                await handle
        finally:
            check(worker.supervisor.machine)


def test_cancelled_at_every_step_of_submit_and_await() -> None:
    assert cancelled_at_every_step(scenario_of_submit_and_await) > 20


async def scenario_of_leaving() -> None:
    worker: Worker | None = None
    try:
        async with open_worker(threads=2) as worker:
            for i in range(3):
                worker.submit(same, worker.submit(same, i))
            worker.submit(trio.lowlevel.checkpoint)
            worker.submit(trio.sleep, 0.001)
    finally:
        assert worker is not None
        check(worker.supervisor.machine)
        assert not worker.supervisor.owed
        assert worker.status().state == "closed"


def test_cancelled_at_every_step_of_leaving() -> None:
    assert cancelled_at_every_step(scenario_of_leaving) > 10


async def scenario_of_failing() -> None:
    with suppress(LookupError):
        async with open_worker(threads=2) as worker:
            worker.submit(same, 1)
            worker.submit(trio.sleep, 0.001)
            await trio.lowlevel.checkpoint()
            await trio.lowlevel.checkpoint()
            raise LookupError


def test_cancelled_at_every_step_of_leaving_by_an_exception() -> None:
    assert cancelled_at_every_step(scenario_of_failing) > 5
    assert worker_threads() == []
