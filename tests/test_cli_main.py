"""The command line as a whole: the way in, and what becomes of bad input."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import msgspec
import pytest
from click.testing import CliRunner
from journals import header, plain_life, record

from trouper.runtime.cli import main as cli
from trouper.runtime.cli.commands import trouper
from trouper.runtime.cli.group import journal
from trouper.runtime.journal.format import pack
from trouper.runtime.journal.frames import MAGIC, FrameWriter


def test_the_module_is_a_command_too() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "trouper.runtime.cli.main", "--version"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("trouper, version ")


def test_without_click_and_rich_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "NEEDED", ("click", "there_is_no_such_thing"))
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert capsys.readouterr().err == (
        "trouper: the command line needs there_is_no_such_thing, and they are not installed; "
        "pip install 'trouper[cli]' brings them\n"
    )


def commands() -> list[click.Command]:
    return list(journal.commands.values())


@pytest.mark.parametrize("command", commands(), ids=lambda command: str(command.name))
def test_every_command_has_help_with_an_example(command: click.Command) -> None:
    result = CliRunner().invoke(trouper, ["journal", str(command.name), "--help"])
    assert result.exit_code == 0
    assert f"trouper journal {command.name} " in result.output.partition("Example")[2]


def directory(path: Path) -> None:
    path.mkdir()


def newer_format(path: Path) -> None:
    later = msgspec.structs.replace(header(), format=99)
    path.write_bytes(MAGIC + FrameWriter().frame(pack(later)))


def cut_header(path: Path) -> None:
    record(path, plain_life(1))
    path.write_bytes(path.read_bytes()[:40])


BAD_INPUT: list[tuple[Callable[[Path], object], str]] = [
    (lambda path: None, "cannot be read"),
    (directory, "is a directory"),
    (lambda path: path.write_text("Dear diary"), "is no journal"),
    (lambda path: path.write_bytes(b""), "is empty"),
    (newer_format, "has format 99, and this trouper reads format 4"),
    (cut_header, "is cut off within its header"),
]


@pytest.mark.parametrize("command", commands(), ids=lambda command: str(command.name))
@pytest.mark.parametrize(("make", "message"), BAD_INPUT, ids=[line for _, line in BAD_INPUT])
def test_bad_input_is_one_line_and_exit_code_2(
    tmp_path: Path, command: click.Command, make: Callable[[Path], object], message: str
) -> None:
    path = tmp_path / "j"
    make(path)
    result = CliRunner().invoke(trouper, ["journal", str(command.name), *arguments(command, path)])
    assert result.exit_code == 2
    assert result.output.startswith("Error: ")
    assert message in result.output
    assert result.output.count("\n") == 1


def arguments(command: click.Command, path: Path) -> list[str]:
    """Something for everything that a command insists on."""
    given: list[str] = []
    for parameter in command.params:
        if parameter.required:
            value = {"path": str(path), "other": str(path), "n": "1", "out": f"{path}.out"}
            option = parameter.opts[:1] if isinstance(parameter, click.Option) else []
            given += [*option, value.get(str(parameter.name), "x")]
    return given
