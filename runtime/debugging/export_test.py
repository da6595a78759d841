"""A journal as a pytest file that needs no journal: it leads a machine through the same life. Pure.

What the test holds depends on what the journal shows: that the machine says what it said then, or,
if a failure is named, that the failure does not show.
"""

import math
import re
from pprint import pformat
from typing import Any, cast

import msgspec

from trouper.runtime.debugging.minimise import Failure, Life, first_part, tell
from trouper.runtime.debugging.predicates import Predicate
from trouper.runtime.errors import JournalError, StimulusError
from trouper.runtime.journal.format import INSTRUCTION_TYPES, STIMULUS_TYPES
from trouper.runtime.journal.journal import Journal
from trouper.runtime.ledger import Config
from trouper.runtime.machine import Machine

LONGEST = 10_000
"""So many records make a test; who has more may want the shortest life first."""


def answers_test(journal: Journal) -> str:
    """A test that the machine says what it said then.

    Raises:
        JournalError: It does not even now, or the journal is too long, or cannot be read.
    """
    _check_length(journal.last - journal.first + 1)
    machine = journal.replay(until=journal.first - 1)
    start, begin = _start(machine.snapshot())
    rows: list[str] = []
    words: set[str] = set()
    for step in journal.steps():
        if step.record.error:
            raise JournalError(
                f"record {step.record.n} led to {step.record.error}: export with --like-error"
            )
        rows.append(f"({code(step.record.stimulus)}, {code(step.instructions)})")
        words |= {type(word).__name__ for word in (step.record.stimulus, *step.instructions)}
        machine = step.machine
    phases = {key: task.phase for key, task in sorted(machine.ledger.tasks.items())}
    body = [
        *_list("LIFE: list[tuple[Stimulus, list[Instruction]]]", rows),
        f"PHASES: dict[str, str] = {code(phases)}",
        "",
        "",
        "def test_the_machine_says_what_it_said() -> None:",
        f"    machine = {begin}",
        "    for number, (stimulus, instructions) in enumerate(LIFE, 1):",
        '        assert machine.handle(stimulus) == instructions, f"stimulus {number}: {stimulus}"',
        "    tasks = machine.ledger.tasks.items()",
        "    assert {key: task.phase for key, task in tasks} == PHASES",
    ]
    return _file(journal, start, words | {"Instruction", "Stimulus"}, body)


def predicate_test(journal: Journal, predicate: Predicate) -> str:
    """A test that an expression does not become true.

    Raises:
        JournalError: It does not even now, or it takes too many records.
    """
    life = first_part(journal, predicate)
    start, machine = _start(life.before)
    given = [
        f"        {name} = moment.{name}"
        for name in ("stimulus", "instructions")
        if name in predicate.names
    ]
    body = [
        "def test_it_does_not_come_to_this() -> None:",
        f"    machine = {machine}",
        f"    for {'moment' if given else '_'} in lead(machine, LIFE):",
        *given,
        f"        assert not ({predicate.text})",
    ]
    return _failure_file(journal, start, life, set(predicate.names), body)


def error_test(journal: Journal, failure: Failure) -> str:
    """A test that an error is not raised.

    Raises:
        JournalError: It is not even now, or it takes too many records.
    """
    life = first_part(journal, failure)
    start, begin = _start(life.before)
    machine = Machine.from_snapshot(life.before)
    moments = [tell(machine, said) for said in life.said]
    refusal = isinstance(moments[-1].error, StimulusError)
    body = [
        "def test_the_machine_does_not_fail() -> None:",
        f"    machine = {begin}",
        f"    for {'moment' if refusal else '_'} in lead(machine, LIFE):",
        "        assert moment.error is None"
        if refusal
        else "        pass  # or the error is raised",
    ]
    return _failure_file(journal, start, life, set(), body)


