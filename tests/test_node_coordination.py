"""Tasks that wait for one another, on nodes and a stock worker, with Dask's own means.

Locks, semaphores, queues, events, variables, and coroutines that await a client.
"""

from collections.abc import Generator
from pathlib import Path
from typing import Any

import coordination_tasks as tasks
import pytest
from dask_client import Client, by_client, result_of, results_of, wait_for_workers
from dask_cluster import Cluster, cluster
from node_tasks import distributed

ALL = ("a", "b", "stock")


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Generator[Cluster]:
    with cluster(tmp_path_factory.mktemp("coordination")) as one:
        nodes = [one.node("a", "--threads", "2"), one.node("b")]
        one.stock_worker("stock", one.cws)
        yield one
        for node in nodes:
            node.end()
            assert node.exit_code() == 0


@pytest.fixture(scope="module")
def client(mixed: Cluster) -> Generator[Client]:
    with mixed.client() as client:
        client.run(wait_for_workers, *ALL)
        yield client


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    """A file with a plus for each that has begun, and a minus for each that has ended."""
    return tmp_path / "notes"


def on_all(client: Any, function: Any, *arguments: Any, times: int = 4) -> set[str]:
    """Run it some times on each worker; the workers' names, as it tells them."""
    futures = [
        client.submit(function, *arguments, number, workers=[name], pure=False)
        for number in range(times)
        for name in ALL
    ]
    return set(results_of(client, futures))


@pytest.mark.parametrize("locked", [tasks.with_named_lock, tasks.with_named_lock_in_coroutine])
@by_client
def test_a_lock_is_held_by_one_task_in_the_cluster(client: Any, locked: Any, notes: Path) -> None:
    assert on_all(client, locked, f"one-{locked.__name__}", str(notes)) == {*ALL}
    assert notes.read_text() == "+-" * 12


@by_client
def test_a_lock_travels_with_tasks(client: Any, notes: Path) -> None:
    lock = distributed().Lock("travels")
    assert on_all(client, tasks.while_it_holds, lock, str(notes)) == {*ALL}
    assert notes.read_text() == "+-" * 12
    assert not lock.locked()


@by_client
def test_a_semaphore_lets_so_many_in(client: Any, notes: Path) -> None:
    semaphore = distributed().Semaphore(max_leases=2, name="two")
    assert on_all(client, tasks.while_it_holds, semaphore, str(notes)) == {*ALL}
    assert 1 <= tasks.most_at_once(notes.read_text()) <= 2
    assert semaphore.get_value() == 0


@by_client
def test_several_locks_at_once(client: Any, notes: Path) -> None:
    assert on_all(client, tasks.with_locks, ("x", "y"), str(notes), times=2) == {*ALL}
    assert notes.read_text() == "+-" * 6


@by_client
def test_queues_between_tasks(client: Any) -> None:
    queues = [distributed().Queue(f"queue-{number}") for number in range(len(ALL) + 1)]
    passed = [
        client.submit(tasks.pass_on, *queues[number : number + 2], workers=[name], pure=False)
        for number, name in enumerate(ALL)
    ]
    queues[0].put(1)
    assert queues[-1].get(timeout=30) == 1 + len(ALL)
    results_of(client, passed)


@by_client
def test_events_between_tasks(client: Any) -> None:
    first, second, third = (distributed().Event(f"event-{number}") for number in range(3))
    waiting = [
        client.submit(tasks.set_when_set, second, third, workers=["b"], pure=False),
        client.submit(tasks.set_when_set, first, second, workers=["a"], pure=False),
    ]
    first.set()
    assert third.wait(timeout=30)
    assert results_of(client, waiting) == [True, True]


@by_client
def test_variables(client: Any) -> None:
    distributed().Variable("sum").set(1)
    for number, name in enumerate(ALL, 1):
        future = client.submit(tasks.add_to_variable, "sum", number, workers=[name], pure=False)
        result_of(future)
    assert distributed().Variable("sum").get(timeout=30) == 1 + 1 + 2 + 3


@by_client
def test_coroutines_await_what_they_have_submitted(client: Any) -> None:
    futures = [
        client.submit(tasks.sum_of_tasks, 5, workers=["a"], pure=False, key=f"sum-{number}")
        for number in range(2)
    ]
    assert results_of(client, futures) == [17, 17]


@by_client
def test_coroutines_on_one_node_wait_for_each_other(client: Any) -> None:
    futures = [
        client.submit(tasks.meet, "met", number, workers=["a"], key=("met", number))
        for number in range(2)
    ]
    assert results_of(client, futures) == [("met", 0), ("met", 1)]


@by_client
def test_functions_and_coroutines_that_clients_run_see_the_node(client: Any) -> None:
    statuses = client.run(tasks.status_of)
    assert {status.name for status in statuses.values()} == {"running"}
    ids = client.run(tasks.client_id)
    assert len(ids) == len(set(ids.values())) == len(ALL)


@by_client
def test_a_client_that_a_task_has_closed_is_replaced(client: Any) -> None:
    for _ in range(2):
        future = client.submit(tasks.client_closed_by_a_task, workers=["a"], pure=False)
        assert result_of(future) == 2
