"""Which files belong to a journal, and where none may begin."""

import fcntl
from pathlib import Path

import pytest

from trouper.runtime.errors import JournalError
from trouper.runtime.journal.files import (
    check_can_begin,
    newest_of,
    number_of,
    older_segments,
    segment_files,
)
from trouper.runtime.journal.frames import MAGIC


def test_older_segments_stand_beside_the_newest_in_order(tmp_path: Path) -> None:
    names = ["j", "j.000010", "j.000009", "j.1000000", "j.000011.bak", "jj.000001", "j.12", "k"]
    for name in names:
        (tmp_path / name).touch()
    older = older_segments(tmp_path / "j")
    assert [path.name for path in older] == ["j.000009", "j.000010", "j.1000000"]
    assert [number_of(path) for path in older] == [9, 10, 1000000]


@pytest.mark.parametrize(
    ("name", "newest"),
    [("j", "j"), ("j.000001", "j"), ("work.journal", "work.journal"), ("j.1234567", "j")],
)
def test_the_newest_is_known_by_any_of_them(name: str, newest: str) -> None:
    assert newest_of(Path("folder") / name) == Path("folder") / newest


def test_a_journal_ends_with_the_file_that_is_asked_for(tmp_path: Path) -> None:
    def names(name: str) -> list[str]:
        return [path.name for path in segment_files(tmp_path / name)]

    assert names("j") == ["j"]
    for name in ("j.999999", "j.1000000"):
        (tmp_path / name).touch()
    assert names("j") == ["j.999999", "j.1000000"]
    (tmp_path / "j").touch()
    assert names("j") == ["j.999999", "j.1000000", "j"]
    assert names("j.1000000") == ["j.999999", "j.1000000"]
    assert names("j.1000001") == ["j.999999", "j.1000000", "j.1000001"]


def test_a_journal_may_begin_where_nothing_or_a_journal_is(tmp_path: Path) -> None:
    check_can_begin(tmp_path / "new")
    check_can_begin(tmp_path / "no" / "such" / "folder")
    (tmp_path / "empty").touch()
    check_can_begin(tmp_path / "empty")
    (tmp_path / "old").write_bytes(MAGIC + b"anything")
    check_can_begin(tmp_path / "old")
    check_can_begin(Path("/dev/null"))


def test_no_journal_begins_where_something_else_is(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="is a directory"):
        check_can_begin(tmp_path)
    (tmp_path / "diary").write_text("Dear diary")
    with pytest.raises(JournalError, match="is no journal, so no journal is written over it"):
        check_can_begin(tmp_path / "diary")
    assert (tmp_path / "diary").read_text() == "Dear diary"


def test_no_journal_begins_where_one_is_being_written(tmp_path: Path) -> None:
    path = tmp_path / "j"
    path.write_bytes(MAGIC)
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(JournalError, match="is being written by another worker"):
            check_can_begin(path)
    check_can_begin(path)
