"""Records as bytes, and back, a batch at a time. Pure; see JOURNAL.md."""

import zlib
from collections.abc import Iterator
from itertools import accumulate
from operator import sub
from typing import TypeAlias

import msgspec

from trouper.runtime.errors import CorruptJournal
from trouper.runtime.journal.batches import (
    Body,
    Summary,
    join,
    numbers_from_bytes,
    numbers_to_bytes,
    rescue,
    split,
)
from trouper.runtime.journal.format import (
    INSTRUCTION_TYPES,
    NOTHING,
    Batch,
    Header,
    Noted,
    pack,
    pack_into,
)
from trouper.runtime.journal.frames import FrameWriter
from trouper.runtime.journal.rows import TO_ROW, RowReader, Teller
from trouper.wire.stimuli import Stimulus

_CODES = {word: code for code, word in enumerate(INSTRUCTION_TYPES)}


Written: TypeAlias = tuple[bytes, int, Exception | None]
"""A frame, how many records it has, and why there are no more, if one cannot be written."""


class RecordWriter:
    """Makes the records of one segment.

    Args:
        at_us: Time of the last record before the segment.
    """

    def __init__(self, at_us: int) -> None:
        self.frames = FrameWriter()
        self._teller = Teller()
        self._packed = bytearray()
        self.at_us = at_us
        """Time of the last record."""

    def header(self, header: Header) -> bytes:
        """The frame with which the segment begins."""
        return self.frames.frame(pack(header))

    def batch(self, noted: Noted) -> Written:
        """The frame of what was noted.

        If one of the stimuli cannot be written, the segment ends before it.
        """
        rows: list[bytes] = []
        digests: list[int] = []
        failure: Exception | None = None
        self._teller.begin_batch()
        number_of, say = self._teller.number_of, self._teller.say
        packed = self._packed
        try:
            for stimulus, answer in zip(noted.stimuli, noted.answers, strict=True):
                row = pack(TO_ROW[type(stimulus)](stimulus, number_of, say))
                if answer:
                    pack_into(answer, packed)
                    digests.append(zlib.crc32(packed))
                else:
                    digests.append(NOTHING)
                rows.append(row)
        except Exception as error:  # noqa: BLE001 - say, a key that is no Unicode
            failure = error
        count = len(rows)
        if not count:
            return b"", 0, failure
        times_us, answers = noted.times_us[:count], noted.answers[:count]
        summary = Summary(
            [*map(sub, times_us, [self.at_us, *times_us])],
            [*map(len, rows)],
            numbers_to_bytes(digests),
            [*map(len, answers)],
            bytes([_CODES[type(word)] for answer in answers for word in answer]),
            noted.errors,
        )
        self.at_us = times_us[-1]
        frame = self.frames.frame(join(summary, rows, self.frames.check))
        return frame, count, failure


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

    def read(self, body: bytes) -> Iterator[Batch]:
        """The next batch, or as much of it as can be read.

        Raises:
            CorruptJournal: There is more of it.
        """
        try:
            whole = split(body)
        except ValueError as error:
            raise self._wrong(error) from error
        yield from self._read(whole)

    def rescue(self, broken: bytes, previous: int) -> Iterator[Batch]:
        """What is whole of the last batch; see `batches.rescue`."""
        whole = rescue(broken, previous)
        if whole is not None:
            yield from self._read(whole)

    def _read(self, body: Body) -> Iterator[Batch]:
        summary = body.summary
        _, *times_us = accumulate(summary.after_us, initial=self._at_us)
        stimuli: list[Stimulus] = []
        failure: Exception | None = None
        try:
            if summary.kinds and max(summary.kinds) >= len(self._names):
                raise IndexError("there is no such kind of instruction")
            for stimulus in self._rows.read(body):
                stimuli.append(stimulus)
        except (msgspec.MsgspecError, TypeError, ValueError, IndexError) as error:
            failure = error
        if stimuli:
            yield Batch(
                first=self.next,
                times_us=times_us,
                stimuli=stimuli,
                digests=numbers_from_bytes(summary.digests),
                counts=summary.counts,
                kinds=summary.kinds,
                names=self._names,
                errors=summary.errors,
            )
            self.next += len(stimuli)
            self._at_us = times_us[-1]
        if failure is not None:
            raise self._wrong(failure) from failure

    def _wrong(self, error: Exception) -> CorruptJournal:
        return CorruptJournal(f"record {self.next} cannot be read: {error}", self.next)
