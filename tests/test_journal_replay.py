"""Replay stops at the first difference, and says what it is."""

import io
from collections.abc import Sequence
from typing import TypeAlias

import msgspec
import pytest
from journals import header, noted, random_life

from trouper.runtime.errors import StimulusError
from trouper.runtime.journal.format import INSTRUCTIONS, Batch, Digester, Record, op_of
from trouper.runtime.journal.frames import FrameReader
from trouper.runtime.journal.records import RecordReader, RecordWriter
from trouper.runtime.journal.replay import Replay, ReplayDiverged
from trouper.runtime.machine import Machine
from trouper.wire.instructions import Execute, Instruction
from trouper.wire.stimuli import CancelTask, ComputeTask, ExecuteSuccess, Pause, Stimulus, Unpause

COMPUTE = ComputeTask("a", 1, 1)
EXECUTE: list[Instruction] = [Execute("a", 1, 1, 1, "thread", ())]


def recorded(stimulus: ComputeTask, answer: list[Instruction], n: int = 1) -> Record:
    kinds = tuple([op_of(type(word)) for word in answer])
    return Record(n, 0, stimulus, kinds, Digester().digest(answer) if answer else None)


def diverged(record: Record) -> ReplayDiverged:
    with pytest.raises(ReplayDiverged) as caught:
        Replay(Machine(), INSTRUCTIONS).step(record)
    assert "\n" not in str(caught.value)
    assert caught.value.record is record
    return caught.value


def test_the_same_goes_through() -> None:
    replay = Replay(Machine(), INSTRUCTIONS)
    assert replay.step(recorded(COMPUTE, EXECUTE)) == EXECUTE
    assert replay.step(Record(2, 0, Pause())) == []
    assert replay.machine.phase("a") == "executing"


def test_a_difference_is_told_with_both_answers() -> None:
    other: list[Instruction] = [msgspec.structs.replace(EXECUTE[0], run_id=2)]
    error = diverged(recorded(COMPUTE, other, n=812))
    assert error.answer == EXECUTE
    assert str(error).startswith("record 812 diverges: ComputeTask(key='a', ")
    assert "led to [execute], and leads to [execute] Execute(key='a'" in str(error)


def test_something_where_there_was_nothing() -> None:
    error = diverged(recorded(COMPUTE, []))
    assert "led to [], and leads to [execute]" in str(error)


def test_nothing_where_there_was_something() -> None:
    record = Record(1, 0, CancelTask("a"), ("execute",), 7)
    assert "led to [execute], and leads to [] now" in str(diverged(record))
    assert diverged(record).answer == []


def test_an_exception_that_was_recorded_is_raised_again_and_changes_nothing() -> None:
    replay = Replay(Machine(), INSTRUCTIONS)
    before = replay.machine.fingerprint()
    stimulus = ExecuteSuccess("a", 7, 0, "int")
    assert replay.step(Record(1, 0, stimulus, error="StimulusError")) == []
    assert replay.machine.fingerprint() == before


def test_an_exception_that_was_not_recorded() -> None:
    error = diverged(Record(1, 0, ExecuteSuccess("a", 7, 0, "int")))
    assert isinstance(error.answer, StimulusError)
    assert error.__cause__ is error.answer
    assert "led to [], and leads to StimulusError: attempt 7" in str(error)


def test_another_exception_than_was_recorded() -> None:
    error = diverged(Record(1, 0, ExecuteSuccess("a", 7, 0, "int"), error="KeyError"))
    assert "led to KeyError, and leads to StimulusError" in str(error)


def test_no_exception_where_there_was_one() -> None:
    error = diverged(Record(1, 0, COMPUTE, error="KeyError"))
    assert "led to KeyError, and leads to [execute]" in str(error)
    assert "led to KeyError, and leads to []" in str(
        diverged(Record(1, 0, Pause(), error="KeyError"))
    )


def test_a_changed_decision_shows_at_the_record_where_it_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config, stimuli = random_life(seed=3, steps=300)
    machine, replay = Machine(config), Replay(Machine(config), INSTRUCTIONS)
    records: list[Record] = []
    for n, stimulus in enumerate(stimuli, 1):
        try:
            answer = machine.handle(stimulus)
        except StimulusError:
            records.append(Record(n, 0, stimulus, error="StimulusError"))
        else:
            records.append(Record(n, 0, stimulus, tuple([op_of(type(w)) for w in answer]),
                                  Digester().digest(answer) if answer else None))  # fmt: skip
    first = next(record.n for record in records if "gather" in record.kinds)

    def start_none(*_: object) -> None: ...

    monkeypatch.setattr("trouper.runtime.machine.start_gathers", start_none)
    with pytest.raises(ReplayDiverged) as caught:
        for record in records:
            replay.step(record)
    assert caught.value.record.n == first


# A batch at a time


Told: TypeAlias = tuple[Stimulus, Sequence[Instruction] | str]

SILENCE: list[Instruction] = []
REFUSED: Told = (ExecuteSuccess("b", 7, 0, "int"), "StimulusError")


def batch_of(*told: Told, first: int = 1) -> Batch:
    """As it is read from a journal."""
    frame, _, failure = RecordWriter(0).write(noted(told))
    assert failure is None
    (body,) = FrameReader(io.BytesIO(frame), len(frame)).bodies()
    (batch,) = RecordReader(header(first=first)).read(body)
    return batch


def test_a_batch_goes_through() -> None:
    for other in ((Pause(), SILENCE), REFUSED):
        replay = Replay(Machine(), INSTRUCTIONS)
        replay.run(batch_of((COMPUTE, EXECUTE), other))
        assert replay.machine.phase("a") == "executing"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ((COMPUTE, SILENCE), r"led to \[\], and leads to \[execute\] Execute\("),
        ((Pause(), EXECUTE), r"led to \[execute\], and leads to \[\] now"),
        ((ExecuteSuccess("b", 7, 0, "int"), SILENCE), r"led to \[\], and leads to StimulusError: "),
        ((COMPUTE, "KeyError"), r"led to KeyError, and leads to \[execute\]"),
    ],
)
@pytest.mark.parametrize("before", [(Pause(), SILENCE), REFUSED])
def test_a_difference_is_told_by_record_in_a_batch_too(
    before: Told,
    wrong: Told,
    message: str,
) -> None:
    batch = batch_of(
        (Unpause(), SILENCE), before, (Unpause(), SILENCE), wrong, (Unpause(), SILENCE), first=10
    )
    with pytest.raises(ReplayDiverged, match=rf"^record 13 diverges: .* {message}") as caught:
        Replay(Machine(), INSTRUCTIONS).run(batch)
    assert caught.value.record == [*batch.records()][3] == batch.record(3)
    assert caught.value.record.stimulus == wrong[0]


def test_the_last_record_of_a_batch() -> None:
    assert batch_of((Pause(), SILENCE), (Unpause(), SILENCE), first=7).last == 8
