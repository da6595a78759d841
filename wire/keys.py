"""Users' keys as text and back, injectively.

Inside trouper a key is text, because text has one order and one meaning: users' keys may be
tuples, numbers or bytes, ``("x", 1)`` does not sort with ``"y"``, and ``1 == 1.0 == True``. Text
stands for itself; everything else, and text that would look like it, becomes a tilde and the
Python literal: ``("x", 1)`` is ``~('x', 1)``.
"""

import ast
import math
from typing import TypeAlias, cast

from trouper.wire.errors import InvalidKey

UserKey: TypeAlias = str | int | float | bytes | tuple["UserKey", ...] | None
"""What users may name a task with; a bool is an int here, and yet another key than 0 or 1."""

_MARK = "~"
_PLAIN_TYPES = frozenset({str, int, float, bool, bytes, type(None)})


def encode_key(key: UserKey) -> str:
    """The text that stands for a user's key.

    Raises:
        InvalidKey: The key is of another type than `UserKey`, or contains a nan or an infinity.
    """
    if type(key) is str:
        return key if not key.startswith(_MARK) else f"{_MARK}{key!r}"
    _check(key)
    return f"{_MARK}{key!r}"


def decode_key(text: str) -> UserKey:
    """The user's key that a text stands for.

    Raises:
        InvalidKey: `encode_key` gives no such text.
    """
    if not text.startswith(_MARK):
        return text
    try:
        key: UserKey = ast.literal_eval(text[1:])
    except (ValueError, SyntaxError) as error:
        raise InvalidKey(f"{text!r} does not stand for a key") from error
    if encode_key(key) != text:
        raise InvalidKey(f"{text!r} does not stand for a key")
    return key


def _check(key: object) -> None:
    if type(key) is tuple:
        for part in cast("tuple[object, ...]", key):
            _check(part)
    elif type(key) not in _PLAIN_TYPES:
        raise InvalidKey(
            f"{key!r} cannot be a key, nor part of one: it is a {type(key).__name__}, "
            "not text, a number, bytes, None or a tuple"
        )
    elif type(key) is float and not math.isfinite(key):
        raise InvalidKey(f"{key!r} cannot be a key, nor part of one: it is not finite")
