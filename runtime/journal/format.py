"""What stands in a journal: the header of a segment, and its records. Pure; see JOURNAL.md.

Kinds of stimuli and instructions are numbers in it. The header says which names and fields they
stand for: a journal tells whoever reads it how, and a newer trouper what the older one knew.

What a stimulus led to, its *answer*, is kept as a digest and the kinds of the instructions: enough
to notice the first difference, and to say what was there before.
"""

import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from itertools import islice
from numbers import Integral, Real
from typing import Any, get_args

import msgspec

from trouper.wire.instructions import Instruction
from trouper.wire.stimuli import Stimulus
from trouper.wire.version import VERSION
from trouper.wire.vocabulary import Word, kebab_case

FORMAT = 4


class Kind(msgspec.Struct, frozen=True, array_like=True):
    """A kind of stimulus or instruction, as the writer knew it. Its place is its tag."""

    op: str
    fields: tuple[str, ...]


def kinds_of(words: Iterable[type[Word]]) -> tuple[Kind, ...]:
    """The kinds of some types of words, in the same order."""
    return tuple([Kind(op_of(word), word.__struct_fields__) for word in words])


@cache
def op_of(word: type[Word]) -> str:
    """The name of a kind, as ``compute-task``."""
    return kebab_case(word.__name__)


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
    """When it was handled: microseconds since the run began. Those that came together have the
    same time."""
    stimulus: Stimulus
    kinds: tuple[str, ...] = ()
    """Of the instructions, in order, by name: ``drop-data``."""
    digest: int | None = None
    """Of the instructions; None if there were none."""
    error: str = ""
    """Type name of the exception that the machine raised instead; empty if it did not."""


class Batch(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The records of a frame. Lists have an item for each."""

    first: int
    """Number of the first one."""
    times_us: list[int]
    stimuli: list[Stimulus]
    digests: Sequence[int]
    """Of the instructions; 0 if there were none."""
    counts: Sequence[int]
    """Of instructions."""
    kinds: bytes
    """Of all instructions, one after the other."""
    names: Sequence[str]
    """Of the kinds, by number."""
    errors: dict[int, str]
    """Type names of the exceptions that the machine raised instead, by place in the batch."""

    @property
    def last(self) -> int:
        """Number of the last record; `first` - 1 if there is none."""
        return self.first + len(self.stimuli) - 1

    def records(self) -> Iterator[Record]:
        """One by one."""
        at = 0
        for place, stimulus in enumerate(self.stimuli):
            end = at + self.counts[place]
            yield Record(
                self.first + place,
                self.times_us[place],
                stimulus,
                tuple([self.names[kind] for kind in self.kinds[at:end]]),
                self.digests[place] if end > at else None,
                self.errors.get(place, ""),
            )
            at = end

    def record(self, place: int) -> Record:
        """The one at a place in the batch."""
        return next(islice(self.records(), place, None))


class Noted(msgspec.Struct, frozen=True):
    """What a machine was told, and what it said. Lists have an item for each stimulus."""

    times_us: list[int] = []
    stimuli: list[Stimulus] = []
    answers: list[Sequence[Instruction]] = []
    """Empty where the machine raised an exception."""
    errors: dict[int, str] = {}
    """Type names of the exceptions, by place in the lists."""


def plain_number(value: object) -> int | float:
    """What stands for a number of a type that MessagePack does not know, say of numpy."""
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    raise NotImplementedError(f"{type(value).__name__} is no part of a journal")


_encoder = msgspec.msgpack.Encoder(enc_hook=plain_number)

pack: Callable[[object], bytes] = _encoder.encode
"""MessagePack of anything that stands in a journal."""

pack_into: Callable[[object, bytearray], None] = _encoder.encode_into
"""The same in place of what is in a buffer."""


class Digester:
    """Digests lists of instructions: the CRC-32 of what they are as MessagePack; 0 if empty.

    Args:
        kinds: The instructions that the writer of the journal knew. What has been added to them
            since is left out, so that it makes no difference.
    """

    def __init__(self, kinds: tuple[Kind, ...] = INSTRUCTIONS) -> None:
        self._known = (
            None
            if kinds == INSTRUCTIONS
            else {kind.op: (tag, kind.fields) for tag, kind in enumerate(kinds)}
        )

    def digest(self, instructions: Sequence[Instruction]) -> int:
        """The digest of a list."""
        if not instructions:
            return 0
        if self._known is None:
            return zlib.crc32(pack(instructions))
        return zlib.crc32(pack([self._as_written(word) for word in instructions]))

    def _as_written(self, word: Instruction) -> list[Any]:
        assert self._known is not None
        op = op_of(type(word))
        tag, fields = self._known.get(op, (op, ()))
        return [tag, *[getattr(word, name, None) for name in fields]]
