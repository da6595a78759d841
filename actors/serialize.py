"""Values to bytes and back: pickle protocol 5, whose large buffers stay where they are.

The first buffer of a value is a pickle, the others are what the pickle left out of band: views of
the memory of an array, on this side; the very memory that the array will have, on the other.
What pickle cannot do, or would do by a name that means something else in another process (functions
and classes of ``__main__``), cloudpickle does.

Reading a pickle runs what stands in it: only who has the token of a session may send any.
"""

import pickle
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any, TypeVar

import cloudpickle  # pyright: ignore[reportMissingTypeStubs]
import trio

from trouper.wire.cbor import Chunk
from trouper.wire.messages import MAX_KEYS

T = TypeVar("T")

PROTOCOL = 5

THREADS = 4
"""At it at once, where nobody says otherwise: pickling holds the GIL, but not copying arrays."""

OUT_OF_BAND_NBYTES = 1 << 12
"""Smaller buffers go into the pickle: to copy them costs less than to send them apart."""

TINY_NBYTES = 1 << 10
"""Up to here, what is of one of `TINY_TYPES` takes less time than the way to a thread and back."""

TINY_VALUES = 64
"""So many of them."""

TINY_TYPES = frozenset({"NoneType", "bool", "int", "float", "complex", "str", "bytes"})


class _Buffers:
    """Takes what a pickle leaves out of band."""

    def __init__(self) -> None:
        self.taken: list[memoryview] = []

    def keep_in_band(self, buffer: pickle.PickleBuffer) -> bool:
        """Take a buffer, unless it is small or there are too many."""
        view = buffer.raw()
        if view.nbytes < OUT_OF_BAND_NBYTES or len(self.taken) == MAX_KEYS - 1:
            return True
        self.taken.append(view)
        return False


def serialize(value: object) -> list[Chunk]:
    """A value as buffers, most of which are views of its own memory.

    Raises whatever cloudpickle, or the value itself when it is asked, raises.
    """
    buffers = _Buffers()
    try:
        pickled = pickle.dumps(value, PROTOCOL, buffer_callback=buffers.keep_in_band)
    except Exception:  # noqa: BLE001 - if it is the value's own, cloudpickle meets it again
        pickled = None
    if pickled is None or b"__main__" in pickled:
        buffers = _Buffers()
        pickled = _pickle_by_value(value, buffers)
    return [pickled, *buffers.taken]


def _pickle_by_value(value: object, buffers: _Buffers) -> bytes:
    dumps: Any = cloudpickle.dumps  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    pickled: bytes = dumps(value, PROTOCOL, buffer_callback=buffers.keep_in_band)
    return pickled


def deserialize(buffers: Sequence[Chunk]) -> Any:
    """The value that buffers are; arrays are made of the very buffers, and not copied.

    Raises whatever the pickle raises.
    """
    pickled, *out_of_band = buffers
    return pickle.loads(pickled, buffers=out_of_band)


async def in_thread(
    work: Callable[[], T], sizes: Iterable[tuple[str, int]], limiter: trio.CapacityLimiter
) -> T:
    """Serialise or deserialise values: in a thread, unless that would cost more than they do.

    Args:
        work: What is to be done. Raises nothing.
        sizes: The type name of each value, and its size in bytes.
        limiter: How many threads may be at it.
    """
    few = list(islice(sizes, TINY_VALUES + 1))
    if len(few) <= TINY_VALUES and all(
        nbytes <= TINY_NBYTES and type_name in TINY_TYPES for type_name, nbytes in few
    ):
        return work()
    return await trio.to_thread.run_sync(work, limiter=limiter)
