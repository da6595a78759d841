"""The pytest file that a journal becomes."""

import subprocess
import sys
from pathlib import Path

import pytest
from faults import lose_resources, stumble
from journals import LOST_PEER, random_life, record, told

from trouper.runtime import open_worker
from trouper.runtime.debugging.export_test import (
    LONGEST,
    answers_test,
    code,
    error_test,
    predicate_test,
)
from trouper.runtime.debugging.minimise import Said, as_journal, lead, like_first_error, minimise
from trouper.runtime.debugging.predicates import Predicate
from trouper.runtime.errors import JournalError
from trouper.runtime.journal.journal import Journal
from trouper.runtime.ledger import Config, Limits
from trouper.runtime.machine import Machine


def run(text: str) -> None:
    """The one test in a file."""
    names: dict[str, object] = {}
    exec(compile(text, "<exported test>", "exec"), names)
    [test] = [value for name, value in names.items() if name.startswith("test_")]
    assert callable(test)
    test()


def test_the_exported_test_fails_on_the_broken_machine_and_passes_on_the_right_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, life = random_life(seed=1, steps=5000)
    unsound = Predicate("not is_sound(machine)")
    with monkeypatch.context() as patch:
        lose_resources(patch)
        record(tmp_path / "j", life, config)
        journal = Journal.open(tmp_path / "j")
        shortest = minimise(journal, unsound)
        (tmp_path / "short").write_bytes(as_journal(journal.header, shortest))
        text = predicate_test(Journal.open(tmp_path / "short"), unsound)
        with pytest.raises(AssertionError):
            run(text)
    run(text)
    assert text.count("Said(") < 20


def test_the_exported_test_of_an_error_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, life = random_life(seed=1, steps=5000)
    taken = list(lead(Machine(config), [Said(stimulus, stale=True) for stimulus in life]))
    with monkeypatch.context() as patch:
        stumble(patch)
        with pytest.raises(ZeroDivisionError):
            record(tmp_path / "j", [m.stimulus for m in taken if m.error is None], config)
        journal = Journal.open(tmp_path / "j")
        text = error_test(journal, like_first_error(journal))
        with pytest.raises(ZeroDivisionError):
            run(text)
    run(text)


def test_the_exported_test_of_a_refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(_: object) -> bool:
        return False

    with monkeypatch.context() as patch:
        patch.setattr("trouper.runtime.requests.isfinite", never)
        life = told("pause\ncompute-task a resources=gpu:1")
        record(tmp_path / "j", life, Config(resources={"gpu": 1.0}))
        journal = Journal.open(tmp_path / "j")
        text = error_test(journal, like_first_error(journal))
        with pytest.raises(AssertionError):
            run(text)
    run(text)


def test_without_a_failure_it_holds_what_the_machine_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(tmp_path / "j", LOST_PEER)
    text = answers_test(Journal.open(tmp_path / "j"))
    run(text)

    def always(_: object) -> bool:
        return True

    monkeypatch.setattr("trouper.runtime.policies.is_throttled", always)
    with pytest.raises(AssertionError, match="stimulus 1: ComputeTask"):
        run(text)


def test_it_is_a_file_for_pytest(tmp_path: Path) -> None:
    record(tmp_path / "j", LOST_PEER)
    journal = Journal.open(tmp_path / "j")
    (tmp_path / "test_a.py").write_text(answers_test(journal))
    (tmp_path / "test_b.py").write_text(predicate_test(journal, Predicate("'y' in stuck(machine)")))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 1
    assert "1 failed, 1 passed" in done.stdout
    assert "AssertionError: assert not 'y' in" in done.stdout


def test_a_life_that_does_not_begin_with_an_empty_machine(tmp_path: Path) -> None:
    life = told("update-data v:8:int #-1") + told("unpause") * 16_000 + told("free-keys v")
    record(tmp_path / "j", life, max_nbytes=1 << 16)
    journal = Journal.open(tmp_path / "j")
    gone = "any(isinstance(word, ReleaseWorkerData) for word in instructions)"
    text = predicate_test(journal, Predicate(gone))
    assert "SNAPSHOT: dict[str, Any] = {" in text
    with pytest.raises(AssertionError):
        run(text)
    run(answers_test(journal))


def test_what_a_predicate_uses_is_there(tmp_path: Path) -> None:
    record(tmp_path / "j", LOST_PEER)
    wanted = "isinstance(stimulus, FindMissing) and 'y' in stuck(machine)"
    text = predicate_test(Journal.open(tmp_path / "j"), Predicate(wanted))
    assert "        stimulus = moment.stimulus\n" in text
    with pytest.raises(AssertionError):
        run(text)


def test_a_journal_that_ends_in_an_error_is_no_example(tmp_path: Path) -> None:
    record(tmp_path / "j", told("execute-success a #7 nbytes=1"))
    with pytest.raises(JournalError, match="record 1 led to StimulusError: export with --like"):
        answers_test(Journal.open(tmp_path / "j"))


def test_too_many_records_for_a_test(tmp_path: Path) -> None:
    record(tmp_path / "j", told("pause\nunpause") * (LONGEST // 2) + told("pause"))
    journal = Journal.open(tmp_path / "j")
    with pytest.raises(JournalError, match=f"{LONGEST + 1} records are too many for a test"):
        answers_test(journal)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Config(), "Config()"),
        (Config(limits=Limits(incoming_count=3)), "Config(limits=Limits(incoming_count=3))"),
        (told("pause")[0], "Pause()"),
        (told("free-keys a")[0], "FreeKeys(keys=('a',))"),
        (told("secede a #1")[0], "Secede(key='a', attempt=1)"),
        ((float("inf"), 1), "(float('inf'), 1)"),
        ({"a": ("b",)}, "{'a': ('b',)}"),
        ([None, 'quo"te\n'], "[None, 'quo\"te\\n']"),
    ],
)
def test_values_as_code(value: object, text: str) -> None:
    assert code(value) == text


async def test_the_journal_of_a_worker(tmp_path: Path) -> None:
    async with open_worker(threads=2, journal=tmp_path / "j") as worker:
        assert await worker.submit(sum, worker.map(len, ["a", "bc"])) == 3
    run(answers_test(Journal.open(tmp_path / "j")))
