"""How a worker is opened: with what, and what is left if it cannot be."""

import os
import threading

import pytest
from gates import worker_threads

from trouper.runtime import ResourceError, open_worker


@pytest.mark.parametrize("wrong", [{"threads": 0}, {"threads": -1}, {"coroutines": 0}])
def test_numbers_that_are_not_positive(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least one"):
        open_worker(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("amount", [0, -1, float("nan"), float("inf")])
def test_resources_that_are_not_positive(amount: float) -> None:
    with pytest.raises(ResourceError, match="gpu"):
        open_worker(resources={"gpu": amount})


async def test_as_many_threads_as_cpus_and_names_of_their_own() -> None:
    async with open_worker() as one, open_worker() as two:
        assert one.status().slots["thread"].total == os.cpu_count()
        assert one.name != two.name
        assert len(worker_threads()) == 2 * (os.cpu_count() or 1)


async def test_no_thread_is_left_if_there_cannot_be_as_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start = threading.Thread.start
    count = 0

    def start_some(thread: threading.Thread) -> None:
        nonlocal count
        count += 1
        if count == 3:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_some)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        async with open_worker(threads=5):
            pass
    assert worker_threads() == []
