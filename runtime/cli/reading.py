"""`trouper journal info`, `verify`, `show` and `at`: what stands in a journal."""

from collections import Counter
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import click
import msgspec

from trouper.runtime.cli.group import (
    FOUND,
    Refused,
    check_record,
    journal,
    json_option,
    open_journal,
    path_argument,
    print_json,
    print_record,
    print_table,
)
from trouper.runtime.debugging.notation import INSTRUCTIONS, STIMULI
from trouper.runtime.debugging.occasions import mentions
from trouper.runtime.debugging.picture import picture, task_picture
from trouper.runtime.errors import CorruptJournal
from trouper.runtime.journal.format import Record, op_of
from trouper.runtime.journal.replay import ReplayDiverged
from trouper.wire.instructions import Instruction


@journal.command()
@path_argument
@json_option
def info(path: Path, as_json: bool) -> None:
    """What a journal is of: the worker, its configuration, its records by kind.

    \b
    Example:
        trouper journal info work.journal
    """  # noqa: D301 - click's mark, not an escape of ours
    opened = open_journal(path)
    header = opened.header
    kinds: Counter[str] = Counter()
    at_us = header.at_us
    for record in opened.records():
        kinds[op_of(type(record.stimulus))] += 1
        at_us = record.at_us
    found = {
        "worker": header.name,
        "trouper": header.trouper,
        "format": header.format,
        "begun": datetime.fromtimestamp(header.begun_s, UTC).isoformat(timespec="seconds"),
        "first": opened.first,
        "last": opened.last,
        "span_s": (at_us - header.at_us) / 1e6,
        "segments": len(opened.segments),
        "nbytes": sum(segment.nbytes for segment in opened.segments),
        "hashed_keys": header.hashed_keys,
        "config": msgspec.to_builtins(opened.config),
        "stimuli": dict(kinds.most_common()),
    }
    if as_json:
        print_json(found)
    else:
        print_table(found)


@journal.command()
@path_argument
@json_option
def verify(path: Path, as_json: bool) -> None:
    """Replay everything, and compare it with what was recorded.

    Exit code 1 if a record is corrupt, or the machine decides otherwise now.

    \b
    Example:
        trouper journal verify work.journal
    """  # noqa: D301
    opened = open_journal(path)
    found: dict[str, Any] = {"records": 0, "problem": None, "n": None}
    try:
        for step in opened.steps():
            found["records"] += 1
            found["n"] = step.record.n
        found["n"] = None
    except CorruptJournal as error:
        found |= {"problem": str(error), "n": error.n}
    except ReplayDiverged as error:
        found |= {"problem": str(error), "n": error.record.n}
    if as_json:
        print_json(found)
    elif found["problem"] is None:
        click.echo(f"{found['records']} records are as they were written, and replay as they did")
    else:
        click.echo(f"after {found['records']} good records: {found['problem']}")
    if found["problem"] is not None:
        click.get_current_context().exit(FOUND)


@journal.command()
@path_argument
@click.option("--from", "first", type=int, metavar="N", help="Begin with this record.")
@click.option("--to", "last", type=int, metavar="N", help="End with this record.")
@click.option("--key", help="Only records that name this task.")
@click.option("--kind", help="Only this kind of stimulus or instruction, as execute-success.")
@click.option("--limit", type=click.IntRange(min=1), metavar="COUNT", help="No more than these.")
@json_option
def show(
    path: Path,
    first: int | None,
    last: int | None,
    key: str | None,
    kind: str | None,
    limit: int | None,
    as_json: bool,
) -> None:
    """Print records: the stimulus, and below it the instructions that it led to.

    \b
    Examples:
        trouper journal show work.journal --from 700 --to 720
        trouper journal show work.journal --key y --kind gather
    """  # noqa: D301
    opened = open_journal(path)
    if kind is not None and kind not in STIMULI and kind not in INSTRUCTIONS:
        raise Refused(f"--kind {kind}: there is no such kind of stimulus or instruction")
    for n in (first, last):
        if n is not None:
            check_record(opened, n)
    steps = opened.steps(None if first is None else first - 1, last)
    chosen = (
        (step.record, step.instructions)
        for step in steps
        if _is_chosen(step.record, step.instructions, key, kind)
    )
    for record, instructions in islice(chosen, limit):
        print_record(record, instructions, as_json=as_json)


def _is_chosen(
    record: Record, instructions: list[Instruction], key: str | None, kind: str | None
) -> bool:
    words = [record.stimulus, *instructions]
    return (key is None or any(mentions(word, key) for word in words)) and (
        kind is None or any(op_of(type(word)) == kind for word in words)
    )


@journal.command()
@path_argument
@click.argument("n", type=int)
@click.option("--task", metavar="KEY", help="Only this task, and all that is known of it.")
@json_option
def at(path: Path, n: int, task: str | None, as_json: bool) -> None:
    """The state after record N: tasks by phase, queues, what is in flight.

    \b
    Examples:
        trouper journal at work.journal 812
        trouper journal at work.journal 812 --task y
    """  # noqa: D301
    machine = open_journal(path).replay(n)
    found = picture(machine) if task is None else task_picture(machine, task)
    if found is None:
        raise Refused(f"after record {n} the worker knows nothing of a task {task!r}")
    if as_json:
        print_json(found)
    else:
        print_table(msgspec.to_builtins(found))
