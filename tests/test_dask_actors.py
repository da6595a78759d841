"""Actors as a node calls them: nothing of users' code runs in trio's thread, or ends it."""

import asyncio
import pickle
import threading
from collections.abc import Generator
from contextlib import closing
from typing import Any

import pytest
import trio
import trio.testing
from distributed import get_worker
from distributed.actor import Actor
from fake_host import FakeHost, worker_of

from trouper.actors.dask_actors import Actors, HeldActor, Reply
from trouper.actors.dask_values import dump, load
from trouper.actors.sizeof import sizeof
from trouper.wire.dask_message import Serialized


class Thing:
    """Says where it is called."""

    number = 5

    def where(self, *args: Any, **kwargs: Any) -> Any:
        return threading.current_thread().name, get_worker().name, args, kwargs

    async def where_else(self, *args: Any) -> Any:
        await asyncio.sleep(0)
        return self.where(*args)

    def fail(self, kind: type[BaseException]) -> None:
        raise kind("said")

    async def fail_later(self, kind: type[BaseException]) -> None:
        raise kind("said")

    @property
    def broken(self) -> Any:
        raise SystemExit("an attribute that quits")

    def lock(self) -> Any:
        return threading.Lock()


class Quits:
    """Raises when it is unpickled."""

    def __reduce__(self) -> Any:
        return _quit, ()


def _quit() -> None:
    raise SystemExit("a pickle that quits")


HELD = HeldActor(Thing(), "cws://a:1", ("x", 1))


@pytest.fixture
def one() -> Generator[Actors]:
    with worker_of(FakeHost()) as worker, closing(Actors(worker)) as actors:
        yield actors


def opened(reply: Reply) -> Any:
    """What is in a reply; an exception if it is of one."""
    ((_, status), (name, sent)) = reply.items()
    assert (status, name) in {("OK", "result"), ("error", "exception")}
    assert isinstance(sent, Serialized)
    return load(sent)


async def test_a_method_is_called_in_the_thread_of_actors(one: Actors) -> None:
    reply = await one.call(HELD, "where", [dump(1), 2], {"a": dump([3])})
    assert opened(reply) == ("trouper-dask-actors", "n", (1, 2), {"a": [3]})


async def test_coroutines_and_what_asks_for_it_are_called_on_the_asyncio_side(one: Actors) -> None:
    assert opened(await one.call(HELD, "where_else", [1], {})) == (
        ("trouper-asyncio", "n", (1,), {})
    )
    for separate, thread in (
        (False, "trouper-asyncio"),
        (True, "trouper-dask-actors"),
        (Quits(), "trouper-dask-actors"),
    ):
        reply = await one.call(HELD, "where", [], {"separate_thread": dump(separate)})
        assert opened(reply) == (thread, "n", (), {})


async def test_calls_are_made_in_the_order_in_which_they_come(one: Actors) -> None:
    order: list[int] = []
    held, nothing = HeldActor(order, "", "x"), dict[str, object]()
    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(one.call, held, "append", [number], nothing)
            await trio.testing.wait_all_tasks_blocked()
    assert order == [*range(20)]


@pytest.mark.parametrize("method", ["fail", "fail_later"])
async def test_what_a_method_raises_is_in_the_reply(one: Actors, method: str) -> None:
    error = opened(await one.call(HELD, method, [ValueError], {}))
    assert (type(error), str(error)) == (ValueError, "said")
    for kind in (SystemExit, KeyboardInterrupt, asyncio.CancelledError):
        error = opened(await one.call(HELD, method, [kind], {}))
        assert type(error) is RuntimeError
        assert str(error) == f"an actor has raised {kind.__qualname__}: said"


@pytest.mark.parametrize(
    ("name", "args", "said"),
    [
        ("dance", [], "has no attribute 'dance'"),
        ("number", [], "must be callable"),
        ("where", [dump(Quits())], "a value that raises SystemExit when it is opened"),
        ("where_else", [dump(Quits())], "a value that raises SystemExit when it is opened"),
        ("where", [Serialized({}, [])], ""),
        ("broken", [], "an actor has raised SystemExit: an attribute that quits"),
        ("lock", [], "a lock cannot be serialised"),
    ],
)
async def test_what_cannot_be_called_is_in_the_reply(
    one: Actors, name: str, args: Any, said: str
) -> None:
    error = opened(await one.call(HELD, name, args, {}))
    assert isinstance(error, Exception)
    assert said in str(error)


async def test_attributes_are_looked_at(one: Actors) -> None:
    assert opened(await one.look_up(HELD, "number")) == 5
    assert "quits" in str(opened(await one.look_up(HELD, "broken")))


async def test_who_hangs_up_does_not_wait(one: Actors) -> None:
    with trio.move_on_after(0.05) as scope:
        await one.call(HeldActor(asyncio, "", "x"), "sleep", [3600], {})
    assert scope.cancelled_caught
    assert opened(await one.look_up(HELD, "number")) == 5


def test_it_is_as_large_as_what_it_holds() -> None:
    assert sizeof(HeldActor(bytes(1000), "", "x")) == sizeof(bytes(1000)) > 1000


def test_pickled_it_is_a_proxy() -> None:
    proxy = pickle.loads(pickle.dumps(HELD))
    assert type(proxy) is Actor
    assert (proxy.key, repr(proxy)) == (("x", 1), "<Actor: Thing, key=('x', 1)>")
