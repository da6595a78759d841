"""Nodes under an unmodified scheduler, asked by an unmodified client: all that users do."""

import operator
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import node_tasks as tasks
import numpy as np
import pytest
from dask_client import (
    Client,
    by_client,
    result_of,
    results_of,
    wait_for_workers,
    workers,
)
from dask_cluster import Cluster, cluster, computed_times
from dask_processes import PATIENCE_S, until
from node_tasks import distributed


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Generator[Cluster]:
    """A scheduler, and two nodes: `a`, with one `gpu`, and `b`."""
    with cluster(tmp_path_factory.mktemp("nodes")) as one:
        started = [one.node("a", "--resources", "gpu=1"), one.node("b")]
        yield one
        for node in started:
            node.end()
            assert node.exit_code() == 0


@pytest.fixture(scope="module")
def connected(nodes: Cluster) -> Generator[Client]:
    with nodes.client() as client:
        client.run(wait_for_workers, "a", "b")
        yield client


@pytest.fixture
def client(connected: Client) -> Generator[Client]:
    """Both nodes are there before and after each test."""
    yield connected
    connected.run(wait_for_workers, "a", "b")


@pytest.fixture
def gate(tmp_path: Path) -> Generator[Path]:
    """A file that tasks wait for; at the end there is one, so that none waits for ever."""
    file = tmp_path / "gate"
    yield file
    file.touch()


def computed(client: Any, function: Any, *arguments: Any, **options: Any) -> Any:
    """What a function returns or raises as a task."""
    return result_of(client.submit(function, *arguments, pure=False, **options))


# Tasks


@by_client
def test_a_task(client: Any) -> None:
    assert computed(client, tasks.inc, 1) == 2


@by_client
def test_five_thousand_tasks(client: Any) -> None:
    futures = client.map(tasks.inc, range(5000), pure=False)
    assert results_of(client, futures) == list(range(1, 5001))
    assert len({where for who in client.who_has(futures).values() for where in who}) == 2


@by_client
def test_a_graph_whose_tasks_need_what_the_other_node_has(client: Any) -> None:
    columns = [
        client.map(tasks.inc, range(base, base + 10), pure=False, workers=[where])
        for base, where in ((0, "a"), (100, "b"))
    ]
    rows = [client.submit(operator.add, *pair) for pair in zip(*columns, strict=True)]
    assert result_of(client.submit(tasks.total, *rows)) == sum(102 + 2 * n for n in range(10))


@by_client
def test_arrays_both_ways(client: Any) -> None:
    array = np.arange(1_000_000.0).reshape(1000, 1000)[::2, ::-3]
    assert np.array_equal(computed(client, np.negative, array), -array)


@by_client
def test_160_megabytes_from_peer_to_peer(client: Any) -> None:
    nbytes = 160_000_000
    array = client.submit(tasks.ones, nbytes, workers=["a"], pure=False)
    assert computed(client, tasks.length, array, workers=["b"]) == nbytes // 8
    addresses = workers(client)
    assert set(client.who_has(array)[array.key]) == set(addresses.values())


@by_client
def test_an_exception_brings_its_remote_traceback(client: Any) -> None:
    with pytest.raises(ValueError, match="deep down") as caught:
        computed(client, tasks.fail_deeply, "deep down")
    assert "fail_deeply" in [entry.name for entry in caught.traceback]
    assert "site-packages" not in str(caught.traceback[-1].path)


@by_client
def test_an_exception_with_which_nothing_works(client: Any) -> None:
    with pytest.raises(Exception, match="BadError, which cannot be shown as text"):
        computed(client, tasks.fail_badly)


@by_client
def test_a_task_may_raise_what_is_no_exception(client: Any) -> None:
    before = workers(client)
    futures = [
        client.submit(function, name, pure=False)
        for function in (tasks.fail_with, tasks.fail_later_with)
        for name in tasks.UNUSUAL
    ]
    said = [repr(future.exception(PATIENCE_S)) for future in futures]
    assert all(name in text for name, text in zip(2 * tasks.UNUSUAL, said, strict=True)), said
    assert computed(client, tasks.inc, 1) == 2
    assert workers(client) == before


