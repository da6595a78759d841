"""The life of a `WorkerExecutor`: opening, shutdown, being forgotten, the interpreter's exit."""

import concurrent.futures as cf
import gc
import subprocess
import sys
import textwrap
import threading
import weakref
from pathlib import Path
from typing import Any

import pytest

from trouper.runtime import (
    Journal,
    JournalError,
    ResourceError,
    TaskCancelled,
    WorkerExecutor,
    WorkerFailed,
)
from trouper.runtime.journal.keys import KeyHasher
from trouper.runtime.supervisor import Supervisor
from trouper.wire.stimuli import ComputeTask

PATIENCE_S = 20.0


def threads() -> set[threading.Thread]:
    """The threads that live, but for those of others that may end meanwhile."""
    return {
        thread
        for thread in threading.enumerate()
        if "trouper" in thread.name or "-thread-" in thread.name
    }


def run(program: str) -> subprocess.CompletedProcess[str]:
    """Run a program in an interpreter of its own."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


# Opening and shutting down


def test_what_is_wrong_is_raised_by_the_constructor() -> None:
    with pytest.raises(ValueError, match="at least one thread"):
        WorkerExecutor(threads=0)
    with pytest.raises(ResourceError):
        WorkerExecutor(resources={"gpu": -1})
    with pytest.raises(ValueError, match="not 'never'"):
        WorkerExecutor(journal="j", journal_flush="never")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="journal_colour"):
        WorkerExecutor(journal_colour="red")  # type: ignore[call-arg]
    assert not threads()


def test_a_journal_records_what_an_executor_does(tmp_path: Path) -> None:
    path = tmp_path / "work.journal"
    with WorkerExecutor(
        threads=1,
        name="books",
        journal=path,
        journal_max_bytes=1 << 20,
        journal_flush="fsync",
        journal_hash_keys=b"secret",
    ) as executor:
        assert executor.submit_task(pow, 2, 5, key="power").result(PATIENCE_S) == 32
    journal = Journal.open(path)
    assert (journal.header.name, journal.header.hashed_keys) == ("books", True)
    assert journal.verify() >= 2
    hashed = KeyHasher(b"secret").key("power")
    assert [r.stimulus.key for r in journal.records() if isinstance(r.stimulus, ComputeTask)] == [
        hashed
    ]


def test_an_executor_does_not_open_if_its_journal_cannot_begin(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="is a directory"):
        WorkerExecutor(threads=1, journal=tmp_path)
    assert not threads()


def test_shutdown_finishes_what_was_submitted_and_leaves_no_thread() -> None:
    executor = WorkerExecutor(threads=3)
    futures = [executor.submit(pow, 2, i) for i in range(100)]
    after = executor.submit_task(sum, futures)
    assert threads()
    executor.shutdown()
    assert not threads()
    assert after.done()
    assert after.result() == 2**100 - 1
    executor.shutdown()
    with pytest.raises(RuntimeError, match=r"^cannot schedule new futures after shutdown$"):
        executor.submit(pow, 2, 3)
    with pytest.raises(RuntimeError, match=r"^cannot schedule new futures after shutdown$"):
        executor.submit_task(pow, 2, 3)


def test_shutdown_without_waiting_still_finishes() -> None:
    executor = WorkerExecutor(threads=1)
    go = threading.Event()
    futures = [executor.submit(go.wait, PATIENCE_S) for _ in range(3)]
    executor.shutdown(wait=False)
    assert not futures[0].done()
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(pow, 2, 3)
    go.set()
    assert all(future.result(PATIENCE_S) for future in futures)
    executor.shutdown()
    assert not threads()


@pytest.mark.parametrize("wait", [True, False])
def test_shutdown_may_cancel_what_has_not_begun(wait: bool) -> None:
    executor = WorkerExecutor(threads=1)
    begun, go = threading.Event(), threading.Event()

    def hold() -> str:
        begun.set()
        assert go.wait(PATIENCE_S)
        return "held"

    running: Any = executor.submit(hold)
    pending: list[Any] = [executor.submit(pow, 2, 3), executor.submit_task(pow, 2, 3)]
    pending.append(executor.submit_task(sum, pending))
    assert begun.wait(PATIENCE_S)
    pending[-1].add_done_callback(lambda _: go.set())  # pyright: ignore[reportUnknownLambdaType]
    executor.shutdown(wait=wait, cancel_futures=True)
    assert all(future.cancelled() for future in pending)
    assert cf.wait([running, *pending], PATIENCE_S).not_done == set()
    assert running.result() == "held"
    executor.shutdown()
    assert not threads()


def test_a_task_cannot_wait_for_its_own_executor_to_end() -> None:
    executor = WorkerExecutor(threads=1)

    def end() -> None:
        executor.shutdown(wait=True)

    with pytest.raises(RuntimeError, match="its own executor"):
        executor.submit(end).result(PATIENCE_S)
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(end)
    executor.shutdown()
    again = WorkerExecutor(threads=1)
    again.submit(again.shutdown, wait=False).result(PATIENCE_S)
    again.shutdown()
    assert not threads()


def test_a_task_cannot_submit_after_shutdown() -> None:
    executor = WorkerExecutor(threads=1)
    go = threading.Event()

    def submit() -> Any:
        assert go.wait(PATIENCE_S)
        return executor.submit(pow, 2, 3).result()

    future = executor.submit(submit)
    executor.shutdown(wait=False)
    go.set()
    with pytest.raises(RuntimeError, match="after shutdown"):
        future.result(PATIENCE_S)
    executor.shutdown()


def test_leaving_the_block_by_an_exception_finishes_too() -> None:
    def leave() -> None:
        with WorkerExecutor(threads=1) as executor:
            futures.append(executor.submit(pow, 2, 3))
            raise LookupError

    futures: list[Any] = []
    with pytest.raises(LookupError):
        leave()
    assert futures[0].result(0) == 8
    assert not threads()


# Being forgotten


def test_a_forgotten_executor_ends_its_threads_when_it_is_garbage() -> None:
    executor = WorkerExecutor(threads=2)
    gone = weakref.ref(executor)
    go = threading.Event()
    futures = [executor.submit(go.wait, PATIENCE_S) for _ in range(3)]
    mine = threads()
    del executor
    gc.collect()
    assert gone() is None
    go.set()
    assert all(future.result(PATIENCE_S) for future in futures)
    for thread in mine:
        thread.join(PATIENCE_S)
    assert not threads()


@pytest.mark.skipif(
    (3, 12) <= sys.version_info < (3, 12, 3),
    reason="CPython starts no thread when the main one has ended (python/cpython#113964)",
)
def test_the_interpreter_exits_after_pending_work() -> None:
    result = run(
        """
        import threading
        import time
        from trouper.runtime import WorkerExecutor

        submitted = threading.Event()

        def work(n):
            time.sleep(0.05)
            print("done", n, flush=True)
            return n

        def nested():
            submitted.wait()
            first.result()
            print("nested", flush=True)

        executor = WorkerExecutor(threads=1)
        executor.submit(nested)
        first = executor.submit_task(work, 1)
        second = executor.submit_task(work, first)
        submitted.set()
        """
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert sorted(result.stdout.split("\n")) == ["", "done 1", "done 1", "nested"]


def test_submitting_while_the_interpreter_exits_is_refused() -> None:
    result = run(
        """
        from trouper.runtime import WorkerExecutor

        def late():
            while True:
                try:
                    executor.submit(int).result()
                except RuntimeError as error:
                    print(error, flush=True)
                    return

        executor = WorkerExecutor(threads=2)
        executor.submit(late)
        """
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == "cannot schedule new futures after interpreter shutdown\n"


def test_an_idle_forgotten_executor_does_not_hold_the_interpreter() -> None:
    result = run(
        """
        from trouper.runtime import WorkerExecutor
        executors = [WorkerExecutor(threads=2) for _ in range(3)]
        print(executors[1].submit(pow, 2, 3).result())
        """
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "8\n", "")


def test_a_forked_child_exits_without_waiting_for_threads_that_it_has_not() -> None:
    result = run(
        """
        import os, sys
        from trouper.runtime import WorkerExecutor
        executor = WorkerExecutor(threads=1)
        executor.submit(int).result()
        child = os.fork()
        if child == 0:
            sys.exit(7)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        """
    )
    assert (result.returncode, result.stdout) == (0, "7\n")


# Faults of the worker itself


def test_a_worker_that_fails_tells_everybody(caplog: pytest.LogCaptureFixture) -> None:
    executor = WorkerExecutor(threads=1)
    go = threading.Event()
    running = executor.submit_task(go.wait, PATIENCE_S)
    pending = executor.submit_task(int, running)
    background = executor._background  # pyright: ignore[reportPrivateUsage]
    supervisor: Supervisor = background.worker.supervisor
    fault = LookupError("a fault of ours")
    background.post(lambda: supervisor._fail(fault))  # pyright: ignore[reportPrivateUsage]
    with pytest.raises(WorkerFailed):
        pending.result(PATIENCE_S)
    with pytest.raises(WorkerFailed) as caught:
        executor.submit(int)
    assert caught.value.__cause__ is fault
    go.set()
    executor.shutdown()
    assert running.done()
    assert not threads()


def test_a_loop_that_dies_leaves_nobody_waiting(caplog: pytest.LogCaptureFixture) -> None:
    executor = WorkerExecutor(threads=1)
    go = threading.Event()
    pending = executor.submit_task(int, executor.submit_task(go.wait, PATIENCE_S))

    def die() -> None:
        raise SystemError("a fault of ours")

    executor._background.post(die)  # pyright: ignore[reportPrivateUsage]
    with pytest.raises((WorkerFailed, TaskCancelled)):
        pending.result(PATIENCE_S)
    go.set()
    executor.shutdown()
    with pytest.raises(RuntimeError):
        executor.submit(int)
    assert "has crashed" in caplog.text
