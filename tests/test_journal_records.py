"""Records come back as they were, whatever they tell of, and whoever wrote them."""

import io
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pytest
from journals import header, noted, random_life

import trouper.runtime.journal.rows as journal_rows
from trouper.runtime.errors import CorruptJournal, StimulusError
from trouper.runtime.journal.batches import Summary, join, numbers_to_bytes
from trouper.runtime.journal.format import NOTHING, STIMULI, STIMULUS_TYPES, Kind, Record, pack
from trouper.runtime.journal.frames import FrameReader
from trouper.runtime.journal.records import RecordReader, RecordWriter
from trouper.runtime.machine import Machine
from trouper.wire.instructions import DropData, DropSpec, Instruction
from trouper.wire.stimuli import (
    ComputeTask,
    ExecuteFailure,
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
        frame, _, failure = writer.batch(noted([t[1:] for t in batch], [t[0] for t in batch]))
        assert failure is None
        data += frame
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
            kinds = tuple([str(word.__struct_config__.tag) for word in answer])
            assert (record.error, record.kinds) == ("", kinds)
            assert (record.digest is None) == (not answer)


def test_keys_that_were_said_lately_are_short() -> None:
    key = "k" * 500
    said: list[Told] = [(0, Secede(key, 1), [])]
    again: list[Told] = [(1, ExecuteFailure(key, 1, "E"), []), (2, FreeKeys((key,)), [])]
    assert len(write(said + again)) - len(write(said)) < 150
    assert [record.stimulus for record in read(write(said + again))] == [
        stimulus for _, stimulus, _ in said + again
    ]


def test_keys_may_be_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_rows, "PLACES", 5)
    told: list[Told] = []
    for number in range(120):
        size = (3, 5, 6, 13)[number // 30]
        keys = tuple([f"k{(number + i) % size}" for i in range(4)])
        told.append((number // 7, Secede(keys[0], number), []))
        told.append((number // 7, ComputeTask(keys[1], 1, 1, local=keys), []))
        told.append((number // 7, FreeKeys(keys), []))
    assert [record.stimulus for record in read(write(told))] == [s for _, s, _ in told]


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
    frame, size, failure = writer.batch(noted([*told, (Unpause(), [DropSpec("a", 1)])]))
    assert size == 1
    assert message in str(failure)
    (record,) = read(frame)
    assert (record.stimulus, record.kinds) == (Pause(), ("drop-data",))
    assert RecordWriter(0).batch(noted(told[1:]))[:2] == (b"", 0)


def test_an_answer_that_no_journal_can_hold_ends_it_too() -> None:
    frame, size, failure = RecordWriter(0).batch(noted([(Pause(), [DropData("\ud800", 1)])]))
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
    packed = [pack(row) for row in rows]
    count = len(rows)
    fields: dict[str, Any] = {
        "after_us": [0] * count,
        "nbytes": [len(row) for row in packed],
        "digests": numbers_to_bytes([NOTHING] * count),
        "counts": [0] * count,
        "kinds": b"",
        "errors": {},
    }
    return RecordWriter(0).frames.frame(join(Summary(**(fields | changes)), packed, 0))


CODES = {kind.op: code for code, kind in enumerate(STIMULI)}


def test_a_field_that_was_not_there_yet_has_its_default() -> None:
    reader = reader_of(kinds(secede=("key", "attempt")))
    (record,) = read(frame((CODES["secede"], "k", 3)), reader)
    assert record.stimulus == Secede("k", 3, None)


def test_a_field_that_is_there_no_more_is_left_out() -> None:
    reader = reader_of(kinds(secede=("mood", "attempt", "key")))
    (record,) = read(frame((CODES["secede"], {"mood": 1}, 3, "k")), reader)
    assert record.stimulus == Secede("k", 3)


def test_kinds_may_come_in_another_order_and_keys_are_still_remembered() -> None:
    reader = reader_of(tuple(reversed(STIMULI)))
    secede, free = [len(STIMULI) - 1 - CODES[op] for op in ("secede", "free-keys")]
    rows = (secede, "a", 1, None), (secede, "b", 1, None), (free, [1, "c", 0]), (secede, 1, 2, None)
    records = read(frame(*rows), reader)
    assert [r.stimulus for r in records] == [
        Secede("a", 1),
        Secede("b", 1),
        FreeKeys(("b", "c", "a")),
        Secede("b", 2),
    ]


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
    pause, levitate = (CODES["pause"],), (len(STIMULI), 3)
    records, error = records_before(reader, frame(pause, pause, levitate, pause))
    assert [record.n for record in records] == [1, 2]
    assert str(error).startswith("record 3 cannot be read: ")
    assert error.n == reader.next == 3


@pytest.mark.parametrize(
    "row",
    [
        (),
        (99,),
        (CODES["pause"], "late"),
        (CODES["free-keys"], [7]),
        (CODES["free-keys"], 7),
        (CODES["free-keys"],),
        (CODES["free-keys"], ["k", -1]),
        (CODES["secede"], 3, 1, None),
    ],
)
def test_a_record_that_makes_no_sense_is_named(row: tuple[object, ...]) -> None:
    records, error = records_before(
        RecordReader(header(first=7)), frame((CODES["pause"],), row, (CODES["unpause"],))
    )
    assert [record.stimulus for record in records] == [Pause()]
    assert str(error).startswith("record 8 cannot be read: ")


@pytest.mark.parametrize(
    "changes",
    [
        {"after_us": ["late"]},
        {"after_us": []},
        {"nbytes": []},
        {"nbytes": [3]},
        {"digests": b"\0\0\0"},
        {"digests": bytes(8)},
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
    whole, bad = frame((CODES["pause"],)), frame((CODES["pause"],), **changes)
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
    _, error = records_before(reader, frame((CODES["secede"], "k")))
    assert str(error).startswith("record 1 cannot be read: ")
    assert msgspec.structs.fields(Secede)[1].required
