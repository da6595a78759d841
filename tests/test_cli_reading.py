"""`trouper journal info`, `verify`, `show` and `at`."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from journals import LOST_PEER, record

from trouper.runtime import open_worker
from trouper.runtime.cli.commands import trouper
from trouper.runtime.ledger import Ledger


@pytest.fixture
def path(tmp_path: Path) -> Path:
    record(tmp_path / "j", LOST_PEER)
    return tmp_path / "j"


def run(command: str, path: Path, *arguments: str) -> Result:
    return CliRunner().invoke(trouper, ["journal", command, str(path), *arguments])


def lines(command: str, path: Path, *arguments: str) -> list[str]:
    result = run(command, path, *arguments)
    assert result.exit_code == 0, result.output
    return result.output.splitlines()


def parsed(command: str, path: Path, *arguments: str) -> Any:
    [line] = lines(command, path, *arguments, "--json")
    return json.loads(line)


def test_what_a_journal_is_of(path: Path) -> None:
    found = parsed("info", path)
    assert (found["worker"], found["first"], found["last"], found["segments"]) == ("w", 1, 6, 1)
    assert found["nbytes"] == path.stat().st_size
    assert found["config"]["slots"] == {"thread": 2}
    assert found["stimuli"]["compute-task"] == 3
    text = run("info", path).output
    assert "compute-task 3" in text
    assert "thread=2" in text


def test_a_good_journal_is_verified(path: Path) -> None:
    assert lines("verify", path) == ["6 records are as they were written, and replay as they did"]
    assert parsed("verify", path) == {"records": 6, "problem": None, "n": None}


def test_a_corrupt_record_is_named(path: Path) -> None:
    spoilt = bytearray(path.read_bytes())
    spoilt[-3] ^= 1
    path.write_bytes(spoilt)
    result = run("verify", path, "--json")
    assert result.exit_code == 1
    found = json.loads(result.output)
    assert (found["records"], found["n"]) == (5, 6)
    assert run("verify", path).output.startswith("after 5 good records: record 6 is corrupt")


def test_what_another_machine_would_decide_is_named(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def always(_: Ledger) -> bool:
        return True

    monkeypatch.setattr("trouper.runtime.policies.is_throttled", always)
    result = run("verify", path)
    assert result.exit_code == 1
    assert result.output.startswith("after 0 good records: record 1 diverges: ")


def test_a_torn_end_is_a_warning(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-2])
    result = CliRunner().invoke(trouper, ["journal", "verify", str(path)])
    assert result.exit_code == 0
    assert result.stdout.startswith("0 records are")
    assert "in the middle of the batch that begins with record 1; its last " in result.stderr


def test_records_as_lines(path: Path) -> None:
    first, second = lines("show", path, "--from", "4", "--to", "4")
    assert first.startswith("#4  ")
    assert first.endswith(" s  gather-network-failure tcp://b:1 #1")
    assert second == "    < find-missing-later #3 delay-s=1.0"


@pytest.mark.parametrize(
    ("choice", "numbers"),
    [
        (["--key", "x"], [1, 6]),
        (["--key", "y"], [1, 2]),
        (["--kind", "compute-task"], [1, 2, 3]),
        (["--kind", "execute"], [3]),
        (["--from", "3", "--to", "5"], [3, 4, 5]),
        (["--from", "2", "--kind", "compute-task"], [2, 3]),
        (["--limit", "2"], [1, 2]),
        (["--key", "no such task"], []),
    ],
)
def test_some_records(path: Path, choice: list[str], numbers: list[int]) -> None:
    found = [json.loads(line) for line in lines("show", path, *choice, "--json")]
    assert [row["n"] for row in found] == numbers


def test_records_as_data(path: Path) -> None:
    row = parsed("show", path, "--from", "3", "--limit", "1")
    assert row["stimulus"]["op"] == "compute-task"
    assert row["instructions"] == [
        {"op": "execute", "key": "a", "attempt": 2, "run_id": 1, "spec_id": 1,
         "executor": "thread", "inputs": [], "resources": []}
    ]  # fmt: skip


def test_the_error_of_a_machine_is_shown(tmp_path: Path) -> None:
    record(tmp_path / "j", LOST_PEER[4:5])
    assert lines("show", tmp_path / "j")[1] == "    ! StimulusError"


def test_the_state_at_a_record(path: Path) -> None:
    assert parsed("at", path, "1")["tasks"] == {"flight": 1, "waiting": 1}
    assert parsed("at", path, "6")["tasks"] == {"memory": 1, "missing": 1, "waiting": 2}
    assert parsed("at", path, "0")["tasks"] == {}
    assert "tcp://b:1" in run("at", path, "1").output


def test_one_task_at_a_record(path: Path) -> None:
    assert parsed("at", path, "1", "--task", "x")["phase"] == "flight"
    assert "it waits for x" in run("at", path, "6", "--task", "y").output


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [
        ("show", ["--from", "0"], "there is no record 0: the journal has 1 to 6"),
        ("show", ["--to", "7"], "there is no record 7: the journal has 1 to 6"),
        ("show", ["--kind", "compute"], "--kind compute: there is no such kind"),
        ("at", ["7"], "there is no record 7: the last one is 6"),
        ("at", ["6", "--task", "q"], "after record 6 the worker knows nothing of a task 'q'"),
    ],
)
def test_what_there_is_not(path: Path, command: str, arguments: list[str], message: str) -> None:
    result = run(command, path, *arguments)
    assert result.exit_code == 2
    assert result.output.startswith("Error: ")
    assert message in result.output
    assert result.output.count("\n") == 1


async def test_the_journal_of_a_worker(tmp_path: Path) -> None:
    async with open_worker(threads=1, journal=tmp_path / "j") as worker:
        assert await worker.submit(len, "abc", key="three") == 3
    assert "compute-task 1" in run("info", tmp_path / "j").output
    assert run("verify", tmp_path / "j").exit_code == 0
    assert any("compute-task" in line for line in lines("show", tmp_path / "j", "--key", "three"))
