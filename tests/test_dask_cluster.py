"""A real scheduler, stock workers on ``cws://``, and clients: what Dask does works as before."""

import sys
from collections.abc import Generator
from pathlib import Path

import pytest
from dask_processes import Scheduler, process, run_client, scheduler, stock_worker
from proxy import proxy

EVERYTHING = """
import sys
import numpy as np
from distributed import Client, wait


def fail(x):
    raise ValueError(f"no {x}")


def where(dask_worker):
    return dask_worker.address


with Client(sys.argv[1], timeout=30) as client:
    client.wait_for_workers(2, timeout=30)
    workers = sorted(client.scheduler_info(n_workers=-1)["workers"])
    assert all(address.startswith("cws://") for address in workers), workers
    assert client.submit(pow, 2, 10).result() == 1024
    numbers = client.map(lambda x: x + 1, range(500), pure=False)
    assert client.gather(numbers) == list(range(1, 501))
    assert client.submit(sum, numbers).result() == sum(range(1, 501))

    array = np.arange(1_000_000.0)
    assert np.array_equal(client.submit(np.sqrt, array).result(), np.sqrt(array))
    here = client.scatter(array, workers=workers[:1])
    there = client.submit(np.sum, here, workers=workers[1:])
    assert there.result() == array.sum()
    assert np.array_equal(client.gather(here), array)
    assert client.gather(here).flags.writeable

    failed = client.submit(fail, 7)
    try:
        failed.result()
    except ValueError as error:
        assert str(error) == "no 7"
    else:
        raise AssertionError("it should have failed")

    assert sorted(client.run(where).values()) == workers
    key = ("tuple", 1)
    assert client.submit(str, 5, key=key).result() == "5"
    wait(client.submit(str, 6))
print("all is well")
"""

LARGE = """
import sys
import numpy as np
from distributed import Client, wait

with Client(sys.argv[1], timeout=30) as client:
    workers = sorted(client.scheduler_info(n_workers=-1)["workers"])
    large = client.submit(np.ones, 20_000_000, workers=workers[:1])
    total = client.submit(np.sum, large, workers=workers[1:])
    assert total.result() == 20_000_000
    fetched = client.gather(large, direct=True)
    assert fetched.nbytes == 160_000_000
    assert fetched.sum() == 20_000_000
print("all is well")
"""


@pytest.fixture(scope="module")
def cluster() -> Generator[Scheduler]:
    """With two workers."""
    with (
        scheduler() as one,
        stock_worker(one["cws"], name="a") as first,
        stock_worker(one["cws"], name="b") as second,
    ):
        yield one
        for each in (first, second, one.process):
            each.end()
            assert not each.faults, each.log


@pytest.mark.parametrize("protocol", ["tcp", "cws"])
def test_a_client_does_what_clients_do(cluster: Scheduler, protocol: str) -> None:
    assert "all is well" in run_client(EVERYTHING, cluster[protocol])


def test_160_megabytes_go_from_worker_to_worker_and_to_a_client(cluster: Scheduler) -> None:
    assert "all is well" in run_client(LARGE, cluster["cws"])


SLOWLY = """
import sys
import time
from distributed import Client


def slowly(x):
    time.sleep(0.02)
    return x


count = int(sys.argv[2])
with Client(sys.argv[1], timeout=30) as client:
    print("begun", flush=True)
    numbers = client.map(slowly, range(count), pure=False)
    assert client.gather(numbers) == list(range(count))
print("all is well")
"""


@pytest.mark.parametrize("resumes", [True, False], ids=["resumes", "does not"])
def test_a_worker_whose_connections_are_cut_is_lost_unless_they_resume(resumes: bool) -> None:
    with scheduler() as one, proxy(one.port("cws")) as between:
        behind = f"cws://127.0.0.1:{between.port}"
        env = {"DASK_TROUPER__RESUME": str(resumes)}
        with (
            stock_worker(behind, name="behind", env=env) as worker,
            process("client", [sys.executable, "-c", SLOWLY, one["tcp"], "100"]) as client,
        ):
            client.wait_for("begun")
            assert between.cut() >= 1
            if resumes:
                assert client.wait(60) == 0
                assert between.cut() >= 1  # also when nothing is under way
                assert "all is well" in run_client(SLOWLY, one["tcp"], "5")
                assert "Remove worker" not in one.process.log
            else:
                one.process.wait_for("Remove worker")
                assert worker.wait(60) == 0
                client.end()


def test_a_wrong_token_is_told_on_both_sides(tmp_path: Path) -> None:
    tokens: dict[str, dict[str, str]] = {}
    for token in ("sesame", "mellon"):
        path = tmp_path / token
        path.write_text(token)
        tokens[token] = {"TROUPER_TOKEN_FILE": str(path)}
    with scheduler(("cws",), env=tokens["sesame"]) as one:
        command = [*(sys.executable, "-m", "dask", "worker", one["cws"]), "--no-nanny"]
        with process("a stranger", command, env=tokens["mellon"]) as stranger:
            stranger.wait_for(
                r"the session was refused \(unauthorized\): the wrong token was given"
            )
        one.process.wait_for(r"was refused: the wrong token was given \(unauthorized\)")
        with stock_worker(one["cws"], env=tokens["sesame"]):
            pass
