"""`trouper journal story` and `stuck`: why tasks are where they are."""

from pathlib import Path

import click

from trouper.runtime.cli.group import (
    FOUND,
    Refused,
    journal,
    json_option,
    line_of,
    open_journal,
    path_argument,
    print_json,
    record_line,
    until_option,
)
from trouper.runtime.debugging.reasons import named
from trouper.runtime.debugging.story import Story, Turn, stuck_tasks, tell


@journal.command()
@path_argument
@click.argument("key")
@until_option
@json_option
def story(path: Path, key: str, until: int | None, as_json: bool) -> None:
    """Everything that ever happened to the task KEY, and why it is where it is.

    \b
    Examples:
        trouper journal story work.journal y
        trouper journal story work.journal y --until 812
    """  # noqa: D301 - click's mark, not an escape of ours
    told = tell(open_journal(path), key, until)
    if not told.turns and told.why[0].phase == "released":
        raise Refused(f"this journal never mentions a task {key!r}")
    if as_json:
        print_json(told)
        return
    for turn in told.turns:
        _print_turn(turn)
    click.echo()
    _print_why(told)


def _print_turn(turn: Turn) -> None:
    click.echo(record_line(turn.n, turn.at_us, turn.stimulus))
    phase = f"{turn.before} -> {turn.phase}" if turn.before != turn.phase else ""
    if said := "; ".join(filter(None, [phase, *turn.changes])):
        click.echo(f"      {click.style(said, bold=True)}")
    for instruction in turn.instructions:
        click.echo(f"    < {line_of(instruction)}")
    if turn.error:
        click.echo(f"    ! {turn.error}")


def _print_why(told: Story) -> None:
    middle = len(told.why) // 2
    for number, why in enumerate(told.why):
        if told.left_out and number == middle:
            click.echo(f"... and so on, for {told.left_out} more ...")
        click.echo(click.style(why.text, bold=number == 0))


@journal.command()
@path_argument
@until_option
@json_option
def stuck(path: Path, until: int | None, as_json: bool) -> None:
    """Tasks that wait although nothing is in flight that could free them, and on what.

    Exit code 1 if there are any.

    \b
    Example:
        trouper journal stuck work.journal
    """  # noqa: D301
    causes = stuck_tasks(open_journal(path), until)
    if as_json:
        print_json(causes)
    elif not causes:
        click.echo("nothing is stuck")
    for cause in () if as_json else causes:
        click.echo(cause.why.text)
        if cause.behind:
            wait = "waits" if len(cause.behind) == 1 else "wait"
            click.echo(f"    {named(cause.behind)} {wait} for it")
    if causes:
        click.get_current_context().exit(FOUND)
