"""A node that is killed in the middle of a computation, which goes on without it."""

import signal
import time
from collections.abc import Generator
from pathlib import Path

import node_tasks as tasks
import pytest
from dask_cluster import (
    Cluster,
    Process,
    cluster,
    computed_times,
    result_of,
    results_of,
    until,
    wait_for_workers,
    workers,
)

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


def test_a_killed_node_is_computed_without(nodes: tuple[Cluster, Process], tmp_path: Path) -> None:
    one, victim = nodes
    with one.client() as client:
        wait_for_workers(client, "victim", "a", "b")
        victims = workers(client)["victim"]
        numbers = client.map(
            tasks.noted, range(TASKS), directory=str(tmp_path), delay_s=0.03, pure=False
        )
        doubled = client.map(tasks.total, numbers, numbers)
        total = client.submit(tasks.total, *doubled)
        until(lambda: len(computed_times(tmp_path)) > TASKS // 3)
        had = set(client.has_what()[victims])
        assert had
        assert len(computed_times(tmp_path)) < TASKS
        victim.send_signal(signal.SIGKILL)
        killed = time.monotonic()
        until(lambda: one.scheduler.lines(f"Remove worker addr: {victims}"))
        assert time.monotonic() - killed < WINDOW_S + SLACK_S
        assert result_of(total) == TASKS * (TASKS - 1)
        assert results_of(client, numbers) == list(range(TASKS))
        times = computed_times(tmp_path)
        assert set(times) == set(range(TASKS))
        assert max(times.values()) == 2, "what the victim had, or ran, was computed once more"
        assert set(workers(client)) == {"a", "b"}
    assert victim.exit_code() == -signal.SIGKILL
