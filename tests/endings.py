"""How tasks end otherwise than well: functions that fail, and what whoever awaits them gets."""

from typing import Any

import pytest
import trio
from gates import PATIENCE_S

from trouper.runtime import TaskCancelled, TaskHandle


class Boom(Exception):
    pass


def fail(*_: object) -> int:
    raise Boom("in the user's function")


async def fail_later(*_: object) -> int:
    await trio.lowlevel.checkpoint()
    raise Boom("in the user's coroutine")


async def raised_by(handle: TaskHandle[Any]) -> BaseException:
    """The exception that awaiting a handle raises."""
    with trio.move_on_after(PATIENCE_S):  # and not fail_after, which would touch the exception
        try:
            await handle
        except trio.Cancelled:
            raise
        except BaseException as error:  # noqa: BLE001 - that is what is asked for
            return error
        raise AssertionError("it raised nothing")
    raise trio.TooSlowError


async def assert_cancelled(*handles: TaskHandle[Any]) -> None:
    """Awaiting each raises TaskCancelled, and does not wait for anything."""
    for handle in handles:
        with trio.fail_after(5), pytest.raises(TaskCancelled):
            await handle
        assert handle.phase == "cancelled"
        assert not handle.cancel()
