"""What stands in a journal: the header of a segment, and its records. Pure; see JOURNAL.md.

Kinds of stimuli and instructions are numbers in it. The header says which names and fields they
stand for: a journal tells whoever reads it how, and a newer trouper what the older one knew.

What a stimulus led to, its *answer*, is kept as a digest and the kinds of the instructions: enough
to notice the first difference, and to say what was there before.
"""

import zlib
from collections.abc import Callable, Iterable, Sequence
from numbers import Integral, Real
from typing import Any, TypeAlias, get_args

import msgspec

from trouper.wire.instructions import Instruction
from trouper.wire.stimuli import Stimulus
from trouper.wire.version import VERSION
from trouper.wire.vocabulary import Word

FORMAT = 1


class Kind(msgspec.Struct, frozen=True, array_like=True):
    """A kind of stimulus or instruction, as the writer knew it. Its number is its place."""

    op: str
    fields: tuple[str, ...]


def kinds_of(words: Iterable[type[Word]]) -> tuple[Kind, ...]:
    """The kinds of some types of words, in the same order."""
    return tuple([Kind(op_of(word), word.__struct_fields__) for word in words])


def op_of(word: type[Word]) -> str:
    """The name of a kind, as ``compute-task``."""
    return str(word.__struct_config__.tag)


STIMULUS_TYPES: tuple[type[Stimulus], ...] = get_args(Stimulus)
INSTRUCTION_TYPES: tuple[type[Instruction], ...] = get_args(Instruction)
STIMULI = kinds_of(STIMULUS_TYPES)
INSTRUCTIONS = kinds_of(INSTRUCTION_TYPES)


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """What a segment begins with."""

    format: int = FORMAT
    trouper: str = VERSION
    name: str
    """Of the worker."""
    run: str
    """Random: which segments belong together."""
    first: int
    """Number of the segment's first record; that of a run's first one is 1."""
    begun_s: float
    """When the run began, in seconds since 1970: zero of all times in it."""
    at_us: int
    """Time of the last record before the segment."""
    previous: int
    """Check of the last frame of the segment before; 0 if there is none."""
    hashed_keys: bool
    stimuli: tuple[Kind, ...] = STIMULI
    instructions: tuple[Kind, ...] = INSTRUCTIONS
    snapshot: dict[str, Any]
    """Of the machine before the segment's first record. Its configuration is part of it."""


class Record(msgspec.Struct, frozen=True, gc=False):
    """A stimulus, and what it led to."""

    n: int
    at_us: int
    """When it was handled, to the batch: microseconds since the run began."""
    stimulus: Stimulus
    kinds: tuple[str, ...] = ()
    """Of the instructions, in order, by name: ``drop-data``."""
    digest: int | None = None
    """Of the instructions; None if there were none."""
    error: str = ""
    """Type name of the exception that the machine raised instead; empty if it did not."""


Answer: TypeAlias = Sequence[Instruction] | str
"""What a stimulus led to: instructions, or the type name of an exception."""


def plain_number(value: object) -> int | float:
    """What stands for a number of a type that MessagePack does not know, say of numpy."""
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    raise NotImplementedError(f"{type(value).__name__} is no part of a journal")


pack: Callable[[object], bytes] = msgspec.msgpack.Encoder(enc_hook=plain_number).encode
"""MessagePack of anything that stands in a journal."""


class Digester:
    """Digests lists of instructions: the CRC-32 of what they are as MessagePack.

    Args:
        kinds: The instructions that the writer of the journal knew. What has been added to them
            since is left out, so that it makes no difference.
    """

    def __init__(self, kinds: tuple[Kind, ...] = INSTRUCTIONS) -> None:
        self._fields = None if kinds == INSTRUCTIONS else {kind.op: kind.fields for kind in kinds}

    def digest(self, instructions: Sequence[Instruction]) -> int:
        """The digest of a list that is not empty."""
        if self._fields is None:
            return zlib.crc32(pack(instructions))
        return zlib.crc32(pack([self._as_written(word) for word in instructions]))

    def _as_written(self, word: Instruction) -> dict[str, Any]:
        assert self._fields is not None
        op = op_of(type(word))
        fields = self._fields.get(op, ())
        return {"op": op} | {name: getattr(word, name, None) for name in fields}
