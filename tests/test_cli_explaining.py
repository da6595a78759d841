"""`trouper journal story` and `stuck`."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from journals import LOST_PEER, record, told

from trouper.runtime.cli.commands import trouper


@pytest.fixture
def path(tmp_path: Path) -> Path:
    record(tmp_path / "j", LOST_PEER)
    return tmp_path / "j"


def run(command: str, path: Path, *arguments: str) -> Result:
    return CliRunner().invoke(trouper, ["journal", command, str(path), *arguments])


MISSING = (
    "x is missing since #4, when tcp://b:1 was lost: no holder is known; "
    "nobody has answered request-refresh-who-has #6"
)


def test_the_story_ends_with_why(path: Path) -> None:
    result = run("story", path, "z")
    assert result.exit_code == 0
    _, _, why = result.output.partition("\n\n")
    assert why.splitlines() == [
        "z is waiting since #2, when it was to be computed: it waits for y",
        "y is waiting since #1, when it was to be computed: it waits for x",
        MISSING,
    ]


def test_the_story_begins_with_what_happened(path: Path) -> None:
    happened, _, _ = run("story", path, "x").output.partition("\n\n")
    shown = [line for line in happened.splitlines() if not line.startswith("#")]
    assert shown == [
        "      released -> flight; tcp://b:1 is said to hold it",
        "    < gather tcp://b:1 #1 x nbytes=100",
        "      flight -> missing; tcp://b:1 holds it no more",
        "    < request-refresh-who-has x",
    ]


def test_the_story_as_data(path: Path) -> None:
    found = json.loads(run("story", path, "x", "--json").output)
    assert [turn["n"] for turn in found["turns"]] == [1, 4, 6]
    assert found["why"] == [{"key": "x", "phase": "missing", "since": 4, "text": MISSING}]


def test_until_an_earlier_record(path: Path) -> None:
    assert "attempt 2 runs" in run("story", path, "a", "--until", "4").output
    assert run("stuck", path, "--until", "3").output == "nothing is stuck\n"


def test_of_a_long_chain_the_middle_is_counted(tmp_path: Path) -> None:
    life = ["compute-task t0 who-has=x@-"]
    life += [f"compute-task t{n} local=t{n - 1}" for n in range(1, 30)]
    record(tmp_path / "j", told("\n".join(life)))
    assert "... and so on, for 24 more ..." in run("story", tmp_path / "j", "t29").output


def test_a_task_that_is_never_mentioned(path: Path) -> None:
    result = run("story", path, "q")
    assert result.exit_code == 2
    assert result.output == "Error: this journal never mentions a task 'q'\n"


def test_the_fault_of_a_machine_is_in_the_story(tmp_path: Path) -> None:
    record(tmp_path / "j", told("compute-task a\nexecute-success a #9 nbytes=1"))
    assert "    ! StimulusError\n" in run("story", tmp_path / "j", "a").output


def test_what_is_stuck_is_a_finding(path: Path) -> None:
    result = run("stuck", path)
    assert result.exit_code == 1
    assert result.output == f"{MISSING}\n    y and z wait for it\n"
    [cause] = json.loads(run("stuck", path, "--json").output)
    assert cause["behind"] == ["y", "z"]


def test_nothing_is_stuck(tmp_path: Path) -> None:
    record(tmp_path / "j", told("compute-task a"))
    result = run("stuck", tmp_path / "j")
    assert (result.exit_code, result.output) == (0, "nothing is stuck\n")
