"""The groups `trouper` and `trouper journal`, and what their commands share.

Bad input (no journal, a newer format, a number that is not there) is one line on stderr and exit
code 2. Exit code 1 is a finding: the journal is corrupt, two journals differ, tasks are stuck.
"""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

from trouper.runtime.errors import JournalWarning
from trouper.runtime.journal import Journal
from trouper.wire.errors import TrouperError
from trouper.wire.version import VERSION

FOUND = 1
"""Exit code of a command that has found what it looks for."""

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


CONTEXT = {"help_option_names": ["-h", "--help"]}


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


def print_json(value: object) -> None:
    """A value of ours as one line of JSON."""
    click.echo(json.dumps(msgspec.to_builtins(value)))
