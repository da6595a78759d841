"""A node that is killed in the middle of a computation, which goes on without it."""

import signal
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import node_tasks as tasks
import pytest
from dask_client import result_of, results_of, wait_for_workers, workers
from dask_cluster import Cluster, cluster, computed_times
from dask_processes import Process, until

from trouper.wire.limits import Limits

TASKS = 200
WINDOW_S = Limits().resume_after_close_s
"""So long a scheduler waits for a node whose connection was closed, and then computes elsewhere."""

SLACK_S = 3.0
"""For a machine that is busy with other things."""


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Generator[tuple[Cluster, Process]]:
    """Three nodes, of which one is to die."""
    with cluster(tmp_path_factory.mktemp("death")) as one:
        victim, *_ = [one.node(name) for name in ("victim", "a", "b")]
        yield one, victim


def begun(client: Any, directory: Path) -> tuple[Any, Any]:
    """Futures of numbers, and of a total of them, of which a third is computed."""
    numbers = client.map(
        tasks.noted, range(TASKS), directory=str(directory), delay_s=0.03, pure=False
    )
    doubled = client.map(tasks.total, numbers, numbers)
    total = client.submit(tasks.total, *doubled)
    until(lambda: len(computed_times(directory)) > TASKS // 3)
    assert set(client.has_what()[workers(client)["victim"]])
    assert len(computed_times(directory)) < TASKS
    return numbers, total


def computed(client: Any, futures: tuple[Any, Any]) -> tuple[list[int], int]:
    """The numbers, and their total."""
    numbers, total = futures
    return results_of(client, numbers), result_of(total)


def test_a_killed_node_is_computed_without(nodes: tuple[Cluster, Process], tmp_path: Path) -> None:
    one, victim = nodes
    with one.client() as client:
        client.run(wait_for_workers, "victim", "a", "b")
        victims = client.run(workers)["victim"]
        futures = client.keep(begun, tmp_path)
        victim.send_signal(signal.SIGKILL)
        killed = time.monotonic()
        until(lambda: one.scheduler.said(f"Remove worker addr: {victims}"))
        assert time.monotonic() - killed < WINDOW_S + SLACK_S
        assert client.run(computed, futures) == (list(range(TASKS)), TASKS * (TASKS - 1))
        times = computed_times(tmp_path)
        assert set(times) == set(range(TASKS))
        assert max(times.values()) == 2, "what the victim had, or ran, was computed once more"
        assert set(client.run(workers)) == {"a", "b"}
    assert victim.exit_code() == -signal.SIGKILL
