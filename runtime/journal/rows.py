"""Rows: stimuli as arrays, which are to become stimuli again. Pure; see JOURNAL.md.

A word is written as the array that it is, and read likewise, if its writer knew the same kinds with
the same fields as this trouper. If not, or if there is something wrong, rows are read one by one:
each kind has a row, which is made from what the header says, and a function that makes the stimulus
of it, as `dataclasses` makes an ``__init__``.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any, NamedTuple, TypeAlias

import msgspec

from trouper.runtime.journal.batches import Body
from trouper.runtime.journal.format import STIMULI, STIMULUS_TYPES, Kind, op_of
from trouper.wire.stimuli import Stimulus
from trouper.wire.vocabulary import Priority

_TYPES: dict[object, Any] = {
    # The machine takes a bool for a number, as Python does.
    Priority: tuple[int | float | bool, ...],
    dict[str, float]: dict[str, float | bool],
}
"""What a field is in a row, where it is not what it is in the stimulus."""


class _Row(msgspec.Struct, frozen=True, array_like=True, gc=False, forbid_unknown_fields=True):
    """The fields of a stimulus, as the writer knew it."""


_FromRow: TypeAlias = Callable[[Any], Stimulus]
"""Makes the stimulus of a row."""


class _Readings(NamedTuple):
    """How rows become stimuli."""

    from_row: dict[type[_Row], _FromRow]
    decode: Callable[[msgspec.Raw], _Row]


def _from_row(word: type[Stimulus], names: tuple[str, ...]) -> _FromRow:
    """From the fields that the writer knew; those that are gone are left out."""
    items = [
        f"{name}=row.f{place}" for place, name in enumerate(names) if name in word.__struct_fields__
    ]
    made: _FromRow = eval(f"lambda row: word({', '.join(items)})", {"word": word})
    return made


def _learn(kinds: tuple[Kind, ...]) -> _Readings:
    """How to read rows of the kinds that a header tells of."""
    words = {op_of(word): word for word in STIMULUS_TYPES}
    from_row: dict[type[_Row], _FromRow] = {}
    for tag, kind in enumerate(kinds):
        word = words.get(kind.op)
        if word is None:
            continue
        known = {field.name: field.type for field in msgspec.structs.fields(word)}
        types = [_TYPES.get(known.get(name), known.get(name, Any)) for name in kind.fields]
        fields = [(f"f{place}", type_) for place, type_ in enumerate(types)]
        row: Any = msgspec.defstruct(
            word.__name__, fields, bases=(_Row,), tag=tag, array_like=True, frozen=True, gc=False
        )
        from_row[row] = _from_row(word, kind.fields)
    union: Any = None
    for row in from_row:
        union = row if union is None else union | row
    return _Readings(from_row, msgspec.msgpack.Decoder(union).decode)


_READINGS = _learn(STIMULI)

_decode_stimuli = msgspec.msgpack.Decoder(list[Stimulus]).decode


class RowReader:
    """Reads the rows of one segment.

    Args:
        kinds: Of stimuli, in the order of their tags.
    """

    def __init__(self, kinds: tuple[Kind, ...]) -> None:
        self._known = kinds == STIMULI
        self._readings = _READINGS if self._known else _learn(kinds)

    def read(self, body: Body) -> Iterable[Stimulus]:
        """The stimuli of a batch.

        Raises:
            MsgspecError, TypeError, ValueError: The next row makes no sense, or is of a kind that
                this trouper does not know.
        """
        if self._known:
            with suppress(msgspec.MsgspecError, ValueError):
                return _decode_stimuli(body.rows)
        return self._one_by_one(body)

    def _one_by_one(self, body: Body) -> Iterator[Stimulus]:
        from_row, decode = self._readings
        for packed in body.each_row():
            row = decode(packed)
            yield from_row[type(row)](row)
