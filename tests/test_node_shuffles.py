"""Dask's P2P shuffles, of nodes and a stock worker together, one of which dies meanwhile."""

import importlib
import signal
from collections.abc import Generator
from pathlib import Path
from typing import Any

import node_tasks as tasks
import pytest
from dask_client import Client, result_of, wait_for_workers, workers
from dask_cluster import Cluster, cluster, computed_times
from dask_processes import Process, until

dask: Any = importlib.import_module("dask")
dataframe: Any = importlib.import_module("dask.dataframe")
pandas: Any = importlib.import_module("pandas")

PARTITIONS = 40
ROWS = 500


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Generator[tuple[Cluster, Process]]:
    """Two nodes, of which one is to die, and a stock worker."""
    with cluster(tmp_path_factory.mktemp("shuffles")) as one:
        victim = one.node("victim")
        one.node("a")
        one.stock_worker("stock", one.cws)
        yield one, victim


@pytest.fixture(scope="module")
def client(mixed: tuple[Cluster, Process]) -> Generator[Client]:
    with mixed[0].client() as client:
        client.run(wait_for_workers, "victim", "a", "stock")
        yield client


def rows(number: int, directory: str, delay_s: float) -> Any:
    """One partition, which takes its time."""
    tasks.noted(number, directory, delay_s)
    numbers = range(number * ROWS, (number + 1) * ROWS)
    return pandas.DataFrame({"number": numbers, "group": [n % 97 for n in numbers]})


def begun(client: Any, directory: Path, delay_s: float) -> Any:
    """How many rows each group has, after a shuffle that has begun."""
    meta = pandas.DataFrame({"number": [0], "group": [0]})
    table = dataframe.from_map(
        rows, range(PARTITIONS), directory=str(directory), delay_s=delay_s, meta=meta
    )
    with dask.config.set({"dataframe.shuffle.method": "p2p"}):
        shuffled = table.shuffle("group", npartitions=10)
        return client.compute(shuffled.map_partitions(lengths).reset_index(drop=True))


def lengths(part: Any) -> Any:
    """Of each group in a partition; a group that is in two of them would be there twice."""
    return part.groupby("group", as_index=False).agg(rows=("number", "count"))


def groups(client: Any, future: Any) -> dict[int, int]:
    """Rows by group."""
    table = result_of(future)
    found = dict(zip(table["group"].tolist(), table["rows"].tolist(), strict=True))
    assert len(found) == len(table), "each group is in one partition"
    return found


EXPECTED = {group: len(range(group, PARTITIONS * ROWS, 97)) for group in range(97)}


def test_all_rows_of_a_group_come_together(client: Client, tmp_path: Path) -> None:
    assert client.run(groups, client.keep(begun, tmp_path, 0.0)) == EXPECTED


def test_a_node_dies_in_the_middle(
    client: Client, mixed: tuple[Cluster, Process], tmp_path: Path
) -> None:
    _, victim = mixed
    future = client.keep(begun, tmp_path, 0.1)
    until(lambda: len(computed_times(tmp_path)) > PARTITIONS // 3)
    victim.send_signal(signal.SIGKILL)
    assert client.run(groups, future) == EXPECTED
    assert set(client.run(workers)) == {"a", "stock"}
    assert victim.exit_code() == -signal.SIGKILL
