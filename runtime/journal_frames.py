"""Frames: how a journal's bytes are kept whole. Pure, but for the file that is read.

A segment is `MAGIC` and then frames: a length in 4 bytes, one byte that guards the length, the
body, and 4 bytes of check. The check is the CRC-32 of all frames of the segment so far, this one
included and checks left out: so a record that is changed, missing, doubled or moved is noticed
where it stands. The guard tells a wrong length (corrupt) from a frame that is not all there (torn).
"""

import zlib
from typing import BinaryIO

MAGIC = b"trouper journal\n"

_HEAD_NBYTES = 5
_CHECK_NBYTES = 4


class BrokenFrame(Exception):
    """A frame that is not as it was written. Who reads knows which it is."""


def head(length: int) -> bytes:
    """The length of a body, guarded: any change of a single byte is noticed (a test tries all)."""
    plain = length.to_bytes(4, "big")
    return plain + (zlib.crc32(plain) & 0xFF).to_bytes(1, "big")


_HEADS = [head(length) for length in range(256)]
"""Of those that nearly all frames have."""


class FrameWriter:
    """Makes the frames of one segment."""

    def __init__(self) -> None:
        self.check = 0
        """Of the last frame."""

    def frame(self, body: bytes) -> bytes:
        """The next frame."""
        length = len(body)
        framed = (_HEADS[length] if length < 256 else head(length)) + body
        self.check = check = zlib.crc32(framed, self.check)
        return framed + check.to_bytes(_CHECK_NBYTES, "big")


class FrameReader:
    """Reads the frames of one segment.

    Args:
        file: Stands behind `MAGIC`.
        nbytes: How much of the file belongs to the segment, from here on. A file that grows
            meanwhile may be read up to there.
    """

    def __init__(self, file: BinaryIO, nbytes: int) -> None:
        self.check = 0
        """Of the last frame."""
        self.torn_nbytes = 0
        """How much of a frame stands at the end that was never finished."""
        self._file = file
        self._left = nbytes

    def read(self, *, verify: bool = True) -> bytes | None:
        """The body of the next frame; None behind the last one.

        Raises:
            BrokenFrame: The frame is corrupt. There is nothing to be read behind it.
        """
        left = self._left
        if left < _HEAD_NBYTES:
            self.torn_nbytes = left
            return None
        start = self._file.read(_HEAD_NBYTES)
        length = int.from_bytes(start[:4], "big")
        if start != (_HEADS[length] if length < 256 else head(length)):
            if self._all_zero(start):
                self.torn_nbytes = left
                return None
            raise BrokenFrame("its length is corrupt")
        nbytes = _HEAD_NBYTES + length + _CHECK_NBYTES
        if nbytes > left:
            self.torn_nbytes = left
            return None
        rest = self._file.read(length + _CHECK_NBYTES)
        if len(start) + len(rest) < nbytes:
            raise BrokenFrame("the file has become shorter")
        self._left = left - nbytes
        body = rest[:length]
        if verify:
            self.check = zlib.crc32(body, zlib.crc32(start, self.check))
            if self.check != int.from_bytes(rest[length:], "big"):
                raise BrokenFrame("its check does not match")
        return body

    def _all_zero(self, start: bytes) -> bool:
        """Whether only zeros follow: what a file system may leave of a write that it lost."""
        while start:
            if start.strip(b"\0"):
                return False
            start = self._file.read(1 << 16)
        return True
