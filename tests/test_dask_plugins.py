"""Worker plugins: begun, replaced, ended, in whatever way they fail."""

import asyncio
import pickle
from collections.abc import Generator
from typing import Any

import pytest
from distributed import WorkerPlugin
from fake_host import FakeHost

from trouper.actors.dask_plugins import Plugins
from trouper.actors.dask_worker import DaskWorker
from trouper.actors.errors import NotSupported

HAPPENED: list[Any] = []


@pytest.fixture(autouse=True)
def nothing_has_happened() -> None:
    HAPPENED.clear()


@pytest.fixture
def worker() -> Generator[DaskWorker]:
    made = DaskWorker(
        name="n",
        address="cws://a:1",
        scheduler_address="cws://s:2",
        nthreads=1,
        local_directory="",
    )
    made.host = FakeHost()
    yield made
    made.close()


@pytest.fixture
def plugins(worker: DaskWorker) -> Plugins:
    return Plugins(worker)


class Plain(WorkerPlugin):  # type: ignore[misc]
    name = "plain"

    def __init__(self, number: int) -> None:
        self.number = number

    def setup(self, worker: Any) -> None:
        HAPPENED.append(("setup", self.number, worker.name))

    def teardown(self, worker: Any) -> None:
        HAPPENED.append(("teardown", self.number, worker.name))


class InLoop(WorkerPlugin):  # type: ignore[misc]
    async def setup(self, worker: Any) -> None:
        HAPPENED.append(asyncio.get_running_loop() is worker.loop.asyncio_loop)

    async def teardown(self, worker: Any) -> None:
        HAPPENED.append(asyncio.get_running_loop() is worker.loop.asyncio_loop)


class Fails(WorkerPlugin):  # type: ignore[misc]
    def __init__(self, error: type[BaseException]) -> None:
        self.error = error

    def setup(self, worker: Any) -> None:
        raise self.error("setup")

    def teardown(self, worker: Any) -> None:
        raise self.error("teardown")


class WantsTransitions(WorkerPlugin):  # type: ignore[misc]
    def transition(self, *args: Any, **kwargs: Any) -> None:
        raise AssertionError("it is told of none")


def test_a_plugin_begins_and_ends(plugins: Plugins, worker: DaskWorker) -> None:
    plugins.add(pickle.dumps(Plain(1)))
    assert isinstance(worker.plugins["plain"], Plain)
    plugins.remove("plain")
    assert HAPPENED == [("setup", 1, "n"), ("teardown", 1, "n")]
    assert not worker.plugins


def test_it_takes_the_place_of_one_of_the_same_name(plugins: Plugins) -> None:
    for number in (1, 2):
        plugins.add(pickle.dumps(Plain(number)), "one")
    plugins.add(pickle.dumps(Plain(3)), "other")
    plugins.close()
    assert [event[:2] for event in HAPPENED] == [
        ("setup", 1),
        ("teardown", 1),
        ("setup", 2),
        ("setup", 3),
        ("teardown", 2),
        ("teardown", 3),
    ]


def test_coroutines_run_in_the_loop_of_dasks_parts(plugins: Plugins) -> None:
    plugins.add(pickle.dumps(InLoop()), "x")
    plugins.remove("x")
    assert HAPPENED == [True, True]


@pytest.mark.parametrize("error", [ValueError, SystemExit])
def test_what_it_raises_is_for_who_has_asked(
    plugins: Plugins, error: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("x", "y"):
        with pytest.raises(error, match="setup"):
            plugins.add(pickle.dumps(Fails(error)), name)
    plugins.add(pickle.dumps(Plain(1)))
    with pytest.raises(error, match="teardown"):
        plugins.remove("x")
    plugins.close()
    assert "plugin y does not end in order" in caplog.text
    assert HAPPENED[-1] == ("teardown", 1, "n")


def test_what_is_no_plugin(plugins: Plugins, worker: DaskWorker) -> None:
    with pytest.raises(TypeError, match="a list is no WorkerPlugin"):
        plugins.add(pickle.dumps([]), "x")
    with pytest.raises(pickle.UnpicklingError):
        plugins.add(b"no pickle", "x")
    with pytest.raises(KeyError, match="x"):
        plugins.remove("x")
    assert not worker.plugins


def test_who_wants_transitions_is_refused(plugins: Plugins, worker: DaskWorker) -> None:
    with pytest.raises(NotSupported, match="'x' has a method `transition`"):
        plugins.add(pickle.dumps(WantsTransitions()), "x")
    assert not worker.plugins
