"""One segment of a journal, read: its header, and its records one after the other.

Only what is whole is read. What a crash has left of a record at the end is cut off, and a warning
says how much; anything else that is not as it was written is an error that names the record.
"""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

from trouper.runtime.errors import CorruptJournal, JournalError
from trouper.runtime.journal_format import FORMAT, Header, Record
from trouper.runtime.journal_frames import MAGIC, BrokenFrame, FrameReader
from trouper.runtime.journal_records import RecordReader


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
                self.header = self._read_header(FrameReader(file, self.nbytes - len(MAGIC)))
        except OSError as error:
            raise JournalError(f"{path} cannot be read: {error.strerror or error}") from error

    def _read_header(self, frames: FrameReader) -> Header:
        try:
            body = frames.read()
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
        """How many records there are, and how many bytes of a torn one follow. Verifies nothing."""
        count = 0
        with self.path.open("rb") as file:
            file.seek(len(MAGIC))
            frames = FrameReader(file, self.nbytes - len(MAGIC))
            frames.read()
            with suppress(BrokenFrame):  # whoever reads the records is told
                while frames.read(verify=False) is not None:
                    count += 1
        return count, frames.torn_nbytes

    def records(self, following: Header | None = None) -> Iterator[Record]:
        """The records, in order.

        Args:
            following: Header of the segment that comes next, with which the end has to agree.

        Raises:
            CorruptJournal: A record is not as it was written; those before it were.
        """
        reader = RecordReader(self.header)
        n = self.header.first
        with self.path.open("rb") as file:
            file.seek(len(MAGIC))
            frames = FrameReader(file, self.nbytes - len(MAGIC))
            frames.read()
            while True:
                try:
                    body = frames.read()
                except BrokenFrame as error:
                    raise CorruptJournal(f"record {n} is corrupt: {error}", n) from error
                if body is None:
                    break
                yield reader.read(body)
                n += 1
            if following is not None and (frames.torn_nbytes or frames.check != following.previous):
                raise CorruptJournal(f"record {n} is missing at the end of {self.path}", n)
