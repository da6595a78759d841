"""`trouper journal timeline`: what happened when, as a page to look at or a trace for a viewer."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.progress import Progress

from trouper.runtime.cli.group import (
    Refused,
    check_record,
    journal,
    json_option,
    new_file,
    open_journal,
    path_argument,
    print_json,
)
from trouper.runtime.debugging.timeline import Count, Timeline
from trouper.runtime.debugging.timeline_page import write_page
from trouper.runtime.debugging.trace_json import write_trace
from trouper.runtime.journal.journal import Journal
from trouper.wire.vocabulary import Key

EVERY = 1000
"""Progress is shown once in so many records."""


@journal.command("timeline")
@path_argument
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), required=True, help="A file to be made."
)
@click.option("--html", "as_page", is_flag=True, help="Make a page, whatever the file's name is.")
@click.option("--from", "first", type=int, metavar="N", help="Begin with this record.")
@click.option("--to", "last", type=int, metavar="N", help="End with this record.")
@click.option(
    "--key", "pattern", help="Only tasks whose key is like this, with * and ? as in file names."
)
@json_option
def timeline_command(
    path: Path,
    out: Path,
    as_page: bool,
    first: int | None,
    last: int | None,
    pattern: str | None,
    as_json: bool,
) -> None:
    """Show what happened when: attempts in their slots, gathers by peer, and the queues.

    If FILE ends in .html, or with --html, it becomes a page that any browser opens, without a
    network. Otherwise it becomes a trace in the Trace Event Format, as ui.perfetto.dev and
    chrome://tracing read it.

    \b
    Examples:
        trouper journal timeline work.journal -o work.html
        trouper journal timeline work.journal -o work.json --from 700 --to 9000
        trouper journal timeline work.journal -o load.html --key 'load-*'
    """  # noqa: D301 - click's mark, not an escape of ours
    opened = open_journal(path)
    if opened.last < opened.first:
        raise Refused(f"{path} has no records yet: there is nothing to show")
    for n in (first, last):
        if n is not None:
            check_record(opened, n)
    if first is not None and last is not None and last < first:
        raise Refused(f"--from {first} --to {last}: there is nothing between them")
    is_page = as_page or out.suffix == ".html"
    with new_file(out) as write, _progress(opened, first, last, as_json) as on_record:
        timeline = Timeline(opened, first, last, _like(pattern), on_record)
        (write_page if is_page else write_trace)(timeline, opened.header, write)
    if as_json:
        print_json({
            "path": str(out),
            "format": "page" if is_page else "trace",
            "nbytes": out.stat().st_size,
            **msgspec.structs.asdict(timeline.count),
        })  # fmt: skip
    else:
        click.echo(_said(timeline.count, out, is_page))


def _like(pattern: str | None) -> Callable[[Key], bool]:
    return (lambda key: True) if pattern is None else (lambda key: fnmatchcase(key, pattern))


@contextmanager
def _progress(
    opened: Journal, first: int | None, last: int | None, quiet: bool
) -> Generator[Callable[[int], None]]:
    """A bar on stderr, if that is a terminal."""
    begin, end = first or opened.first, last or opened.last
    console = Console(stderr=True)
    with Progress(
        console=console, transient=True, disable=quiet or not console.is_terminal
    ) as shown:
        bar = shown.add_task("replaying", total=end - begin + 1)

        def on_record(n: int) -> None:
            if n % EVERY == 0:
                shown.update(bar, completed=n - begin)

        yield on_record


def _said(count: Count, out: Path, is_page: bool) -> str:
    what = "open it in any browser" if is_page else "open it in ui.perfetto.dev or chrome://tracing"
    shown = f"{count.records} records, attempts {count.executions}, gathers {count.gathers}"
    return f"made {out} of {shown}; {what}"
