"""A walk through a journal: forward, back, to a record, to the next change of a task. Pure.

Forward costs one step. Back is a replay from the beginning of the segment, for a machine cannot go
back.
"""

from collections.abc import Iterator

from trouper.runtime.journal.journal import Journal, Step
from trouper.runtime.machine import Machine
from trouper.wire.vocabulary import Key


class Walk:
    """See the module's text.

    Args:
        journal: To walk through.
        n: Number of the record to begin behind; the walk begins before the first one by default.

    Raises:
        JournalError: There is no such record.
    """

    def __init__(self, journal: Journal, n: int | None = None) -> None:
        self.journal = journal
        self.n = journal.first - 1
        """Number of the last record that the machine was told."""
        self.machine: Machine
        """In the state behind it."""
        self._steps: Iterator[Step]
        self.go(self.n if n is None else n)

    def go(self, n: int) -> None:
        """Go behind a record.

        Raises:
            JournalError: There is no such record, or what comes before cannot be replayed.
        """
        self.machine = self.journal.replay(n)
        self._steps = self.journal.steps(since=n)
        self.n = n

    def forward(self) -> Step | None:
        """The next step; None at the end.

        Raises:
            JournalError: It cannot be read or replayed.
        """
        step = next(self._steps, None)
        if step is not None:
            self.machine = step.machine
            self.n = step.record.n
        return step

    def back(self) -> Step | None:
        """Undo the last step; the one that is the last then, or None before the first."""
        if self.n < self.journal.first:
            return None
        if self.n == self.journal.first:
            self.go(self.n - 1)
            return None
        self.go(self.n - 2)
        return self.forward()

    def to_change(self, key: Key) -> Step | None:
        """Forward until the phase of a task changes; None if it does not, and nothing moves then.

        Raises:
            JournalError: Something on the way cannot be read or replayed.
        """
        begin, phase = self.n, self.machine.phase(key)
        while (step := self.forward()) is not None:
            if step.machine.phase(key) != phase:
                return step
        self.go(begin)
        return None
