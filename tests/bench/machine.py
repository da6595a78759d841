"""What a stimulus costs: trouper's machine beside distributed's WorkerState, in one process.

    python tests/bench/machine.py
    python tests/bench/machine.py --only independent chain --rounds 9
    python tests/bench/machine.py --tasks 1000 --held 10000
    python tests/bench/machine.py --json > machine.json

Both are fed the same (see `feeds`), from lists that are built beforehand. In each round each of
them gets a fresh machine, in turns, so that a slow minute hits both; figures are medians over the
rounds. Nothing else is alive that the garbage collector would look at: what was there before the
clock starts is frozen. Trust the ratios; the microseconds are those of this machine and this hour.

Bytes are those that stay allocated (tracemalloc) for a task whose result is in memory: the task,
its key, whatever else of its stimuli is kept; without logs, payloads and values.

Growth is how much more a stimulus costs with many tasks held than with 1,000, all of one kind.
"""

import argparse
import gc
import importlib.metadata
import json
import os
import platform
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

from feeds import FEEDS, HERE, PEER, Feed

FEW = 1000
"""Tasks held to compare growth with, prefixes held, and inputs of a fan-in."""

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
    """Play a shape to a fresh machine; microseconds per stimulus, by phase."""
    gc.collect()
    gc.freeze()
    handle = feed_type.fresh()
    costs_us: dict[str, float] = {}
    for name, stimuli, _ in recordings:
        start = time.perf_counter()
        for stimulus in stimuli:
            handle(stimulus)
        seconds = time.perf_counter() - start
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


class Figures(NamedTuple):
    """All that was measured of one machine."""

    costs_us: dict[str, list[float]]
    """Per stimulus, by phase, one for each round."""
    nbytes: float
    """Per task held."""

    def median_us(self, phase: str) -> float:
        """Per stimulus."""
        return statistics.median(self.costs_us[phase])

    def growth(self) -> dict[str, float]:
        """How many times more a stimulus costs with much held than with little."""
        if FEW_HELD not in self.costs_us:
            return {}
        few = self.median_us(FEW_HELD)
        return {
            phase: self.median_us(phase) / few
            for phase in (MANY_HELD, PREFIXED)
            if phase in self.costs_us
        }


def measure(shapes: Sequence[str], n: int, held: int, rounds: int) -> dict[str, Figures]:
    """Everything, by name of the machine."""
    costs_us: dict[str, dict[str, list[float]]] = {feed.name: {} for feed in FEEDS}
    for shape in shapes:
        phases = phases_of(shape, n, held)
        tell(f"{shape}: building the stimuli")
        recordings = [(feed, record(feed, phases)) for feed in FEEDS]
        check_alike(*[recording for _, recording in recordings])
        for number in range(rounds):
            for feed, recording in recordings[:: 1 if number % 2 else -1]:
                tell(f"{shape}: round {number + 1} of {rounds}, {feed.name}")
                for phase, cost_us in replay(feed, recording).items():
                    costs_us[feed.name].setdefault(phase, []).append(cost_us)
    figures: dict[str, Figures] = {}
    for feed in FEEDS:
        tell(f"bytes of {held:,} tasks, {feed.name}")
        figures[feed.name] = Figures(costs_us[feed.name], nbytes_per_task(feed, held))
    tell("")
    return figures


# What the user sees


def tell(text: str) -> None:
    """Say on stderr what is going on: in one line on a terminal, line by line elsewhere."""
    if sys.stderr.isatty():
        print(f"\r\x1b[2K{text}", end="", file=sys.stderr, flush=True)
    elif text:
        print(text, file=sys.stderr, flush=True)


THEIRS, OURS = (feed.name for feed in FEEDS)
MIN_SPEEDUP = 10.0
MAX_NBYTES_SHARE = 1 / 5
MAX_GROWTH = 1.2

COLUMNS = ("", THEIRS, OURS, "min .. max", "ratio", "target", "")


def rows_of(figures: dict[str, Figures]) -> Iterator[tuple[str, ...]]:
    """The table: what was reached beside what was to be reached."""
    theirs, ours = figures[THEIRS], figures[OURS]
    for phase, costs_us in ours.costs_us.items():
        their_us, our_us = theirs.median_us(phase), ours.median_us(phase)
        yield (
            f"{phase}, us/stimulus",
            f"{their_us:.2f}",
            f"{our_us:.2f}",
            f"{min(costs_us):.2f} .. {max(costs_us):.2f}",
            f"{their_us / our_us:.1f}x",
            f">= {MIN_SPEEDUP:.0f}x",
            verdict(their_us / our_us >= MIN_SPEEDUP),
        )
    share = ours.nbytes / theirs.nbytes
    yield (
        "bytes per task held",
        f"{theirs.nbytes:,.0f}",
        f"{ours.nbytes:,.0f}",
        "",
        f"1/{1 / share:.2f}",
        f"<= 1/{1 / MAX_NBYTES_SHARE:.0f}",
        verdict(share <= MAX_NBYTES_SHARE),
    )
    for phase, growth in ours.growth().items():
        yield (
            f"growth, {phase}",
            f"{theirs.growth()[phase]:.2f}x",
            f"{growth:.2f}x",
            "",
            "",
            f"<= {MAX_GROWTH}x",
            verdict(growth <= MAX_GROWTH),
        )


def verdict(reached: bool) -> str:
    """Whether a target is reached, in a word."""
    return "reached" if reached else "MISSED"


def show(rows: Sequence[Sequence[str]]) -> None:
    """Print the table."""
    widths = [max(len(row[i]) for row in (COLUMNS, *rows)) for i in range(len(COLUMNS))]
    for row in (COLUMNS, *rows):
        cells = [cell.rjust(width) for cell, width in zip(row[1:-1], widths[1:-1], strict=True)]
        print("  ".join([row[0].ljust(widths[0]), *cells, row[-1]]).rstrip())


def as_json(figures: dict[str, Figures]) -> str:
    """The figures for another program."""
    return json.dumps(
        {
            name: {
                "us_per_stimulus": one.costs_us,
                "nbytes_per_task": one.nbytes,
                "growth": one.growth(),
            }
            for name, one in figures.items()
        },
        indent=2,
    )


def machine() -> str:
    """Where the figures come from."""
    versions = [f"{name} {importlib.metadata.version(name)}" for name in ("msgspec", "distributed")]
    return ", ".join(
        [
            f"{platform.python_implementation()} {platform.python_version()}",
            *versions,
            f"{os.cpu_count()} processors",
        ]
    )


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    description, _, rest = (__doc__ or "").partition("\n\n")
    examples, _, _ = rest.partition("\n\n")
    parser = argparse.ArgumentParser(
        description=description,
        epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
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
    """Measure and print."""
    arguments = parse_arguments()
    figures = measure(arguments.only, arguments.tasks, arguments.held, arguments.rounds)
    if arguments.json:
        print(as_json(figures))
        return
    print(
        f"{machine()}; {arguments.tasks:,} tasks, few held: {FEW:,}, many held: "
        f"{arguments.held:,}; medians of {arguments.rounds} rounds\n"
    )
    show(list(rows_of(figures)))


if __name__ == "__main__":
    main()
