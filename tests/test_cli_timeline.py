"""`trouper journal timeline`."""

import json
from pathlib import Path

import pytest
import trace_events
from click.testing import CliRunner, Result
from journals import LOST_PEER, options, plain_life, record
from test_timeline_page import tables_of

from trouper.runtime.cli.commands import trouper
from trouper.runtime.journal.recorder import Recorder
from trouper.runtime.machine import Machine


@pytest.fixture
def path(tmp_path: Path) -> Path:
    record(tmp_path / "j", LOST_PEER)
    return tmp_path / "j"


def run(path: Path, *arguments: str | Path) -> Result:
    return CliRunner().invoke(trouper, ["journal", "timeline", str(path), *map(str, arguments)])


def refusal(path: Path, *arguments: str | Path) -> str:
    """The one line with which bad input is refused; nothing is left behind."""
    out = path.parent / "refused.html"
    result = run(path, "-o", out, *arguments)
    assert result.exit_code == 2
    assert not out.exists()
    [line] = result.stderr.splitlines()
    return line


def test_a_trace(path: Path, tmp_path: Path) -> None:
    result = run(path, "-o", tmp_path / "t.json")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == (
        f"made {tmp_path / 't.json'} of 6 records, attempts 1, gathers 1; "
        "open it in ui.perfetto.dev or chrome://tracing\n"
    )
    trace_events.check(json.loads((tmp_path / "t.json").read_text()))


@pytest.mark.parametrize("arguments", [["t.html"], ["t.page", "--html"]])
def test_a_page(path: Path, tmp_path: Path, arguments: list[str]) -> None:
    out = tmp_path / arguments[0]
    result = run(path, "-o", out, *arguments[1:])
    assert result.exit_code == 0
    assert result.stdout.endswith("; open it in any browser\n")
    assert tables_of(out.read_text())["about"]["to"] == 6


def test_a_summary_for_programs(path: Path, tmp_path: Path) -> None:
    out = tmp_path / "t.html"
    found = json.loads(run(path, "-o", out, "--json").stdout)
    assert found | {"begin_us": 0, "end_us": 0} == {
        "path": str(out), "format": "page", "nbytes": out.stat().st_size, "records": 6,
        "executions": 1, "gathers": 1, "waits": 2, "marks": 2, "begin_us": 0, "end_us": 0,
    }  # fmt: skip
    assert found["end_us"] >= found["begin_us"]


def test_on_a_terminal_progress_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record(tmp_path / "j", plain_life(1000))
    monkeypatch.setenv("FORCE_COLOR", "1")
    result = run(tmp_path / "j", "-o", tmp_path / "t.html")
    assert result.exit_code == 0
    assert "replaying" in result.stderr
    assert "replaying" not in run(tmp_path / "j", "-o", tmp_path / "u.html", "--json").stderr


def test_only_a_part(path: Path, tmp_path: Path) -> None:
    found = json.loads(run(path, "-o", tmp_path / "t", "--from", "4", "--to", "5", "--json").stdout)
    assert (found["records"], found["format"]) == (2, "trace")


@pytest.mark.parametrize(
    ("pattern", "tasks"), [("[xy]", {"x", "y"}), ("?", set("xyza")), ("b*", set[str]())]
)
def test_only_some_tasks(path: Path, tmp_path: Path, pattern: str, tasks: set[str]) -> None:
    assert run(path, "-o", tmp_path / "t.html", "--key", pattern).exit_code == 0
    tables = tables_of((tmp_path / "t.html").read_text())
    assert {row["key"] for row in tables["tasks"]} == tasks


def test_a_file_that_is_there_stays_as_it_is(path: Path, tmp_path: Path) -> None:
    out = tmp_path / "t.html"
    out.write_text("mine")
    result = run(path, "-o", out)
    assert (result.exit_code, result.stderr) == (2, f"Error: {out}: File exists\n")
    assert out.read_text() == "mine"


def test_bad_input_is_one_line(path: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "no").write_text("this is no journal at all")
    assert "No such file" in refusal(tmp_path / "nowhere")
    assert "is a directory" in refusal(tmp_path)
    assert str(tmp_path / "empty") in refusal(tmp_path / "empty")
    assert str(tmp_path / "no") in refusal(tmp_path / "no")
    assert refusal(path, "--from", "7").endswith("there is no record 7: the journal has 1 to 6")
    assert refusal(path, "--to", "0").endswith("there is no record 0: the journal has 1 to 6")
    assert "--from 5 --to 2" in refusal(path, "--from", "5", "--to", "2")


def test_a_journal_without_records_is_refused(tmp_path: Path) -> None:
    Recorder(Machine(), "w", options(tmp_path / "j")).close()
    assert refusal(tmp_path / "j").endswith("has no records yet: there is nothing to show")


def test_a_corrupt_record_is_named_and_no_file_is_left(path: Path) -> None:
    spoilt = bytearray(path.read_bytes())
    spoilt[-3] ^= 1
    path.write_bytes(spoilt)
    assert "record 6" in refusal(path)
    assert run(path, "-o", path.parent / "t.html", "--to", "5").exit_code == 0


def test_help_has_examples() -> None:
    text = CliRunner().invoke(trouper, ["journal", "timeline", "--help"]).output
    assert "trouper journal timeline work.journal -o work.html" in text
