"""Recording: everything that the machine was told, and no reason to fail."""

import logging
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any

import pytest
from journals import (
    Clock,
    frame_spans,
    options,
    plain_life,
    random_life,
    record,
    wait_until,
)

from trouper.runtime.errors import JournalError, StimulusError
from trouper.runtime.journal.batches import BATCH
from trouper.runtime.journal.journal import Journal
from trouper.runtime.journal.recorder import BULK, ENDLESS, Recorder
from trouper.runtime.journal.writer import JournalStatus
from trouper.runtime.machine import Machine
from trouper.wire.stimuli import (
    ComputeTask,
    ExecuteSuccess,
    FreeKeys,
    Pause,
    Stimulus,
    Unpause,
    UpdateData,
)


def stimuli_in(path: Path) -> list[Stimulus]:
    return [found.stimulus for found in Journal.open(path).records()]


def grown(recorder: Recorder, nbytes: int) -> bool:
    """Whether more than so many bytes are written."""
    return recorder.status().nbytes > nbytes


def test_what_is_handled_is_handed_on_and_recorded(tmp_path: Path) -> None:
    config, stimuli = random_life(seed=2, steps=500)
    machine = record(tmp_path / "j", stimuli, config)
    journal = Journal.open(tmp_path / "j")
    assert repr(stimuli_in(tmp_path / "j")) == repr(list(stimuli))  # a nan does not equal itself
    assert journal.replay().fingerprint() == machine.fingerprint()
    assert journal.header.name == "w"


def test_every_batch_has_the_time_at_which_it_began(tmp_path: Path) -> None:
    clock = Clock()
    machine = Machine()
    recorder = Recorder(machine, "w", options(tmp_path / "j"), clock)
    for step_ns in (5_000, 1_000_000, 999):
        clock.now_ns += step_ns
        answers = recorder.begin((Pause(), Unpause()))
        for stimulus in (Pause(), Unpause()):
            clock.now_ns += 500_000
            answers.append(machine.handle(stimulus))
        recorder.commit()
    recorder.close()
    assert len(frame_spans(tmp_path / "j")) == 2  # all in one frame
    times = [found.at_us for found in Journal.open(tmp_path / "j").records()]
    assert times == [5, 5, 2005, 2005, 3005, 3005]


@pytest.mark.parametrize("batch", [1, 7, BULK])
def test_small_batches_become_bytes_when_there_are_enough_of_them(
    tmp_path: Path, batch: int
) -> None:
    recorder = Recorder(Machine(), "w", options(tmp_path / "j"))
    count = 0
    while count <= 2 * BULK:
        for _ in range(batch):
            recorder.handle(Pause())
            count += 1
            assert recorder.status().records == count
        recorder.commit()
    recorder.close()
    assert recorder.status().records == count
    assert stimuli_in(tmp_path / "j") == [Pause()] * count
    each = ceil(BULK / batch) * batch
    full, rest = divmod(count, each)
    frames = full * ceil(each / BATCH) + ceil(rest / BATCH)
    assert len(frame_spans(tmp_path / "j")) == 1 + frames


def test_a_batch_without_an_end_is_written_in_parts(tmp_path: Path) -> None:
    recorder = Recorder(Machine(), "w", options(tmp_path / "j"))
    for _ in range(ENDLESS + 1):
        recorder.handle(Pause())
    recorder.close()
    assert stimuli_in(tmp_path / "j") == [Pause()] * (ENDLESS + 1)
    assert len(frame_spans(tmp_path / "j")) == 1 + ceil(ENDLESS / BATCH) + 1


def test_every_batch_is_written_at_once_if_it_is_to_be_on_the_disk(tmp_path: Path) -> None:
    recorder = Recorder(Machine(), "w", options(tmp_path / "j", flush="fsync"))
    wait_until(lambda: recorder.status().nbytes)
    for count in range(1, 4):
        before = recorder.status().nbytes
        recorder.handle(Pause())
        recorder.commit()
        wait_until(partial(grown, recorder, before))
        assert len(stimuli_in(tmp_path / "j")) == count
    recorder.close()