def _failure_file(
    journal: Journal, start: list[str], life: Life, names: set[str], body: list[str]
) -> str:
    _check_length(len(life.said))
    rows = [
        f"Said({code(said.stimulus)}{', stale=True' if said.stale else ''})" for said in life.said
    ]
    words = {type(said.stimulus).__name__ for said in life.said}
    return _file(
        journal,
        start,
        words | names | {"Said", "lead"},
        [*_list("LIFE: list[Said]", rows), "", "", *body],
    )


def _check_length(count: int) -> None:
    if count > LONGEST:
        raise JournalError(
            f"{count} records are too many for a test, which has {LONGEST} at most; "
            "`trouper journal minimise` may find a shorter life"
        )


def _file(journal: Journal, start: list[str], words: set[str], body: list[str]) -> str:
    header = journal.header
    text = "\n".join([*start, *body, ""])
    words |= {"Machine", *re.findall(r"\b(?:Any|Config|Limits)\b", "\n".join(start))}
    opening = [
        '"""Made by `trouper journal export-test`."""',
        "",
        f"# A journal of the worker {header.name!r}, recorded with trouper {header.trouper!r}.",
        "",
        *_imports(words),
        "",
    ]
    return "\n".join([*opening, text])


MODULES = {
    "typing": {"Any"},
    "trouper.runtime.ledger": {"Config", "Limits"},
    "trouper.runtime.machine": {"Machine"},
    "trouper.runtime.debugging.minimise": {"Said", "lead"},
    "trouper.runtime.debugging.predicates": {"is_sound", "stuck"},
    "trouper.wire.instructions": {"Instruction", *(word.__name__ for word in INSTRUCTION_TYPES)},
    "trouper.wire.stimuli": {"Stimulus", *(word.__name__ for word in STIMULUS_TYPES)},
}
"""Where the names come from that a test may use."""


def _imports(words: set[str]) -> list[str]:
    lines: list[str] = []
    for module, names in MODULES.items():
        if used := sorted(names & words):
            line = f"from {module} import {', '.join(used)}"
            if len(line) > 100:
                line = (
                    "\n    ".join([f"from {module} import (", *[f"{name}," for name in used]])
                    + "\n)"
                )
            lines.append(line)
    return lines


def _start(before: dict[str, Any]) -> tuple[list[str], str]:
    """What a machine begins with: definitions, and the expression that makes it."""
    config = msgspec.convert(before["config"], Config)
    if before == Machine(config).snapshot():
        return [f"CONFIG = {code(config)}"], "Machine(CONFIG)"
    taken = pformat(before, width=98, sort_dicts=False)
    return [f"SNAPSHOT: dict[str, Any] = {taken}"], "Machine.from_snapshot(SNAPSHOT)"


def _list(name: str, rows: list[str]) -> list[str]:
    return [f"{name} = [", *[f"    {row}," for row in rows], "]"]


def code(value: object) -> str:
    """A value as Python that makes it; fields of structs are left out that have their defaults."""
    if isinstance(value, msgspec.Struct):
        fields = [
            f"{field.name}={code(getattr(value, field.name))}"
            for field in msgspec.structs.fields(value)
            if (
                field.default_factory is msgspec.NODEFAULT
                and getattr(value, field.name) != field.default
            )
            or (
                field.default_factory is not msgspec.NODEFAULT
                and getattr(value, field.name) != field.default_factory()
            )
        ]
        return f"{type(value).__name__}({', '.join(fields)})"
    if isinstance(value, float) and not math.isfinite(value):
        return f"float('{value}')"
    if isinstance(value, dict):
        pairs = cast("dict[object, object]", value)
        return f"{{{', '.join(f'{code(key)}: {code(item)}' for key, item in pairs.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(code, cast('list[object]', value)))}]"
    if isinstance(value, tuple):
        items = cast("tuple[object, ...]", value)
        return f"({', '.join(map(code, items))}{',' * (len(items) == 1)})"
    return repr(value)
