"""What a task finds when it asks Dask where it runs."""

import threading
from collections.abc import Callable, Generator
from contextvars import Context
from pathlib import Path
from typing import Any

import dask.config
import pytest
from distributed import get_client, get_worker, rejoin, secede  # pyright: ignore[reportUnknownVariableType]
from distributed.core import Status
from fake_host import FakeHost, worker_of
from tornado.ioloop import IOLoop

from trouper.actors.dask_worker import DaskWorker
from trouper.actors.job import NO_INPUTS, Job, current_job


@pytest.fixture
def host() -> FakeHost:
    return FakeHost()


@pytest.fixture
def worker(host: FakeHost) -> Generator[DaskWorker]:
    with worker_of(host) as made:
        yield made


def job(key: str = "x") -> Job:
    return Job(key, 1, None, NO_INPUTS, None, True)


def in_task(worker: DaskWorker, function: Callable[[], object], task: Job | None = None) -> Any:
    """What a function returns that runs as a task does: in a thread and a context of its own."""
    results: list[Any] = []

    def run() -> None:
        current_job.set(task or job())
        worker.enter(current_job.get(), 5.0)
        try:
            results.append(function())
        except Exception as error:  # noqa: BLE001 - is raised below
            results.append(error)

    thread = threading.Thread(target=Context().run, args=(run,))
    thread.start()
    thread.join()
    if isinstance(results[0], Exception):
        raise results[0]
    return results[0]


def test_a_task_finds_its_node_and_nobody_else_does(worker: DaskWorker) -> None:
    assert in_task(worker, get_worker) is worker
    with pytest.raises(ValueError, match="No worker found"):
        get_worker()


def test_a_task_finds_its_own_key(worker: DaskWorker) -> None:
    assert in_task(worker, worker.get_current_task, job("~('x', 1)")) == ("x", 1)


def test_who_and_where_it_is(worker: DaskWorker) -> None:
    assert (worker.name, worker.nthreads, worker.local_directory) == ("n", 3, "/d")
    assert {worker.address, worker.contact_address, worker.worker_address} == {"cws://a:1"}
    assert worker.scheduler.address == "cws://s:2"


def test_data_is_what_the_host_has(worker: DaskWorker, host: FakeHost) -> None:
    worker.update_data({"x": 1, ("y", 2): 2})
    data = worker.data
    assert dict(data) == host.values == {"x": 1, ("y", 2): 2}
    assert (len(data), "x" in data, "z" in data) == (2, True, False)
    with pytest.raises(KeyError):
        data["z"]


def test_an_event_has_one_topic_or_several(worker: DaskWorker, host: FakeHost) -> None:
    worker.log_event("one", 1)
    worker.log_event(["two", "three"], {"n": 2})
    assert host.events == [(["one"], 1), (["two", "three"], {"n": 2})]


def test_files_are_kept_in_its_directory(worker: DaskWorker, tmp_path: Path) -> None:
    worker.local_directory = str(tmp_path)
    kept = worker.run_on_loop(worker.upload_file("data.txt", "\xfc", load=False))
    assert kept == {"status": "OK", "nbytes": 2}
    assert (tmp_path / "data.txt").read_text() == "\xfc"


def test_a_task_leaves_its_seat_once(worker: DaskWorker, host: FakeHost) -> None:
    task = job()
    with pytest.raises(KeyError):
        in_task(worker, lambda: (secede(), secede()), task)
    assert host.seceded == [task]


def test_a_task_that_has_rejoined_may_secede_again(worker: DaskWorker, host: FakeHost) -> None:
    def come_and_go() -> None:
        for _ in range(3):
            secede()
            rejoin()

    task = job()
    in_task(worker, come_and_go, task)
    assert set(map(id, host.seceded)) == {id(task)}


def test_a_task_that_rejoins_goes_on_in_its_thread(worker: DaskWorker) -> None:
    def leave_and_return() -> bool:
        before = threading.get_ident()
        secede()
        rejoin()
        return threading.get_ident() == before

    assert in_task(worker, leave_and_return)


@pytest.fixture
def other() -> Generator[DaskWorker]:
    with worker_of(FakeHost(), name="o", address="cws://b:1") as made:
        yield made


def test_tasks_of_several_nodes_of_one_process_do_not_meet(
    worker: DaskWorker, other: DaskWorker
) -> None:
    both = threading.Barrier(2, timeout=10)

    def where() -> object:
        both.wait()
        return get_worker()

    found: dict[DaskWorker, object] = {}

    def look(node: DaskWorker) -> None:
        found[node] = in_task(node, where)

    threads = [threading.Thread(target=look, args=(node,)) for node in (worker, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {worker: worker, other: other}


def test_what_dask_tells_a_worker_is_known_already(worker: DaskWorker) -> None:
    worker.handle_stimulus("a task has seceded")


def test_the_status_is_the_hosts(worker: DaskWorker) -> None:
    assert worker.status is Status.paused


def test_a_coroutine_runs_on_the_loop_and_knows_its_task(worker: DaskWorker) -> None:
    async def look() -> Any:
        return get_worker(), worker.get_current_task(), IOLoop.current()

    task = job("y")
    assert in_task(worker, lambda: worker.run_on_loop(look()), task) == (worker, "y", worker.loop)


def test_a_scheduler_that_cannot_be_reached(worker: DaskWorker) -> None:
    with dask.config.set({"distributed.comm.timeouts.connect": "100 ms"}):
        with pytest.raises(OSError, match="cws://s:2"):
            in_task(worker, lambda: get_client())
        with pytest.raises(OSError, match="cws://s:2"):
            _ = worker.client
        with pytest.raises(OSError, match="cws://s:2"):
            worker.run_on_loop(worker.scheduler.identity())
