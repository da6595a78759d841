"""States of a small world up to the numbers that only name things.

Two histories can lead to the same state under other numbers: an attempt is the third of one and
the ninth of the other. What the machine will do from there is the same, so an exhaustive walk
need visit only one of them. `canonical` gives all such states one name:

- attempts, timers and the entries they left in the store are compared for equality only, so
  they are counted anew in the order in which the snapshot mentions them, from `FIRST_ATTEMPT`;
- so are the specs of each task: the wanted one before the running one;
- ages decide ties, so their order stays: they become ranks, also in the priority of an input, which
  ends with the negative age of the task that it is for (no other number in it is negative);
- run_ids are only ever echoed: those of the past become `PAST_RUN`.

What is left of a request or result that is over, and that the next one overwrites before anything
reads it, is left out. Everything else stays as it is.
"""

from collections.abc import Iterable
from typing import Any

import msgspec
from model import Owed

from trouper.wire import instructions as ins

STALE_ATTEMPT = 1
"""No canonical state mentions it: an attempt that ended long ago."""

FIRST_ATTEMPT = 2

PAST_RUN = 0
"""The run_id that every request so far is said to have had; a snapshot leaves it out."""


class State(msgspec.Struct, frozen=True):
    """A machine between two stimuli, and what it waits for."""

    snapshot: dict[str, Any]
    owed: tuple[Owed, ...]
    """In the order of their attempts."""


def mentioned(snapshot: dict[str, Any]) -> dict[int, int]:
    """Every attempt that a snapshot mentions, in order, with its canonical number."""
    found: dict[int, None] = {}
    for row in snapshot["tasks"]:
        found[row.get("entry", 0)] = None
        if (activity := row.get("activity")) is not None:
            found[activity["attempt"]] = None
            found.update((entry, None) for _, entry in activity.get("inputs", ()))
    found[snapshot["missing_attempt"]] = None
    found.update((timer, None) for timer in snapshot["busy"].values())
    found.pop(0, None)
    return {0: 0} | {attempt: number for number, attempt in enumerate(found, FIRST_ATTEMPT)}


def canonical(snapshot: dict[str, Any], owed: Iterable[Owed]) -> State:
    """The one state that stands for all that differ from this in numbering only.

    The snapshot is renumbered in place; what is owed has to be mentioned in it.
    """
    attempts = mentioned(snapshot)
    specs: dict[str, dict[int, int]] = {}
    rows = snapshot["tasks"]
    ages = {row["age"] for row in rows}
    ages.update(-number for row in rows for number in row.get("priority", ()) if number < 0)
    ranks = {age: rank for rank, age in enumerate(sorted(ages), 1)}
    for row in rows:
        row["age"] = ranks[row["age"]]
        if "priority" in row:
            row["priority"] = tuple([n if n >= 0 else -ranks[-n] for n in row["priority"]])
        specs[row["key"]] = _renumber(row, attempts)
    snapshot["last_age"] = len(ranks)
    snapshot["last_attempt"] = FIRST_ATTEMPT + len(attempts) - 2
    snapshot["missing_attempt"] = attempts[snapshot["missing_attempt"]]
    snapshot["busy"] = {peer: attempts[timer] for peer, timer in snapshot["busy"].items()}
    renumbered = [_renumbered(instruction, attempts, specs) for instruction in owed]
    return State(snapshot, tuple(sorted(renumbered, key=lambda instruction: instruction.attempt)))


def _renumber(row: dict[str, Any], attempts: dict[int, int]) -> dict[int, int]:
    """Renumber what the row of a task mentions; its specs by their old number."""
    specs = {0: 0}
    if "spec_id" in row:
        row["spec_id"] = specs.setdefault(row["spec_id"], len(specs))
    else:
        for name in ("executor", "prefix", "resources"):  # of the spec that was
            row.pop(name, None)
    row.pop("run_id", None)
    if row.get("result") != "in memory":
        row.pop("type_name", None)
    if row.get("result") != "failed":
        row.pop("cancelled", None)
    if "entry" in row:
        row["entry"] = attempts[row["entry"]]
    if (activity := row.get("activity")) is not None:
        activity["attempt"] = attempts[activity["attempt"]]
        if "spec_id" in activity:
            activity["spec_id"] = specs.setdefault(activity["spec_id"], len(specs))
        if "inputs" in activity:
            activity["inputs"] = [[key, attempts[entry]] for key, entry in activity["inputs"]]
    return specs


def _renumbered(
    instruction: Owed, attempts: dict[int, int], specs: dict[str, dict[int, int]]
) -> Owed:
    attempt = attempts[instruction.attempt]
    if isinstance(instruction, ins.Execute):
        return msgspec.structs.replace(
            instruction,
            attempt=attempt,
            run_id=PAST_RUN,
            spec_id=specs[instruction.key][instruction.spec_id],
            inputs=tuple([(key, attempts[entry]) for key, entry in instruction.inputs]),
        )
    return msgspec.structs.replace(instruction, attempt=attempt)
