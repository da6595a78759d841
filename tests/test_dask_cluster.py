"""A real scheduler, stock workers on ``cws://``, and clients: what Dask does works as before."""

import sys
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dask_client import Client, by_client, results_of, wait_for_workers, workers
from dask_processes import Process, Scheduler, stock_worker
from node_tasks import distributed
from proxy import proxy


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory: pytest.TempPathFactory) -> Generator[Scheduler]:
    """With two workers."""
    directory = tmp_path_factory.mktemp("cluster")
    with (
        Scheduler(directory) as one,
        stock_worker(one["cws"], directory, name="a") as first,
        stock_worker(one["cws"], directory, name="b") as second,
    ):
        yield one
        for each in (first, second, one):
            each.end()
            assert not each.faults, each.log


@pytest.fixture(scope="module", params=["tcp", "cws"])
def client(
    request: pytest.FixtureRequest,
    scheduler: Scheduler,
    tmp_path_factory: pytest.TempPathFactory,
) -> Generator[Client]:
    with Client(scheduler[request.param], tmp_path_factory.mktemp(request.param)) as client:
        client.run(wait_for_workers, "a", "b")
        yield client


def plus_one(x: int) -> int:
    return x + 1


def fail(x: int) -> None:
    raise ValueError(f"no {x}")


def where(dask_worker: Any) -> Any:
    return dask_worker.address


@by_client
def test_a_client_does_what_clients_do(client: Any) -> None:
    addresses = sorted(workers(client).values())
    assert all(address.startswith("cws://") for address in addresses), addresses
    assert client.submit(pow, 2, 10).result() == 1024
    numbers = client.map(plus_one, range(500), pure=False)
    assert client.gather(numbers) == list(range(1, 501))
    assert client.submit(sum, numbers).result() == sum(range(1, 501))

    array = np.arange(1_000_000.0)
    assert np.array_equal(client.submit(np.sqrt, array).result(), np.sqrt(array))
    here = client.scatter(array, workers=addresses[:1])
    there = client.submit(np.sum, here, workers=addresses[1:])
    assert there.result() == array.sum()
    assert np.array_equal(client.gather(here), array)
    assert client.gather(here).flags.writeable

    with pytest.raises(ValueError, match=r"^no 7$"):
        client.submit(fail, 7).result()

    assert sorted(client.run(where).values()) == addresses
    key = ("tuple", 1)
    assert client.submit(str, 5, key=key).result() == "5"
    distributed().wait(client.submit(str, 6))


@pytest.mark.parametrize("client", ["cws"], indirect=True)
@by_client
def test_160_megabytes_go_from_worker_to_worker_and_to_a_client(client: Any) -> None:
    addresses = sorted(workers(client).values())
    large = client.submit(np.ones, 20_000_000, workers=addresses[:1])
    total = client.submit(np.sum, large, workers=addresses[1:])
    assert total.result() == 20_000_000
    fetched = client.gather(large, direct=True)
    assert fetched.nbytes == 160_000_000
    assert fetched.sum() == 20_000_000


def slowly(x: int) -> int:
    time.sleep(0.02)
    return x


def begun(client: Any, count: int, name: str) -> Any:
    """Futures of a computation on one worker that takes its time."""
    return client.map(slowly, range(count), workers=[name], pure=False)


@pytest.mark.parametrize("resumes", [True, False], ids=["resumes", "does not"])
def test_a_worker_whose_connections_are_cut_is_lost_unless_they_resume(
    resumes: bool, tmp_path: Path
) -> None:
    """Under a scheduler of its own, which may complain of a worker that is lost."""
    name = "behind"
    env = {"DASK_TROUPER__RESUME": str(resumes)}
    with (
        Scheduler(tmp_path) as scheduler,
        proxy(scheduler.port("cws")) as between,
        stock_worker(f"cws://127.0.0.1:{between.port}", tmp_path, name=name, env=env) as worker,
        Client(scheduler["tcp"], tmp_path) as client,
    ):
        client.run(wait_for_workers, name)
        numbers = client.keep(begun, 100, name)
        assert between.cut() >= 1
        if resumes:
            assert client.run(results_of, numbers) == list(range(100))
            assert between.cut() >= 1  # also when nothing is under way
            assert client.run(results_of, client.keep(begun, 5, name)) == list(range(5))
            assert not scheduler.said(rf"Remove worker.* name: {name}")
        else:
            scheduler.wait_for(rf"Remove worker.* name: {name}")
            assert worker.exit_code() == 0


def test_a_wrong_token_is_told_on_both_sides(tmp_path: Path) -> None:
    tokens: dict[str, dict[str, str]] = {}
    for token in ("sesame", "mellon"):
        path = tmp_path / token
        path.write_text(token)
        tokens[token] = {"TROUPER_TOKEN_FILE": str(path)}
    with Scheduler(tmp_path, ("cws",), env=tokens["sesame"]) as one:
        command = [*(sys.executable, "-m", "dask", "worker", one["cws"]), "--no-nanny"]
        with (
            Process("stranger", command, tmp_path, env=tokens["mellon"]) as stranger,
            stock_worker(one["cws"], tmp_path, env=tokens["sesame"]) as worker,
        ):
            stranger.wait_for(
                r"the session was refused \(unauthorized\): the wrong token was given"
            )
            one.wait_for(r"was refused: the wrong token was given \(unauthorized\)")
            worker.wait_for("Registered to:")
