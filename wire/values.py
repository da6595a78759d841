"""Generic values: what a Dask message consists of, bounded, to CBOR and back.

Scalars, text, bytes, lists, tuples, sets and dicts. A list arrives as a tuple, as it does over
Dask's own ``tcp://``. Bulk does not belong here, but in the buffers of the message; what stands for
a buffer is for the caller to say, with a tag of its own (`cbor2.CBORTag`).

A dict whose keys are all text or bytes is a CBOR map. Any other is tag `PAIRS` around an array of
keys and values in turn, and a set is tag 258 around an array: they are put together here, where
keys chosen to have the same hash, which would take hours, are refused.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, cast

import cbor2

from trouper.wire.cbor import CborDecoder, Chunk, OpenTag
from trouper.wire.errors import Code, NotEncodable, ProtocolError, TooLong
from trouper.wire.limits import BODY_NBYTES

SET = 258
PAIRS = 55810

MAX_DEPTH = 64
"""Deepest nesting, tags counted. Dask's own messages have fewer than ten."""

MAX_ITEMS = 1_000_000
"""Most items in all containers together, keys counted; a task of Dask's has some fifty."""

MIN_INT = -(1 << 64)
MAX_INT = (1 << 64) - 1
"""What CBOR has without tags; Dask's own codec has the upper half of the negative ones."""

_MAX_SAME_HASH = 64

_PLAIN = frozenset((str, bytes, float, bool, type(None)))
_MAP_KEYS = frozenset((str, bytes))


def _stand_in(value: object) -> object:
    """What is sent for a value that is none of the above."""
    if type(value) is frozenset:
        return set(cast("frozenset[object]", value))
    raise NotEncodable(f"a {type(value).__qualname__} cannot be part of a value: {value!r:.200}")


def encode_value(
    value: object,
    *,
    default: Callable[[object], object] = _stand_in,
    max_depth: int = MAX_DEPTH,
) -> bytes:
    """The body that this value is.

    Args:
        value: Consists of the above.
        default: Is given what does not, and gives what is sent in its place.
        max_depth: Another limit than `MAX_DEPTH`.

    Raises:
        NotEncodable: It is, or contains, what is none of the above, or too deep.
        TooLong: It is too large.
    """
    try:
        body = cbor2.dumps(_Preparation(default, max_depth).of(value, max_depth))
    except UnicodeEncodeError as error:
        raise NotEncodable(f"text that is not Unicode cannot be sent: {error}") from error
    if len(body) > BODY_NBYTES:
        raise TooLong(
            f"a value of {len(body):,} bytes; {BODY_NBYTES:,} are allowed. Bulk belongs in buffers"
        )
    return body


class _Preparation:
    """Puts values in terms of CBOR. What is so already is returned as it is: most of it is.

    The loops look at plain items themselves, as a call for each would take longer than the rest.
    """

    def __init__(self, default: Callable[[object], object], max_depth: int) -> None:
        self._default = default
        self._max_depth = max_depth

    def of(self, value: object, depth: int) -> object:
        """The same in terms of CBOR, with so many levels at most."""
        kind = type(value)
        if kind in _PLAIN:
            return value
        if kind is int:
            return _in_range(cast("int", value))
        if depth <= 0:
            raise NotEncodable(f"a value is nested deeper than {self._max_depth} levels")
        if kind is dict:
            return self._of_dict(cast("dict[object, object]", value), depth)
        if kind is list or kind is tuple:
            return self._of_items(cast("Sequence[object]", value), depth - 1)
        if kind is set:
            items = list(cast("set[object]", value))
            return cbor2.CBORTag(SET, self._of_items(items, depth - 2))
        if isinstance(value, cbor2.CBORTag):
            return cbor2.CBORTag(value.tag, self.of(value.value, depth - 1))
        return self.of(self._default(value), depth - 1)

    def _of_items(self, items: Sequence[object], depth: int) -> Sequence[object]:
        changed: list[object] | None = None
        for i, item in enumerate(items):
            if type(item) in _PLAIN:
                continue
            prepared = self.of(item, depth)
            if prepared is not item:
                changed = changed or list(items)
                changed[i] = prepared
        return items if changed is None else changed

    def _of_dict(self, value: dict[object, object], depth: int) -> object:
        if not _MAP_KEYS.issuperset(map(type, value)):
            pairs = [part for pair in value.items() for part in pair]
            return cbor2.CBORTag(PAIRS, self._of_items(pairs, depth - 2))
        changed: dict[object, object] | None = None
        for key, item in value.items():
            if type(item) in _PLAIN:
                continue
            prepared = self.of(item, depth - 1)
            if prepared is not item:
                changed = changed or dict(value)
                changed[key] = prepared
        return value if changed is None else changed


def _in_range(number: int) -> int:
    if not MIN_INT <= number <= MAX_INT:
        raise NotEncodable(
            f"an integer of {number.bit_length()} bits cannot be sent; 64 are allowed"
        )
    return number


class ValueDecoder:
    """Reads generic values. Not for two threads at once.

    Args:
        tags: What the caller's own tags mean, given their content.
        max_items: Another limit than `MAX_ITEMS`.
        max_depth: Another limit than `MAX_DEPTH`.
    """

    def __init__(
        self,
        tags: Mapping[int, OpenTag] | None = None,
        *,
        max_items: int = MAX_ITEMS,
        max_depth: int = MAX_DEPTH,
    ) -> None:
        self._decoder = CborDecoder(
            max_depth=max_depth,
            max_items=max_items,
            tags={SET: _open_set, PAIRS: _open_pairs, **(tags or {})},
        )

    def decode(self, body: Chunk) -> Any:
        """The value that a body is.

        Raises:
            ProtocolError: It is none, or too large or deep.
        """
        if len(body) > BODY_NBYTES:
            raise ProtocolError(
                Code.LIMIT, f"a value of {len(body):,} bytes; {BODY_NBYTES:,} are allowed"
            )
        return self._decoder.decode(body)


def _open_set(content: object) -> object:
    items = _array(content)
    _refuse_chosen_hashes(items)
    members = set(items)
    if len(members) != len(items):
        raise ProtocolError(Code.MALFORMED, "a set has a member twice")
    return members


def _open_pairs(content: object) -> object:
    parts = _array(content)
    keys, values = parts[::2], parts[1::2]
    if len(keys) != len(values):
        raise ProtocolError(Code.MALFORMED, "a key without a value")
    _refuse_chosen_hashes(keys)
    pairs = dict(zip(keys, values, strict=True))
    if len(pairs) != len(keys):
        raise ProtocolError(Code.MALFORMED, "a dict has a key twice")
    return pairs


def _array(content: object) -> tuple[Hashable, ...]:
    if type(content) is not tuple:
        raise ProtocolError(Code.MALFORMED, "a set or dict that is not made of an array")
    return cast("tuple[Hashable, ...]", content)


def _refuse_chosen_hashes(keys: tuple[Hashable, ...]) -> None:
    """Many keys of one hash make a dict or set as slow as a list."""
    try:
        hashes = Counter(map(hash, keys))
    except TypeError as error:
        raise ProtocolError(Code.MALFORMED, f"a key or member: {error}") from error
    if hashes and max(hashes.values()) > _MAX_SAME_HASH:
        raise ProtocolError(Code.LIMIT, "too many keys or members have the same hash")