def test_what_is_handled_is_written_in_time_although_nothing_follows(tmp_path: Path) -> None:
    machine = Machine()
    recorder = Recorder(machine, "w", options(tmp_path / "j", flush=0.01))
    wait_until(lambda: recorder.status().nbytes)
    for count in range(1, 4):
        before = recorder.status().nbytes
        recorder.handle(Pause())
        recorder.commit()
        wait_until(partial(grown, recorder, before))
        assert len(stimuli_in(tmp_path / "j")) == count
    # Nor does it wait for a batch that takes its time, which is written when it is handled.
    before = recorder.status().nbytes
    recorder.handle(Unpause())
    answers = recorder.begin((Pause(), Unpause()))
    answers.append(machine.handle(Pause()))
    wait_until(partial(grown, recorder, before))
    assert len(stimuli_in(tmp_path / "j")) == 4
    assert recorder.status().records == 5
    before = recorder.status().nbytes
    answers.append(machine.handle(Unpause()))
    wait_until(partial(grown, recorder, before))
    assert len(stimuli_in(tmp_path / "j")) == 6
    recorder.close()
    assert Journal.open(tmp_path / "j").verify() == 6


def test_two_threads_make_bytes_and_nothing_is_lost_or_doubled(tmp_path: Path) -> None:
    stimuli = plain_life(3000)
    machine = record(tmp_path / "j", stimuli, batch=3, flush=1e-5, max_nbytes=1 << 22)
    assert stimuli_in(tmp_path / "j") == stimuli
    journal = Journal.open(tmp_path / "j")
    assert journal.verify() == len(stimuli)
    assert journal.replay().fingerprint() == machine.fingerprint()


def test_who_hears_that_the_journal_has_ended_may_ask_for_the_status(
    tmp_path: Path,
) -> None:
    recorder = Recorder(Machine(), "w", options(tmp_path / "j"))
    heard: list[JournalStatus] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            heard.append(recorder.status())

    handler = Handler()
    logger = logging.getLogger("trouper.runtime.journal.writer")
    logger.addHandler(handler)
    try:
        recorder.handle(Pause())
        recorder.handle(FreeKeys(("\ud800",)))
        recorder.close()
    finally:
        logger.removeHandler(handler)
    (status,) = heard
    assert status.records == 1
    assert status.error is not None


def test_who_handles_many_adds_the_answers(tmp_path: Path) -> None:
    machine = Machine()
    recorder = Recorder(machine, "w", options(tmp_path / "j"))
    stimuli: list[Stimulus] = [ComputeTask("a", 1, 1), ExecuteSuccess("a", 1, 0, "int")]
    stimuli += [Pause(), Unpause()] * BATCH
    for begin, end in ((0, 1), (1, len(stimuli))):
        answers = recorder.begin(stimuli[begin:end])
        for stimulus in stimuli[begin:end]:
            answers.append(machine.handle(stimulus))
    recorder.commit()
    assert recorder.status().records == len(stimuli)
    recorder.close()
    assert stimuli_in(tmp_path / "j") == stimuli
    assert Journal.open(tmp_path / "j").verify() == len(stimuli)
    assert len(frame_spans(tmp_path / "j")) == 1 + 3  # none of more than BATCH


def test_of_a_batch_that_is_broken_off_the_rest_is_not_recorded(tmp_path: Path) -> None:
    machine = Machine()
    recorder = Recorder(machine, "w", options(tmp_path / "j"))
    stimuli: list[Stimulus] = [Pause(), ExecuteSuccess("a", 7, 0, "int"), Unpause()]
    answers = recorder.begin(stimuli)
    answers.append(machine.handle(stimuli[0]))
    with pytest.raises(StimulusError) as caught:
        machine.handle(stimuli[1])
    recorder.raised(caught.value)
    recorder.close()
    records = list(Journal.open(tmp_path / "j").records())
    assert [(r.stimulus, r.error) for r in records] == [
        (stimuli[0], ""),
        (stimuli[1], "StimulusError"),
    ]


