"""Room in memory for what is going to be read, that costs next to nothing until it is.

The system provides memory page by page, when something is first put there, and to provide 4 KiB
takes it four times as long as to copy them there. So it is asked for large pages, of which there
are few: for a long buffer by itself (`grow`), for several of middling length together (`Slab`).
"""

import ctypes
import mmap
import weakref
from collections.abc import Sequence
from contextlib import suppress

_LONG_NBYTES = 1 << 22
"""From here on large pages pay; they have 2 MiB each."""

_SLAB_NBYTES = 1 << 26
"""Longest slab. What nothing was put into is no memory."""

_SHARING_NBYTES = 1 << 16
"""A buffer that shares a slab has at least so many bytes: a shorter one is better off without."""

_LARGE_PAGES: int | None = getattr(mmap, "MADV_HUGEPAGE", None)
"""Linux has them."""

_madvise = getattr(ctypes.CDLL(None), "madvise", None) if _LARGE_PAGES is not None else None
if _madvise is not None:
    _madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)

_resize = ctypes.pythonapi.PyByteArray_Resize
_resize.argtypes = (ctypes.py_object, ctypes.c_ssize_t)


def grow(room: bytearray, nbytes: int) -> None:
    """Make it so long; what is new has any content. Nobody may have a view of it.

    A `bytearray` grows here without being filled, which would take a quarter of the time of a
    transfer.
    """
    _resize(room, nbytes)
    if nbytes >= _LONG_NBYTES and _madvise is not None:
        begin = ctypes.addressof(ctypes.c_char.from_buffer(room))
        first = _in_pages(begin)
        _madvise(first, begin + nbytes - first, _LARGE_PAGES)  # where it is not taken, no harm


class Slab:
    """Large pages that several buffers share, each of which is given back by itself.

    When nobody has a view of a buffer any more, its memory is the system's again, whatever becomes
    of the others.
    """

    def __init__(self, nbytes: int) -> None:
        self._pages = mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        with suppress(OSError):  # where they are not to be had, no harm
            self._pages.madvise(mmap.MADV_HUGEPAGE)
        self._taken = 0

    def take(self, nbytes: int) -> memoryview | None:
        """A buffer so long; None if there is not so much left."""
        begin, whole = self._taken, _in_pages(nbytes)
        if begin + whole > len(self._pages):
            return None
        self._taken += whole
        # Whatever is a view of the buffer has this object, so that it goes when the last of them
        # does: those who have the pages alone are no part of it.
        owner = (ctypes.c_ubyte * nbytes).from_buffer(self._pages, begin)
        give_back = weakref.finalize(owner, self._pages.madvise, mmap.MADV_DONTNEED, begin, whole)
        give_back.atexit = False
        return memoryview(owner).cast("B")


class Slabs:
    """Room for the buffers of one message after the other."""

    def __init__(self) -> None:
        self._slab: Slab | None = None

    def take(self, lengths: Sequence[int], index: int) -> memoryview | None:
        """Room for one of the buffers of a message, in a slab with those that follow.

        None if it is better off with room of its own.
        """
        if _LARGE_PAGES is None or not _SHARING_NBYTES <= lengths[index] < _LONG_NBYTES:
            return None
        room = self._slab.take(lengths[index]) if self._slab is not None else None
        if room is None:
            shared = (_in_pages(n) for n in lengths[index:] if _SHARING_NBYTES <= n < _LONG_NBYTES)
            nbytes = min(sum(shared), _SLAB_NBYTES)
            if nbytes < _LONG_NBYTES:
                return None
            self._slab = Slab(nbytes)
            room = self._slab.take(lengths[index])
        return room

    def end(self) -> None:
        """The message is whole: what it has not used is given back with its buffers."""
        self._slab = None


def _in_pages(nbytes: int) -> int:
    """So many bytes, in whole pages."""
    return -(-nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
