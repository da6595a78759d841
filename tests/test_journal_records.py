"""Records come back as they were, whatever they tell of, and whoever wrote them."""

import io
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pytest
from journals import header, noted, random_life

from trouper.runtime.errors import CorruptJournal, StimulusError
from trouper.runtime.journal.batches import BATCH, join
from trouper.runtime.journal.format import STIMULI, STIMULUS_TYPES, Kind, Record, op_of
from trouper.runtime.journal.frames import FrameReader, FrameWriter
from trouper.runtime.journal.records import RecordReader, RecordWriter
from trouper.runtime.machine import Machine
from trouper.wire.instructions import DropData, DropSpec, Instruction
from trouper.wire.stimuli import (
    ComputeTask,
    FreeKeys,
    Pause,
    Secede,
    Stimulus,
    Unpause,
    UpdateData,
)

Told = tuple[int, Stimulus, Sequence[Instruction] | str]

FRAME = 10
"""Records."""


def write(told: Sequence[Told]) -> bytes:
    """Frames of what was told, with a few times in each."""
    writer = RecordWriter(0)
    data = b""
    for begin in range(0, len(told), FRAME):
        batch = told[begin : begin + FRAME]
        frames, _, failure = writer.write(noted([t[1:] for t in batch], [t[0] for t in batch]))
        assert failure is None
        data += frames
    return data


def read(data: bytes, reader: RecordReader | None = None) -> list[Record]:
    frames = FrameReader(io.BytesIO(data), len(data))
    reader = RecordReader(header()) if reader is None else reader
    return [
        record
        for body in frames.bodies()
        for batch in reader.read(body)
        for record in batch.records()
    ]


