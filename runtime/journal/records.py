"""Records as bytes, and back, a batch at a time. Pure; see JOURNAL.md."""

import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import accumulate, islice
from operator import sub
from typing import TypeAlias

import msgspec

from trouper.runtime.errors import CorruptJournal
from trouper.runtime.journal.batches import BATCH, Body, join, rescue, split
from trouper.runtime.journal.format import (
    INSTRUCTION_TYPES,
    Batch,
    Header,
    Noted,
    pack,
    pack_into,
)
from trouper.runtime.journal.frames import FrameWriter
from trouper.runtime.journal.rows import RowReader
from trouper.wire.instructions import Instruction
from trouper.wire.stimuli import Stimulus

_TAGS = {word: tag for tag, word in enumerate(INSTRUCTION_TYPES)}

Written: TypeAlias = tuple[bytes, int, Exception | None]
"""Frames, how many records they have, and why there are no more, if one cannot be written."""


class RecordWriter:
    """Makes the records of one segment.

    Args:
        at_us: Time of the last record before the segment.
    """

    def __init__(self, at_us: int) -> None:
        self.frames = FrameWriter()
        self._answer_room = bytearray()
        self._body_room = bytearray()
        self.at_us = at_us
        """Time of the last record."""

    def header(self, header: Header) -> bytes:
        """The frame with which the segment begins."""
        return self.frames.frame(pack(header))

    def write(self, noted: Noted) -> Written:
        """The frames of what was noted.

        If one of the stimuli cannot be written, the segment ends before it.
        """
        try:
            bodies = self._bodies(noted)
        except Exception as error:  # noqa: BLE001 - say, a key that is no Unicode
            count = _writable(noted)
            before = Noted(
                noted.times_us[:count],
                noted.stimuli[:count],
                noted.answers[:count],
                {n: name for n, name in noted.errors.items() if n < count},
            )
            return self._framed(self._bodies(before)), count, error
        return self._framed(bodies), len(noted.answers), None

    def _framed(self, bodies: list[bytes]) -> bytes:
        return b"".join([*map(self.frames.frame, bodies)])

    def _bodies(self, noted: Noted) -> list[bytes]:
        """Of the frames; no check depends on them yet."""
        digests, words = self._digest(noted.answers)
        counts = [*map(len, noted.answers)]
        kinds = bytes(map(_TAGS.__getitem__, map(type, words)))
        bodies: list[bytes] = []
        at_us, first_kind = self.at_us, 0
        for begin in range(0, len(counts), BATCH):
            end = begin + BATCH
            times_us = noted.times_us[begin:end]
            together = times_us[0] == times_us[-1]
            some_counts = counts[begin:end]
            behind_kinds = first_kind + sum(some_counts)
            fields = (
                [times_us[0] - at_us] if together else [*map(sub, times_us, [at_us, *times_us])],
                digests[begin:end],
                some_counts,
                kinds[first_kind:behind_kinds],
                {n - begin: name for n, name in noted.errors.items() if begin <= n < end},
                noted.stimuli[begin:end],
            )
            bodies.append(join(fields, self._body_room))
            at_us, first_kind = times_us[-1], behind_kinds
        self.at_us = at_us
        return bodies

    def _digest(self, answers: list[Sequence[Instruction]]) -> tuple[list[int], list[Instruction]]:
        """The digests of answers, and all their instructions one after the other."""
        digests: list[int] = []
        words: list[Instruction] = []
        packed = self._answer_room
        for answer in answers:
            if answer:
                pack_into(answer, packed)
                digests.append(zlib.crc32(packed))
                words += answer
            else:
                digests.append(0)
        return digests, words


def _writable(noted: Noted) -> int:
    """How many records can be written, if not all."""
    count = 0
    with suppress(Exception):  # whoever asks has seen it
        for told in zip(noted.stimuli, noted.answers, strict=True):
            pack(told)
            count += 1
    return count


class RecordReader:
    """Reads the records of one segment.

    Args:
        header: With which the segment begins.
    """

    def __init__(self, header: Header) -> None:
        self.next = header.first
        """Number of the next record."""
        self._rows = RowReader(header.stimuli)
        self._at_us = header.at_us
        self._names = [kind.op for kind in header.instructions]

    def read(self, data: bytes) -> Iterator[Batch]:
        """The next batch, or as much of it as can be read.

        Raises:
            CorruptJournal: There is more of it.
        """
        try:
            body = split(data)
        except ValueError as error:
            raise self._wrong(error) from error
        yield from self._read(body, len(body.counts))

    def rescue(self, frame: bytes, previous: int) -> Iterator[Batch]:
        """What is whole of a corrupt batch; see `batches.rescue`."""
        rescued = rescue(frame, previous)
        if rescued is not None:
            yield from self._read(*rescued)

    def _read(self, body: Body, count: int) -> Iterator[Batch]:
        """The first so many records."""
        after_us = body.after_us + [0] * (len(body.counts) - len(body.after_us))
        _, *times_us = accumulate(after_us[:count], initial=self._at_us)
        stimuli: list[Stimulus] = []
        failure: Exception | None = None
        try:
            if body.kinds and max(body.kinds) >= len(self._names):
                raise IndexError("there is no such kind of instruction")
            for stimulus in islice(self._rows.read(body), count):
                stimuli.append(stimulus)
        except (msgspec.MsgspecError, TypeError, ValueError, IndexError) as error:
            failure = error
        if stimuli:
            yield Batch(
                first=self.next,
                times_us=times_us,
                stimuli=stimuli,
                digests=body.digests,
                counts=body.counts,
                kinds=body.kinds,
                names=self._names,
                errors=body.errors,
            )
            self.next += len(stimuli)
            self._at_us = times_us[len(stimuli) - 1]
        if failure is not None:
            raise self._wrong(failure) from failure

    def _wrong(self, error: Exception) -> CorruptJournal:
        return CorruptJournal(f"record {self.next} cannot be read: {error}", self.next)
