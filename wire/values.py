"""Generic values: what a Dask message consists of, bounded, to CBOR and back.

Scalars, text, bytes, lists, tuples, sets and dicts. A list arrives as a tuple, as it does over
Dask's own ``tcp://``. Bulk does not belong here, but in the buffers of the message; what stands for
a buffer is for the caller to say, with a tag of its own (`cbor2.CBORTag`).

A dict whose keys are all text or bytes is a CBOR map. Any other is tag `PAIRS` around an array of
keys and values in turn, and a set is tag 258 around an array: they are put together here, where
keys chosen to have the same hash, which would take hours, are refused.
"""

from collections import Counter
from collections.abc import Hashable, Mapping
from typing import Any, cast

import cbor2

from trouper.wire.cbor import CborDecoder, Chunk, OpenTag
from trouper.wire.errors import Code, NotEncodable, ProtocolError
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


def encode_value(value: object) -> bytes:
    """The body that this value is.

    Raises:
        NotEncodable: It is, or contains, what is none of the above, or too large or deep.
    """
    try:
        body = cbor2.dumps(_prepared(value, MAX_DEPTH))
    except UnicodeEncodeError as error:
        raise NotEncodable(f"text that is not Unicode cannot be sent: {error}") from error
    if len(body) > BODY_NBYTES:
        raise NotEncodable(
            f"a value of {len(body):,} bytes; {BODY_NBYTES:,} are allowed. Bulk belongs in buffers"
        )
    return body


def _prepared(value: object, depth: int) -> object:
    """The same in terms of CBOR."""
    kind = type(value)
    if kind is str or kind is bytes or kind is float or kind is bool or value is None:
        return value
    if kind is int:
        return _in_range(cast("int", value))
    if depth <= 0:
        raise NotEncodable(f"a value is nested deeper than {MAX_DEPTH} levels")
    if kind is list or kind is tuple:
        return [_prepared(item, depth - 1) for item in cast("list[object]", value)]
    if kind is dict:
        return _prepared_dict(cast("dict[object, object]", value), depth)
    if kind is set or kind is frozenset:
        items = [_prepared(item, depth - 2) for item in cast("set[object]", value)]
        return cbor2.CBORTag(SET, items)
    if isinstance(value, cbor2.CBORTag):
        return cbor2.CBORTag(value.tag, _prepared(value.value, depth - 1))
    raise NotEncodable(f"a {kind.__qualname__} cannot be part of a value: {value!r:.200}")


def _prepared_dict(value: dict[object, object], depth: int) -> object:
    if all(type(key) is str or type(key) is bytes for key in value):
        return {key: _prepared(item, depth - 1) for key, item in value.items()}
    pairs = [_prepared(part, depth - 2) for pair in value.items() for part in pair]
    return cbor2.CBORTag(PAIRS, pairs)


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
        max_items: A smaller limit than `MAX_ITEMS`.
    """

    def __init__(
        self, tags: Mapping[int, OpenTag] | None = None, *, max_items: int = MAX_ITEMS
    ) -> None:
        self._decoder = CborDecoder(
            max_depth=MAX_DEPTH,
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
