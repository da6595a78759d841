"""Hard cases of what users' functions raise, told to a worker that runs them.

`test_node_cluster` tells the same to nodes, under a scheduler.
"""

import asyncio
from collections.abc import Callable
from typing import Any, NoReturn

import pytest
import trio

from trouper.runtime import Worker, open_worker

UNUSUAL = [
    BaseException("neither an end nor an error"),
    KeyboardInterrupt(),
    SystemExit(3),
    GeneratorExit(),
    asyncio.CancelledError(),
    BaseExceptionGroup("", [SystemExit(3), ValueError()]),
]


async def raised_by(worker: Worker, function: Callable[..., Any], *arguments: object) -> object:
    """What awaiting a task raises, after which the worker does others as if nothing had been."""
    caught: object = None
    handle = worker.submit(function, *arguments)
    try:
        await handle
    except BaseException as error:  # noqa: BLE001 - that is what is asked for
        caught = error
    assert await worker.submit(int, "1") == 1
    assert await worker.submit(later, 2) == 2
    assert all(usage.used == 0 for usage in worker.status().slots.values())
    return caught


async def later(value: int) -> int:
    await trio.lowlevel.checkpoint()
    return value


def fail(error: BaseException) -> NoReturn:
    raise error


async def fail_later(error: BaseException) -> NoReturn:
    await trio.lowlevel.checkpoint()
    raise error


@pytest.mark.parametrize("function", [fail, fail_later])
@pytest.mark.parametrize("error", UNUSUAL, ids=repr)
async def test_5958_task_may_raise_what_is_no_exception(
    function: Callable[..., Any], error: BaseException
) -> None:
    """A task raises `BaseException`, or one of its kind (distributed #5958).

    A stock worker caught `Exception` alone. Anything else went past it, out of the callback that
    should have told the state machine, and the task was "processing" for ever, in a slot that was
    never free again. Mended by distributed #5997, for all but SystemExit and KeyboardInterrupt:
    these still end the worker, with the data that it holds.

    Here whatever a task raises is how it has ended, and goes to who awaits it; the worker goes on.
    """
    async with open_worker(threads=1) as worker:
        assert await raised_by(worker, function, error) is error


def cancel_a_loop_of_its_own() -> None:
    trio.run(raise_outside_of_its_scope)


async def raise_outside_of_its_scope() -> None:
    kept: list[trio.Cancelled] = []
    with trio.CancelScope() as scope:
        scope.cancel()
        try:
            await trio.sleep_forever()
        except trio.Cancelled as error:
            kept.append(error)
    raise kept.pop()


@pytest.mark.parametrize("function", [cancel_a_loop_of_its_own, raise_outside_of_its_scope])
async def test_5958_task_may_raise_a_cancellation_that_nobody_has_asked_for(
    function: Callable[[], object],
) -> None:
    """The same for `trio.Cancelled`, outside of the scope that it belongs to.

    In trio such a one ends everything up to the next cancelled scope, of which there is none, and
    says nothing. So it is an error of the task that says what has happened, and others go on.
    """
    async with open_worker(threads=1) as worker:
        gate = trio.Event()
        other = worker.submit(gate.wait)
        with pytest.raises(RuntimeError, match="belongs to none of the cancel scopes") as caught:
            await worker.submit(function)
        assert isinstance(caught.value.__cause__, trio.Cancelled)
        gate.set()
        await other
