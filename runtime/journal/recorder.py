"""Records what a machine is told and what it says: stands before it, and costs little.

What is handled is only noted down; at the end of a batch it becomes bytes, and those go to the
writer's thread. They are not made there: that would take as much of the interpreter, and hold the
event loop up for longer at a time.
"""

import secrets
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from trouper.runtime.journal.files import check_can_begin
from trouper.runtime.journal.format import Header, Noted
from trouper.runtime.journal.keys import KeyHasher
from trouper.runtime.journal.records import RecordWriter
from trouper.runtime.journal.writer import Flush, JournalStatus, JournalWriter
from trouper.runtime.machine import Machine
from trouper.wire.instructions import Instruction
from trouper.wire.stimuli import Stimulus

BATCH = 1000
"""So many stimuli are written in one frame at most."""

LEAST_NBYTES = 1 << 16


class JournalOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How to record; see `open_worker`."""

    path: Path
    max_nbytes: int
    flush: Flush
    hash_keys: bool | bytes

    def __post_init__(self) -> None:
        if self.max_nbytes < LEAST_NBYTES:
            raise ValueError(
                f"a journal needs at least {LEAST_NBYTES} bytes, not {self.max_nbytes}"
            )
        if isinstance(self.flush, str):
            if self.flush not in ("buffered", "fsync"):
                raise ValueError(f"a journal is flushed 'buffered', 'fsync' or every so many "
                                 f"seconds, not {self.flush!r}")  # fmt: skip
        elif not 0 < self.flush < float("inf"):
            raise ValueError(f"a journal cannot be flushed every {self.flush} seconds")
        if isinstance(self.hash_keys, bytes) and not 0 < len(self.hash_keys) <= 64:
            raise ValueError(f"a secret has 1 to 64 bytes, not {len(self.hash_keys)}")


class Recorder:
    """See the module's text.

    Args:
        machine: Whose life is recorded; from here on it is told everything through `handle`.
        name: Of the worker.
        options: Where to, and how.
        clock: Nanoseconds, never going back.

    Raises:
        JournalError: A journal cannot begin at the path, for something else is there.
    """

    def __init__(
        self,
        machine: Machine,
        name: str,
        options: JournalOptions,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        path = options.path.absolute()
        check_can_begin(path)
        self._machine = machine
        self._name = name
        self._clock = clock
        self._hasher: KeyHasher | None = None
        if options.hash_keys is not False:
            secret = options.hash_keys if isinstance(options.hash_keys, bytes) else None
            self._hasher = KeyHasher(secret)
        self._run = secrets.token_hex(8)
        self._begun_s = time.time()
        self._begun_ns = clock()
        self._at_us = 0
        self._noted = Noted()
        self._count = 0
        self._records = RecordWriter(0)
        self._left_nbytes = 0
        """After so many bytes of records another segment begins."""
        self._writer = JournalWriter(path, options.max_nbytes, options.flush)
        self._begin_segment()

    def begin(self, stimuli: Sequence[Stimulus]) -> list[Sequence[Instruction]]:
        """Some stimuli are about to be handled, in their order.

        Gives the list to which the machine's answer to each is to be added. For who has a lot to
        be handled: the call of `handle` costs more than all of its work.
        """
        noted = self._noted
        if not noted.stimuli:
            self._at_us = (self._clock() - self._begun_ns) // 1000
        noted.stimuli.extend(stimuli)
        return noted.answers

    def raised(self, error: Exception) -> None:
        """The machine's answer to the next stimulus was an exception."""
        noted = self._noted
        noted.errors[len(noted.answers)] = type(error).__name__
        noted.answers.append(())

    def handle(self, stimulus: Stimulus) -> list[Instruction]:
        """Have the machine handle a stimulus; see `Machine.handle`."""
        answers = self.begin((stimulus,))
        try:
            instructions = self._machine.handle(stimulus)
        except Exception as error:
            self.raised(error)
            raise
        answers.append(instructions)
        if len(answers) == BATCH:
            self.commit()
        return instructions

    def commit(self) -> None:
        """A batch is handled: hand it to the writer."""
        self._flush()
        if self._left_nbytes <= 0:
            self._begin_segment()

    def close(self) -> None:
        """Write all that is left."""
        self._flush()
        self._writer.close()

    def status(self) -> JournalStatus:
        """How it goes."""
        writer = self._writer
        return JournalStatus(str(writer.path), self._count, writer.written_nbytes, writer.error)

    def _flush(self) -> None:
        noted, self._noted = self._noted, Noted()
        for part in noted.parts(BATCH):
            if self._writer.error is not None:
                return
            if self._hasher is not None:
                part = self._hasher.noted(part)
            frame, size, failure = self._records.batch(self._at_us, part)
            self._count += size
            self._left_nbytes -= len(frame)
            self._writer.put(frame)
            if failure is not None:
                self._writer.end(f"record {self._count + 1} cannot be written: {failure}")

    def _begin_segment(self) -> None:
        snapshot = self._machine.snapshot()
        if self._hasher is not None:
            snapshot = self._hasher.snapshot(snapshot)
        header = Header(
            name=self._name,
            run=self._run,
            first=self._count + 1,
            begun_s=self._begun_s,
            at_us=self._at_us,
            previous=self._records.frames.check,
            hashed_keys=self._hasher is not None,
            snapshot=snapshot,
        )
        self._records = RecordWriter(self._at_us)
        frame = self._records.header(header)
        self._writer.begin(frame)
        # No fewer than the snapshot has, so that snapshots are at most half of all.
        self._left_nbytes = max(self._writer.segment_nbytes, len(frame))
