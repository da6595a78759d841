"""What a stimulus costs: trouper's machine beside distributed's WorkerState, in one process.

    python tests/bench/machine.py
    python tests/bench/machine.py --only independent chain --rounds 9
    python tests/bench/machine.py --tasks 1000 --held 10000
    python tests/bench/machine.py --json > machine.json

Both are fed the same (see `feeds`), from lists that are built beforehand. In each round each of
them gets a fresh machine, in turns, so that a slow minute hits both; figures are medians over the
rounds, of processor time, for others may run here as well. Nothing is alive that the garbage
collector would look at: what was there before the clock starts is frozen. Trust the ratios; the
microseconds are those of this machine and this hour.

Bytes are those that stay allocated (tracemalloc) for a task whose result is in memory: the task,
its key, whatever else of its stimuli is kept; without logs, payloads and values.

Growth is how much more a stimulus costs with many tasks held than with 1,000, all of one kind.
"""

import argparse
import gc
import json
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from command_line import circumstances, parser_for, tell
from feeds import FEEDS, HERE, PEER, Feed

FEW = 1000
"""Tasks held to compare growth with, prefixes held, and inputs of a fan-in."""

WEIGHED = 20_000
"""Tasks held, at most, to count their bytes."""

Play: TypeAlias = Callable[[Feed], None]


class Phase(NamedTuple):
    """A part of what a machine is told; measured if it has a name."""

    name: str
    play: Play


# Shapes of work


def independent(n: int, prefixes: int = 1) -> Play:
    """Compute, success, free."""

    def play(feed: Feed) -> None:
        for number in range(n):
            key = f"task{number % prefixes}-{number}"
            feed.compute(key, number)
            feed.computed(key)
            feed.free(key)

    return play


def one_remote(n: int) -> Play:
    """Each task has an input that a peer holds: five stimuli."""

    def play(feed: Feed) -> None:
        for number in range(n):
            key, source = f"task-{number}", f"source-{number}"
            feed.compute(key, number, (source,), PEER)
            feed.arrived(source)
            feed.computed(key)
            feed.free(key)
            feed.free(source)

    return play


def chain(n: int) -> Play:
    """Each task takes the result of the one before, which is freed then."""

    def play(feed: Feed) -> None:
        feed.compute("link-0", 0)
        feed.computed("link-0")
        for number in range(1, n):
            before = f"link-{number - 1}"
            feed.compute(f"link-{number}", number, (before,), HERE)
            feed.computed(f"link-{number}")
            feed.free(before)
        feed.free(f"link-{n - 1}")

    return play


def fan_in(n: int) -> Play:
    """Tasks by the thousand, all of them inputs of one more; everything is freed then."""

    def play(feed: Feed) -> None:
        for first in range(0, n, FEW):
            numbers = range(first, min(first + FEW, n))
            keys = [f"part-{number}" for number in numbers]
            for key, number in zip(keys, numbers, strict=True):
                feed.compute(key, number)
            for key in keys:
                feed.computed(key)
            feed.compute(f"sum-{first}", first, keys, HERE)
            feed.computed(f"sum-{first}")
            for key in keys:
                feed.free(key)
            feed.free(f"sum-{first}")

    return play


def hold(first: int, last: int, prefixes: int = 1) -> Play:
    """Compute tasks and free none."""

    def play(feed: Feed) -> None:
        for number in range(first, last):
            key = f"held{number % prefixes}-{number}"
            feed.compute(key, number)
            feed.computed(key)

    return play


def phases_of(shape: str, n: int, held: int) -> tuple[Phase, ...]:
    """What is played to one machine, one after the other."""
    match shape:
        case "independent":
            return (Phase("independent tasks", independent(n)),)
        case "remote":
            return (Phase("one remote input each", one_remote(n)),)
        case "chain":
            return (Phase("a chain", chain(n)),)
        case "fan-in":
            return (Phase("fan-in, 1,000 to 1", fan_in(n)),)
        case "prefixes":
            return (
                Phase("", hold(0, FEW, prefixes=FEW)),
                Phase(PREFIXED, independent(n, prefixes=FEW)),
            )
        case _:
            return (
                Phase("", hold(0, FEW)),
                Phase(FEW_HELD, independent(n)),
                Phase("from few held to many held", hold(FEW, held)),
                Phase(MANY_HELD, independent(n)),
            )


