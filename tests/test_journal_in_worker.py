"""A worker that keeps a journal: it records what happens, no more, and whatever happens."""

from pathlib import Path
from typing import Any

import pytest
from gates import AsyncGate, until

from trouper.runtime import Journal, JournalError, WorkerFailed, open_worker
from trouper.wire.stimuli import ExecuteSuccess


def same(value: Any) -> Any:
    return value


async def test_a_worker_at_any_moment_equals_its_journal(tmp_path: Path) -> None:
    prints: dict[int, str] = {}
    async with open_worker(threads=2, journal=tmp_path / "j") as worker:
        with worker.supervisor.stepping() as stepper:
            handles = [worker.submit(same, number, key=f"k{number}") for number in range(8)]
            total = worker.submit(sum, handles)
            while not total.done():
                await stepper.step()
                status = worker.status().journal
                assert status is not None
                prints[status.records] = worker.freeze().fingerprint()
        assert await total == sum(range(8))
    journal = Journal.open(tmp_path / "j")
    assert list(prints) == list(range(1, len(prints) + 1))
    for n, text in prints.items():
        assert journal.replay(n).fingerprint() == text
    assert journal.verify() == journal.last == len(prints)
    assert journal.config == worker.config


async def test_the_status_says_how_the_recording_goes(tmp_path: Path) -> None:
    async with open_worker(threads=1) as worker:
        assert worker.status().journal is None
    path = tmp_path / "j"
    async with open_worker(threads=1, journal=str(path), journal_flush=0.001) as worker:
        await worker.run(same, 1)
        await until(lambda: (status := worker.status().journal) and status.nbytes)
        await until(lambda: Journal.open(path).last >= 2)
        status = worker.status().journal
    assert status is not None
    assert (status.path, status.error) == (str(path), None)
    assert status.records >= 2
    closed = worker.status().journal
    assert closed is not None
    assert closed.nbytes == path.stat().st_size


async def test_no_user_data_enters_the_journal(tmp_path: Path) -> None:
    def fail(secret: str) -> None:
        raise ValueError(secret)

    async with open_worker(threads=2, journal=tmp_path / "j") as worker:
        handle = worker.submit(str.upper, "attack at dawn", key="order")
        assert await handle == "ATTACK AT DAWN"
        with pytest.raises(ValueError, match="attack"):
            await worker.run(fail, "attack at dawn")
    data = (tmp_path / "j").read_bytes()
    assert b"attack" not in data.lower()
    assert b"order" in data


async def test_where_something_else_is_no_worker_opens(tmp_path: Path) -> None:
    (tmp_path / "diary").write_text("Dear diary")
    for path in (tmp_path, tmp_path / "diary"):
        with pytest.raises(JournalError):
            async with open_worker(threads=1, journal=path):
                pytest.fail("it has opened")
    assert (tmp_path / "diary").read_text() == "Dear diary"
    async with open_worker(threads=1, journal=tmp_path / "j", journal_flush="fsync") as worker:
        await worker.run(same, 1)
        await until(lambda: (status := worker.status().journal) and status.nbytes)
        with pytest.raises(JournalError, match="is being written by another worker"):
            async with open_worker(threads=1, journal=tmp_path / "j"):
                pytest.fail("it has opened")
    with pytest.raises(ValueError, match="not 'never'"):
        open_worker(threads=1, journal=tmp_path / "j", journal_flush="never")  # type: ignore[arg-type]


async def test_a_full_disk_does_not_stop_a_worker(caplog: pytest.LogCaptureFixture) -> None:
    async with open_worker(threads=1, journal="/dev/full", journal_flush="fsync") as worker:
        for number in range(100):
            assert await worker.run(same, number) == number
        status = worker.status()
        assert status.state == "running"
        assert status.journal is not None
        assert status.journal.error == "No space left on device"
    assert [r.getMessage() for r in caplog.records] == [
        "the journal /dev/full ends, and the worker goes on: No space left on device"
    ]


async def test_a_worker_that_fails_leaves_a_journal_that_says_where(tmp_path: Path) -> None:
    with pytest.raises(WorkerFailed):
        async with open_worker(threads=1, journal=tmp_path / "j") as worker:
            gate = AsyncGate()
            worker.submit(gate, key="k")
            await gate.entered.wait()
            worker.supervisor.send(ExecuteSuccess("k", 99, 0, "int"))
            await until(lambda: worker.failure)
    journal = Journal.open(tmp_path / "j")
    *_, last = journal.records()
    assert last.stimulus == ExecuteSuccess("k", 99, 0, "int")
    assert last.error == "StimulusError"
    assert journal.verify() == last.n
