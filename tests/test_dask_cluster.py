"""A real scheduler, two stock workers on ``cws://``, and clients: Dask works as before."""

from collections.abc import Generator

import pytest
from dask_processes import Scheduler, run_client, scheduler, stock_worker

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
