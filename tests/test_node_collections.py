"""Dask's collections on two nodes give what they give on two stock workers."""

import importlib
from collections.abc import Callable, Generator
from typing import Any

import node_tasks as tasks
import numpy as np
import pytest
from dask_client import Client, Kept, by_client, result_of, wait_for_workers
from dask_cluster import Cluster, cluster
from dask_processes import PATIENCE_S
from node_tasks import distributed

dask: Any = importlib.import_module("dask")
array: Any = importlib.import_module("dask.array")
bag: Any = importlib.import_module("dask.bag")
dataframe: Any = importlib.import_module("dask.dataframe")
pandas: Any = importlib.import_module("pandas")


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Generator[Cluster]:
    with cluster(tmp_path_factory.mktemp("nodes")) as one:
        one.node("a")
        one.node("b")
        yield one


@pytest.fixture(scope="module")
def stock_workers(tmp_path_factory: pytest.TempPathFactory) -> Generator[Cluster]:
    with cluster(tmp_path_factory.mktemp("stock")) as one:
        one.stock_worker("c", one.tcp)
        one.stock_worker("d", one.tcp)
        yield one


@pytest.fixture(scope="module")
def client(nodes: Cluster) -> Generator[Client]:
    """Of two nodes."""
    with nodes.client(set_as_default=False) as client:
        client.run(wait_for_workers, "a", "b")
        yield client


@pytest.fixture(scope="module")
def stock(client: Client, stock_workers: Cluster) -> Kept:
    """Another client in the same process, of two stock workers."""
    return client.keep(client_of_stock_workers, stock_workers.tcp)


def client_of_stock_workers(_: Any, address: str) -> Any:
    client = distributed().Client(address, timeout=PATIENCE_S, set_as_default=False)
    wait_for_workers(client, "c", "d")
    return client


def arrays() -> list[Any]:
    """Sums and products across chunks, a decomposition, random numbers, what overlaps."""
    numbers = array.random.default_rng(7).normal(size=(240, 240), chunks=(80, 120))
    tall = numbers.rechunk((60, 240))
    return [
        (numbers + numbers.T).sum(axis=0),
        numbers @ numbers.T,
        array.linalg.svd(tall)[1],
        array.histogram(numbers, bins=20, range=(-3, 3))[0],
        numbers.map_overlap(tasks.smooth, depth=1, boundary="reflect")[::20, ::20],
        array.percentile(numbers.ravel(), [5, 50, 95]),
    ]


def bags() -> list[Any]:
    """Words counted, folded, grouped and joined."""
    words = bag.from_sequence([f"word{n * n % 37}" for n in range(2000)], npartitions=8)
    return [
        words.frequencies().topk(5, key=tasks.second_of),
        words.map(len).fold(tasks.larger),
        words.groupby(len, shuffle="tasks").map(tasks.size_of_group),
        words.distinct().count(),
    ]


def frames() -> list[Any]:
    """Groups, shuffles, joins and an index, with the shuffle that is made of tasks."""
    table = pandas.DataFrame(
        {"x": np.arange(3000) % 17, "y": np.arange(3000) * 0.5, "s": ["ab", "c", "d"] * 1000}
    )
    split = dataframe.from_pandas(table, npartitions=7)
    return [
        split.groupby("x").y.agg(["sum", "mean", "count"]),
        split.shuffle("x").map_partitions(len).sum(),
        split.merge(split.drop_duplicates("x"), on="x").y_x.sum(),
        split.set_index("y").loc[100.0:110.0],
        split.s.value_counts(),
    ]


def same(ours: Any, theirs: Any) -> bool:
    """Whether both are the same, but for the order in which a shuffle leaves things."""
    kind = str(type(ours).__name__)
    assert kind == type(theirs).__name__
    if kind == "ndarray":
        return np.allclose(ours, theirs, rtol=1e-12, atol=0)
    if kind in {"DataFrame", "Series"}:
        return bool(ours.sort_index().equals(theirs.sort_index()))
    if kind == "list":
        return sorted(map(repr, ours)) == sorted(map(repr, theirs))
    return bool(ours == theirs)


@pytest.mark.parametrize("method", ["tasks", "p2p"])
@pytest.mark.parametrize("collections", [arrays, bags, frames], ids=lambda made: made.__name__)
@by_client
def test_computed_by_nodes_and_by_stock_workers(
    client: Any, stock: Any, collections: Callable[[], list[Any]], method: str
) -> None:
    with dask.config.set({"dataframe.shuffle.method": method, "array.rechunk.method": method}):
        both = [one.compute(collections()) for one in (client, stock)]
        got, expected = ([result_of(future) for future in futures] for futures in both)
    for ours, theirs in zip(got, expected, strict=True):
        assert same(ours, theirs)
