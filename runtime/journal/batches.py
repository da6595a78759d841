"""Batches: records that stand together in one frame. Pure; see JOURNAL.md.

A frame for each record would cost more than all the rest. So one has a *summary* of all records of
a batch, a check for each, and then their *rows*. If the frame is torn or corrupt, the checks tell
how many of its records are whole.
"""

import sys
import zlib
from array import array
from collections.abc import Sequence
from itertools import accumulate, pairwise, repeat

import msgspec

from trouper.runtime.journal.format import pack
from trouper.runtime.journal.frames import HEAD_NBYTES, head

_CHECK_NBYTES = 4


class Summary(msgspec.Struct, frozen=True, array_like=True):
    """What is told of a batch as a whole. Lists have an item for each record."""

    after_us: list[int]
    """Since the record before."""
    nbytes: list[int]
    """Of the rows."""
    digests: bytes
    """Of the answers; see `numbers`."""
    counts: list[int]
    """Of instructions."""
    kinds: bytes
    """Of all instructions, one after the other."""
    errors: dict[int, str]
    """Type names of the exceptions that the machine raised instead, by place in the batch."""


_decode = msgspec.msgpack.Decoder(Summary).decode


class Body(msgspec.Struct, frozen=True):
    """What is whole of a batch: its summary, and the first of its rows."""

    summary: Summary
    count: int
    """Of the rows."""
    rows: bytes
    """One after the other."""
    nbytes: int
    """Up to the end of the last row."""

    def each_row(self) -> list[bytes]:
        """The rows, one by one."""
        ends = list(accumulate(self.summary.nbytes[: self.count], initial=0))
        return [self.rows[begin:end] for begin, end in pairwise(ends)]


def _read_summary(data: bytes) -> Summary:
    try:
        return _decode(data)
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from error


def numbers_to_bytes(numbers: Sequence[int]) -> bytes:
    """Four bytes for each."""
    made = array("I", numbers)
    if sys.byteorder == "little":
        made.byteswap()
    return made.tobytes()


def numbers_from_bytes(data: bytes) -> Sequence[int]:
    """What `numbers_to_bytes` was given."""
    made = array("I", data)
    if sys.byteorder == "little":
        made.byteswap()
    return made


def join(summary: Summary, rows: Sequence[bytes], previous: int) -> bytes:
    """The body of a frame.

    Args:
        summary: Of the batch.
        rows: Of the records.
        previous: Check of the frame before.
    """
    summarised = pack(summary)
    checks = map(zlib.crc32, rows, repeat(zlib.crc32(summarised, previous)))
    return b"".join([head(len(summarised)), summarised, numbers_to_bytes([*checks]), *rows])


def split(body: bytes) -> Body:
    """The batch that a body is of.

    Raises:
        ValueError: It is of none, though it is as it was written.
    """
    end = HEAD_NBYTES + int.from_bytes(body[: HEAD_NBYTES - 1], "big")
    summary = _read_summary(body[HEAD_NBYTES:end])
    count = len(summary.nbytes)
    rows = body[end + _CHECK_NBYTES * count :]
    if (
        count == 0
        or len(rows) != sum(summary.nbytes)
        or len(summary.after_us) != count
        or len(summary.digests) != _CHECK_NBYTES * count
        or len(summary.counts) != count
        or len(summary.kinds) != sum(summary.counts)
    ):
        raise ValueError("the parts of its batch do not fit together")
    return Body(summary, count, rows, len(body))


def rescue(torn: bytes, previous: int) -> Body | None:
    """What is whole of a body that is torn or corrupt: all records up to the first that is not.

    Args:
        torn: As much of it as there is.
        previous: Check of the frame before.
    """
    length = int.from_bytes(torn[: HEAD_NBYTES - 1], "big")
    if torn[:HEAD_NBYTES] != head(length):
        return None
    end = HEAD_NBYTES + length
    try:
        summary = _read_summary(torn[HEAD_NBYTES:end])
    except ValueError:
        return None
    seed = zlib.crc32(torn[HEAD_NBYTES:end], previous)
    begin = end + _CHECK_NBYTES * len(summary.nbytes)
    if begin > len(torn):
        return None
    count, at = 0, begin
    # Something is broken: if it is none of the rows, then the check of the whole, behind the last.
    checks = numbers_from_bytes(torn[end:begin])[:-1]
    for nbytes, check in zip(summary.nbytes, checks, strict=False):
        if zlib.crc32(torn[at : at + nbytes], seed) != check:
            break
        count += 1
        at += nbytes
    return Body(summary, count, torn[begin:at], at) if count else None
