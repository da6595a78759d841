"""The groups `trouper` and `trouper journal`, and what their commands share.

Bad input (no journal, a newer format, a number that is not there) is one line on stderr and exit
code 2. Exit code 1 is a finding: the journal is corrupt, two journals differ, tasks are stuck.
"""

import warnings
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

import click
import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from trouper.runtime.debugging.notation import write
from trouper.runtime.errors import JournalError, JournalWarning
from trouper.runtime.journal.format import Record, op_of
from trouper.runtime.journal.journal import Journal
from trouper.wire.errors import TrouperError
from trouper.wire.instructions import Instruction
from trouper.wire.version import VERSION
from trouper.wire.vocabulary import Word

FOUND = 1
"""Exit code of a command that has found what it looks for."""

LONGEST = 240
"""So many characters of a stimulus or instruction are printed; JSON has all of them."""

_Command = TypeVar("_Command", bound=Callable[..., Any])


class Refused(click.ClickException):
    """Bad input, in one line."""

    exit_code = 2


class Group(click.Group):
    """A group whose commands may raise trouper's own errors, and those of the file system."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; an error becomes a line."""
        try:
            return super().invoke(ctx)
        except TrouperError as error:
            raise Refused(str(error)) from error
        except BrokenPipeError:
            raise  # whoever read has had enough; click knows
        except OSError as error:
            raise Refused(f"{error.filename or 'the file'}: {error.strerror or error}") from error


CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group(cls=Group, context_settings=CONTEXT)
@click.version_option(VERSION, prog_name="trouper")
def trouper() -> None:
    """A worker whose every decision can be replayed."""


@trouper.group(cls=Group)
def journal() -> None:
    """Read, replay and explain the journal of a worker.

    PATH is what open_worker(journal=PATH) was given, or one of the older files beside it.
    Nothing here needs the code or the data of those who wrote it.
    """


def path_argument(command: _Command) -> _Command:
    """The journal that a command reads."""
    return click.argument("path", type=click.Path(path_type=Path))(command)


def json_option(command: _Command) -> _Command:
    """The choice to be read by a program."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def until_option(command: _Command) -> _Command:
    """The choice of a moment."""
    what = "Up to this record; the last one by default."
    return click.option("--until", type=int, metavar="N", help=what)(command)


def open_journal(path: Path) -> Journal:
    """Open a journal; what had to be left out of it is said on stderr."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", JournalWarning)
        opened = Journal.open(path)
    for warning in opened.warnings:
        click.echo(f"Warning: {warning}", err=True)
    return opened


def check_record(opened: Journal, n: int) -> None:
    """Raise JournalError if a journal has no record of this number."""
    if not opened.first <= n <= opened.last:
        raise JournalError(
            f"there is no record {n}: the journal has {opened.first} to {opened.last}"
        )


@contextmanager
def new_file(path: Path) -> Generator[Callable[[bytes], object]]:
    """A file to be made, taken before the work begins; none is left if that fails."""
    with path.open("xb") as file:
        try:
            yield file.write
        except BaseException:
            path.unlink()
            raise


def print_json(value: object) -> None:
    """A value as one line of JSON; numbers that JSON does not know are null."""
    click.echo(msgspec.json.encode(_named(value)).decode())


def _named(value: Any) -> Any:
    """Plain data in which a word is a map, and the name of its kind stands under ``op``."""
    if isinstance(value, msgspec.Struct):
        named = _named(msgspec.structs.asdict(value))
        return {"op": op_of(type(value))} | named if isinstance(value, Word) else named
    if isinstance(value, dict):
        pairs = cast("dict[object, object]", value)
        return {name: _named(item) for name, item in pairs.items()}
    if isinstance(value, list | tuple):
        return [_named(item) for item in cast("Sequence[object]", value)]
    return value


def print_table(rows: Mapping[str, object]) -> None:
    """Names, and what belongs to each; several lines of it for maps and lists."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(name, Text(_plain(value)))
    Console().print(table, highlight=False)


def _plain(value: object) -> str:
    if isinstance(value, dict):
        pairs = cast("dict[str, object]", value)
        return "\n".join(f"{name} {_inline(item)}" for name, item in pairs.items()) or "-"
    if isinstance(value, list | tuple):
        return "\n".join(map(_inline, cast("Sequence[object]", value))) or "-"
    return _inline(value)


def _inline(value: object) -> str:
    if isinstance(value, dict):
        pairs = cast("dict[str, object]", value)
        return " ".join(f"{name}={_inline(item)}" for name, item in pairs.items()) or "-"
    if isinstance(value, list | tuple):
        return ", ".join(map(_inline, cast("Sequence[object]", value))) or "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None or value == "" else str(value)


def line_of(word: Word) -> str:
    """A stimulus or an instruction as a line, cut if it is very long."""
    text = write(word)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def record_line(n: int, at_us: int, stimulus: Word) -> str:
    """A record: its number, its time, what the machine was told."""
    return f"#{n}  {at_us / 1e6:.6f} s  {line_of(stimulus)}"


def print_record(record: Record, instructions: Sequence[Instruction], *, as_json: bool) -> None:
    """A record with what it led to."""
    if as_json:
        print_json({**msgspec.structs.asdict(record), "instructions": instructions})
        return
    click.echo(record_line(record.n, record.at_us, record.stimulus))
    for instruction in instructions:
        click.echo(f"    < {line_of(instruction)}")
    if record.error:
        click.echo(f"    ! {record.error}")
