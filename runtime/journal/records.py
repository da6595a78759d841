"""Records as bytes, and back. Pure; see JOURNAL.md.

A record is one flat array: the number of the stimulus's kind, the time since the record before,
what it led to, and the fields of the stimulus in their order. Texts come again and again, keys
above all: one that was said lately is the number of the place in which it is remembered.
"""

import zlib
from typing import Annotated, Any, TypeAlias, cast

import msgspec
from msgspec.structs import astuple

from trouper.runtime.errors import CorruptJournal
from trouper.runtime.journal.format import (
    INSTRUCTION_TYPES,
    STIMULI,
    STIMULUS_TYPES,
    Answer,
    Header,
    Kind,
    Record,
    op_of,
    pack,
)
from trouper.runtime.journal.frames import FrameWriter
from trouper.wire.stimuli import Stimulus
from trouper.wire.vocabulary import Key, Priority

PLACES = 1 << 14
"""So many texts are remembered; the next one takes the place of the oldest."""

DIGEST_NBYTES = 4

SHORT = 4
"""A list of so many kinds is remembered as it is."""

Said: TypeAlias = Annotated[int, msgspec.Meta(ge=0)] | str
"""A text, or the place of one that was said before."""

_LEADING = 3
"""Kind, time and answer stand before the fields."""

_CODES = {word: code for code, word in enumerate(INSTRUCTION_TYPES)}


class _Shape(msgspec.Struct, frozen=True):
    """Where in the row of a stimulus texts stand."""

    code: int
    texts: tuple[int, ...]
    lists: tuple[int, ...]
    """Tuples of texts."""


def _places(word: type[Stimulus], kind: object) -> tuple[int, ...]:
    fields = enumerate(msgspec.structs.fields(word), _LEADING)
    return tuple([place for place, field in fields if field.type == kind])


_SHAPES = {
    word: _Shape(code, _places(word, Key), _places(word, tuple[Key, ...]))
    for code, word in enumerate(STIMULUS_TYPES)
}

_ROW_TYPES: dict[object, Any] = {
    Key: Said,
    tuple[Key, ...]: tuple[Said, ...],
    # The machine takes a bool for a number, as Python does.
    Priority: tuple[int | float | bool, ...],
    dict[str, float]: dict[str, float | bool],
}
"""What a field is in a row, where it is not what it is in the stimulus."""


class RecordWriter:
    """Makes the records of one segment.

    Args:
        at_us: Time of the last record before the segment.
    """

    def __init__(self, at_us: int) -> None:
        self.frames = FrameWriter()
        self._at_us = at_us
        self._numbers: dict[str, int] = {}
        self._texts: list[str] = []
        self._next = 0

    def header(self, header: Header) -> bytes:
        """The frame with which the segment begins."""
        return self.frames.frame(pack(header))

    def record(self, at_us: int, stimulus: Stimulus, answer: Answer) -> bytes:
        """The frame of a stimulus and what it led to."""
        shape = _SHAPES[type(stimulus)]
        row: list[Any] = [shape.code, at_us - self._at_us, _summary(answer), *astuple(stimulus)]
        self._at_us = at_us
        numbers = self._numbers
        for place in shape.texts:
            number = numbers.get(row[place])
            row[place] = self._say(row[place]) if number is None else number
        for place in shape.lists:
            if row[place]:
                row[place] = [self._say(text) for text in row[place]]
        return self.frames.frame(pack(row))

    def _say(self, text: str) -> Said:
        """The number of a text that is remembered; another one itself, and remember it."""
        number = self._numbers.get(text)
        if number is not None:
            return number
        if len(self._texts) < PLACES:
            self._texts.append(text)
        else:
            del self._numbers[self._texts[self._next]]
            self._texts[self._next] = text
        self._numbers[text] = self._next
        self._next = (self._next + 1) % PLACES
        return text


def _summary(answer: Answer) -> bytes | tuple[str] | None:
    """What a record keeps of an answer."""
    if not answer:
        return None
    if isinstance(answer, str):
        return (answer,)
    digest = zlib.crc32(pack(answer)).to_bytes(DIGEST_NBYTES, "big")
    return digest + bytes([_CODES[type(instruction)] for instruction in answer])