@by_client
def test_a_task_that_wants_to_end_its_process(client: Any) -> None:
    with pytest.raises(Exception, match="SystemExit"):
        computed(client, sys.exit, "the node does not")


@by_client
def test_keys_that_are_tuples(client: Any) -> None:
    graph = {("x", 1): (tasks.inc, 1), ("x", ("y", 2.5)): (tasks.inc, ("x", 1))}
    assert client.get(graph, [("x", ("y", 2.5)), ("x", 1)]) == [3, 2]


@by_client
def test_as_completed(client: Any) -> None:
    futures = client.map(tasks.inc, range(20), pure=False)
    results = distributed().as_completed(futures, with_results=True)
    assert sorted(result for _, result in results) == list(range(1, 21))


@by_client
def test_a_coroutine(client: Any) -> None:
    assert computed(client, tasks.coroutine_task, 1) == 2


@by_client
def test_a_task_that_wants_to_be_rescheduled(client: Any, tmp_path: Path) -> None:
    assert computed(client, tasks.reschedule_once, str(tmp_path / "once")) in {"a", "b"}


@by_client
def test_a_task_that_secedes_leaves_its_thread_to_others(client: Any, gate: Path) -> None:
    waiting = client.submit(tasks.secede_until, str(gate), workers=["a"], pure=False)
    assert computed(client, tasks.name_of_worker, workers=["a"]) == "a"
    gate.touch()
    assert result_of(waiting) == "a"


@by_client
def test_a_task_may_rejoin(client: Any) -> None:
    assert "-thread-" in computed(client, tasks.secede_and_rejoin)


@by_client
def test_a_task_asks_where_it_runs(client: Any) -> None:
    assert computed(client, tasks.name_of_worker, workers=["b"]) == "b"


@by_client
def test_tasks_that_are_clients_themselves(client: Any) -> None:
    assert computed(client, tasks.with_worker_client, 1) == 2
    assert computed(client, tasks.with_get_client, 10) == sum(range(1, 11))
    assert computed(client, tasks.scatter_inside, 10) == 45


@by_client
def test_a_task_that_cannot_be_unpickled_on_the_node_fails(client: Any) -> None:
    where = workers(client)["a"]
    with pytest.raises(RuntimeError, match="not in this process"):
        computed(client, tasks.OpensInOneProcessOnly(client.run_on_scheduler(tasks.pid)), 1)
    assert client.run(tasks.pid, workers=[where])


@by_client
def test_a_result_that_cannot_be_pickled(client: Any) -> None:
    future = client.submit(tasks.not_picklable, workers=["a"], pure=False)
    with pytest.raises(TypeError, match="Could not serialize object of type NotPicklable"):
        result_of(future)
    assert computed(client, tasks.name_of_worker, future, workers=["a"]) == "a"
    with pytest.raises(TypeError, match="Could not serialize object of type NotPicklable"):
        computed(client, tasks.name_of_worker, future, workers=["b"])


# How they are scheduled


@by_client
def test_priorities(client: Any, gate: Path, tmp_path: Path) -> None:
    order = str(tmp_path / "order")
    first = client.submit(tasks.wait_for_file, str(gate), workers=["a"], pure=False)
    until(lambda: client.processing()[workers(client)["a"]])
    low, high = (
        client.map(tasks.note_order, numbers, file=order, priority=p, workers=["a"], pure=False)
        for p, numbers in ((-1, range(3)), (1, range(10, 13)))
    )
    until(lambda: len(client.processing()[workers(client)["a"]]) == 7)
    gate.touch()
    results_of(client, [first, *low, *high])
    assert [int(line) for line in Path(order).read_text().split()] == [10, 11, 12, 0, 1, 2]


@by_client
def test_resources(client: Any) -> None:
    futures = client.map(tasks.name_of_worker, range(10), resources={"gpu": 1}, pure=False)
    assert set(results_of(client, futures)) == {"a"}


@by_client
def test_more_of_a_resource_than_there_is_waits_for_who_has_it(client: Any) -> None:
    future = client.submit(tasks.inc, 1, resources={"gpu": 2}, pure=False)
    assert computed(client, tasks.inc, 1) == 2
    assert future.status == "pending"
    future.cancel()


