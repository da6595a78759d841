"""Frames: how a journal's bytes are kept whole. Pure, but for the file that is read.

A segment is `MAGIC` and then frames: a length in 4 bytes, one byte that guards the length, the
body, and 4 bytes of check. The check is the CRC-32 of all frames of the segment so far, this one
included and checks left out: so a record that is changed, missing, doubled or moved is noticed
where it stands. The guard tells a wrong length (corrupt) from a frame that is not all there (torn).
"""

import zlib
from collections.abc import Iterator
from functools import lru_cache
from typing import BinaryIO

MAGIC = b"trouper journal\n"

HEAD_NBYTES = 5
"""Of a length and its guard."""

CHECK_NBYTES = 4
_BLOCK_NBYTES = 1 << 18


class BrokenFrame(Exception):
    """A frame that is not as it was written. Who reads knows which it is."""


@lru_cache(1 << 12)
def head(length: int) -> bytes:
    """A length, guarded: any change of a single byte is noticed (a test tries all)."""
    plain = length.to_bytes(4, "big")
    return plain + (zlib.crc32(plain) & 0xFF).to_bytes(1, "big")


class FrameWriter:
    """Makes the frames of one segment."""

    def __init__(self) -> None:
        self.check = 0
        """Of the last frame."""

    def frame(self, body: bytes) -> bytes:
        """The next frame."""
        framed = head(len(body)) + body
        self.check = check = zlib.crc32(framed, self.check)
        return framed + check.to_bytes(CHECK_NBYTES, "big")


class FrameReader:
    """Reads the frames of one segment.

    Args:
        file: Stands behind `MAGIC`.
        nbytes: How much of the file belongs to the segment, from here on. A file that grows
            meanwhile is read up to there.
    """

    def __init__(self, file: BinaryIO, nbytes: int) -> None:
        self.check = 0
        """Of the last frame."""
        self.torn_nbytes = 0
        """How much of a frame that was never finished stands at the end; when all is read."""
        self.broken = b""
        """A frame whose check does not match, all of it; when all is read."""
        self._file = file
        self._left = nbytes
        """To be read from the file."""

    def bodies(self) -> Iterator[bytes]:
        """The bodies of all frames, in order.

        Raises:
            BrokenFrame: The next frame is corrupt. There is nothing to be read behind it.
        """
        block, at = b"", 0
        while True:
            if len(block) - at < HEAD_NBYTES:
                block, at = self._refill(block[at:], HEAD_NBYTES), 0
                if len(block) < HEAD_NBYTES:
                    self.torn_nbytes = len(block)
                    return
            length = self._length(block, at)
            if length is None:
                return
            end = at + HEAD_NBYTES + length
            if end + CHECK_NBYTES > len(block):
                block, at = self._refill(block[at:], HEAD_NBYTES + length + CHECK_NBYTES), 0
                end = HEAD_NBYTES + length
                if end + CHECK_NBYTES > len(block):
                    self.torn_nbytes = len(block)
                    return
            check = zlib.crc32(block[at:end], self.check)
            if check != int.from_bytes(block[end : end + CHECK_NBYTES], "big"):
                self.broken = block[at : end + CHECK_NBYTES]
                raise BrokenFrame("its check does not match")
            self.check = check
            yield block[at + HEAD_NBYTES : end]
            at = end + CHECK_NBYTES

    def _refill(self, rest: bytes, nbytes: int) -> bytes:
        """The rest of a block and what follows it, with so many bytes if there are as many."""
        wanted = min(self._left, max(_BLOCK_NBYTES, nbytes))
        more = self._file.read(wanted)
        self._left -= len(more)
        if len(more) < wanted:
            raise BrokenFrame("the file has become shorter")
        return rest + more

    def _length(self, block: bytes, at: int) -> int | None:
        """The length at the beginning of a frame; None if there are but zeros.

        That is what a file system may leave of a write that was lost.
        """
        length = int.from_bytes(block[at : at + 4], "big")
        if block[at : at + HEAD_NBYTES] == head(length):
            return length
        rest = block[at:]
        nbytes = len(rest) + self._left
        while not rest.strip(b"\0"):
            if not self._left:
                self.torn_nbytes = nbytes
                return None
            rest = self._refill(b"", 0)
        raise BrokenFrame("its length is corrupt")
