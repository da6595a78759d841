"""Writing: when, how much is kept, and what real failures of the file system do."""

import json
import logging
import os
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from gates import PATIENCE_S
from journals import wait_until

import trouper.runtime.journal.writer as journal_writer
from trouper.runtime.journal.frames import MAGIC
from trouper.runtime.journal.writer import HASTE_NBYTES, JournalWriter

TESTS = Path(__file__).parent
LARGE = 1 << 26


def written(writer: JournalWriter, nbytes: int) -> bool:
    return writer.written_nbytes == nbytes


def size(path: Path) -> int:
    return path.stat().st_size if path.exists() else -1


# When


def test_buffered_is_written_when_there_is_a_lot(tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path / "j", LARGE, "buffered")
    writer.begin(b"header")
    writer.put(b"x" * 1000)
    assert size(tmp_path / "j") == -1
    writer.put(b"x" * HASTE_NBYTES)
    wait_until(lambda: size(tmp_path / "j") == len(MAGIC) + 6 + 1000 + HASTE_NBYTES)
    writer.put(b"x" * 1000)
    writer.close()
    assert size(tmp_path / "j") == len(MAGIC) + 6 + 2000 + HASTE_NBYTES
    assert writer.error is None


def test_every_so_many_seconds_is_written_soon_and_not_at_once(tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path / "j", LARGE, 0.01)
    writer.begin(b"header")
    wait_until(lambda: size(tmp_path / "j") == len(MAGIC) + 6)
    for number in range(1, 4):
        writer.put(b"x")
        wait_until(partial(written, writer, len(MAGIC) + 6 + number))
    writer.close()
    patient = JournalWriter(tmp_path / "k", LARGE, 3600)
    patient.begin(b"header")
    patient.put(b"x")
    assert size(tmp_path / "k") == -1
    patient.put(b"x" * HASTE_NBYTES)  # so much does not wait for its time
    wait_until(lambda: size(tmp_path / "k") > HASTE_NBYTES)
    patient.close()


def test_fsync_is_down_to_the_disk_after_every_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    fdatasync = os.fdatasync

    def count(file: int) -> None:
        fdatasync(file)
        synced.append(os.fstat(file).st_size)

    monkeypatch.setattr(os, "fdatasync", count)
    writer = JournalWriter(tmp_path / "j", LARGE, "fsync")
    begin = len(MAGIC) + 6
    writer.begin(b"header")
    wait_until(lambda: synced == [begin])
    writer.put(b"xx")
    wait_until(lambda: synced == [begin, begin + 2])
    writer.close()
    assert synced == [begin, begin + 2]


def test_closing_ends_the_thread_and_may_come_twice(tmp_path: Path) -> None:
    before = threading.active_count()
    writer = JournalWriter(tmp_path / "j", LARGE, 3600)
    writer.begin(b"header")
    assert threading.active_count() == before + 1
    writer.close()
    writer.close()
    assert threading.active_count() == before


# How much


def test_what_was_there_is_kept_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "j"
    for number in range(3):
        writer = JournalWriter(path, LARGE, "buffered")
        writer.begin(b"header")
        writer.put(bytes([number]))
        writer.begin(b"second")
        writer.close()
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "j", "j.000001", "j.000002", "j.000003", "j.000004", "j.000005",
    ]  # fmt: skip
    assert path.read_bytes() == MAGIC + b"second"
    assert (tmp_path / "j.000005").read_bytes() == MAGIC + b"header\2"
    assert (tmp_path / "j.000001").read_bytes() == MAGIC + b"header\0"


def test_all_files_together_are_bounded(tmp_path: Path) -> None:
    max_nbytes = 80_000
    writer = JournalWriter(tmp_path / "j", max_nbytes, "fsync")
    most = 0
    for number in range(1, 51):
        writer.begin(bytes(500))
        for _ in range(10):
            writer.put(bytes(1000))
        total = number * (len(MAGIC) + 500 + 10 * 1000)
        wait_until(partial(written, writer, total))
        most = max(most, sum(size(file) for file in tmp_path.iterdir()))
    writer.close()
    assert max_nbytes * 0.6 < most <= max_nbytes
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names[0] == "j"
    assert names[-1] == "j.000049"


# Failures


def failed(writer: JournalWriter, caplog: pytest.LogCaptureFixture) -> str:
    """Why the journal has ended; it was said once."""
    wait_until(lambda: writer.error is not None)
    for _ in range(5):
        writer.put(b"x" * HASTE_NBYTES)
    writer.begin(b"header")
    writer.close()
    (said,) = caplog.records
    assert said.levelno == logging.ERROR
    assert writer.error is not None
    assert said.getMessage() == (
        f"the journal {writer.path} ends, and the worker goes on: {writer.error}"
    )
    return writer.error


def test_a_full_disk(caplog: pytest.LogCaptureFixture) -> None:
    writer = JournalWriter(Path("/dev/full"), LARGE, "fsync")
    writer.begin(b"header")
    assert failed(writer, caplog) == "No space left on device"
    assert not Path("/dev/full").is_file()