@by_client
def test_cancelled_tasks_end_and_leave_room(client: Any, gate: Path, tmp_path: Path) -> None:
    first = client.submit(tasks.wait_for_file, str(gate), workers=["a"], pure=False)
    others = client.map(tasks.noted, range(20), directory=str(tmp_path), workers=["a"], pure=False)
    until(lambda: len(client.processing()[workers(client)["a"]]) == 21)
    client.cancel([first, *others])
    until(lambda: not client.processing()[workers(client)["a"]])
    gate.touch()
    assert computed(client, tasks.inc, 1, workers=["a"]) == 2
    assert first.status == "cancelled"
    assert not computed_times(tmp_path)


# Data


@by_client
def test_scattered_data(client: Any) -> None:
    array = np.arange(10.0)
    for direct in (False, True):
        future = client.scatter(array, direct=direct, hash=False)
        assert computed(client, np.sum, future) == 45
        assert np.array_equal(result_of(future), array)
        everywhere = client.scatter(array, broadcast=True, direct=direct, hash=False)
        assert set(client.who_has(everywhere)[everywhere.key]) == set(workers(client).values())


@by_client
def test_results_are_gathered_directly(client: Any) -> None:
    futures = client.map(tasks.inc, range(10), pure=False)
    assert results_of(client, futures, direct=True) == list(range(1, 11))


@by_client
def test_copies_are_made_and_moved(client: Any) -> None:
    addresses = workers(client)
    futures = [client.submit(tasks.ones, 1_000_000, workers=["a"], pure=False) for _ in range(4)]
    distributed().wait(futures, timeout=PATIENCE_S)
    client.replicate(futures[0], n=2)
    assert set(client.who_has(futures[0])[futures[0].key]) == set(addresses.values())
    client.replicate(futures[0], n=1)
    assert len(client.who_has(futures[0])[futures[0].key]) == 1
    assert computed(client, tasks.length, futures[0]) == 125_000
    client.rebalance(futures)
    assert [computed(client, tasks.length, one) for one in futures] == [125_000] * 4


@by_client
def test_the_active_memory_manager_removes_copies_that_nobody_needs(client: Any) -> None:
    future = client.submit(tasks.ones, 1_000_000, pure=False)
    assert result_of(future).size == 125_000
    client.replicate(future)
    assert len(client.who_has(future)[future.key]) == 2
    assert not client.amm.running()
    client.amm.run_once()
    until(lambda: len(client.who_has(future)[future.key]) == 1)
    assert computed(client, tasks.length, future) == 125_000


@by_client
def test_what_is_where(client: Any) -> None:
    addresses = workers(client)
    future = client.submit(tasks.inc, 41, workers=["b"])
    assert result_of(future) == 42
    assert client.who_has(future) == {future.key: (addresses["b"],)}
    assert future.key in client.has_what()[addresses["b"]]
    key = future.key
    assert client.run(tasks.held_here, key, workers=[addresses["b"]]) == {addresses["b"]: 42}
    del future
    until(lambda: key not in client.has_what()[addresses["b"]])
    until(lambda: client.run(tasks.held_here, key)[addresses["b"]] is None)


@by_client
def test_published_datasets(client: Any) -> None:
    client.publish_dataset(numbers=client.map(tasks.inc, range(5)))
    with distributed().Client(client.scheduler.address, set_as_default=False) as other:
        assert other.gather(other.get_dataset("numbers")) == [1, 2, 3, 4, 5]
    client.unpublish_dataset("numbers")


# What is asked of the nodes themselves


@by_client
def test_functions_that_are_no_tasks(client: Any) -> None:
    addresses = workers(client)
    assert len(set(client.run(tasks.pid).values())) == 2
    assert client.run(tasks.name_of, workers=[addresses["a"]]) == {addresses["a"]: "a"}
    assert set(client.run(tasks.coroutine_task, 1).values()) == {2}
    with pytest.raises(ValueError, match="not so deep"):
        client.run(tasks.fail_deeply, "not so deep")
    with pytest.raises(Exception, match="SystemExit"):
        client.run(sys.exit, "the node does not")


