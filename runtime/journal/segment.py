"""One segment of a journal, read: its header, and its records one after the other.

Only what is whole is read. What a crash has left of a batch at the end is cut off, and a warning
says how much; anything else that is not as it was written is an error that names the record.
"""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import msgspec

from trouper.runtime.errors import CorruptJournal, JournalError
from trouper.runtime.journal.batches import rescue, split
from trouper.runtime.journal.format import FORMAT, Batch, Header
from trouper.runtime.journal.frames import MAGIC, BrokenFrame, FrameReader
from trouper.runtime.journal.records import RecordReader


class _Format(msgspec.Struct):
    format: int


class CutHeader(JournalError):
    """There is no more of a segment than a part of its header."""


class Segment:
    """See the module's text.

    Args:
        path: The file.

    Raises:
        JournalError: The file is no journal, of a newer format, or cannot be read.
        CorruptJournal: Its header is corrupt.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.nbytes = path.stat().st_size
            """What belongs to it; what is written from now on does not."""
            with path.open("rb") as file:
                begin = file.read(len(MAGIC))
                if not begin:
                    raise CutHeader(f"{path} is empty")
                if not MAGIC.startswith(begin):
                    raise JournalError(f"{path} is no journal")
                self.header = self._read_header(self._frames(file).bodies())
        except OSError as error:
            raise JournalError(f"{path} cannot be read: {error.strerror or error}") from error

    def _read_header(self, bodies: Iterator[bytes]) -> Header:
        try:
            body = next(bodies, None)
        except BrokenFrame as error:
            raise CorruptJournal(f"the header of {self.path} is corrupt: {error}", 0) from error
        if body is None:
            raise CutHeader(f"{self.path} is cut off within its header")
        try:
            version = msgspec.msgpack.decode(body, type=_Format).format
            if version != FORMAT:
                raise JournalError(
                    f"{self.path} has format {version}, and this trouper reads format {FORMAT}"
                )
            return msgspec.msgpack.decode(body, type=Header)
        except msgspec.MsgspecError as error:
            raise CorruptJournal(f"the header of {self.path} is corrupt: {error}", 0) from error

    def measure(self) -> tuple[int, int]:
        """How many records can be read, and how many bytes of torn ones follow."""
        count = 0
        with self.path.open("rb") as file:
            frames = self._frames(file)
            bodies = frames.bodies()
            next(bodies)
            with suppress(BrokenFrame, ValueError):  # whoever reads the records is told
                for body in bodies:
                    count += len(split(body).counts)
        rescued = rescue(frames.broken, frames.check)
        if rescued is not None:
            count += rescued[1]
        return count, frames.torn_nbytes

    def batches(self, following: Header | None = None) -> Iterator[Batch]:
        """The records in order, those of a frame together.

        Args:
            following: Header of the segment that comes next, with which the end has to agree.

        Raises:
            CorruptJournal: A record is not as it was written; those before it were.
        """
        reader = RecordReader(self.header)
        failure: BrokenFrame | None = None
        with self.path.open("rb") as file:
            frames = self._frames(file)
            bodies = frames.bodies()
            next(bodies)
            try:
                for body in bodies:
                    yield from reader.read(body)
            except BrokenFrame as error:
                failure = error
        yield from reader.rescue(frames.broken, frames.check)
        n = reader.next
        if failure is not None:
            raise CorruptJournal(f"record {n} is corrupt: {failure}", n) from failure
        if following is not None and (frames.torn_nbytes or frames.check != following.previous):
            raise CorruptJournal(f"record {n} is missing at the end of {self.path}", n)

    def _frames(self, file: BinaryIO) -> FrameReader:
        file.seek(len(MAGIC))
        return FrameReader(file, max(0, self.nbytes - len(MAGIC)))