def test_what_the_machine_refuses_is_the_last_that_is_recorded(tmp_path: Path) -> None:
    recorder = Recorder(Machine(), "w", options(tmp_path / "j"))
    recorder.handle(Pause())
    with pytest.raises(StimulusError):
        recorder.handle(ExecuteSuccess("a", 7, 0, "int"))
    recorder.close()
    journal = Journal.open(tmp_path / "j")
    assert [found.error for found in journal.records()] == ["", "StimulusError"]
    assert journal.verify() == 2


def test_a_fault_of_the_machine_is_recorded_and_found_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder(Machine(), "w", options(tmp_path / "j"))

    def broken(*_: Any) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr("trouper.runtime.machine.start_ready", broken)
        with pytest.raises(ZeroDivisionError):
            recorder.handle(ComputeTask("a", 1, 1))
        recorder.close()
        assert Journal.open(tmp_path / "j").verify() == 1
    with pytest.raises(JournalError, match="led to ZeroDivisionError, and leads to"):
        Journal.open(tmp_path / "j").verify()


def test_what_cannot_be_written_ends_the_journal_behind_the_record_before(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = Recorder(Machine(), "w", options(tmp_path / "j"))
    stimuli = [FreeKeys(("a",)), FreeKeys(("\ud800",)), FreeKeys(("b",))]
    for stimulus in stimuli:
        assert recorder.handle(stimulus) == []
    recorder.commit()
    recorder.handle(FreeKeys(("c",)))
    recorder.close()
    assert stimuli_in(tmp_path / "j") == stimuli[:1]
    status = recorder.status()
    assert status.records == 1
    assert status.error is not None
    assert status.error.startswith("record 2 cannot be written: ")
    assert [(r.levelno, r.getMessage()) for r in caplog.records] == [
        (
            logging.ERROR,
            f"the journal {tmp_path / 'j'} ends, and the worker goes on: {status.error}",
        )
    ]


def test_segments_begin_with_what_the_machine_is_then(tmp_path: Path) -> None:
    after_batches: list[str] = []
    machine = record(
        tmp_path / "j",
        plain_life(4000),
        batch=7,
        max_nbytes=1 << 16,
        on_commit=lambda machine: after_batches.append(machine.fingerprint()),
    )
    states = {7 * number: state for number, state in enumerate(after_batches, 1)}
    journal = Journal.open(tmp_path / "j")
    assert journal.first > 1
    assert len(journal.segments) >= 3
    for segment in journal.segments:
        before = segment.header.first - 1
        assert Machine.from_snapshot(segment.header.snapshot).fingerprint() == states[before]
    assert journal.replay().fingerprint() == machine.fingerprint()


def test_snapshots_are_at_most_half_of_what_is_written(tmp_path: Path) -> None:
    held = UpdateData({f"value-{number}": (8, "int") for number in range(2000)}, -1)
    nbytes: list[int] = []
    for max_nbytes in (1 << 26, 1 << 16):
        recorder = Recorder(Machine(), "w", options(tmp_path / "j", max_nbytes=max_nbytes))
        for stimulus in [held, *plain_life(3000)]:
            recorder.handle(stimulus)
            recorder.commit()
        recorder.close()
        nbytes.append(recorder.status().nbytes)
    journal = Journal.open(tmp_path / "j")
    assert journal.first > 1
    assert nbytes[0] < nbytes[1] < 2 * nbytes[0] + journal.segments[-1].nbytes


def test_nothing_is_written_over_something_else(tmp_path: Path) -> None:
    (tmp_path / "diary").write_text("Dear diary")
    with pytest.raises(JournalError, match="is no journal"):
        Recorder(Machine(), "w", options(tmp_path / "diary"))
    assert [path.name for path in tmp_path.iterdir()] == ["diary"]
