"""`trouper journal diff`, `minimise` and `export-test`: from a failure to its cause and a test."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress, SpinnerColumn

from trouper.runtime.cli.group import (
    FOUND,
    Refused,
    journal,
    json_option,
    line_of,
    new_file,
    open_journal,
    path_argument,
    print_json,
)
from trouper.runtime.debugging.diff import difference_now, difference_of
from trouper.runtime.debugging.export_test import answers_test, error_test, predicate_test
from trouper.runtime.debugging.minimise import as_journal, like_first_error, minimise
from trouper.runtime.debugging.predicates import Predicate


@journal.command()
@path_argument
@click.argument("other", type=click.Path(path_type=Path), required=False)
@json_option
def diff(path: Path, other: Path | None, as_json: bool) -> None:
    """The first record in which two journals differ; exit code 1 if there is one.

    Without OTHER, where this trouper decides otherwise than the one that wrote the journal.

    \b
    Examples:
        trouper journal diff work.journal
        trouper journal diff work.journal other.journal
    """  # noqa: D301 - click's mark, not an escape of ours
    opened = open_journal(path)
    if other is None:
        names = ("then", "now")
        found = difference_now(opened)
    else:
        names = (str(path), str(other))
        found = difference_of(opened, open_journal(other))
    if as_json:
        print_json(found)
    elif found is None:
        click.echo("no difference")
    else:
        click.echo(f"#{found.n}  {found.stimulus or 'different ' + found.what}")
        for name, lines in zip(names, (found.one, found.other), strict=True):
            click.echo(f"  {name}:")
            for line in lines or ("nothing",):
                click.echo(f"    {line}")
    if found is not None:
        click.get_current_context().exit(FOUND)


def _failure_options(command: Callable[..., None]) -> Callable[..., None]:
    """What to look for."""
    predicate = click.option(
        "--predicate",
        metavar="EXPR",
        help="It shows when this Python expression is true, of `machine`, `stimulus` and "
        "`instructions`; with `stuck(machine)` and `is_sound(machine)`. It is run as it is.",
    )
    error = click.option(
        "--like-error", is_flag=True, help="It shows when the machine raises the error it raised."
    )
    out = click.option(
        "-o", "--out", type=click.Path(path_type=Path), required=True, help="A file to be made."
    )
    return predicate(error(out(command)))


@journal.command("minimise")
@path_argument
@_failure_options
@json_option
def minimise_command(
    path: Path, predicate: str | None, like_error: bool, out: Path, as_json: bool
) -> None:
    """Make the shortest journal that still shows a failure.

    \b
    Examples:
        trouper journal minimise work.journal --predicate "'y' in stuck(machine)" -o short.journal
        trouper journal minimise work.journal --like-error -o short.journal
    """  # noqa: D301
    opened = open_journal(path)
    if (predicate is None) == (not like_error):
        raise Refused("what to look for? either --predicate EXPR or --like-error")
    failure = like_first_error(opened) if predicate is None else Predicate(predicate)
    with new_file(out) as write_bytes, _progress(as_json) as progress:
        life = minimise(opened, failure, progress)
        write_bytes(as_journal(opened.header, life))
    if as_json:
        print_json({"path": str(out), "stimuli": [said.stimulus for said in life.said]})
        return
    click.echo(f"{len(life.said)} of {opened.last - opened.first + 1} stimuli are left, in {out}:")
    for said in life.said:
        click.echo(f"    {line_of(said.stimulus)}")


@contextmanager
def _progress(quiet: bool) -> Generator[Callable[[int], None]]:
    """A line on stderr, if that is a terminal."""
    console = Console(stderr=True)
    with Progress(
        SpinnerColumn(),
        "{task.description}",
        console=console,
        transient=True,
        disable=quiet or not console.is_terminal,
    ) as shown:
        line = shown.add_task("looking for the failure", total=None)
        yield lambda count: shown.update(line, description=f"{count} stimuli are left")


@journal.command("export-test")
@path_argument
@_failure_options
@json_option
def export_test_command(
    path: Path, predicate: str | None, like_error: bool, out: Path, as_json: bool
) -> None:
    """Make a pytest file that leads a machine through the life in a journal.

    The test holds that EXPR does not become true, or that the error is not raised; without
    either, that the machine says what it said.

    \b
    Examples:
        trouper journal export-test short.journal --predicate "'y' in stuck(machine)" -o test_y.py
        trouper journal export-test short.journal --like-error -o test_error.py
    """  # noqa: D301
    opened = open_journal(path)
    if predicate is not None and like_error:
        raise Refused("either --predicate EXPR or --like-error, not both")
    with new_file(out) as write_bytes:
        if predicate is not None:
            text = predicate_test(opened, Predicate(predicate))
        elif like_error:
            text = error_test(opened, like_first_error(opened))
        else:
            text = answers_test(opened)
        write_bytes(text.encode())
    if as_json:
        print_json({"path": str(out)})
    else:
        click.echo(f"made {out}; run it with: pytest {out}")
