"""Which bit was flipped, if one was. Pure.

A CRC-32 is linear: by how much it is wrong depends on what was changed and on how many bytes
follow, and on nothing else. No two bits of a frame make the same difference. So it can be followed
back from the end of the bytes, up to where it is the one that a flipped bit makes.
"""

import zlib

_DIFFERENCES = [zlib.crc32(bytes([change])) ^ zlib.crc32(b"\0") for change in range(256)]
"""That a changed byte makes, if none follows. No two of them have the same highest byte."""

_BITS = {_DIFFERENCES[1 << place]: 1 << place for place in range(8)}
_LOWEST = {difference >> 24: lowest for lowest, difference in enumerate(_DIFFERENCES)}


def flipped_bit(nbytes: int, difference: int) -> tuple[int, int] | None:
    """In which byte of how many a bit was flipped, and which one: 1 to 128; None if more were.

    The check itself, which stands behind the bytes, counts as four more of them.

    Args:
        nbytes: So many there are.
        difference: All bits in which their check is not the one that stands behind them.
    """
    if difference.bit_count() == 1:
        place, bit = divmod(difference.bit_length() - 1, 8)
        return nbytes + 3 - place, 1 << bit
    for place in reversed(range(nbytes)):
        if difference in _BITS:
            return place, _BITS[difference]
        lowest = _LOWEST[difference >> 24]
        difference = (difference ^ _DIFFERENCES[lowest]) << 8 | lowest
    return None
