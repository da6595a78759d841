"""How much memory a value takes, roughly and quickly: it is asked after every task."""

import sys
from itertools import islice
from typing import Any, cast

SAMPLE = 16
"""Of longer containers, so many elements stand for the rest."""

MOST_NBYTES = 1 << 48
"""No value takes more: so much can a process address."""


ATOM_NAMES: dict[type, str] = {
    kind: kind.__qualname__ for kind in (int, float, bool, str, bytes, type(None))
}
"""The types of most small values, and their names: Python makes a new text whenever asked."""


def sizeof(value: object) -> int:
    """Bytes of a value: of what has `nbytes`, those; of a container, its elements too.

    A lazy array, say, may tell a size that no memory has: that does not count, and journals and
    messages could not carry it. Nested containers count one level deep, elements of long ones by a
    sample. A value that cannot tell counts as 0.
    """
    kind = type(value)
    if kind in ATOM_NAMES:
        return value.__sizeof__()  # what `getsizeof` says of these, in half the time
    if kind is list or kind is tuple:
        elements = cast("list[object] | tuple[object, ...]", value)
        return sys.getsizeof(value) + _sample(elements[:SAMPLE], len(elements))
    if kind is dict:
        mapping = cast("dict[object, object]", value)
        values = list(islice(mapping.values(), SAMPLE))  # one step: other threads may change it
        return sys.getsizeof(value) + _sample(values, len(mapping))
    return _flat(value)


def _sample(elements: Any, count: int) -> int:
    if not elements:
        return 0
    return min(sum(map(_flat, elements)) * count // len(elements), MOST_NBYTES)


def _flat(value: object) -> int:
    try:
        nbytes = getattr(value, "nbytes", None)
        known = type(nbytes) is int and 0 <= nbytes <= MOST_NBYTES
        return cast("int", nbytes) if known else sys.getsizeof(value)
    except BaseException:  # noqa: BLE001 - a user's class may raise whatever it likes when asked
        return 0
