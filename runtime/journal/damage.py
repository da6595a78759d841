"""Which byte was changed, if one was. Pure.

A CRC-32 is linear: by how much it is wrong depends on what was changed and on how many bytes
follow, and on nothing else. So it can be followed back from the end of the bytes, up to where it is
one that a changed byte makes. Two such places are 145,212 bytes apart at least.
"""

import zlib

_DIFFERENCES = [zlib.crc32(bytes([change])) ^ zlib.crc32(b"\0") for change in range(256)]
"""That a changed byte makes, if none follows. No two of them have the same highest byte."""

_CHANGES = {difference: change for change, difference in enumerate(_DIFFERENCES) if change}
_LOWEST = {difference >> 24: lowest for lowest, difference in enumerate(_DIFFERENCES)}


def changed_bytes(nbytes: int, difference: int) -> list[tuple[int, int]]:
    """Each byte whose change would explain it, and which of its bits were flipped.

    There is none if more was changed. The check itself, which stands behind the bytes, counts as
    four more of them.

    Args:
        nbytes: So many there are.
        difference: All bits in which their check is not the one that stands behind them; not 0.
    """
    found: list[tuple[int, int]] = []
    for place in range(4):
        if difference & 0xFF << 8 * place == difference:
            found.append((nbytes + 3 - place, difference >> 8 * place))
    for place in reversed(range(nbytes)):
        if difference in _CHANGES:
            found.append((place, _CHANGES[difference]))
        lowest = _LOWEST[difference >> 24]
        difference = (difference ^ _DIFFERENCES[lowest]) << 8 | lowest
    return found
