"""Files that users send: kept, and imported, again if they come again."""

import importlib
import sys
import zipfile
from collections.abc import Generator
from pathlib import Path

import pytest

from trouper.actors.uploads import keep_upload

NAMES = ("uploaded_once", "uploaded_in_archive")


@pytest.fixture(autouse=True)
def clean() -> Generator[None]:
    """What is imported here is forgotten again."""
    paths = list(sys.path)
    yield
    sys.path[:] = paths
    for name in NAMES:
        sys.modules.pop(name, None)


def test_a_module_can_be_imported_and_changed(tmp_path: Path) -> None:
    for number in range(2):
        text = f"X = {number}\n"
        assert keep_upload(str(tmp_path), "uploaded_once.py", text, load=True) == len(text)
        assert number == importlib.import_module("uploaded_once").X


def test_an_archive_of_modules(tmp_path: Path) -> None:
    archive = tmp_path / "made.zip"
    with zipfile.ZipFile(archive, "w") as sink:
        sink.writestr("uploaded_in_archive.py", "X = 5\n")
    directory = tmp_path / "kept"
    directory.mkdir()
    keep_upload(str(directory), "kept.zip", archive.read_bytes(), load=True)
    assert importlib.import_module("uploaded_in_archive").X == 5


def test_data_is_only_kept(tmp_path: Path) -> None:
    assert keep_upload(str(tmp_path), "data.py", b"no python\xff", load=False) == 10
    assert (tmp_path / "data.py").read_bytes() == b"no python\xff"
    assert "data" not in sys.modules


def test_what_cannot_be_imported_raises(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        keep_upload(str(tmp_path), "uploaded_once.py", "1 / 0", load=True)


@pytest.mark.parametrize("name", ["", "../x", "/etc/x", "a/b", ".", ".."])
def test_nothing_is_written_elsewhere(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="is no plain name of a file"):
        keep_upload(str(tmp_path), name, b"", load=False)
    assert not list(tmp_path.iterdir())
