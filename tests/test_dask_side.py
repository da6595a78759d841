"""The asyncio side of a node: coroutines of tasks, and the client they share."""

import asyncio
import logging
import threading
from collections.abc import Generator
from contextvars import ContextVar
from typing import Any

import pytest
from tornado.ioloop import IOLoop

from trouper.actors import dask_side
from trouper.actors.dask_side import AsyncioSide

PATIENCE_S = 30


class FakeClient:
    """As much of a client as the side sees of it."""

    def __init__(self, loop: IOLoop, timeout_s: float) -> None:
        self.loop = loop
        self.timeout_s = timeout_s
        self.status = "newly-created"
        self.closed_in: list[float] = []
        self.made_by = threading.current_thread().name

    def __await__(self) -> Any:
        async def begin() -> None:
            if not self.timeout_s:
                self.status = "closed"
                raise OSError("nobody is there")
            self.status = "running"

        return begin().__await__()

    def close(self, timeout: float) -> None:
        self.closed_in.append(timeout)
        if self.timeout_s == 1:
            raise TimeoutError("a scheduler that says nothing")


def threads_of_loops() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "trouper-asyncio"]


@pytest.fixture
def side() -> Generator[AsyncioSide]:
    one = AsyncioSide(FakeClient)  # pyright: ignore[reportArgumentType]
    yield one
    one.close()
    for thread in threads_of_loops():
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


def in_threads(*works: Any) -> list[Any]:
    """What they return or raise, each in a thread of its own."""
    results: list[Any] = [None] * len(works)

    def run(index: int) -> None:
        try:
            results[index] = works[index]()
        except BaseException as error:  # noqa: BLE001 - it is what is looked at
            results[index] = error

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
    return results


async def double(number: int) -> int:
    await asyncio.sleep(0)
    return 2 * number


@pytest.mark.parametrize(
    "kind", [ValueError, SystemExit, KeyboardInterrupt, asyncio.CancelledError]
)
def test_what_a_coroutine_raises_is_raised_where_it_is_waited_for(
    side: AsyncioSide, kind: type[BaseException]
) -> None:
    async def fail() -> None:
        raise kind("said")

    loop = side.loop
    with pytest.raises(kind):
        side.run(fail())
    assert side.run(double(2)) == 4
    assert side.loop is loop


variable: ContextVar[int] = ContextVar("variable")


def test_a_coroutine_has_the_context_of_who_waits_for_it(side: AsyncioSide) -> None:
    async def look() -> int:
        return variable.get()

    def set_and_look(number: int) -> int:
        variable.set(number)
        return side.run(look())

    assert in_threads(lambda: set_and_look(1), lambda: set_and_look(2)) == [1, 2]


def test_coroutines_run_beside_each_other(side: AsyncioSide) -> None:
    met: dict[int, asyncio.Event] = {}

    async def meet(number: int) -> int:
        met.setdefault(number, asyncio.Event()).set()
        await met.setdefault(1 - number, asyncio.Event()).wait()
        return number

    assert in_threads(lambda: side.run(meet(0)), lambda: side.run(meet(1))) == [0, 1]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_loop_that_a_task_has_ended_is_replaced(side: AsyncioSide) -> None:
    async def end_everything() -> None:
        async def raise_in_a_task_of_its_own() -> None:
            raise KeyboardInterrupt

        await asyncio.gather(asyncio.create_task(raise_in_a_task_of_its_own()))

    loop, client = side.loop, side.client(5)
    assert in_threads(lambda: side.run(end_everything()))[0] is not None
    for thread in threads_of_loops():
        thread.join(PATIENCE_S)
    assert side.run(double(3)) == 6
    assert side.loop is not loop
    assert side.client(5) is not client


def test_all_share_a_client_that_is_made_in_the_loop(side: AsyncioSide) -> None:
    async def look() -> Any:
        return side.client(7)

    clients: list[Any] = [
        *in_threads(lambda: side.client(7), lambda: side.client(7)),
        side.run(look()),
    ]
    assert len(set(map(id, clients))) == 1
    assert (clients[0].made_by, clients[0].timeout_s) == ("trouper-asyncio", 7)
    assert clients[0].loop is side.loop


def test_a_client_that_cannot_connect_is_not_kept(side: AsyncioSide) -> None:
    for _ in range(2):
        with pytest.raises(OSError, match="nobody is there"):
            side.client(0)
    client: Any = side.client(2)
    assert client.status == "running"
    client.status = "closed"  # by a task
    assert side.client(2) is not client


def test_the_end_cancels_what_runs(side: AsyncioSide) -> None:
    begun = threading.Event()

    async def wait_for_ever() -> None:
        begun.set()
        await asyncio.Event().wait()

    def end_it() -> None:
        assert begun.wait(PATIENCE_S)
        side.close()

    raised, _ = in_threads(lambda: side.run(wait_for_ever()), end_it)
    assert isinstance(raised, asyncio.CancelledError)
    with pytest.raises(RuntimeError, match="the node of this task has ended"):
        _ = side.loop
    with pytest.raises(RuntimeError, match="the node of this task has ended"):
        side.run(double(1))


def test_the_end_closes_the_client_but_not_for_ever(
    side: AsyncioSide, caplog: pytest.LogCaptureFixture
) -> None:
    client: Any = side.client(1)
    side.close()
    side.close()
    assert client.closed_in == [dask_side.CLOSING_S]
    assert "does not close: a scheduler that says nothing" in caplog.text


def test_a_coroutine_that_does_not_end_is_left_behind(
    side: AsyncioSide, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(dask_side, "CLOSING_S", 0.05)
    begun, may_end = threading.Event(), threading.Event()

    async def block() -> None:
        begun.set()
        may_end.wait(PATIENCE_S)

    def end_it() -> None:
        assert begun.wait(PATIENCE_S)
        with caplog.at_level(logging.WARNING):
            side.close()
        may_end.set()

    in_threads(lambda: side.run(block()), end_it)
    assert "does not end, and is left behind" in caplog.text


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
def test_a_loop_that_cannot_begin(side: AsyncioSide, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("too many open files")

    with monkeypatch.context() as patched:
        patched.setattr(asyncio, "new_event_loop", fail)
        patched.setattr(asyncio.events, "new_event_loop", fail)
        with pytest.raises(RuntimeError, match="no event loop can begin"):
            side.run(double(1))
    assert side.run(double(1)) == 2


def test_without_a_need_no_thread_begins() -> None:
    before = threading.active_count()
    AsyncioSide(FakeClient).close()  # pyright: ignore[reportArgumentType]
    assert threading.active_count() == before
