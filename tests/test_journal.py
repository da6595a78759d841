"""The journal as a whole: recovered whatever has happened to its files, and replayed."""

import io
import warnings
from pathlib import Path
from random import Random
from typing import Any

import pytest
from journals import (
    THREADS,
    frame_spans,
    header,
    options,
    plain_life,
    random_life,
    record,
    record_spans,
)

from trouper.runtime import CorruptJournal, Journal, JournalError, JournalWarning
from trouper.runtime.journal.format import pack
from trouper.runtime.journal.frames import MAGIC, FrameReader, FrameWriter
from trouper.runtime.journal.recorder import Recorder
from trouper.runtime.machine import Machine
from trouper.wire.stimuli import Stimulus


def same(value: Any) -> Any:
    return value


def readable(journal: Journal) -> tuple[list[Stimulus], int | None]:
    """All that can be read, and the number of the record that is corrupt."""
    stimuli: list[Stimulus] = []
    try:
        for found in journal.records():
            stimuli.append(found.stimulus)
    except CorruptJournal as error:
        return stimuli, error.n
    return stimuli, None


@pytest.fixture
def rotated(tmp_path: Path) -> tuple[Path, dict[int, str]]:
    """A journal of several segments, and the machine's fingerprint after each batch of ten."""
    prints: list[str] = []
    config, stimuli = random_life(seed=7, steps=3900)
    record(
        tmp_path / "j",
        stimuli,
        config,
        max_nbytes=70_000,
        on_commit=lambda machine: prints.append(machine.fingerprint()),
    )
    return tmp_path / "j", {10 * number: text for number, text in enumerate(prints, 1)}


# Replaying


def test_the_machine_at_any_record(rotated: tuple[Path, dict[int, str]]) -> None:
    path, prints = rotated
    journal = Journal.open(path)
    assert len(journal.segments) > 3
    assert 1 < journal.first < journal.last == 3900
    assert journal.replay().fingerprint() == prints[3900]
    begins = [segment.header.first for segment in journal.segments]
    middle = (journal.first + journal.last) // 2
    for n in {journal.first + 9 - (journal.first + 9) % 10, middle - middle % 10, 3900, *begins}:
        if n % 10 == 0:
            assert journal.replay(n).fingerprint() == prints[n]
    for n in begins[1:]:
        before = journal.replay(n - 1).snapshot()
        (segment,) = [s for s in journal.segments if s.header.first == n]
        assert pack(before) == pack(segment.header.snapshot)
    assert journal.verify() == 3900 - journal.first + 1
    assert journal.warnings == []


def test_steps_and_records_of_a_part(rotated: tuple[Path, dict[int, str]]) -> None:
    path, prints = rotated
    journal = Journal.open(path)
    part = [found.n for found in journal.records(3400, 3500)]
    assert part == list(range(3401, 3501))
    steps = list(journal.steps(3400, 3500))
    assert [step.record.n for step in steps] == part
    assert all(bool(step.record.kinds) == bool(step.instructions) for step in steps)
    assert steps[-1].machine.fingerprint() == prints[3500]
    assert [found.n for found in journal.records(journal.last)] == []
    assert list(journal.records(3500, 3500)) == []
    assert list(journal.steps(3500, 3400)) == []


def test_what_is_gone_and_what_has_not_happened(rotated: tuple[Path, dict[int, str]]) -> None:
    journal = Journal.open(rotated[0])
    with pytest.raises(JournalError, match="there is no record 3901: the last one is 3900"):
        journal.replay(3901)
    gone = journal.first - 2
    message = f"record {gone} is gone: what is left begins with {journal.first}"
    for read in (
        lambda: journal.replay(gone),
        lambda: list(journal.records(gone)),
        lambda: list(journal.steps(gone)),
    ):
        with pytest.raises(JournalError, match=message):
            read()
    begin = journal.replay(journal.first - 1)
    assert pack(begin.snapshot()) == pack(journal.header.snapshot)


def test_a_journal_that_is_being_written(tmp_path: Path) -> None:
    recorder = Recorder(Machine(THREADS), "w", options(tmp_path / "j", flush="fsync"))
    journals: list[Journal] = []
    for number, stimulus in enumerate(plain_life(20), 1):
        recorder.handle(stimulus)
        recorder.commit()
        while recorder.status().nbytes < 1 or not (tmp_path / "j").exists():
            pass
        if number % 20 == 0:
            journals.append(Journal.open(tmp_path / "j"))
    recorder.close()
    for journal in journals:
        assert journal.verify() == journal.last <= 60
    assert Journal.open(tmp_path / "j").verify() == 60


