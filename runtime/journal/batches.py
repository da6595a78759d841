"""Batches: records that stand together in one frame. Pure; see JOURNAL.md.

A frame for each record would cost more than all the rest: what is expensive is what a Python
program does once for each. So the stimuli of a batch become bytes all at once, and what they led
to stands beside them, in lists. A batch is small enough that a frame is no great loss.
"""

import zlib
from bisect import bisect_right
from itertools import accumulate

import msgspec

from trouper.runtime.journal.damage import flipped_bit
from trouper.runtime.journal.format import pack_into
from trouper.runtime.journal.frames import CHECK_NBYTES, HEAD_NBYTES

BATCH = 64
"""So many records stand in one frame at most."""

LARGE_NBYTES = 1 << 13
"""A batch of more bytes is compressed: it has long lists of keys, which are much alike."""

_COMPRESSED = b"\x78"
"""How what zlib has compressed begins, and MessagePack of a list never does."""


class Body(msgspec.Struct, frozen=True, array_like=True):
    """What stands in a frame. Lists have an item for each record."""

    after_us: list[int]
    """Since the record before. Those that are left out at the end are 0."""
    digests: list[int]
    """Of the answers; 0 if there is none."""
    counts: list[int]
    """Of instructions."""
    kinds: bytes
    """Of all instructions, one after the other."""
    errors: dict[int, str]
    """Type names of the exceptions that the machine raised instead, by place in the batch."""
    rows: msgspec.Raw
    """A list of the stimuli: each is an array of its tag and its fields."""

    def each_row(self) -> list[msgspec.Raw]:
        """The rows, one by one."""
        return _decode_rows(self.rows)


_decode = msgspec.msgpack.Decoder(Body).decode
_decode_rows = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode


def join(fields: tuple[object, ...], room: bytearray) -> bytes:
    """The bytes of a body, given its fields in their order, and room that is used again."""
    pack_into(fields, room)
    return zlib.compress(room, 1) if len(room) > LARGE_NBYTES else bytes(room)


def split(data: bytes) -> Body:
    """The body that some bytes are.

    Raises:
        ValueError: They are none, though they are as they were written.
    """
    try:
        body = _decode(zlib.decompress(data) if data.startswith(_COMPRESSED) else data)
    except (msgspec.MsgspecError, zlib.error) as error:
        raise ValueError(str(error)) from error
    count = len(body.counts)
    if (
        count == 0
        or len(body.after_us) > count
        or len(body.digests) != count
        or len(body.kinds) != sum(body.counts)
    ):
        raise ValueError("the parts of its batch do not fit together")
    return body


def rescue(frame: bytes, previous: int) -> tuple[Body, int] | None:
    """What a corrupt frame was, and how many of its records stand before what was changed.

    None if more than one bit was changed: then nothing in it can be relied upon.

    Args:
        frame: Its head is as it was written; empty if there is none.
        previous: Check of the frame before.
    """
    if not frame:
        return None
    end = len(frame) - CHECK_NBYTES
    difference = zlib.crc32(frame[:end], previous) ^ int.from_bytes(frame[end:], "big")
    flipped = flipped_bit(end, difference)
    if flipped is None or flipped[0] < HEAD_NBYTES:
        return None
    place, bit = flipped
    data = bytearray(frame)
    data[place] ^= bit
    mended = bytes(data[HEAD_NBYTES:end])
    try:
        body = split(mended)
    except ValueError:  # as it was written
        return None
    return body, _count_before(place - HEAD_NBYTES, body, mended)


def _count_before(place: int, body: Body, data: bytes) -> int:
    """How many rows end before a place in a body."""
    if data.startswith(_COMPRESSED):
        return 0
    sizes = [*map(len, body.each_row())]
    ends = accumulate(sizes, initial=len(data) - sum(sizes))
    return min(max(0, bisect_right([*ends], place) - 1), len(sizes) - 1)
