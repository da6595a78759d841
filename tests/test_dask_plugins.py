"""Worker plugins: begun, replaced, ended, in whatever way they fail."""

import asyncio
import pickle
import threading
from collections.abc import Generator
from typing import Any

import pytest
from distributed import WorkerPlugin
from distributed.protocol.serialize import to_serialize
from fake_host import FakeHost, worker_of

from trouper.actors.dask_plugins import PluginRequests, Plugins
from trouper.actors.dask_values import dump, load
from trouper.actors.dask_worker import DaskWorker
from trouper.actors.errors import NotSupported

HAPPENED: list[Any] = []


@pytest.fixture(autouse=True)
def nothing_has_happened() -> None:
    HAPPENED.clear()


@pytest.fixture
def worker() -> Generator[DaskWorker]:
    with worker_of(FakeHost()) as made:
        yield made


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


class Answers(WorkerPlugin):  # type: ignore[misc]
    """Attaches itself to requests and to the stream, as P2P shuffles do."""

    def setup(self, worker: Any) -> None:
        worker.handlers["double"] = self.double
        worker.handlers["plain"] = self.plain
        worker.handlers["fail"] = self.fail
        worker.stream_handlers["tell"] = self.tell

    async def double(self, number: int) -> dict[str, Any]:
        await asyncio.sleep(0)
        return {"status": "OK", "double": to_serialize(2 * number)}

    def plain(self) -> int:
        return 5

    async def fail(self, kind: type[BaseException]) -> None:
        raise kind("said")

    def tell(self, what: str) -> None:
        HAPPENED.append((what, threading.current_thread().name))


async def answer(worker: DaskWorker, op: str, **arguments: Any) -> Any:
    request: Any = None
    return await PluginRequests(worker)[op](request, **arguments)


async def test_plugins_answer_requests(plugins: Plugins, worker: DaskWorker) -> None:
    assert not PluginRequests(worker)
    plugins.add(pickle.dumps(Answers()), "answers")
    assert list(PluginRequests(worker)) == ["double", "plain", "fail"]
    reply = await answer(worker, "double", number=dump(2))
    assert (reply["status"], load(reply["double"])) == ("OK", 4)
    assert await answer(worker, "plain") == 5
    with pytest.raises(KeyError):
        await answer(worker, "other")
    with pytest.raises(ValueError, match="said"):
        await answer(worker, "fail", kind=ValueError)
    with pytest.raises(RuntimeError, match="a plugin has raised SystemExit"):
        await answer(worker, "fail", kind=SystemExit)


def test_plugins_are_told_what_the_scheduler_says(plugins: Plugins, worker: DaskWorker) -> None:
    assert not worker.hear("tell", {"what": "nothing"})
    plugins.add(pickle.dumps(Answers()), "answers")
    assert worker.hear("tell", {"what": "something"})
    assert not worker.hear("other", {})
    assert worker.hear("tell", {"callback": "nothing that it takes"})
    worker.run_on_loop(asyncio.sleep(0.01))
    assert HAPPENED == [("something", "trouper-asyncio")]


def test_who_wants_transitions_is_refused(plugins: Plugins, worker: DaskWorker) -> None:
    with pytest.raises(NotSupported, match="'x' has a method `transition`"):
        plugins.add(pickle.dumps(WantsTransitions()), "x")
    assert not worker.plugins