def test_a_state_that_was_not_recorded_so(tmp_path: Path) -> None:
    """The machine says the same, and yet is another one: the next segment's snapshot shows it."""
    record(tmp_path / "j", plain_life(3), config=THREADS)
    data = (tmp_path / "j").read_bytes()
    first = Journal.open(tmp_path / "j")
    (tmp_path / "j.000001").write_bytes(data)
    frames = FrameReader(io.BytesIO(data[len(MAGIC) :]), len(data) - len(MAGIC))
    for _ in frames.bodies():
        pass
    second = header(THREADS, run=first.header.run, first=10, previous=frames.check)
    (tmp_path / "j").write_bytes(MAGIC + FrameWriter().frame(pack(second)))
    journal = Journal.open(tmp_path / "j")
    with pytest.raises(JournalError, match="state before record 10 is not the one"):
        journal.verify()
    assert journal.replay(9).phase("anything") == "released"


def test_a_snapshot_of_another_version(tmp_path: Path) -> None:
    other = header(snapshot=Machine().snapshot() | {"version": 99})
    (tmp_path / "j").write_bytes(MAGIC + FrameWriter().frame(pack(other)))
    with pytest.raises(JournalError, match=r"begins with no state: .* version 99"):
        Journal.open(tmp_path / "j").replay()


# Runs, and files that are missing


def test_what_an_earlier_run_has_left_can_still_be_read(tmp_path: Path) -> None:
    for tasks in (1, 2, 3):
        record(tmp_path / "j", plain_life(tasks))
    assert Journal.open(tmp_path / "j").verify() == 9
    assert Journal.open(tmp_path / "j.000002").verify() == 6
    assert Journal.open(tmp_path / "j.000001").verify() == 3


def test_a_part_of_a_run_that_ends_with_an_older_file(
    rotated: tuple[Path, dict[int, str]],
) -> None:
    path, _ = rotated
    whole = Journal.open(path)
    part = Journal.open(whole.segments[-2].path)
    assert part.first == whole.first
    assert part.last == whole.segments[-1].header.first - 1
    assert part.verify() == part.last - part.first + 1


def test_the_newest_file_may_be_missing(rotated: tuple[Path, dict[int, str]]) -> None:
    path, _ = rotated
    whole = Journal.open(path)
    path.unlink()
    part = Journal.open(path)
    assert part.last == whole.segments[-1].header.first - 1
    assert part.verify() == part.last - part.first + 1


def test_a_file_that_is_missing_in_the_middle(rotated: tuple[Path, dict[int, str]]) -> None:
    path, _ = rotated
    missing = Journal.open(path).segments[2]
    missing.path.unlink()
    journal = Journal.open(path)
    with pytest.raises(CorruptJournal, match=f"record {missing.header.first} is missing at the"):
        journal.verify()
    assert journal.replay(missing.header.first - 1)
    assert journal.replay(3900)


# What is no journal


def test_what_is_no_journal(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "diary").write_text("Dear diary")
    for name, message in [
        ("", "is a directory; a journal is a file"),
        ("empty", "is empty"),
        ("diary", "is no journal"),
        ("nothing", "cannot be read: No such file or directory"),
        ("nothing.000001", "cannot be read: No such file or directory"),
        ("no/folder", "cannot be read: No such file or directory"),
        ("diary/folder", "cannot be read: Not a directory"),
    ]:
        with pytest.raises(JournalError, match=message) as caught:
            Journal.open(str(tmp_path / name))
        assert "\n" not in str(caught.value)


# Torn and corrupt


def test_a_torn_end_is_cut_off_with_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "j"
    record(path, plain_life(10), flush="fsync")
    data, ends = path.read_bytes(), [end for _, end in frame_spans(path)]
    counts = (0, 10, 20, 30)
    for end in range(ends[-2], len(data)):
        path.write_bytes(data[:end])
        frames = sum(e <= end for e in ends) - 1
        whole, torn_nbytes = counts[frames], end - ends[frames]
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            journal = Journal.open(path)
        assert journal.verify() == journal.last == whole
        message = f"begins with record {whole + 1}; its last {torn_nbytes} bytes are cut off"
        assert [str(w.message).endswith(message) for w in caught] == [True] * bool(torn_nbytes)
        assert all(w.category is JournalWarning for w in caught)
        assert [str(w.message) for w in caught] == journal.warnings


