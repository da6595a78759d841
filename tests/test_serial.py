"""Calls one after the other in one thread, and how trio waits for what they bring."""

import gc
import threading
import weakref
from concurrent.futures import CancelledError, Future
from functools import partial
from typing import Any

import pytest
import trio
from gates import PATIENCE_S

from trouper.actors.serial import SerialThread, result_of


@pytest.fixture
def serial() -> Any:
    one = SerialThread("one-after-the-other")
    yield one
    one.close()
    for thread in threading.enumerate():
        if thread.name == "one-after-the-other":
            thread.join(PATIENCE_S)
            assert not thread.is_alive()


async def test_all_calls_are_made_in_one_thread_in_order(serial: SerialThread) -> None:
    order: list[int] = []

    def note(number: int) -> int:
        order.append(number)
        return threading.get_ident()

    futures = [serial.submit(partial(note, number)) for number in range(20)]
    assert len({await result_of(future) for future in futures}) == 1
    assert order == [*range(20)]


@pytest.mark.parametrize("kind", [ValueError, SystemExit, KeyboardInterrupt])
def test_what_a_call_raises_ends_no_thread(serial: SerialThread, kind: type[BaseException]) -> None:
    def fail() -> None:
        raise kind("said")

    with pytest.raises(kind, match="said"):
        serial.submit(fail).result(PATIENCE_S)
    assert serial.submit(lambda: 5).result(PATIENCE_S) == 5


async def test_who_is_cancelled_while_waiting_is_not_called(serial: SerialThread) -> None:
    begun, may_end = threading.Event(), threading.Event()
    called: list[int] = []

    def block() -> bool:
        begun.set()
        return may_end.wait(PATIENCE_S)

    running = serial.submit(block)
    assert begun.wait(PATIENCE_S)
    waiting = serial.submit(partial(called.append, 1))
    with trio.move_on_after(0.01) as scope:
        await result_of(waiting)
    assert scope.cancelled_caught
    may_end.set()
    assert await result_of(running)
    await result_of(serial.submit(lambda: None))
    assert not called


async def test_somebody_else_cancels() -> None:
    future: Future[int] = Future()
    future.cancel()
    with pytest.raises(CancelledError):
        await result_of(future)


def test_who_waits_may_be_gone() -> None:
    future: Future[int] = Future()

    async def wait_a_moment() -> None:
        with trio.move_on_after(0):
            await result_of(future)

    future.set_running_or_notify_cancel()  # and so it cannot be cancelled
    trio.run(wait_a_moment)
    future.set_result(5)


class Large:
    """Something that should not be kept."""


def test_nothing_is_kept_of_a_call_that_has_ended(serial: SerialThread) -> None:
    large = Large()
    there = weakref.ref(large)
    assert serial.submit(partial(isinstance, large, Large)).result(PATIENCE_S)
    del large
    serial.submit(lambda: None).result(PATIENCE_S)
    gc.collect()
    assert there() is None


def test_without_a_call_there_is_no_thread() -> None:
    before = threading.active_count()
    SerialThread("never").close()
    assert threading.active_count() == before
