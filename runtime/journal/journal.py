"""The journal of a worker: what its machine was told, read again and replayed.

    journal = Journal.open("work.journal")
    machine = journal.replay(until=812)
    print(machine.phase("a"))

Replaying needs neither the user's code nor their data: the machine never saw any. It verifies,
record by record, that the machine says what it said then, and stops at the first difference.

The journal of a long run is the last part of it, in several files; the first of those that are left
begins with a snapshot, so what is left can be replayed. See JOURNAL.md for the format.
"""

import warnings
from collections.abc import Iterator
from pathlib import Path

import msgspec

from trouper.runtime.errors import CorruptJournal, JournalError, JournalWarning, SnapshotError
from trouper.runtime.journal.files import segment_files
from trouper.runtime.journal.format import Batch, Header, Record, pack
from trouper.runtime.journal.replay import Replay
from trouper.runtime.journal.segment import CutHeader, Segment
from trouper.runtime.ledger import Config
from trouper.runtime.machine import Machine
from trouper.wire.instructions import Instruction


class Step(msgspec.Struct, frozen=True, gc=False):
    """A record that has been replayed."""

    record: Record
    instructions: list[Instruction]
    machine: Machine
    """In the state after it. It goes on with the next step: whoever wants to keep it copies it."""


class Journal:
    """See the module's text; made by `open`."""

    def __init__(self, segments: list[Segment], broken: CorruptJournal | None) -> None:
        self.segments = segments
        """Oldest first."""
        self._broken = broken
        """Why the segment behind the last one cannot be read, if there is such a one."""
        self.warnings: list[str] = []
        """What had to be left out."""
        self.first = segments[0].header.first
        """Number of the first record."""
        count, torn_nbytes = segments[-1].measure()
        self.last = segments[-1].header.first + count - 1
        """Number of the last record; `first` - 1 if there is none."""
        if torn_nbytes:
            self._warn(
                f"{segments[-1].path} ends in the middle of the batch that begins with record "
                f"{self.last + 1}; its last {torn_nbytes} bytes are cut off"
            )

    @classmethod
    def open(cls, path: str | Path) -> "Journal":
        """Open a journal for reading; it may still be written.

        Args:
            path: What `open_worker` was given. Or one of the older files beside it, for the part of
                the run that ends with that one; or for an earlier run, with its last one.

        Raises:
            JournalError: There is no journal, or one of a newer format; the message says which.
            CorruptJournal: Its header is not as it was written.

        Warns:
            JournalWarning: Something had to be left out.
        """
        path = Path(path)
        try:
            if path.is_dir():
                raise JournalError(f"{path} is a directory; a journal is a file")
            files = segment_files(path)
        except OSError as error:
            raise JournalError(f"{path} cannot be read: {error.strerror}") from error
        segments: list[Segment] = []
        broken: CorruptJournal | None = None
        left_out: list[str] = []
        for file in reversed(files):
            try:
                segment = Segment(file)
            except JournalError as error:
                if segments:
                    left_out.append(f"{error}; the journal begins behind that")
                    break
                if file == files[0] or not isinstance(error, CorruptJournal | CutHeader):
                    raise
                if isinstance(error, CorruptJournal):
                    broken = error
                else:  # killed in the moment when it began
                    left_out.append(f"{error}; it is left out")
                continue
            if segments and segment.header.run != segments[0].header.run:
                break
            segments.insert(0, segment)
        journal = cls(segments, broken)
        for what in left_out:
            journal._warn(what)
        return journal

    @property
    def header(self) -> Header:
        """Of the first segment that is left."""
        return self.segments[0].header

    @property
    def config(self) -> Config:
        """Of the machine."""
        return self._machine_before(self.segments[0]).ledger.config

    def records(self, since: int | None = None, until: int | None = None) -> Iterator[Record]:
        """The records behind number `since`, up to number `until` or to the end.

        Raises:
            JournalError: There is no such number in what is left of the journal.
            CorruptJournal: A record is not as it was written; those before it were given.
        """
        since = self.first - 1 if since is None else since
        if until is not None and until <= since:
            return
        for segment, following in self._segments_behind(since):
            for batch in segment.batches(following):
                if batch.last <= since:
                    continue
                for record in batch.records():
                    if record.n > since:
                        yield record
                    if record.n == until:
                        return
        self._check_end()

    def steps(self, since: int | None = None, until: int | None = None) -> Iterator[Step]:
        """Replay, and give every step behind number `since`, up to number `until` or to the end.

        Raises:
            JournalError: There is no such number in what is left of the journal.
            CorruptJournal: A record is not as it was written.
            ReplayDiverged: The machine does not say what it said then.
        """
        since = self.first - 1 if since is None else since
        if until is not None and until <= since:
            return
        for replay, batch in self._replays_behind(since):
            if batch.last <= since:
                replay.run(batch)
                continue
            for record in batch.records():
                instructions = replay.step(record)
                if record.n > since:
                    yield Step(record, instructions, replay.machine)
                if record.n == until:
                    return

    def replay(self, until: int | None = None) -> Machine:
        """The machine in the state after record number `until`, or after the last one.

        Raises:
            JournalError: There is no such number in what is left of the journal.
            CorruptJournal: A record up to there is not as it was written.
            ReplayDiverged: The machine does not say what it said then.
        """
        n = self.last if until is None else until
        if n > self.last:
            raise JournalError(f"there is no record {n}: the last one is {self.last}")
        segment = self._segments_behind(n)[0][0]
        machine = self._machine_before(segment)
        if segment.header.first <= n:  # else it begins with that very state
            for step in self.steps(n - 1, until):
                machine = step.machine
        elif until is None:
            self._check_end()
        return machine

    def verify(self) -> int:
        """Read and replay everything; how many records that were.

        Raises:
            CorruptJournal: A record is not as it was written.
            ReplayDiverged: The machine does not say what it said then.
        """
        n = self.first - 1
        for replay, batch in self._replays_behind(n):
            replay.run(batch)
            n = batch.last
        return n - self.first + 1

    def _replays_behind(self, n: int) -> Iterator[tuple[Replay, Batch]]:
        """All batches from the last snapshot before record n + 1 on, each to be replayed at once.

        With each comes the replay that has led the machine up to it.
        """
        machine: Machine | None = None
        for segment, following in self._segments_behind(n):
            if machine is None:
                machine = self._machine_before(segment)
            elif pack(machine.snapshot()) != pack(segment.header.snapshot):
                raise JournalError(
                    f"the machine's state before record {segment.header.first} is not the one "
                    "that was recorded, though it has said the same"
                )
            replay = Replay(machine, segment.header.instructions)
            for batch in segment.batches(following):
                yield replay, batch
        self._check_end()

    def _segments_behind(self, n: int) -> list[tuple[Segment, Header | None]]:
        """The segments from the one with record n + 1 on, each with the header of the next."""
        if n < self.first - 1:
            raise JournalError(f"record {n} is gone: what is left begins with {self.first}")
        headers = [segment.header for segment in self.segments]
        paired = list(zip(self.segments, [*headers[1:], None], strict=True))
        while len(paired) > 1 and paired[1][0].header.first <= n + 1:
            del paired[0]
        return paired

    def _check_end(self) -> None:
        if self._broken is not None:
            n = self.last + 1
            raise CorruptJournal(f"record {n} cannot be found: {self._broken}", n)

    def _machine_before(self, segment: Segment) -> Machine:
        try:
            return Machine.from_snapshot(segment.header.snapshot)
        except SnapshotError as error:
            raise JournalError(f"{segment.path} begins with no state: {error}") from error

    def _warn(self, message: str) -> None:
        self.warnings.append(message)
        warnings.warn(JournalWarning(message), stacklevel=3)
