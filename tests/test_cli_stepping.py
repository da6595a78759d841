"""`trouper journal step`."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from journals import LOST_PEER, record

from trouper.runtime.cli.commands import trouper


@pytest.fixture
def path(tmp_path: Path) -> Path:
    record(tmp_path / "j", LOST_PEER)
    return tmp_path / "j"


def walked(path: Path, typed: str, *arguments: str) -> Result:
    result = CliRunner().invoke(trouper, ["journal", "step", str(path), *arguments], input=typed)
    assert result.exit_code == 0, result.output
    return result


def numbers(path: Path, typed: str, *arguments: str) -> list[int]:
    result = walked(path, typed, "--json", *arguments)
    return [json.loads(line)["n"] for line in result.stdout.splitlines()]


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        ("\n\nf\nq\nf\n", [1, 2, 3]),
        ("f\nf\nb\nf\n", [1, 2, 1, 2]),
        ("g 5\nf\nf\n", [5, 6]),
        ("c x\nc x\nc x\n", [1, 4]),
        ("b\nf\n", [1]),
        ("g 6\nf\n", [6]),
        ("g 99\nf\n", [1]),
    ],
)
def test_from_record_to_record(path: Path, typed: str, shown: list[int]) -> None:
    assert numbers(path, typed) == shown


def test_from_a_record_on(path: Path) -> None:
    assert numbers(path, "f\n", "--from", "4") == [4]


def test_what_is_shown(path: Path) -> None:
    output = walked(path, "c x\ns\nt y\nc nobody\n").output
    assert "  (empty), f   forward" in output
    assert "#0> " in output
    assert "    < gather tcp://b:1 #1 x nbytes=100\n" in output
    assert "flight 1" in output
    assert "it waits for x" in output
    assert "nothing changes for 'nobody' from here" in output


def test_what_is_shown_as_data(path: Path) -> None:
    first, state, task = walked(path, "f\ns\nt y\n", "--json").stdout.splitlines()
    assert json.loads(first)["stimulus"]["op"] == "compute-task"
    assert json.loads(state)["tasks"] == {"flight": 1, "waiting": 1}
    assert json.loads(task)["inputs"] == {"x": "flight"}


@pytest.mark.parametrize(
    ("typed", "answer"),
    [
        ("g 99\n", "Error: there is no record 99: the journal has 1 to 6"),
        ("t nobody\n", "Error: the worker knows nothing of a task 'nobody' here"),
        ("g 6\nf\n", "this is the end"),
        ("b\n", "this is before the first record"),
        ("what?\n", "quit"),
    ],
)
def test_what_cannot_be_done_is_said_and_the_walk_goes_on(
    path: Path, typed: str, answer: str
) -> None:
    result = walked(path, typed + "g 2\n", "--json")
    assert answer in result.stderr
    assert json.loads(result.stdout.splitlines()[-1])["n"] == 2


def test_a_record_to_begin_with_that_is_not_there(path: Path) -> None:
    result = CliRunner().invoke(trouper, ["journal", "step", str(path), "--from", "7"])
    assert result.exit_code == 2
    assert result.output == "Error: there is no record 7: the journal has 1 to 6\n"
