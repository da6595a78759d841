"""Stock workers beside nodes: they exchange data, whatever their addresses."""

from collections.abc import Generator
from typing import Any

import node_tasks as tasks
import numpy as np
import pytest
from dask_client import Client, by_client, result_of, wait_for_workers, workers
from dask_cluster import Cluster, cluster

STOCK = ("stock-cws", "stock-tcp")


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Generator[Cluster]:
    with cluster(tmp_path_factory.mktemp("mixed")) as one:
        one.node("node")
        one.stock_worker("stock-cws", one.cws)
        one.stock_worker("stock-tcp", one.tcp)
        yield one


@pytest.fixture(scope="module")
def client(mixed: Cluster) -> Generator[Client]:
    with mixed.client() as client:
        client.run(wait_for_workers, "node", *STOCK)
        schemes = {name: where.split(":")[0] for name, where in client.run(workers).items()}
        assert schemes == {"node": "cws", "stock-cws": "cws", "stock-tcp": "tcp"}
        yield client


@pytest.mark.parametrize("stock", STOCK)
@pytest.mark.parametrize("nbytes", [8, 80_000, 160_000_000])
@by_client
def test_values_go_both_ways(client: Any, stock: str, nbytes: int) -> None:
    for maker, user in ((stock, "node"), ("node", stock)):
        made = client.submit(tasks.ones, nbytes, workers=[maker], pure=False)
        used = client.submit(tasks.length, made, workers=[user], pure=False)
        assert result_of(used) == nbytes // 8
        assert set(client.who_has(made)[made.key]) == {
            workers(client)[maker],
            workers(client)[user],
        }


@by_client
def test_many_values_of_all_kinds_to_all(client: Any) -> None:
    names = ["node", *STOCK]
    made = [
        client.submit(tasks.made, kind, workers=[name], pure=False)
        for name in names
        for kind in tasks.KINDS
    ]
    used = [client.submit(tasks.kinds, *made, workers=[name], pure=False) for name in names]
    assert [result_of(one) for one in used] == [[*tasks.KINDS] * 3] * 3


@by_client
def test_copies_everywhere(client: Any) -> None:
    for name in ("node", *STOCK):
        future = client.submit(tasks.ones, 1_000_000, workers=[name], pure=False)
        result_of(future)
        client.replicate(future)
        assert set(client.who_has(future)[future.key]) == set(workers(client).values())


@by_client
def test_large_data_that_a_client_has_cut_for_tcp(client: Any) -> None:
    array = np.arange(10_000_000.0)
    future = client.scatter(array, workers=["node"], hash=False)
    assert result_of(client.submit(tasks.length, future, workers=["node"])) == int(array.sum())


@by_client
def test_a_value_that_a_stock_worker_cannot_serialise(client: Any) -> None:
    future = client.submit(tasks.not_picklable, workers=["stock-tcp"], pure=False)
    with pytest.raises(TypeError, match="Could not serialize object of type NotPicklable"):
        result_of(client.submit(tasks.name_of_worker, future, workers=["node"], pure=False))


@by_client
def test_what_a_worker_has_moves_when_it_retires(client: Any) -> None:
    made = [client.submit(tasks.ones, 8 * n, workers=["node"], pure=False) for n in range(1, 5)]
    sums = client.map(tasks.length, made, workers=["node"])
    assert [result_of(one) for one in sums] == [1, 2, 3, 4]
    client.retire_workers([workers(client)["node"]])
    wait_for_workers(client, *STOCK)
    assert [result_of(one).size for one in made] == [1, 2, 3, 4]
