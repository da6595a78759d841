"""Records come back as they were, whatever they tell of, and whoever wrote them."""

import io
from collections.abc import Sequence

import msgspec
import numpy as np
import pytest
from journals import header, random_life

import trouper.runtime.journal.records as journal_records
from trouper.runtime.errors import CorruptJournal, StimulusError
from trouper.runtime.journal.format import STIMULI, STIMULUS_TYPES, Answer, Kind, Record, pack
from trouper.runtime.journal.frames import FrameReader
from trouper.runtime.journal.records import RecordReader, RecordWriter
from trouper.runtime.machine import Machine
from trouper.wire.instructions import DropData, DropSpec, Instruction
from trouper.wire.stimuli import ComputeTask, FreeKeys, Pause, Secede, Stimulus, UpdateData


def write(noted: Sequence[tuple[int, Stimulus, Answer]]) -> bytes:
    writer = RecordWriter(0)
    return b"".join([writer.record(at_us, stimulus, answer) for at_us, stimulus, answer in noted])


def read(data: bytes, reader: RecordReader | None = None) -> list[Record]:
    frames = FrameReader(io.BytesIO(data), len(data))
    reader = RecordReader(header()) if reader is None else reader
    return [reader.read(body) for body in frames.bodies()]


def test_stimuli_of_every_kind_come_back() -> None:
    config, stimuli = random_life(seed=1, steps=3000)
    assert {type(stimulus) for stimulus in stimuli} == set(STIMULUS_TYPES)
    machine = Machine(config)
    noted: list[tuple[int, Stimulus, Answer]] = []
    for number, stimulus in enumerate(stimuli):
        try:
            answer: Answer = machine.handle(stimulus)
        except StimulusError:
            answer = "StimulusError"
        noted.append((number // 7 * 1000, stimulus, answer))
    records = read(write(noted))
    assert len(records) == len(noted)
    for n, (record, (at_us, stimulus, answer)) in enumerate(zip(records, noted, strict=True), 1):
        assert (record.n, record.at_us, repr(record.stimulus)) == (n, at_us, repr(stimulus))
        if isinstance(answer, str):
            assert (record.error, record.kinds, record.digest) == (answer, (), None)
        else:
            kinds = tuple([str(word.__struct_config__.tag) for word in answer])
            assert (record.error, record.kinds) == ("", kinds)
            assert (record.digest is None) == (not answer)


def test_texts_that_were_said_lately_are_short() -> None:
    noted: list[tuple[int, Stimulus, Answer]] = [(0, FreeKeys(("k" * 500,)), [])]
    once, twice = write(noted), write(noted * 2)
    assert len(twice) - len(once) < 20


def test_texts_may_be_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_records, "PLACES", 5)
    rounds = [tuple([f"k{number % size}" for number in range(40)]) for size in (3, 5, 6, 13)]
    noted: list[tuple[int, Stimulus, Answer]] = [(0, FreeKeys(keys), []) for keys in rounds]
    assert [record.stimulus for record in read(write(noted))] == [s for _, s, _ in noted]


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


def test_what_no_journal_can_hold_is_an_error() -> None:
    with pytest.raises(NotImplementedError, match="object is no part of a journal"):
        write([(0, UpdateData({"k": (0, object())}, -1), [])])  # type: ignore[dict-item]


# Written by another version


def kinds(**changes: tuple[str, ...]) -> tuple[Kind, ...]:
    """The kinds of stimuli with other fields."""
    return tuple([Kind(kind.op, changes.get(kind.op.replace("-", "_"), kind.fields))
                  for kind in STIMULI])  # fmt: skip


def reader_of(stimuli: tuple[Kind, ...]) -> RecordReader:
    return RecordReader(header(stimuli=stimuli))


def frames(*rows: Sequence[object]) -> bytes:
    writer = RecordWriter(0)
    return b"".join([writer.frames.frame(pack(row)) for row in rows])


CODES = {kind.op: code for code, kind in enumerate(STIMULI)}


def test_a_field_that_was_not_there_yet_has_its_default() -> None:
    reader = reader_of(kinds(secede=("key", "attempt")))
    (record,) = read(frames((CODES["secede"], 0, None, "k", 3)), reader)
    assert record.stimulus == Secede("k", 3, None)


def test_a_field_that_is_there_no_more_is_left_out() -> None:
    reader = reader_of(kinds(secede=("mood", "attempt", "key")))
    (record,) = read(frames((CODES["secede"], 0, None, {"mood": 1}, 3, "k")), reader)
    assert record.stimulus == Secede("k", 3)


def test_kinds_may_come_in_another_order_and_texts_are_still_remembered() -> None:
    reader = reader_of(tuple(reversed(STIMULI)))
    code = len(STIMULI) - 1 - CODES["free-keys"]
    records = read(frames((code, 0, None, ["a", "b"]), (code, 0, None, [1, 0])), reader)
    assert [r.stimulus for r in records] == [FreeKeys(("a", "b")), FreeKeys(("b", "a"))]


def test_a_kind_that_is_unknown_now_is_an_error_where_it_occurs() -> None:
    reader = reader_of((*STIMULI, Kind("levitate", ("height",))))
    data = frames((CODES["pause"], 0, None), (len(STIMULI), 0, None, 3))
    with pytest.raises(CorruptJournal, match=r"^record 2 cannot be read: ") as caught:
        read(data, reader)
    assert caught.value.n == 2


@pytest.mark.parametrize(
    "row",
    [
        (),
        (99, 0, None),
        (CODES["pause"], "late", None),
        (CODES["free-keys"], 0, None, [7]),
        (CODES["free-keys"], 0, None, 7),
        (CODES["free-keys"], 0, None),
        (CODES["pause"], 0, b"\0\0\0\0\xff"),
        (CODES["free-keys"], 0, None, ["k", -1]),
    ],
)
def test_a_record_that_makes_no_sense_is_named(row: tuple[object, ...]) -> None:
    with pytest.raises(CorruptJournal, match=r"^record 1 cannot be read: ") as caught:
        read(frames(row))
    assert "\n" not in str(caught.value)


def test_bytes_that_are_no_messagepack_are_named() -> None:
    with pytest.raises(CorruptJournal, match=r"^record 1 cannot be read: "):
        RecordReader(header()).read(b"\xc1")


def test_required_fields_are_required() -> None:
    reader = reader_of(kinds(secede=("key",)))
    with pytest.raises(CorruptJournal, match="record 1 cannot be read"):
        read(frames((CODES["secede"], 0, None, "k")), reader)
    assert msgspec.structs.fields(Secede)[1].required
