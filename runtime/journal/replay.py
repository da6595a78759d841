"""Replay: a machine is told again what it was told, and has to say again what it said. Pure."""

from collections.abc import Sequence

from trouper.runtime.errors import JournalError
from trouper.runtime.journal.format import Batch, Digester, Kind, Record, op_of
from trouper.runtime.machine import Machine
from trouper.wire.instructions import Instruction


class ReplayDiverged(JournalError):
    """The machine does not say what it said when the journal was recorded.

    Either another version of trouper decides otherwise, or the journal was made by hand.
    """

    def __init__(self, record: Record, answer: Sequence[Instruction] | Exception) -> None:
        self.record = record
        """The first that differs: its stimulus, and the kinds of instructions it led to then."""
        self.answer = answer
        """What it leads to now."""
        super().__init__(
            f"record {record.n} diverges: {record.stimulus} led to {_then(record)}, "
            f"and leads to {_now(answer)} now"
        )


def _then(record: Record) -> str:
    return record.error or _listed(record.kinds)


def _now(answer: Sequence[Instruction] | Exception) -> str:
    if isinstance(answer, Exception):
        return f"{type(answer).__name__}: {answer}"
    return " ".join([_listed([op_of(type(word)) for word in answer]), *map(str, answer)])


def _listed(kinds: Sequence[str]) -> str:
    return f"[{', '.join(kinds)}]"


class Replay:
    """Leads a machine through records.

    Args:
        machine: In the state before the first of them.
        instructions: The kinds that the writer of the journal knew.
    """

    def __init__(self, machine: Machine, instructions: tuple[Kind, ...]) -> None:
        self.machine = machine
        self._digest = Digester(instructions).digest

    def step(self, record: Record) -> list[Instruction]:
        """Tell the machine of the next stimulus; what it leads to, which is what it led to.

        An exception that was recorded is raised by the machine again, and has no instructions.

        Raises:
            ReplayDiverged: It leads to something else.
        """
        try:
            instructions = self.machine.handle(record.stimulus)
        except Exception as error:  # whatever it is: it was recorded, or it is a difference
            if type(error).__name__ != record.error:
                raise ReplayDiverged(record, error) from error
            return []
        digest = self._digest(instructions) if instructions else None
        if digest != record.digest or record.error:
            raise ReplayDiverged(record, instructions)
        return instructions

    def run(self, batch: Batch) -> None:
        """All steps of a batch, quicker than one by one.

        Raises:
            ReplayDiverged: One of them leads to something else.
        """
        if batch.errors:
            for record in batch.records():
                self.step(record)
            return
        handle, digest_of = self.machine.handle, self._digest
        for place, stimulus in enumerate(batch.stimuli):
            answer: Sequence[Instruction] | Exception
            try:
                answer = handle(stimulus)
            except Exception as error:
                raise ReplayDiverged(batch.record(place), error) from error
            if digest_of(answer) != batch.digests[place]:
                raise ReplayDiverged(batch.record(place), answer)
