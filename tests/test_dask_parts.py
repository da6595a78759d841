"""What stands for the parts of a stock worker."""

import asyncio
import copy
import threading
from typing import Any

import pytest
from fake_host import FakeHost

from trouper.actors.dask_actors import HeldActor
from trouper.actors.dask_parts import Data, Hooks, Remote, Seat, State
from trouper.actors.job import NO_INPUTS, Job


@pytest.fixture
def host() -> FakeHost:
    return FakeHost()


def test_a_seat_that_was_left_cannot_be_left_again(host: FakeHost) -> None:
    task = Job("x", 1, None, NO_INPUTS, None, True)
    seat = Seat(task, host.secede)
    seat.remove(threading.current_thread())
    with pytest.raises(KeyError):
        seat.remove(threading.current_thread())
    assert host.seceded == [task]


async def note(noted: list[int]) -> None:
    noted.append(1)


def test_what_plugins_begin_runs_beside_them() -> None:
    hooks, noted = Hooks(), list[int]()

    async def begin() -> None:
        hooks._ongoing_background_tasks.call_soon(note, noted)  # pyright: ignore[reportPrivateUsage]
        await asyncio.sleep(0.01)

    hooks.digest_metric(("p2p", "x"), 1.0)
    asyncio.run(begin())
    assert noted == [1]


def test_each_method_of_somebody_far_away_is_a_request() -> None:
    asked: list[Any] = []

    async def ask(op: str, **arguments: object) -> object:
        asked.append((op, arguments))
        return 5

    remote = Remote("cws://a:1", ask)
    assert asyncio.run(remote.dance(how="well")) == 5
    assert asked == [("dance", {"how": "well"})]


def test_what_python_asks_of_objects_is_no_request() -> None:
    async def ask(op: str, **arguments: object) -> object:
        raise AssertionError(op)

    remote = Remote("cws://a:1", ask)
    assert copy.copy(remote).address == "cws://a:1"


def test_actors_of_this_node_are_found_by_their_keys(host: FakeHost) -> None:
    host.values["x"] = HeldActor([1], "cws://a:1", "x")
    assert State(2, Data(host)).actors["x"] == [1]
    with pytest.raises(KeyError):
        State(2, Data(host)).actors["y"]