def test_stimuli_of_every_kind_come_back() -> None:
    config, stimuli = random_life(seed=1, steps=3000)
    assert {type(stimulus) for stimulus in stimuli} == set(STIMULUS_TYPES)
    machine = Machine(config)
    told: list[Told] = []
    for number, stimulus in enumerate(stimuli):
        answer: Sequence[Instruction] | str
        try:
            answer = machine.handle(stimulus)
        except StimulusError:
            answer = "StimulusError"
        told.append((number // 7 * 1000, stimulus, answer))
    records = read(write(told))
    assert len(records) == len(told)
    for n, (record, (at_us, stimulus, answer)) in enumerate(zip(records, told, strict=True), 1):
        assert (record.n, record.at_us, repr(record.stimulus)) == (n, at_us, repr(stimulus))
        if isinstance(answer, str):
            assert (record.error, record.kinds, record.digest) == (answer, (), None)
        else:
            kinds = tuple([op_of(type(word)) for word in answer])
            assert (record.error, record.kinds) == ("", kinds)
            assert (record.digest is None) == (not answer)


def test_many_records_stand_in_several_frames() -> None:
    count = 2 * BATCH + 3
    stimuli = [Secede("k", number) for number in range(count)]
    answers = [[DropData("k", number)] * (number % 3) for number in range(count)]
    times_us = [number // 5 * 7 for number in range(count)]
    made = noted(zip(stimuli, answers, strict=True), times_us)
    made.errors.update({0: "Zero", BATCH: "Oops", count - 1: "Last"})
    data, written, _ = RecordWriter(0).write(made)
    assert written == count
    assert len(list(FrameReader(io.BytesIO(data), len(data)).bodies())) == 3
    records = read(data)
    assert [record.stimulus for record in records] == stimuli
    assert [record.at_us for record in records] == times_us
    assert [len(record.kinds) for record in records] == [len(answer) for answer in answers]
    assert {r.n - 1: r.error for r in records if r.error} == made.errors


def test_long_answers_keep_their_kinds() -> None:
    answer: list[Instruction] = [DropData("a", 1), DropSpec("a", 2)] * 500
    (record,) = read(write([(0, Pause(), answer)]))
    assert record.kinds == ("drop-data", "drop-spec") * 500


def test_numbers_of_other_types_become_plain_ones() -> None:
    stimulus = ComputeTask(
        "k",
        1,
        1,
        (np.int64(3), np.float32(0.5), True),  # type: ignore[arg-type]
        resources={"gpu": np.float64(0.5), "tpu": True},
    )
    (record,) = read(write([(0, stimulus, [])]))
    assert record.stimulus == ComputeTask(
        "k", 1, 1, (3, 0.5, True), resources={"gpu": 0.5, "tpu": True}
    )


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (UpdateData({"k": (0, object())}, -1), "object is no part of a journal"),  # type: ignore[dict-item]
        (FreeKeys(("\ud800",)), "surrogates not allowed"),
    ],
)
def test_before_what_no_journal_can_hold_the_segment_ends(bad: Stimulus, message: str) -> None:
    writer = RecordWriter(0)
    told: list[tuple[Stimulus, Sequence[Instruction]]] = [(Pause(), [DropData("a", 1)]), (bad, [])]
    frame, size, failure = writer.write(noted([*told, (Unpause(), [DropSpec("a", 1)])]))
    assert size == 1
    assert message in str(failure)
    (record,) = read(frame)
    assert (record.stimulus, record.kinds) == (Pause(), ("drop-data",))
    assert RecordWriter(0).write(noted(told[1:]))[:2] == (b"", 0)


def test_of_what_stands_behind_it_nothing_is_told() -> None:
    told: list[tuple[Stimulus, Sequence[Instruction] | str]] = [
        *((Pause(), "First"), (FreeKeys(("\ud800",)), []), (Pause(), "Last"))
    ]
    data, _, _ = RecordWriter(0).write(noted(told))
    (body,) = FrameReader(io.BytesIO(data), len(data)).bodies()
    (batch,) = RecordReader(header()).read(body)
    assert batch.errors == {0: "First"}


def test_an_answer_that_no_journal_can_hold_ends_it_too() -> None:
    frame, size, failure = RecordWriter(0).write(noted([(Pause(), [DropData("\ud800", 1)])]))
    assert (frame, size) == (b"", 0)
    assert failure is not None


# Written by another version


def kinds(**changes: tuple[str, ...]) -> tuple[Kind, ...]:
    """The kinds of stimuli with other fields."""
    return tuple([Kind(kind.op, changes.get(kind.op.replace("-", "_"), kind.fields))
                  for kind in STIMULI])  # fmt: skip


def reader_of(stimuli: tuple[Kind, ...]) -> RecordReader:
    return RecordReader(header(stimuli=stimuli))


def frame(*rows: Sequence[object], **changes: Any) -> bytes:
    """A batch of such rows, which led to nothing."""
    count = len(rows)
    fields: dict[str, Any] = {
        "after_us": [0] * count,
        "digests": [0] * count,
        "counts": [0] * count,
        "kinds": b"",
        "errors": {},
        "rows": rows,
    }
    return FrameWriter().frame(join(tuple((fields | changes).values()), bytearray()))


TAGS = {kind.op: tag for tag, kind in enumerate(STIMULI)}


def test_a_field_that_was_not_there_yet_has_its_default() -> None:
    reader = reader_of(kinds(secede=("key", "attempt")))
    (record,) = read(frame((TAGS["secede"], "k", 3)), reader)
    assert record.stimulus == Secede("k", 3, None)


def test_a_field_that_is_there_no_more_is_left_out() -> None:
    reader = reader_of(kinds(secede=("mood", "attempt", "key")))
    (record,) = read(frame((TAGS["secede"], {"mood": 1}, 3, "k")), reader)
    assert record.stimulus == Secede("k", 3)


def test_kinds_may_come_in_another_order() -> None:
    reader = reader_of(tuple(reversed(STIMULI)))
    secede, free = [len(STIMULI) - 1 - TAGS[op] for op in ("secede", "free-keys")]
    records = read(frame((secede, "a", 1, None), (free, ["b", "a"])), reader)
    assert [record.stimulus for record in records] == [Secede("a", 1), FreeKeys(("b", "a"))]


def records_before(reader: RecordReader, data: bytes) -> tuple[list[Record], CorruptJournal]:
    """What can be read, and why there is no more."""
    (body,) = FrameReader(io.BytesIO(data), len(data)).bodies()
    records: list[Record] = []
    with pytest.raises(CorruptJournal) as caught:
        for batch in reader.read(body):
            records += batch.records()
    assert "\n" not in str(caught.value)
    return records, caught.value


def test_a_kind_that_is_unknown_now_is_an_error_where_it_occurs() -> None:
    reader = reader_of((*STIMULI, Kind("levitate", ("height",))))
    pause, levitate = (TAGS["pause"],), (len(STIMULI), 3)
    records, error = records_before(reader, frame(pause, pause, levitate, pause))
    assert [record.n for record in records] == [1, 2]
    assert str(error).startswith("record 3 cannot be read: ")
    assert error.n == reader.next == 3


@pytest.mark.parametrize(
    "row",
    [
        (),
        (99,),
        (TAGS["pause"], "late"),
        (TAGS["free-keys"], [7]),
        (TAGS["free-keys"], 7),
        (TAGS["free-keys"],),
        (TAGS["free-keys"], ["k", 0]),
        (TAGS["secede"], 3, 1, None),
    ],
)
def test_a_record_that_makes_no_sense_is_named(row: tuple[object, ...]) -> None:
    records, error = records_before(
        RecordReader(header(first=7)), frame((TAGS["pause"],), row, (TAGS["unpause"],))
    )
    assert [record.stimulus for record in records] == [Pause()]
    assert str(error).startswith("record 8 cannot be read: ")


@pytest.mark.parametrize(
    "changes",
    [
        {"after_us": ["late"]},
        {"after_us": [1, 2]},
        {"digests": []},
        {"digests": [0, 0]},
        {"counts": []},
        {"counts": [1]},
        {"kinds": b"\0"},
        {"counts": [1], "kinds": b"\xff"},
        {"errors": ["StimulusError"]},
    ],
)
def test_a_summary_that_makes_no_sense_is_an_error_at_its_first_record(
    changes: dict[str, Any],
) -> None:
    whole, bad = frame((TAGS["pause"],)), frame((TAGS["pause"],), **changes)
    assert len(read(whole)) == 1
    records, error = records_before(RecordReader(header()), bad)
    assert records == []
    assert str(error).startswith("record 1 cannot be read: ")


def test_bytes_that_are_no_batch_are_named() -> None:
    for body in (b"", b"\xc1", bytes(5), bytes(100)):
        with pytest.raises(CorruptJournal, match=r"^record 1 cannot be read: "):
            list(RecordReader(header()).read(body))


def test_required_fields_are_required() -> None:
    reader = reader_of(kinds(secede=("key",)))
    _, error = records_before(reader, frame((TAGS["secede"], "k")))
    assert str(error).startswith("record 1 cannot be read: ")
    assert msgspec.structs.fields(Secede)[1].required
