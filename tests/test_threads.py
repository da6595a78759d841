"""The threads themselves, without a worker around them."""

import threading
from contextvars import copy_context
from typing import Any

import pytest
import trio
from gates import until, worker_threads

from trouper.actors.job import NO_INPUTS, Job, Outcome
from trouper.actors.spec import Spec
from trouper.actors.store import Store
from trouper.actors.threads import ThreadPool
from trouper.wire.stimuli import ExecuteCancelled, ExecuteFailure, ExecuteSuccess, Secede


class Pool:
    """A pool, and what it has delivered."""

    def __init__(self, size: int) -> None:
        self.store = Store()
        self.delivered: list[Outcome | Secede] = []
        self.batches = 0
        self.attempts = 0
        token = trio.lowlevel.current_trio_token()
        self.threads = ThreadPool(size, "pool", self.store, self._deliver, token)

    def _deliver(self, batch: list[Outcome | Secede]) -> None:
        self.delivered += batch
        self.batches += 1

    def submit(self, fn: Any, *args: Any) -> Job:
        """Run a function."""
        self.attempts += 1
        spec = Spec(fn, args, {}, copy_context())
        job = Job(f"k{self.attempts}", self.attempts, spec, NO_INPUTS, self, in_thread=True)
        self.threads.submit(job)
        return job

    async def end(self) -> None:
        """Wait for all, and close."""
        await until(lambda: not self.threads.owed)
        self.threads.close()
        assert worker_threads() == []


async def test_jobs_come_back_as_stimuli_and_leave_in_the_store_what_they_bring() -> None:
    pool = Pool(2)
    good, large, bad = pool.submit(int, "5"), pool.submit(list, "ab"), pool.submit(int, "x")
    await until(lambda: len(pool.delivered) == 3)
    by_attempt = {outcome.attempt: outcome for outcome in pool.delivered}
    for job, type_name in ((good, "int"), (large, "list")):
        outcome = by_attempt[job.attempt]
        assert isinstance(outcome, ExecuteSuccess)
        assert (outcome.key, outcome.type_name) == (job.key, type_name)
        assert outcome.nbytes > 0
        assert 0 < outcome.duration_s < 10
    assert isinstance(by_attempt[bad.attempt], ExecuteFailure)
    assert pool.store.values[good.key, good.attempt] == 5
    assert pool.store.values[large.key, large.attempt] == ["a", "b"]
    assert isinstance(pool.store.values[bad.key, bad.attempt], ValueError)
    for job in (good, large, bad):
        assert job.spec is job.value is None
    await pool.end()


async def test_what_ends_together_comes_back_together() -> None:
    pool = Pool(1)
    jobs = [pool.submit(int) for _ in range(100)]
    # The event loop does not get its turn before the last has ended, and so is woken once.
    while not all(job.ended for job in jobs):
        pass
    await until(lambda: len(pool.delivered) == 100)
    assert pool.batches <= 2
    assert pool.delivered == [job.outcome for job in jobs]
    await pool.end()


async def test_cancelling_asks() -> None:
    pool = Pool(1)
    begun, gate = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        gate.wait(10)

    first = pool.submit(work)
    second = pool.submit(pytest.fail)
    await until(begun.is_set)
    assert list(pool.threads.owed) == [first.attempt, second.attempt]
    first.cancelled = second.cancelled = True
    gate.set()
    await until(lambda: len(pool.delivered) == 2)
    assert isinstance(first.outcome, ExecuteSuccess)  # it had begun, and did not care
    assert isinstance(second.outcome, ExecuteCancelled)
    await pool.end()


async def test_a_job_that_secedes_is_replaced() -> None:
    pool = Pool(1)
    gate = threading.Event()
    first = pool.submit(gate.wait, 10)
    second = pool.submit(int)
    pool.threads.secede(first)
    pool.threads.secede(first)
    await until(lambda: len(pool.delivered) == 2)
    assert Secede(first.key, first.attempt) in pool.delivered
    assert second.outcome in pool.delivered
    assert len(worker_threads()) == 2
    gate.set()
    await until(lambda: len(worker_threads()) == 1)
    await pool.end()


async def test_a_job_that_cannot_be_replaced_keeps_its_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pool = Pool(1)
    gate = threading.Event()
    first = pool.submit(gate.wait, 10)

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            pool.threads.secede(first)
    gate.set()
    second = pool.submit(int)
    await until(lambda: second.ended)
    await until(lambda: pool.delivered == [first.outcome, second.outcome])
    await pool.end()


async def test_closing_while_a_job_runs_does_not_wait() -> None:
    pool = Pool(3)
    gate = threading.Event()
    job = pool.submit(gate.wait, 10)
    await until(lambda: pool.threads.owed)
    pool.threads.close()
    await until(lambda: len(worker_threads()) == 1)
    assert not job.ended
    gate.set()
    await until(lambda: pool.delivered == [job.outcome])
    await pool.end()


def test_a_job_that_outlives_the_event_loop_is_nobodys() -> None:
    gate = threading.Event()

    async def main() -> Pool:
        pool = Pool(1)
        pool.submit(gate.wait, 10)
        pool.threads.close()
        return pool

    pool = trio.run(main)
    gate.set()
    for thread in threading.enumerate():
        if "-thread-" in thread.name:
            thread.join(10)
    assert worker_threads() == []
    assert pool.delivered == []


async def test_no_thread_is_started_for_good_if_one_cannot_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start = threading.Thread.start
    started: list[threading.Thread] = []

    def start_two(thread: threading.Thread) -> None:
        if len(started) == 2:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_two)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        Pool(4)
    assert worker_threads() == []