def test_a_segment_that_had_just_begun_is_left_out(rotated: tuple[Path, dict[int, str]]) -> None:
    path, _ = rotated
    begins = Journal.open(path).segments[-1].header.first
    data = path.read_bytes()
    for end in (0, 1, len(MAGIC), 30, frame_spans(path)[0][1] - 1):
        path.write_bytes(data[:end])
        with pytest.warns(JournalWarning, match=r"(empty|within its header); it is left"):
            journal = Journal.open(path)
        assert journal.verify() == begins - journal.first
        assert journal.last == begins - 1


def test_of_a_thousand_corrupt_bytes_each_is_found_where_it_is(tmp_path: Path) -> None:
    path = tmp_path / "j"
    config, stimuli = random_life(seed=11, steps=60)
    record(path, stimuli, config, batch=25, flush="fsync")
    rng = Random(0)
    data = path.read_bytes()[:-3]  # the last batch is torn
    named = {
        place: n
        for n, spans in enumerate(record_spans(path))
        for begin, end in spans
        for place in range(begin, end)
    }
    assert len(named) == len(data) + 3
    torn_begin = frame_spans(path)[-1][0]
    in_torn_end = 0
    for _ in range(1000):
        place = rng.randrange(len(data))
        changed = bytearray(data)
        changed[place] ^= rng.randrange(1, 256)
        path.write_bytes(changed)
        n = named[place]
        if n == 0:  # the magic, or the header
            with pytest.raises(JournalError, match=r"is no journal|header of .* is corrupt"):
                Journal.open(path)
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", JournalWarning)
            journal = Journal.open(path)
        found, corrupt = readable(journal)
        if place >= torn_begin:  # of a batch that is torn, nothing is read
            in_torn_end += 1
            assert repr(found) == repr(list(stimuli[:50]))
            assert corrupt in (51, None)
        else:
            assert repr(found) == repr(list(stimuli[: n - 1]))
            assert corrupt == n
            with pytest.raises(CorruptJournal, match=f"record {n} is corrupt"):
                journal.verify()
            journal.replay(n - 1)
    assert in_torn_end > 0


def test_where_more_than_a_byte_is_changed_the_first_record_of_the_batch_is_named(
    tmp_path: Path,
) -> None:
    path = tmp_path / "j"
    config, stimuli = random_life(seed=11, steps=60)
    record(path, stimuli, config, batch=20, flush="fsync")
    rng = Random(0)
    data = path.read_bytes()
    _, *batches = frame_spans(path)
    for number in range(300):
        begin, end = batches[number % 3]
        changed = bytearray(data)
        for place in rng.sample(range(begin, end), 2 + number % 5):
            changed[place] ^= rng.randrange(1, 256)
        path.write_bytes(changed)
        n = number % 3 * 20 + 1
        found, corrupt = readable(Journal.open(path))
        assert corrupt == n
        assert repr(found) == repr(list(stimuli[: n - 1]))


def test_corrupt_bytes_in_any_segment(rotated: tuple[Path, dict[int, str]]) -> None:
    path, prints = rotated
    whole = Journal.open(path)
    for position, segment in enumerate(whole.segments):
        data = segment.path.read_bytes()
        spans = record_spans(segment.path)
        middle = len(spans) // 2
        for place, nth in ((spans[1][-1][0] + 1, 1), (spans[middle][0][0], middle), (-1, -1)):
            changed = bytearray(data)
            changed[place] ^= 0x10
            segment.path.write_bytes(changed)
            n = segment.header.first + nth % len(spans) - 1
            journal = Journal.open(path)
            with pytest.raises(CorruptJournal, match=f"record {n} is corrupt"):
                journal.verify()
            journal.replay(n - 1)
            if position + 1 < len(whole.segments):
                assert journal.replay(3900).fingerprint() == prints[3900]
        segment.path.write_bytes(data)


def test_a_corrupt_header_in_any_segment(rotated: tuple[Path, dict[int, str]]) -> None:
    path, _ = rotated
    whole = Journal.open(path)
    for segment in whole.segments[:-1]:
        data = segment.path.read_bytes()
        segment.path.write_bytes(data[:40] + bytes([data[40] ^ 1]) + data[41:])
        with pytest.warns(JournalWarning, match="is corrupt: .*; the journal begins behind that"):
            journal = Journal.open(path)
        assert journal.first > segment.header.first
        assert journal.verify() == 3900 - journal.first + 1
        segment.path.write_bytes(data)
    last = whole.segments[-1]
    data = last.path.read_bytes()
    last.path.write_bytes(data[:40] + bytes([data[40] ^ 1]) + data[41:])
    journal = Journal.open(path)
    n = last.header.first
    for read in (journal.verify, journal.replay, lambda: list(journal.records())):
        with pytest.raises(CorruptJournal, match=f"record {n} cannot be found: the header of"):
            read()
    journal.replay(n - 1)
