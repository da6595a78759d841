"""What of CDDL (RFC 8610) wire/protocol.cddl uses, read and applied to decoded CBOR.

Validators that can be installed leave out too much of what the tests have to rely on, such as how
often an item may occur. So this one is exact, and small because the grammar is.
"""

import re
from collections.abc import Callable
from typing import Any, TypeAlias, cast

import cbor2

Matches: TypeAlias = Callable[[Any], bool]
Entry: TypeAlias = tuple[int, float, "Matches | None", "list[Matches]"]
"""Least and most often; the key, in a map; and the items that come together, in an array."""

_TOKEN = re.compile(
    r"""(?:\s|;[^\n]*)*(?P<token>"[^"]*"|\#6\.\d+|\d*\*\d*|-?\d+|\.\.|\.size|=>|[A-Za-z][\w-]*|.|$)"""
)

PRELUDE: dict[str, Matches] = {
    "null": lambda v: v is None,
    "bool": lambda v: type(v) is bool,
    "int": lambda v: type(v) is int and -(1 << 64) <= v < 1 << 64,
    "float": lambda v: type(v) is float,
    "text": lambda v: type(v) is str,
    "bytes": lambda v: type(v) is bytes,
}


class Grammar:
    """The rules of a CDDL text."""

    def __init__(self, text: str) -> None:
        self._rules = dict(PRELUDE)
        self._tokens = [m["token"] for m in _TOKEN.finditer(text) if m["token"]]
        self._tokens.reverse()
        while self._tokens:
            name = self._next()
            self._next("=")
            assert name not in self._rules, f"rule {name} comes twice"
            self._rules[name] = self._type()

    def matches(self, rule: str, value: object) -> bool:
        """Whether a value is what a rule says."""
        return self._rules[rule](value)

    def _next(self, wanted: str | None = None) -> str:
        token = self._tokens.pop()
        assert wanted in (None, token), f"{token!r} in the grammar, where {wanted!r} is expected"
        return token

    def _peek(self, ahead: int = 1) -> str:
        return self._tokens[-ahead] if len(self._tokens) >= ahead else ""

    def _type(self) -> Matches:
        choices = [self._choice()]
        while self._peek() == "/":
            self._next()
            choices.append(self._choice())
        return lambda value: any(choice(value) for choice in choices)

    def _choice(self) -> Matches:
        token = self._next()
        if token == "[":
            return self._array(self._group("]"))
        if token == "{":
            return self._map(self._group("}"))
        if token == "(":
            inner = self._type()
            self._next(")")
            return inner
        if token.startswith("#6."):
            number = int(token[3:])
            self._next("(")
            content = self._type()
            self._next(")")
            return lambda v: type(v) is cbor2.CBORTag and v.tag == number and content(v.value)
        if token.startswith('"'):
            return lambda value: value == token[1:-1]
        if token.lstrip("-").isdigit():
            low = high = int(token)
            if self._peek() == "..":
                self._next()
                high = int(self._next())
            return lambda value: type(value) is int and low <= value <= high
        return self._sized(token)

    def _sized(self, name: str) -> Matches:
        if self._peek() != ".size":
            return lambda value: self._rules[name](value)
        self._next()
        size = self._choice()
        return lambda value: self._rules[name](value) and size(len(value.encode()))

    def _group(self, end: str) -> list[Entry]:
        entries: list[Entry] = []
        while self._peek() != end:
            low, high = self._occurrence()
            key: Matches | None = None
            items: list[Matches] = []
            if self._peek(2) == ":":
                name = self._next()
                self._next(":")
                key = lambda value, name=name: value == name  # noqa: E731
            if self._peek() == "(" and key is None:
                items = [together for *_, together in self._parenthesised()]
            else:
                items = [self._type()]
            if self._peek() == "=>":
                self._next()
                key, items = items[0], [self._type()]
            entries.append((low, high, key, items))
            if self._peek() == ",":
                self._next()
        self._next(end)
        return entries

    def _parenthesised(self) -> list[tuple[Matches]]:
        """Items that come together, or a type in parentheses."""
        self._next("(")
        items = [(self._type(),)]
        while self._peek() == ",":
            self._next()
            items.append((self._type(),))
        self._next(")")
        return items

    def _occurrence(self) -> tuple[int, float]:
        if self._peek() == "?":
            self._next()
            return 0, 1
        if "*" not in self._peek():
            return 1, 1
        low, _, high = self._next().partition("*")
        return int(low or 0), float(high or "inf")

    def _array(self, entries: list[Entry]) -> Matches:
        def matches(value: object) -> bool:
            if type(value) is not tuple and type(value) is not list:
                return False
            items = cast("list[object]", value)
            position = 0
            for low, high, _, together in entries:
                times = 0
                while times < high and _fit(together, items[position : position + len(together)]):
                    times += 1
                    position += len(together)
                if times < low:
                    return False
            return position == len(items)

        return matches

    def _map(self, entries: list[Entry]) -> Matches:
        def matches(value: object) -> bool:
            if not isinstance(value, dict):
                return False
            left = dict(cast("dict[object, object]", value))
            for low, high, key, (item, *_) in entries:
                assert key is not None
                fitting = [k for k, v in left.items() if key(k) and item(v)]
                if not low <= len(fitting) <= high:
                    return False
                for found in fitting:
                    del left[found]
            return not left

        return matches


def _fit(together: list[Matches], items: list[object]) -> bool:
    return len(items) == len(together) and all(
        matches(item) for matches, item in zip(together, items, strict=True)
    )