@by_client
def test_logs_and_versions(client: Any) -> None:
    addresses = set(workers(client).values())
    logs = client.get_worker_logs()
    assert set(logs) == addresses
    assert all("works for cws://" in lines[0][1] for lines in logs.values())
    assert set(client.get_versions(check=False)["workers"]) == addresses


@by_client
def test_call_stacks_of_what_runs(client: Any, gate: Path) -> None:
    future = client.submit(tasks.wait_for_file, str(gate), workers=["a"], pure=False)

    def stack() -> Any:
        return client.call_stack([future]).get(workers(client)["a"])

    until(lambda: client.processing()[workers(client)["a"]])
    until(stack)
    assert "wait_for_file" in "".join(stack()[future.key])
    gate.touch()
    result_of(future)


@by_client
def test_stories_and_dumps(client: Any, tmp_path: Path) -> None:
    future = client.submit(tasks.inc, 1000)
    result_of(future)
    told = client.story(future.key)
    assert {where for where, *_ in told} == {"scheduler", *client.who_has(future)[future.key]}
    client.dump_cluster_state(str(tmp_path / "dump"), format="yaml")
    assert future.key in (tmp_path / "dump.yaml").read_text()


@by_client
def test_events(client: Any) -> None:
    computed(client, tasks.log_events)
    until(lambda: client.get_events("node-tests"))
    ((_, event),) = client.get_events("node-tests")
    assert event["when"].year == 2026


# What nodes cannot do, they say


# Who comes and goes; the last ones, as they do


def blocked_by(client: Any, gate: Path) -> Any:
    """Futures of tasks that keep both nodes busy."""
    everybody = set(workers(client).values())
    futures = client.map(tasks.wait_for_file, [str(gate)] * 2, pure=False)
    until(lambda: all(client.processing()[one] for one in everybody))
    return futures


def queued(client: Any) -> Any:
    """Futures of twenty tasks that the nodes have been given beside what keeps them busy."""
    futures = [client.submit(tasks.name_of_worker, key=f"stolen{n:c}") for n in range(97, 117)]
    until(lambda: sum(map(len, client.processing().values())) == 22)
    return futures


def steals_and_retires(client: Any, name: str, blocked: Any, futures: Any, gate: Path) -> None:
    until(lambda: any(future.done() for future in futures))
    gate.touch()
    assert set(results_of(client, blocked)) == {"a", "b"}
    assert name in results_of(client, futures)
    kept = client.map(tasks.inc, range(6), workers=[name], pure=False)
    distributed().wait(kept, timeout=PATIENCE_S)
    gone = client.retire_workers([workers(client)[name]])
    assert len(gone) == 1
    assert results_of(client, kept) == [1, 2, 3, 4, 5, 6]


def test_a_node_that_joins_later_steals(client: Client, nodes: Cluster, gate: Path) -> None:
    blocked = client.keep(blocked_by, gate)
    futures = client.keep(queued)
    nodes.node("c")
    client.run(steals_and_retires, "c", blocked, futures, gate)


def restart_of(client: Any, name: str) -> None:
    with pytest.raises(Exception, match="nanny"):
        client.restart_workers([workers(client)[name]], timeout=2)


def test_a_restart_ends_nodes_that_nobody_starts_again(nodes: Cluster, client: Client) -> None:
    lonely = nodes.node("lonely")
    client.run(wait_for_workers, "a", "b", "lonely")
    client.run(restart_of, "lonely")
    lonely.end()
    assert lonely.exit_code() == 0


def restart_of_all(client: Any) -> None:
    with pytest.raises(Exception, match="not using Nannies were just shut down"):
        client.restart(timeout=1)


def test_a_restart_of_all_does_not_bring_them_back(nodes: Cluster, connected: Client) -> None:
    connected.run(restart_of_all)
    for name in ("a", "b"):
        assert nodes.workers[name].exit_code() == 0
        assert "scheduler-remove-worker" in nodes.workers[name].said("has ended")[-1]
