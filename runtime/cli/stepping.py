"""`trouper journal step`: through a journal by hand."""

from pathlib import Path

import click
import msgspec

from trouper.runtime.cli.group import (
    check_record,
    journal,
    json_option,
    open_journal,
    path_argument,
    print_json,
    print_record,
    print_table,
)
from trouper.runtime.debugging.picture import picture, task_picture
from trouper.runtime.debugging.walk import Walk
from trouper.runtime.errors import JournalError
from trouper.runtime.journal.journal import Step

END = "this is the end"

HELP = """\
  (empty), f   forward
  b            back
  g N          go to record N
  c KEY        forward to the next change of a task's phase
  s            the state: tasks by phase, queues, what is in flight
  t KEY        all that is known of a task
  q            quit"""


@journal.command()
@path_argument
@click.option("--from", "first", type=int, metavar="N", help="Begin with this record.")
@json_option
def step(path: Path, first: int | None, as_json: bool) -> None:
    """Walk through a journal by hand: forward, back, to the next change of a task.

    \b
    Example:
        trouper journal step work.journal --from 700
    """  # noqa: D301 - click's mark, not an escape of ours
    opened = open_journal(path)
    if first is not None:
        check_record(opened, first)
    walk = Walk(opened, None if first is None else first - 1)
    if not as_json:
        click.echo(HELP)
    while (line := _typed(walk.n, as_json)) is not None:
        try:
            _obey(walk, line.split(maxsplit=1), as_json)
        except JournalError as error:  # the walk goes on from where it is
            click.echo(f"Error: {error}", err=True)


def _typed(n: int, as_json: bool) -> str | None:
    """What was typed; None at the end."""
    try:
        line: str = click.prompt(
            f"#{n}", default="f", show_default=False, prompt_suffix="> ", err=as_json
        )
    except click.Abort:  # no more input, or Ctrl-C
        return None
    return None if line.strip() == "q" else line


def _obey(walk: Walk, words: list[str], as_json: bool) -> None:
    match words:
        case ["f"]:
            _print_step(walk.forward(), END, as_json)
        case ["b"]:
            _print_step(walk.back(), "this is before the first record", as_json)
        case ["g", number] if number.isdecimal():
            check_record(walk.journal, int(number))
            walk.go(int(number) - 1)
            _print_step(walk.forward(), END, as_json)
        case ["c", key]:
            _print_step(walk.to_change(key), f"nothing changes for {key!r} from here", as_json)
        case ["s"]:
            _print_state(picture(walk.machine), as_json)
        case ["t", key]:
            found = task_picture(walk.machine, key)
            if found is None:
                raise JournalError(f"the worker knows nothing of a task {key!r} here")
            _print_state(found, as_json)
        case _:
            click.echo(HELP, err=as_json)


def _print_step(found: Step | None, otherwise: str, as_json: bool) -> None:
    if found is None:
        click.echo(otherwise, err=as_json)
    else:
        print_record(found.record, found.instructions, as_json=as_json)


def _print_state(state: msgspec.Struct, as_json: bool) -> None:
    if as_json:
        print_json(state)
    else:
        print_table(msgspec.to_builtins(state))