class _Row(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What stands before the fields."""

    after_us: int
    answer: bytes | tuple[str] | None


_Reading: TypeAlias = tuple[
    type[Stimulus], tuple[int, ...], tuple[int, ...], tuple[str, ...] | None
]
"""How rows of one kind become stimuli: the type; where texts stand, and tuples of texts; and the
fields, if they are not those that the type has now."""


class RecordReader:
    """Reads the records of one segment.

    Args:
        header: With which the segment begins.
    """

    def __init__(self, header: Header) -> None:
        self._n = header.first - 1
        self._at_us = header.at_us
        self._names = [kind.op for kind in header.instructions]
        self._kinds: dict[bytes, tuple[str, ...]] = {}
        """Short lists of kinds by their numbers: the same few come again and again."""
        self._texts: list[str] = []
        self._next = 0
        if header.stimuli == STIMULI:
            self._readings, self._decode = _READINGS, _DECODE
        else:
            self._readings, self._decode = _learn(header.stimuli)

    def read(self, body: bytes) -> Record:
        """The next record.

        Raises:
            CorruptJournal: It is none, or it is of a kind that this trouper does not know.
        """
        self._n = n = self._n + 1
        texts = self._texts
        try:
            row = self._decode(body)
            word, places, lists, names = self._readings[type(row)]
            after_us, answer, *values = astuple(row)
            for place in places:
                said = values[place]
                if type(said) is int:
                    values[place] = texts[said]
                else:
                    self._hear(said)
            for place in lists:
                if values[place]:
                    values[place] = tuple(
                        [texts[t] if type(t) is int else self._hear(t) for t in values[place]]
                    )
            stimulus = word(*values) if names is None else _build(word, names, values)
            self._at_us = at_us = self._at_us + after_us
            if answer is None:
                return Record(n, at_us, stimulus)
            if type(answer) is not bytes:
                return Record(n, at_us, stimulus, error=answer[0])
            codes = answer[DIGEST_NBYTES:]
            kinds = self._kinds.get(codes)
            if kinds is None:
                kinds = self._learn_kinds(codes)
            digest = int.from_bytes(answer[:DIGEST_NBYTES], "big")
            return Record(n, at_us, stimulus, kinds, digest)
        except (msgspec.MsgspecError, TypeError, IndexError) as error:
            raise CorruptJournal(f"record {n} cannot be read: {error}", n) from error

    def _learn_kinds(self, codes: bytes) -> tuple[str, ...]:
        kinds = tuple([self._names[code] for code in codes])
        if len(codes) <= SHORT:
            self._kinds[codes] = kinds
        return kinds

    def _hear(self, text: str) -> str:
        """Remember a text."""
        if len(self._texts) < PLACES:
            self._texts.append(text)
        else:
            self._texts[self._next] = text
        self._next = (self._next + 1) % PLACES
        return text


def _build(word: type[Stimulus], names: tuple[str, ...], values: list[Any]) -> Stimulus:
    """A stimulus from the fields that the writer knew; those that are gone are left out."""
    known = word.__struct_fields__
    fields = zip(names, values, strict=True)
    return word(**{name: value for name, value in fields if name in known})


def _learn(kinds: tuple[Kind, ...]) -> tuple[dict[type[_Row], _Reading], Any]:
    """How to read rows of the kinds that a header tells of."""
    words = {op_of(word): word for word in STIMULUS_TYPES}
    readings: dict[type[_Row], _Reading] = {}
    for code, kind in enumerate(kinds):
        word = words.get(kind.op)
        if word is None:
            continue
        types = {field.name: field.type for field in msgspec.structs.fields(word)}
        fields = [
            (name, _ROW_TYPES.get(types.get(name), types.get(name, Any))) for name in kind.fields
        ]
        row = msgspec.defstruct(
            word.__name__, fields, bases=(_Row,), tag=code, array_like=True, frozen=True, gc=False
        )
        texts = [place for place, (_, type_) in enumerate(fields) if type_ is Said]
        lists = [place for place, (_, type_) in enumerate(fields) if type_ == tuple[Said, ...]]
        names = None if kind.fields == word.__struct_fields__ else kind.fields
        readings[cast("type[_Row]", row)] = (word, tuple(texts), tuple(lists), names)
    union: Any = None
    for row in readings:
        union = row if union is None else union | row
    return readings, msgspec.msgpack.Decoder(union).decode


_READINGS, _DECODE = _learn(STIMULI)
