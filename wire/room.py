"""Room in memory for what is going to be read, that costs next to nothing until it is.

A `bytearray` grows here without being filled, which would take a quarter of the time of a transfer;
and where it is long, the system is asked for large pages, of which it has to provide few: with
small ones, that takes four times as long as to copy what belongs there. numpy does the same.
"""

import ctypes
import mmap

_LONG_NBYTES = 1 << 22
"""From here on large pages pay; they have 2 MiB each."""

_LARGE_PAGES: int | None = getattr(mmap, "MADV_HUGEPAGE", None)
"""Linux has them."""

_madvise = getattr(ctypes.CDLL(None), "madvise", None) if _LARGE_PAGES is not None else None
if _madvise is not None:
    _madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)

_resize = ctypes.pythonapi.PyByteArray_Resize
_resize.argtypes = (ctypes.py_object, ctypes.c_ssize_t)


def grow(room: bytearray, nbytes: int) -> None:
    """Make it so long; what is new has any content. Nobody may have a view of it."""
    _resize(room, nbytes)
    if nbytes >= _LONG_NBYTES and _madvise is not None:
        begin = ctypes.addressof(ctypes.c_char.from_buffer(room))
        first = -(-begin // mmap.PAGESIZE) * mmap.PAGESIZE
        _madvise(first, begin + nbytes - first, _LARGE_PAGES)  # where it is not taken, no harm
