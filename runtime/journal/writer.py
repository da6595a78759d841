"""Writes a journal's bytes to files, in a thread of its own: the machine waits for no disk.

Whole records are handed over and whole records are written, so that a journal ends with one
whatever happens. A failure of the file system ends the journal and not the worker: the file is cut
back to its last record, the reason is logged once and kept for `Worker.status`. So does a disk that
is too slow: what waits for it is bounded.
"""

import errno
import fcntl
import logging
import os
import stat
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from trouper.runtime.journal.files import number_of, older_segments
from trouper.runtime.journal.frames import MAGIC

logger = logging.getLogger(__name__)

Flush: TypeAlias = float | Literal["buffered", "fsync"]
"""When what was recorded is written: after so many seconds at the latest; when there is a lot of it
or the worker ends; or every batch at once, down to the disk."""

SEGMENTS = 8
"""Of so many parts a journal of the greatest size consists."""

HASTE_NBYTES = 1 << 18
"""So much is written at once, whatever the time. For less, to wake the thread costs more than what it
does: threads share one interpreter."""

BACKLOG_NBYTES = 1 << 26
"""More than this does not wait for the disk."""


class JournalStatus(msgspec.Struct, frozen=True):
    """How the recording goes."""

    path: str
    records: int
    """Recorded in this run; the last ones may not be in the file yet."""
    nbytes: int
    """Written in this run."""
    error: str | None
    """Why the journal has ended before the worker, if it has."""


class _Chunk(msgspec.Struct, frozen=True, gc=False):
    """In the queue: bytes, and whether a new segment begins with them."""

    data: bytes
    begins: bool = False


class JournalWriter:
    """See the module's text.

    All methods are for the thread of the machine; or for `fetch`, while that one keeps out.

    Args:
        path: Of the newest segment.
        max_nbytes: Older segments are removed so that all files together are no larger, unless
            the present segment, with its snapshot, is.
        flush: When to write.
        fetch: Called in the writer's thread when it is time to write: puts what is left to be put.
    """

    def __init__(
        self, path: Path, max_nbytes: int, flush: Flush, fetch: Callable[[], None] = lambda: None
    ) -> None:
        self.path = path
        self.segment_nbytes = max_nbytes // SEGMENTS
        """After so much, another segment is due."""
        self.error: str | None = None
        """Why nothing is written any more."""
        self.written_nbytes = 0
        self._max_nbytes = max_nbytes
        self._fetch = fetch
        self._sync = flush == "fsync"
        self._interval_s = flush if isinstance(flush, int | float) else 0.0
        self._haste_nbytes = 1 if flush == "fsync" else HASTE_NBYTES
        self._queue: deque[_Chunk] = deque()
        self._put_nbytes = 0
        self._file: int | None = None
        self._whole_nbytes = 0
        """Where the last record ends in the file."""
        self._wake = threading.Event()
        self._hurry = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name=f"{path.name}-writer", daemon=True)
        self._thread.start()

    def begin(self, header: bytes) -> None:
        """Go on with a new segment."""
        self._put(_Chunk(MAGIC + header, begins=True))

    def put(self, records: bytes) -> None:
        """Have some records written."""
        self._put(_Chunk(records))

    def expect(self) -> None:
        """There is something to be fetched when it is time to write."""
        if self._interval_s and not self._wake.is_set():
            self._wake.set()

    def _put(self, chunk: _Chunk) -> None:
        if self.error is not None:
            return
        self._queue.append(chunk)
        self._put_nbytes += len(chunk.data)
        # The thread lowers the flags before it fetches and empties the queue, so that what is added
        # while a flag is up is always seen.
        backlog = self._put_nbytes - self.written_nbytes
        if backlog > BACKLOG_NBYTES:
            self.end("the disk is too slow")
        elif backlog >= self._haste_nbytes:
            self._hurry.set()
            self._wake.set()
        else:
            self.expect()

    def end(self, reason: str) -> None:
        """Take no more. What has been handed over is still written, if that is possible."""
        if self.error is None:
            self.error = reason
            logger.error("the journal %s ends, and the worker goes on: %s", self.path, reason)

    def close(self) -> None:
        """Write what waits, and end the thread. Idempotent."""
        self._closing = True
        self._hurry.set()
        self._wake.set()
        self._thread.join()

    # In the thread

    def _run(self) -> None:
        try:
            closing = False
            while not closing:
                self._wake.wait()
                if self._interval_s:
                    self._hurry.wait(self._interval_s)
                closing = self._closing
                self._wake.clear()
                self._hurry.clear()
                self._fetch()
                self._empty_queue()
        except OSError as error:
            self._cut_back()
            self.end(error.strerror or str(error))
        except Exception as error:  # noqa: BLE001 - a fault of ours in `fetch`, whatever it is
            self.end(f"a fault of its own: {error!r}")
        finally:
            self._close_file()

    def _empty_queue(self) -> None:
        records: list[bytes] = []
        while self._queue:
            chunk = self._queue.popleft()
            if chunk.begins:
                self._write(b"".join(records))
                records.clear()
                self._begin_segment(len(chunk.data))
            records.append(chunk.data)
        self._write(b"".join(records))

    def _write(self, data: bytes) -> None:
        """Write whole records."""
        if not data:
            return
        assert self._file is not None
        view = memoryview(data)
        while view:
            view = view[os.write(self._file, view) :]
        # What goes to a file that nobody can find is lost: say so now.
        if os.fstat(self._file).st_nlink == 0:
            raise FileNotFoundError(errno.ENOENT, "the file has been removed")
        if self._sync:
            os.fdatasync(self._file)
        self._whole_nbytes += len(data)
        self.written_nbytes += len(data)

    def _cut_back(self) -> None:
        """Leave no half record behind, nor a file without a header."""
        if self._file is None:
            return
        with suppress(OSError):  # then half a record stays, which whoever reads cuts off
            if stat.S_ISREG(os.fstat(self._file).st_mode):
                os.ftruncate(self._file, self._whole_nbytes)
                if not self._whole_nbytes:
                    self.path.unlink()

    def _begin_segment(self, header_nbytes: int) -> None:
        self._close_file()
        self._make_room(2 * (self.segment_nbytes + header_nbytes))
        self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        self._whole_nbytes = 0
        with suppress(OSError):  # others are told that it is in use, where there are locks
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _make_room(self, nbytes: int) -> None:
        """Move what stands at the path aside, and remove what is too much then."""
        path, older = self.path, older_segments(self.path)
        if path.is_file() and path.stat().st_size:
            number = number_of(older[-1]) + 1 if older else 1
            older.append(path.rename(path.with_name(f"{path.name}.{number:06}")))
        sizes = [segment.stat().st_size for segment in older]
        while older and sum(sizes) > self._max_nbytes - nbytes:
            older.pop(0).unlink()
            sizes.pop(0)

    def _close_file(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
