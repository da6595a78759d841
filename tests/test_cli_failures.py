"""`trouper journal diff`, `minimise` and `export-test`."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from journals import LOST_PEER, record, told

from trouper.runtime.cli.commands import trouper
from trouper.runtime.journal.journal import Journal

STUCK = ["--predicate", "'z' in stuck(machine)"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    record(tmp_path / "j", LOST_PEER)
    return tmp_path / "j"


def run(command: str, path: Path, *arguments: str | Path) -> Result:
    return CliRunner().invoke(trouper, ["journal", command, str(path), *map(str, arguments)])


def test_no_difference(path: Path) -> None:
    for arguments in [(), (path,)]:
        result = run("diff", path, *arguments)
        assert (result.exit_code, result.output) == (0, "no difference\n")
    assert json.loads(run("diff", path, path, "--json").output) is None


def test_the_first_difference(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    record(other, LOST_PEER[:2])
    result = run("diff", path, other)
    assert result.exit_code == 1
    assert result.output.splitlines() == [
        "#3  different end",
        f"  {path}:",
        "    compute-task a",
        f"  {other}:",
        "    nothing: it ends before",
    ]
    assert json.loads(run("diff", path, other, "--json").output)["n"] == 3


def test_a_difference_to_this_trouper(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def always(_: object) -> bool:
        return True

    monkeypatch.setattr("trouper.runtime.policies.is_throttled", always)
    result = run("diff", path)
    assert result.exit_code == 1
    lines = result.output.splitlines()
    assert lines[0] == "#1  compute-task y who-has=x@tcp://b:1 nbytes=x:100"
    assert lines[-2:] == ["  now:", "    nothing"]


def test_the_shortest_journal(path: Path, tmp_path: Path) -> None:
    short = tmp_path / "short"
    result = run("minimise", path, *STUCK, "-o", short)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        f"3 of 6 stimuli are left, in {short}:",
        "    compute-task y who-has=x@tcp://b:1 nbytes=x:100",
        "    compute-task z local=y",
        "    gather-network-failure tcp://b:1 #1",
    ]
    assert Journal.open(short).verify() == 3
    found = json.loads(run("minimise", path, *STUCK, "-o", tmp_path / "again", "--json").output)
    assert len(found["stimuli"]) == 3


def test_the_shortest_journal_with_the_same_error(tmp_path: Path) -> None:
    record(tmp_path / "j", told("pause\ncompute-task a\nexecute-success a #7 nbytes=1"))
    result = run("minimise", tmp_path / "j", "--like-error", "-o", tmp_path / "short")
    assert result.exit_code == 0, result.output
    assert [found.error for found in Journal.open(tmp_path / "short").records()] == [
        "StimulusError"
    ]


def test_a_test_is_made(path: Path, tmp_path: Path) -> None:
    made = tmp_path / "test_z.py"
    result = run("export-test", path, *STUCK, "-o", made)
    assert (result.exit_code, result.output) == (0, f"made {made}; run it with: pytest {made}\n")
    assert "assert not ('z' in stuck(machine))" in made.read_text()
    plain = run("export-test", path, "-o", tmp_path / "test_plain.py", "--json")
    assert json.loads(plain.output) == {"path": str(tmp_path / "test_plain.py")}
    assert "def test_the_machine_says_what_it_said" in (tmp_path / "test_plain.py").read_text()


def test_a_test_of_an_error_is_made(tmp_path: Path) -> None:
    record(tmp_path / "j", told("execute-success a #7 nbytes=1"))
    made = tmp_path / "test_e.py"
    assert run("export-test", tmp_path / "j", "--like-error", "-o", made).exit_code == 0
    assert "assert moment.error is None" in made.read_text()


@pytest.mark.parametrize("command", ["minimise", "export-test"])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--predicate", "x ="], "'x =' is no expression of Python"),
        (["--predicate", "nobody"], "'nobody' cannot be evaluated: NameError"),
        (["--predicate", "not is_sound(machine)"], "the failure does not show in this journal"),
        (["--like-error"], "no record of this journal leads to an error"),
        (["--like-error", "--predicate", "True"], "either --predicate EXPR or --like-error"),
    ],
)
def test_what_cannot_be_found_leaves_no_file(
    path: Path, tmp_path: Path, command: str, arguments: list[str], message: str
) -> None:
    result = run(command, path, *arguments, "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert message in result.output
    assert result.output.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_something_has_to_be_looked_for(path: Path, tmp_path: Path) -> None:
    result = run("minimise", path, "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert result.output == "Error: what to look for? either --predicate EXPR or --like-error\n"


@pytest.mark.parametrize("command", ["minimise", "export-test"])
def test_no_file_is_written_over(path: Path, tmp_path: Path, command: str) -> None:
    before = path.read_bytes()
    result = run(command, path, *STUCK, "-o", path)
    assert result.exit_code == 2
    assert result.output == f"Error: {path}: File exists\n"
    assert path.read_bytes() == before
    assert run(command, path, *STUCK, "-o", tmp_path / "no" / "such").exit_code == 2
