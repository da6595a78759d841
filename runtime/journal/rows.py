"""Rows: stimuli as plain arrays, and back. Pure; see JOURNAL.md.

A row has the number of the stimulus's kind, and its fields in their order. Keys come again and
again: instead of one that was said lately stands the number of the place in which it is
remembered. Other texts are short, and looking them up costs more than it spares.

Rows are on the way of every stimulus, so each kind has a function of its own, which is made from
its fields as `dataclasses` makes an ``__init__``.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, Any, NamedTuple, TypeAlias

import msgspec

from trouper.runtime.journal.batches import Body
from trouper.runtime.journal.format import STIMULI, STIMULUS_TYPES, Kind, op_of
from trouper.wire.stimuli import Stimulus
from trouper.wire.vocabulary import Key, Priority

PLACES = 1 << 14
"""When so many keys are remembered, all are forgotten, before the next batch."""

SUBJECTS = frozenset({"key", "peer"})
"""What is remembered: the keys and addresses that stimuli are about."""

Said: TypeAlias = Annotated[int, msgspec.Meta(ge=0)] | str
"""A key, or the place of one that was said before."""

_TYPES: dict[object, Any] = {
    tuple[Key, ...]: tuple[Said, ...],
    # The machine takes a bool for a number, as Python does.
    Priority: tuple[int | float | bool, ...],
    dict[str, float]: dict[str, float | bool],
}
"""What a field is in a row, where it is not what it is in the stimulus."""


class Teller:
    """Remembers keys, for whoever writes."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self.number_of = self._numbers.get
        """The number of a key that is remembered."""

    def begin_batch(self) -> None:
        """Forget, now and then."""
        if len(self._numbers) >= PLACES:
            self._numbers.clear()

    def say(self, key: str) -> str:
        """Say a key in full, and remember it."""
        self._numbers[key] = len(self._numbers)
        return key


class Hearer:
    """Remembers keys, for whoever reads."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        """By number."""

    def begin_batch(self) -> None:
        """Forget, now and then."""
        if len(self.keys) >= PLACES:
            self.keys.clear()

    def hear(self, key: str) -> str:
        """Hear a key in full, and remember it."""
        self.keys.append(key)
        return key


ToRow: TypeAlias = Callable[[Any, Callable[..., int | str | None], Callable[[str], str]], list[Any]]
"""Makes the row of a stimulus, given `Teller.number_of` and `Teller.say`."""


def _to_row(code: int, word: type[Stimulus]) -> ToRow:
    items = [str(code)]
    for field in msgspec.structs.fields(word):
        value = f"word.{field.name}"
        if field.name in SUBJECTS:
            value = f"n if (n := number_of(key := {value})) is not None else say(key)"
        elif field.type == tuple[Key, ...]:
            value = f"[*map(number_of, {value}, {value})] if {value} else ()"
        items.append(value)
    to_row: ToRow = eval(f"lambda word, number_of, say: [{', '.join(items)}]")
    return to_row


TO_ROW = {word: _to_row(code, word) for code, word in enumerate(STIMULUS_TYPES)}
"""By kind of stimulus."""


class _Row(msgspec.Struct, frozen=True, array_like=True, gc=False, forbid_unknown_fields=True):
    """The fields of a stimulus; its code is the tag."""


_FromRow: TypeAlias = Callable[[Any, list[str], Callable[[str], str]], Stimulus]
"""Makes a stimulus of a row, given `Hearer.keys` and `Hearer.hear`."""


class _Readings(NamedTuple):
    """How rows become stimuli."""

    from_row: dict[type[_Row], _FromRow]
    decode: Callable[[bytes], _Row]
    decode_array: Callable[[bytes], list[_Row]]


def _from_row(word: type[Stimulus], names: tuple[str, ...], types: list[Any]) -> _FromRow:
    """From the fields that the writer knew; those that are gone are left out."""
    items: list[str] = []
    for place, (name, type_) in enumerate(zip(names, types, strict=True)):
        value = f"row.f{place}"
        if type_ is Said:
            value = f"keys[k] if type(k := {value}) is int else hear(k)"
        elif type_ == tuple[Said, ...]:
            value = f"tuple([keys[k] if type(k) is int else k for k in {value}]) if {value} else ()"
        if name in word.__struct_fields__:
            items.append(f"{name}={value}")
    if names == word.__struct_fields__:  # by place is quicker
        items = [item.partition("=")[2] for item in items]
    scope = {"word": word}
    made: _FromRow = eval(f"lambda row, keys, hear: word({', '.join(items)})", scope)
    return made


def _learn(kinds: tuple[Kind, ...]) -> _Readings:
    """How to read rows of the kinds that a header tells of."""
    words = {op_of(word): word for word in STIMULUS_TYPES}
    from_row: dict[type[_Row], _FromRow] = {}
    for code, kind in enumerate(kinds):
        word = words.get(kind.op)
        if word is None:
            continue
        known = {field.name: field.type for field in msgspec.structs.fields(word)}
        types = [
            Said if name in SUBJECTS else _TYPES.get(known.get(name), known.get(name, Any))
            for name in kind.fields
        ]
        fields = [(f"f{place}", type_) for place, type_ in enumerate(types)]
        row: Any = msgspec.defstruct(
            word.__name__, fields, bases=(_Row,), tag=code, array_like=True, frozen=True, gc=False
        )
        from_row[row] = _from_row(word, kind.fields, types)
    union: Any = None
    for row in from_row:
        union = row if union is None else union | row
    one, many = msgspec.msgpack.Decoder(union), msgspec.msgpack.Decoder(list[union])
    return _Readings(from_row, one.decode, many.decode)


_READINGS = _learn(STIMULI)

_ARRAY = b"\xdd"
"""In MessagePack, an array of as many items as the next 4 bytes say."""


class RowReader:
    """Reads the rows of one segment.

    Args:
        kinds: Of stimuli, in the order of their numbers.
    """

    def __init__(self, kinds: tuple[Kind, ...]) -> None:
        self._readings = _READINGS if kinds == STIMULI else _learn(kinds)
        self._hearer = Hearer()

    def read(self, body: Body) -> Iterator[Stimulus]:
        """The stimuli of a batch.

        Raises:
            MsgspecError, TypeError, ValueError, IndexError: The next row makes no sense, or is of a
                kind that this trouper does not know.
        """
        from_row = self._readings.from_row
        self._hearer.begin_batch()
        keys, hear = self._hearer.keys, self._hearer.hear
        for row in self._decode(body):
            yield from_row[type(row)](row, keys, hear)

    def _decode(self, body: Body) -> Iterable[_Row]:
        """All at once, for that is quicker; or else one by one, up to the one that is wrong."""
        try:
            return self._readings.decode_array(_ARRAY + body.count.to_bytes(4, "big") + body.rows)
        except (msgspec.MsgspecError, ValueError):
            return map(self._readings.decode, body.each_row())
