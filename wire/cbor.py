"""CBOR, strictly: one item, plain data, definite lengths, no tags but those that are asked for.

A decoder for what strangers send. Whatever it is given, it returns plain data or raises
`ProtocolError`, in bounded time and memory: items are counted before objects are made of them; tags
that build objects (regular expressions, huge powers, references that repeat each other) are
refused; map keys are text or bytes, whose hashes nobody can choose; no key comes twice; no bytes
are left over.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from io import BytesIO
from typing import Any, TypeAlias

import cbor2

from trouper.wire.errors import Code, ProtocolError

Chunk: TypeAlias = bytes | bytearray | memoryview
"""Bytes, whoever owns them."""

OpenTag: TypeAlias = Callable[[Any], object]
"""Makes a value of a tag's content, which consists of tuples, dicts and scalars."""

_MAYBE_SIMPLE = re.compile(rb"[\xe0-\xf3\xf7\xf8]")
"""First bytes of undefined and of the simple values that mean nothing to us."""


SHORT_NUMBERS = tuple(map(cbor2.dumps, range(256)))
"""See `encode_number`."""
_SHORT_ARRAYS = tuple(bytes((0x80 | count,)) for count in range(24))


def encode_number(number: int) -> bytes:
    """As `cbor2.dumps`, in a tenth of its time; not negative, and of 64 bits at most."""
    if number < 1 << 8:
        return SHORT_NUMBERS[number]
    if number < 1 << 16:
        return b"\x19" + number.to_bytes(2, "big")
    if number < 1 << 32:
        return b"\x1a" + number.to_bytes(4, "big")
    return b"\x1b" + number.to_bytes(8, "big")


def begin_array(count: int) -> bytes:
    """What stands before so many items, which make an array of them."""
    if count < 24:
        return _SHORT_ARRAYS[count]
    first, *rest = encode_number(count)
    return bytes((0x80 | first, *rest))


class CborDecoder:
    """Decodes items one after the other. Not for two threads at once.

    Args:
        max_depth: Of containers and tags within each other.
        max_items: In all containers together.
        tags: What is made of the content of those tags that are allowed.
    """

    def __init__(
        self, *, max_depth: int, max_items: int, tags: Mapping[int, OpenTag] | None = None
    ) -> None:
        self._max_items = max_items
        opened = {number: _with_content(open_tag) for number, open_tag in (tags or {}).items()}
        self._decoder = cbor2.CBORDecoder(
            BytesIO(),
            max_depth=max_depth,
            allow_indefinite=False,
            allow_duplicate_keys=False,
            strict_hashable_types=True,
            object_hook=_plain_dict,
            semantic_decoders=defaultdict(lambda: _refuse_tag, opened),
        )

    def decode(self, data: Chunk) -> Any:
        """The item that `data` is; arrays are tuples.

        Raises:
            ProtocolError: `data` is not exactly one item, or not one that is allowed.
        """
        if len(data) > self._max_items:  # each item has a byte at least
            _check_items(data, self._max_items)
        source = self._decoder.fp = BytesIO(data)
        try:
            item = self._decoder.decode(immutable=True)
        except cbor2.CBORDecodeError as error:
            raise _explained(error) from error
        left = len(data) - source.tell()
        if left:
            raise ProtocolError(Code.MALFORMED, f"bad CBOR: {left} bytes follow the item")
        if _MAYBE_SIMPLE.search(data):
            _refuse_simple_values(item)
        return item


def _with_content(open_tag: OpenTag) -> Callable[[Any, bool], object]:
    return lambda content, _immutable: open_tag(content)


def _refuse_tag(_content: object, _immutable: bool) -> object:
    raise ProtocolError(Code.MALFORMED, "bad CBOR: a tag where none is allowed")


def _plain_dict(frozen: Mapping[Any, Any], _immutable: bool) -> dict[Any, Any]:
    return dict(frozen.items())  # three times as fast as of the mapping itself


def _check_items(body: Chunk, most: int) -> None:
    """Count what a decoder would make objects of, before it does."""
    position = items = 0
    while position < len(body):
        items += 1
        if items > most:
            raise ProtocolError(Code.LIMIT, f"bad CBOR: more than {most:,} items")
        major, low = divmod(body[position], 32)
        position += 1
        argument = low
        if low >= 28:
            return  # an indefinite length, or nothing: the decoder gets no further
        if low >= 24:
            width = 1 << (low - 24)
            argument = int.from_bytes(body[position : position + width], "big")
            position += width
        if major in (2, 3):
            position += argument


def _refuse_simple_values(item: object) -> None:
    pending = [item]
    while pending:
        item = pending.pop()
        if type(item) is tuple:
            pending.extend(item)  # pyright: ignore[reportUnknownArgumentType]
        elif type(item) is dict:
            pending.extend(item.values())  # pyright: ignore[reportUnknownArgumentType]
        elif item is cbor2.undefined or type(item) is cbor2.CBORSimpleValue:
            raise ProtocolError(Code.MALFORMED, f"bad CBOR: {item!r} has no meaning here")


def _explained(error: BaseException) -> ProtocolError:
    """The innermost reason, which is the one that says what is wrong."""
    reasons = [str(error)]
    while error.__cause__ is not None:
        error = error.__cause__
        reasons.append(str(error))
        if isinstance(error, ProtocolError):
            return ProtocolError(error.code, error.reason)
    code = Code.LIMIT if "nesting depth" in reasons[-1] else Code.MALFORMED
    return ProtocolError(code, f"bad CBOR: {': '.join(reasons)}")
