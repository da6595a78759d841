"""What a node makes of a network that cuts, refuses and falls silent, beside a stock worker."""

import socket
import time
from collections.abc import Generator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import node_tasks as tasks
import pytest
from dask_client import Client, results_of, wait_for_workers, workers
from dask_cluster import Cluster, cluster, computed_times
from dask_processes import Process, until
from proxy import Proxy, proxy

TASKS = 2000
REFUSED_S = 3.0
SILENT_S = 8.0
"""Longer than three intervals of the scheduler's heartbeats: a node is never less patient."""


class Behind:
    """Workers, each behind a proxy of its own, which stands between them and the scheduler.

    Who wants to reach `node` has to pass another one, `inwards`.
    """

    def __init__(self, stack: ExitStack, one: Cluster) -> None:
        self.cluster = one
        self.proxies: dict[str, Proxy] = {}
        self.processes: dict[str, Process] = {}
        hasty = {"silence_s": 1.0, "retry_most_s": 0.5}
        for name in ("node", "hasty", "doomed"):
            scheduler = self._behind(stack, name, one.cws)
            limits = {} if name == "node" else hasty
            doors = self._doors(stack) if name == "node" else ()
            self.processes[name] = one.node(name, *doors, scheduler=scheduler, limits=limits)
        self.processes["stock"] = one.stock_worker("stock", self._behind(stack, "stock", one.tcp))

    def _doors(self, stack: ExitStack) -> tuple[str, ...]:
        with socket.create_server(("127.0.0.1", 0)) as free:
            listens_at = f"cws://127.0.0.1:{free.getsockname()[1]}"
        address = self._behind(stack, "inwards", listens_at)
        return "--listen", listens_at, "--contact-address", address

    def _behind(self, stack: ExitStack, name: str, address: str) -> str:
        scheme, port = address.split(":")[0], address.split(":")[-1]
        self.proxies[name] = stack.enter_context(proxy(int(port)))
        return f"{scheme}://127.0.0.1:{self.proxies[name].port}"


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Generator[Behind]:
    with ExitStack() as stack, cluster(tmp_path_factory.mktemp("network")) as one:
        yield Behind(stack, one)


@pytest.fixture(scope="module")
def client(behind: Behind) -> Generator[Client]:
    with behind.cluster.client() as client:
        client.run(wait_for_workers, *behind.processes)
        behind.proxies["doomed"].cut(refuse=True)  # the last test sees to what it comes
        yield client


def removals(behind: Behind, address: str) -> list[str]:
    """What the scheduler says of the end of a worker."""
    return [line for line in behind.cluster.scheduler.said("Remove worker") if address in line]


def scattered(client: Any, numbers: list[int], name: str) -> Any:
    """A future of numbers that one worker has."""
    return client.scatter(numbers, workers=[name], hash=False)


def begun(client: Any, name: str, directory: Path) -> Any:
    """Futures of a computation on one worker that is well under way."""
    directory.mkdir()
    futures = client.map(
        tasks.noted, range(TASKS), directory=str(directory), workers=[name], pure=False
    )
    until(lambda: len(computed_times(directory)) > TASKS // 10)
    return futures


def statuses(_: Any, futures: Any) -> set[str]:
    """What the client knows of them."""
    return {future.status for future in futures}


def test_a_cut_of_seconds_costs_a_node_nothing_and_a_stock_worker_everything(
    behind: Behind, client: Client, tmp_path: Path
) -> None:
    addresses = client.run(workers)
    kept = client.keep(scattered, list(range(1000)), "node")
    before = {name: client.keep(begun, name, tmp_path / name) for name in ("stock", "node")}
    assert len(computed_times(tmp_path / "node")) < TASKS
    between = [behind.proxies[name] for name in (*before, "inwards")]
    for one in between:
        assert one.cut(refuse=True) > 0
    time.sleep(REFUSED_S)
    for one in between:
        one.refusing = False
    assert client.run(results_of, before["node"]) == list(range(TASKS))
    assert client.run(results_of, kept) == list(range(1000))
    assert computed_times(tmp_path / "node") == dict.fromkeys(range(TASKS), 1)
    assert not removals(behind, addresses["node"])
    # The same was the end of the stock worker, and of what it had computed.
    until(lambda: removals(behind, addresses["stock"]))
    assert behind.cluster.scheduler.said("lose already computed task")
    behind.processes["stock"].end()
    assert "finished" not in client.run(statuses, before["stock"])


def test_a_silence_that_ends_the_connection_costs_a_node_nothing(
    behind: Behind, client: Client, tmp_path: Path
) -> None:
    address = client.run(workers)["hasty"]
    futures = client.keep(begun, "hasty", tmp_path / "hasty")
    between = behind.proxies["hasty"]
    connections = between.accepted
    between.silence(silent=True)
    time.sleep(SILENT_S)
    assert between.accepted > connections, "the node has not noticed"
    between.silence(silent=False)
    assert client.run(results_of, futures) == list(range(TASKS))
    assert computed_times(tmp_path / "hasty") == dict.fromkeys(range(TASKS), 1)
    assert not removals(behind, address)


@pytest.mark.usefixtures("client")
def test_a_cut_for_good_ends_a_node_and_it_says_why(behind: Behind) -> None:
    doomed = behind.processes["doomed"]
    address = doomed.wait_for(r"(\S+) works for")[1]
    assert doomed.exit_code() == 3
    assert "the scheduler is lost" in doomed.said("has ended")[-1]
    until(lambda: removals(behind, address))
