"""The files of a journal: the segment that is written stands at the path, older ones beside it.

``work.journal`` is the newest segment; ``work.journal.000001``, ``.000002`` and so on are those
before it, oldest first. What an earlier run of the program has left at the path becomes such a file
too, when a new one begins.
"""

import fcntl
import re
from pathlib import Path
from typing import BinaryIO

from trouper.runtime.errors import JournalError
from trouper.runtime.journal.frames import MAGIC

_SUFFIX = re.compile(r"\.(\d{6,})")


def older_segments(path: Path) -> list[Path]:
    """The files beside the newest segment, oldest first.

    Raises:
        OSError: The folder cannot be read.
    """
    found: list[tuple[int, Path]] = []
    for other in path.parent.iterdir():
        if other.name.startswith(path.name):
            match = _SUFFIX.fullmatch(other.name.removeprefix(path.name))
            if match is not None:
                found.append((int(match[1]), other))
    return [other for _, other in sorted(found)]


def segment_files(path: Path) -> list[Path]:
    """The files of a journal up to the given one, oldest first; there may be none such.

    Raises:
        OSError: The folder cannot be read.
    """
    newest = newest_of(path)
    files = older_segments(newest)
    if path != newest:
        files = [file for file in files if number_of(file) <= number_of(path)]
    if path not in files and (path != newest or path.exists() or not files):
        files.append(path)
    return files


def number_of(segment: Path) -> int:
    """Of an older segment."""
    return int(segment.suffix[1:])


def newest_of(segment: Path) -> Path:
    """Where the newest segment stands, given any of a journal's files."""
    return segment.with_suffix("") if _SUFFIX.fullmatch(segment.suffix) else segment


def check_can_begin(path: Path) -> None:
    """Refuse to write a journal over something else.

    Raises:
        JournalError: At the path is a directory, a file that is no journal, or a journal that
            another worker writes. Not, if nothing can be read there at all.
    """
    try:
        if path.is_dir():
            raise JournalError(f"{path} is a directory; a journal is a file")
        if path.is_file():  # else there is nothing yet, or a device
            with path.open("rb") as file:
                _check_may_replace(path, file)
    except OSError:
        return  # whoever writes meets it too, and says so


def _check_may_replace(path: Path, file: BinaryIO) -> None:
    if not MAGIC.startswith(file.read(len(MAGIC))):
        raise JournalError(f"{path} is no journal, so no journal is written over it")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise JournalError(f"{path} is being written by another worker") from None