SHAPES = ("independent", "remote", "chain", "fan-in", "prefixes", "held")
FEW_HELD = "few held, independent"
MANY_HELD = "many held, independent"
PREFIXED = "1,000 prefixes held, independent"

# Measuring


class Recording(NamedTuple):
    """The stimuli of a phase, in the words of one machine."""

    name: str
    stimuli: list[Any]
    held: int
    """How many tasks the machine knows at its end."""


def record(feed_type: type[Feed], phases: Sequence[Phase]) -> list[Recording]:
    """Build all stimuli of a shape."""
    stimuli: list[Any] = []
    feed = feed_type(lambda stimulus: stimuli.append(stimulus))
    recordings: list[Recording] = []
    for phase in phases:
        phase.play(feed)
        recordings.append(Recording(phase.name, stimuli.copy(), feed.held()))
        stimuli.clear()
    return recordings


def check_alike(theirs: Sequence[Recording], ours: Sequence[Recording]) -> None:
    """Make sure that both machines had as much to do, and have done it."""
    for one, other in zip(theirs, ours, strict=True):
        if (len(one.stimuli), one.held) != (len(other.stimuli), other.held):
            raise SystemExit(f"the machines do not hold as many tasks: {one[::2]}, {other[::2]}")


def replay(feed_type: type[Feed], recordings: Sequence[Recording]) -> dict[str, float]:
    """Play a shape to a fresh machine; processor microseconds per stimulus, by phase."""
    gc.collect()
    gc.freeze()
    handle = feed_type.fresh()
    costs_us: dict[str, float] = {}
    for name, stimuli, _ in recordings:
        start = time.process_time()
        for stimulus in stimuli:
            handle(stimulus)
        seconds = time.process_time() - start
        if name:
            costs_us[name] = seconds / len(stimuli) * 1e6
    del handle
    gc.unfreeze()
    return costs_us


def nbytes_per_task(feed_type: type[Feed], held: int) -> float:
    """Bytes that stay allocated for each of many tasks in memory."""
    feed = feed_type(lambda stimulus: None)
    hold(0, 100)(feed)  # what is allocated once
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    hold(100, 100 + held)(feed)
    feed.forget_the_rest()
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return (after - before) / held


Costs: TypeAlias = dict[str, list[float]]
"""Microseconds per stimulus by name of the machine, one for each round."""


def measure(shape: str, n: int, held: int, rounds: int) -> dict[str, Costs]:
    """All rounds of both machines with one shape, in turns; by phase."""
    phases = phases_of(shape, n, held)
    tell(f"{shape}: building the stimuli")
    recordings = [(feed, record(feed, phases)) for feed in FEEDS]
    check_alike(*[recording for _, recording in recordings])
    costs_us: dict[str, Costs] = {}
    for number in range(rounds):
        for feed, recording in recordings[:: 1 if number % 2 else -1]:
            tell(f"{shape}: round {number + 1} of {rounds}, {feed.name}")
            for phase, cost_us in replay(feed, recording).items():
                costs_us.setdefault(phase, {}).setdefault(feed.name, []).append(cost_us)
    tell("")
    return costs_us


def growth_of(costs_us: dict[str, Costs]) -> dict[str, dict[str, float]]:
    """How many times more a stimulus costs with much held than with few tasks, by phase."""
    if FEW_HELD not in costs_us:
        return {}
    few = costs_us[FEW_HELD]
    return {
        phase: {
            name: statistics.median(rounds_us) / statistics.median(few[name])
            for name, rounds_us in costs_us[phase].items()
        }
        for phase in (MANY_HELD, PREFIXED)
        if phase in costs_us
    }


# What the user sees


THEIRS, OURS = (feed.name for feed in FEEDS)
MIN_SPEEDUP = 10
MAX_NBYTES_SHARE = 5
MAX_GROWTH = 1.2


