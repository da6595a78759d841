"""Records what a machine is told and what it says: stands before it, and costs little.

What is handled is only noted down. When there is enough of it, it becomes bytes, and those go to
the writer's thread: among hundreds, a stimulus costs a sixth of what it costs alone. The bytes are
made in the thread of the machine, for another one would take as much of the interpreter, and hold
the event loop up for longer at a time. Only what is left when it is time to write, the writer's
thread fetches itself: the machine may have nothing to do for long.

So for a while the notes refer to what the machine was told and said. None of it changes any more:
stimuli and instructions are frozen; who makes one with a dict in it makes the dict for it, and
nobody adds to it; and the machine makes a new list of instructions for every stimulus.
"""

import secrets
import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeAlias

from trouper.runtime.journal.files import check_can_begin
from trouper.runtime.journal.format import Header, Noted
from trouper.runtime.journal.keys import KeyHasher
from trouper.runtime.journal.options import JournalOptions
from trouper.runtime.journal.records import RecordWriter
from trouper.runtime.journal.writer import JournalStatus, JournalWriter
from trouper.runtime.machine import Machine
from trouper.wire.instructions import Instruction
from trouper.wire.stimuli import Stimulus

BULK = 250
"""So many stimuli are worth being made bytes of; more of them would hold the event loop up."""

ENDLESS = 1000
"""So many that are handled one by one are written although nobody says that this is the end."""

_Batch: TypeAlias = tuple[int, Sequence[Stimulus], list[Sequence[Instruction]], dict[int, str]]
"""What is handled together: the time in nanoseconds, the stimuli, the answers so far, and the type
names of exceptions by place. A plain tuple, for there may be a batch for every stimulus."""


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
        self._bulk = 1 if options.flush == "fsync" else BULK
        self._told = 0
        """Stimuli, since the machine's thread has last made bytes."""
        self._batches: list[_Batch] = []
        """Of which no bytes are made yet. The machine's thread adds to the last one, and behind it;
        who takes some away holds the lock, and leaves none that is not expected."""
        # One thread may take it twice: who hears in the log that the journal has ended may ask for
        # the status.
        self._lock = threading.RLock()
        self._count = 0
        """Of records of which bytes are made."""
        self._records = RecordWriter(0)
        self._left_nbytes = 0
        """After so many bytes of records another segment begins."""
        self._writer = JournalWriter(path, options.max_nbytes, options.flush, self._fetch)
        self._begin_segment()

    def begin(self, stimuli: Sequence[Stimulus]) -> list[Sequence[Instruction]]:
        """A batch of stimuli is about to be handled, in this order. It does not change any more.

        Gives the list to which the machine's answer to each is to be added. For who has a lot to
        be handled: the call of `handle` costs more than all of its work.
        """
        answers: list[Sequence[Instruction]] = []
        self._batches.append((self._clock(), stimuli, answers, {}))
        if len(self._batches) == 1:  # otherwise it is expected already
            self._writer.expect()
        self._told += len(stimuli)
        return answers

    def raised(self, error: Exception) -> None:
        """The machine's answer to the next stimulus was an exception."""
        _, _, answers, errors = self._batches[-1]
        errors[len(answers)] = type(error).__name__
        answers.append(())

    def handle(self, stimulus: Stimulus) -> list[Instruction]:
        """Have the machine handle a stimulus; see `Machine.handle`."""
        answers = self.begin((stimulus,))
        try:
            instructions = self._machine.handle(stimulus)
        except Exception as error:
            self.raised(error)
            raise
        answers.append(instructions)
        if self._told >= ENDLESS:  # without an end, or so it seems
            self.commit()
        return instructions

    def commit(self) -> None:
        """All that has begun is handled, and may be written."""
        if self._told >= self._bulk or self._left_nbytes <= 0:
            self._told = 0
            with self._lock:
                self._write(len(self._batches))
                if self._left_nbytes <= 0:
                    self._begin_segment()

    def close(self) -> None:
        """Write all that is left."""
        with self._lock:
            self._write(len(self._batches))
        self._writer.close()

    def status(self) -> JournalStatus:
        """How it goes."""
        writer = self._writer
        with self._lock:
            count = self._count
            if writer.error is None:
                count += sum(len(answers) for _, _, answers, _ in self._batches)
            return JournalStatus(str(writer.path), count, writer.written_nbytes, writer.error)

    def _fetch(self) -> None:
        """It is time to write what is handled. For the writer's thread."""
        with self._lock:
            count = len(self._batches)
            if count:
                _, stimuli, answers, _ = self._batches[count - 1]
                count -= len(answers) < len(stimuli)
            self._write(count)
            if self._batches:
                self._writer.expect()

    def _write(self, count: int) -> None:
        """Make bytes of the first so many batches."""
        batches = self._batches[:count]
        del self._batches[:count]
        if not batches or self._writer.error is not None:
            return
        noted = self._joined(batches)
        if self._hasher is not None:
            noted = self._hasher.noted(noted)
        frames, count, failure = self._records.write(noted)
        self._count += count
        self._left_nbytes -= len(frames)
        self._writer.put(frames)
        if failure is not None:
            self._writer.end(f"record {self._count + 1} cannot be written: {failure}")

    def _joined(self, batches: list[_Batch]) -> Noted:
        noted = Noted()
        for at_ns, stimuli, answers, errors in batches:
            count = len(answers)  # there are more stimuli in a batch that was broken off
            if errors:
                first = len(noted.answers)
                noted.errors.update({first + place: name for place, name in errors.items()})
            noted.times_us.extend([(at_ns - self._begun_ns) // 1000] * count)
            noted.stimuli.extend(stimuli[:count])
            noted.answers.extend(answers)
        return noted

    def _begin_segment(self) -> None:
        snapshot = self._machine.snapshot()
        if self._hasher is not None:
            snapshot = self._hasher.snapshot(snapshot)
        header = Header(
            name=self._name,
            run=self._run,
            first=self._count + 1,
            begun_s=self._begun_s,
            at_us=self._records.at_us,
            previous=self._records.frames.check,
            hashed_keys=self._hasher is not None,
            snapshot=snapshot,
        )
        self._records = RecordWriter(header.at_us)
        frame = self._records.header(header)
        self._writer.begin(frame)
        # No fewer than the snapshot has, so that snapshots are at most half of all.
        self._left_nbytes = max(self._writer.segment_nbytes, len(frame))