def test_a_fault_of_whoever_is_asked_for_more(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def fetch() -> None:
        raise ZeroDivisionError("oh")

    writer = JournalWriter(tmp_path / "j", LARGE, "fsync", fetch)
    writer.begin(b"header")
    assert failed(writer, caplog) == "a fault of its own: ZeroDivisionError('oh')"


def test_what_is_expected_is_fetched_when_it_is_time(tmp_path: Path) -> None:
    fetched: list[JournalWriter] = []

    def fetch() -> None:
        fetched.append(writer)
        writer.put(b"x")

    writer = JournalWriter(tmp_path / "j", LARGE, "buffered", fetch)
    writer.begin(b"header")
    writer.expect()  # there is no such time before the end
    assert fetched == []
    writer.close()
    assert (tmp_path / "j").read_bytes() == MAGIC + b"headerx"
    fetched.clear()
    writer = JournalWriter(tmp_path / "k", LARGE, 0.01, fetch)
    writer.begin(b"header")
    writer.expect()
    wait_until(lambda: fetched)
    writer.close()


def test_a_folder_that_was_never_there(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    writer = JournalWriter(tmp_path / "folder" / "j", LARGE, "fsync")
    writer.begin(b"header")
    assert failed(writer, caplog) == "No such file or directory"


def test_a_folder_that_vanishes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    writer = JournalWriter(folder / "j", LARGE, "fsync")
    writer.begin(b"header")
    wait_until(lambda: size(folder / "j") > 0)
    (folder / "j").unlink()
    folder.rmdir()
    writer.put(b"x")
    assert failed(writer, caplog) == "the file has been removed"


def test_a_folder_that_vanishes_before_the_next_segment(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    writer = JournalWriter(folder / "j", LARGE, "fsync")
    writer.begin(b"header")
    wait_until(lambda: size(folder / "j") > 0)
    folder.rename(tmp_path / "elsewhere")
    writer.begin(b"second")
    assert failed(writer, caplog) == "No such file or directory"
    assert (tmp_path / "elsewhere" / "j").read_bytes() == MAGIC + b"header"


def test_a_disk_that_is_too_slow(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_writer, "BACKLOG_NBYTES", 10 * HASTE_NBYTES)
    released, entered = threading.Event(), threading.Event()
    write = os.write

    def slow(file: int, data: Any) -> int:
        entered.set()
        assert released.wait(PATIENCE_S)
        return write(file, data)

    monkeypatch.setattr(os, "write", slow)
    writer = JournalWriter(tmp_path / "j", LARGE, "buffered")
    writer.begin(b"header")
    handed_over = 0
    for number in range(100):
        writer.put(b"x" * HASTE_NBYTES)
        if writer.error is None:
            handed_over += 1
        if number == 0:
            assert entered.wait(PATIENCE_S)
    assert 8 <= handed_over <= 10
    released.set()
    assert failed(writer, caplog) == "the disk is too slow"
    assert size(tmp_path / "j") == len(MAGIC) + 6 + (handed_over + 1) * HASTE_NBYTES


LIMITED = """
    import json, os, resource, sys, trio
    from pathlib import Path
    from trouper.runtime import open_worker

    async def main() -> None:
        async with open_worker(threads=1, journal=sys.argv[1], journal_flush="fsync") as worker:
            for number in range(200):
                assert await worker.run(abs, -number) == number
        status = worker.status()
        print(json.dumps([status.state, status.journal.records, status.journal.error]))

    limit = int(sys.argv[2])
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    elif os.geteuid() == 0:  # who may do everything has to become somebody else
        os.setegid(65534)
        os.seteuid(65534)
    trio.run(main)
"""
"""A worker whose files may have no more than so many bytes; with 0, one that is nobody special."""


def run_limited(path: Path, limit: int) -> tuple[str, int, str]:
    result = subprocess.run(
        [sys.executable, "-c", dedent(LIMITED), str(path), str(limit)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("ends, and the worker goes on") == 1
    state, records, error = json.loads(result.stdout)
    return state, records, error


@pytest.mark.parametrize("limit", [10, 3000, 3001, 3010, 9000])
def test_a_limit_of_the_file_size_ends_the_journal_at_a_whole_record(
    tmp_path: Path, limit: int
) -> None:
    from trouper.runtime import Journal

    state, _, error = run_limited(tmp_path / "j", limit)
    assert (state, error) == ("closed", "File too large")
    if limit == 10:
        assert list(tmp_path.iterdir()) == []  # no file without a header
        return
    journal = Journal.open(tmp_path / "j")
    assert journal.warnings == []
    assert 0 < size(tmp_path / "j") <= limit
    assert journal.verify() == journal.last


def test_a_folder_where_nothing_may_be_written(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    folder.chmod(0o555)
    state, _, error = run_limited(folder / "j", 0)
    assert (state, error) == ("closed", "Permission denied")
    folder.chmod(0o755)
    assert list(folder.iterdir()) == []