class Row(NamedTuple):
    """What was reached, beside what was to be reached."""

    what: str
    theirs: str
    ours: str
    spread: str
    ratio: str
    target: str
    verdict: str

    def show(self) -> None:
        """Print a line of the table."""
        print(
            f"{self.what:<44} {self.theirs:>12} {self.ours:>9} {self.spread:>16} "
            f"{self.ratio:>7} {self.target:>8}  {self.verdict}".rstrip(),
            flush=True,
        )


HEAD = Row("", THEIRS, OURS, "min .. max", "ratio", "target", "")


def cost_row(phase: str, costs_us: Costs) -> Row:
    """What a stimulus costs."""
    ours_us, theirs_us = (statistics.median(costs_us[name]) for name in (OURS, THEIRS))
    return Row(
        f"{phase}, us/stimulus",
        f"{theirs_us:.2f}",
        f"{ours_us:.2f}",
        f"{min(costs_us[OURS]):.2f} .. {max(costs_us[OURS]):.2f}",
        f"{theirs_us / ours_us:.1f}x",
        f">= {MIN_SPEEDUP}x",
        verdict(theirs_us >= MIN_SPEEDUP * ours_us),
    )


def nbytes_row(nbytes: dict[str, float]) -> Row:
    """What a task costs that is held."""
    ratio = nbytes[THEIRS] / nbytes[OURS]
    return Row(
        "bytes per task held",
        f"{nbytes[THEIRS]:,.0f}",
        f"{nbytes[OURS]:,.0f}",
        "",
        f"1/{ratio:.2f}",
        f"<= 1/{MAX_NBYTES_SHARE}",
        verdict(ratio >= MAX_NBYTES_SHARE),
    )


def growth_row(phase: str, growth: dict[str, float]) -> Row:
    """How much a stimulus costs more with much held."""
    return Row(
        f"growth, {phase}",
        f"{growth[THEIRS]:.2f}x",
        f"{growth[OURS]:.2f}x",
        "",
        "",
        f"<= {MAX_GROWTH}x",
        verdict(growth[OURS] <= MAX_GROWTH),
    )


def verdict(reached: bool) -> str:
    """Whether a target is reached, in a word."""
    return "reached" if reached else "MISSED"


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = parser_for(__doc__)
    parser.add_argument("--tasks", type=int, default=10_000, help="in each shape (default: 10000)")
    parser.add_argument("--held", type=int, default=100_000, help="when many (default: 100000)")
    parser.add_argument("--rounds", type=int, default=5, help="(default: 5)")
    parser.add_argument("--only", nargs="+", choices=SHAPES, default=list(SHAPES), metavar="SHAPE")
    parser.add_argument("--json", action="store_true", help="print every figure as JSON instead")
    arguments = parser.parse_args()
    if arguments.tasks < 1 or arguments.held <= FEW or arguments.rounds < 1:
        parser.error(f"it takes at least one task, more than {FEW} held, and one round")
    return arguments


def main() -> None:
    """Measure, and print each figure as soon as it is known."""
    arguments = parse_arguments()
    if not arguments.json:
        print(
            f"{circumstances('msgspec', 'distributed')}; "
            f"{arguments.tasks:,} tasks, few held: {FEW:,}, many held: {arguments.held:,}; "
            f"medians of {arguments.rounds} rounds\n"
        )
        HEAD.show()
    costs_us: dict[str, Costs] = {}
    for shape in arguments.only:
        measured = measure(shape, arguments.tasks, arguments.held, arguments.rounds)
        costs_us |= measured
        if not arguments.json:
            for phase, rounds_us in measured.items():
                cost_row(phase, rounds_us).show()
    growth = growth_of(costs_us)
    nbytes = {feed.name: nbytes_per_task(feed, min(arguments.held, WEIGHED)) for feed in FEEDS}
    if arguments.json:
        figures = {"us_per_stimulus": costs_us, "nbytes_per_task": nbytes, "growth": growth}
        print(json.dumps(figures, indent=2))
        return
    for phase, one in growth.items():
        growth_row(phase, one).show()
    nbytes_row(nbytes).show()


if __name__ == "__main__":
    main()
