"""What a task costs: trouper beside three others, in one run, by turns.

    python tests/bench/embedded.py
    python tests/bench/embedded.py --only independent pair --rounds 9
    python tests/bench/embedded.py --tasks 2000 --without LocalCluster

The shapes of work are told in `contenders`. Each round opens a contender, warms it up, and takes
the time from the first submission to the last result; in each round all contenders have their
turn, so that a slow minute of the machine hits them all. Figures are medians over the rounds,
with the best and the worst round beside them. Trust the ratios; the microseconds are those of
this machine and this hour.

Memory: for each shape, each contender has a process of its own that holds nothing else and
sleeps while others have their turn; given is the most that was ever resident in it (VmHWM where
there is a /proc, ru_maxrss elsewhere), and what was resident before its first round.

LocalCluster takes milliseconds for a task, so of independent tasks and pairs it gets a tenth; its
time per task hardly depends on how many there are.
"""

import argparse
import importlib.util
import multiprocessing
import statistics
import sys
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from command_line import circumstances, parser_for, tell
from contenders import CONTENDERS, THREADS, task_count
from resident import peak_nbytes, resident_nbytes

SHAPES = {"independent": 10_000, "chain": 1000, "tree": 1024, "pair": 2000}
"""How many tasks, or leaves, with the default of ``--tasks``."""

TITLES = {
    "independent": "independent no-ops, 1,000 in flight",
    "chain": "a chain",
    "tree": "a tree of sums",
    "pair": "no-ops, 2 in flight",
}

US, POOL, CLUSTER = "trouper", "ThreadPoolExecutor", "LocalCluster"


class Target(NamedTuple):
    """At most this multiple of another contender's time per task."""

    shape: str
    other: str
    limit: float


TARGETS = (
    Target("independent", CLUSTER, 1 / 40),
    Target("independent", POOL, 1.0),
    Target("pair", CLUSTER, 1 / 25),
)


class Sample(NamedTuple):
    """What a process says after a round."""

    seconds: float
    peak_nbytes: int


class Series(NamedTuple):
    """All rounds of one contender with one shape."""

    tasks: int
    times_us: list[float]
    """Per task, one for each round."""
    start_nbytes: int
    peak_nbytes: int

    @property
    def median_us(self) -> float:
        """Per task."""
        return statistics.median(self.times_us)


# The process of a contender


def serve(name: str, connection: Connection) -> None:
    """Measure whenever asked; the parent hangs up when it has seen enough."""
    measure = CONTENDERS[name]
    measure("independent", 1)  # for its imports
    connection.send(resident_nbytes())
    try:
        while True:
            shape, n = connection.recv()
            connection.send(Sample(measure(shape, n), peak_nbytes()))
    except EOFError:
        pass


class Contender:
    """A process that measures, and what it has said so far."""

    def __init__(self, name: str, shape: str, n: int) -> None:
        self.name = name
        self._shape = shape
        self._n = n
        self._samples: list[Sample] = []
        context = multiprocessing.get_context("spawn")  # with nothing of this process in it
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(name, theirs), daemon=True)
        self._process.start()
        theirs.close()
        self._start_nbytes: int = self._receive()

    def measure(self) -> None:
        """Have a round measured."""
        self._connection.send((self._shape, self._n))
        self._samples.append(self._receive())

    def close(self) -> Series:
        """End the process; what has been measured."""
        self._connection.close()
        self._process.join()
        tasks = task_count(self._shape, self._n)
        times_us = [sample.seconds / tasks * 1e6 for sample in self._samples]
        return Series(tasks, times_us, self._start_nbytes, self._samples[-1].peak_nbytes)

    def _receive(self) -> Any:
        try:
            return self._connection.recv()
        except EOFError:
            raise SystemExit(f"the process of {self.name} has ended; see above") from None


def measure_shape(shape: str, n: int, names: Sequence[str], rounds: int) -> dict[str, Series]:
    """All rounds of all contenders with one shape, by turns."""
    contenders: list[Contender] = []
    for name in names:
        few = name == CLUSTER and shape in ("independent", "pair")
        contenders.append(Contender(name, shape, max(1, n // 10) if few else n))
    for number in range(rounds):
        for contender in rotated(contenders, number):
            tell(f"{shape}: round {number + 1} of {rounds}, {contender.name}")
            contender.measure()
    tell("")
    return {contender.name: contender.close() for contender in contenders}


def rotated(contenders: Sequence[Contender], by: int) -> Iterator[Contender]:
    """Another one begins in each round."""
    for index in range(len(contenders)):
        yield contenders[(index + by) % len(contenders)]


# What the user sees


COLUMNS = (
    "contender",
    "tasks",
    "us/task",
    "min .. max",
    f"/ {POOL}",
    f"/ {CLUSTER}",
    "peak MiB",
    "at start",
)


def rows_of(series: dict[str, Series]) -> Iterator[tuple[str, ...]]:
    """The table of one shape."""
    for name, one in series.items():
        yield (
            name,
            f"{one.tasks:,}",
            f"{one.median_us:,.1f}",
            f"{min(one.times_us):,.1f} .. {max(one.times_us):,.1f}",
            *(
                ratio(one.median_us / series[other].median_us) if other in series else "-"
                for other in (POOL, CLUSTER)
            ),
            f"{one.peak_nbytes / 2**20:.0f}",
            f"{one.start_nbytes / 2**20:.0f}",
        )


def ratio(value: float) -> str:
    """A ratio as people read it: 1/40, or 1.5."""
    return f"{value:.3g}" if value > 0.1 else f"1/{1 / value:.3g}"


def show(title: str, rows: Sequence[Sequence[str]]) -> None:
    """Print a table, with rich if it is there."""
    if importlib.util.find_spec("rich") is not None:
        from rich.box import SIMPLE
        from rich.console import Console
        from rich.table import Table

        table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE)
        for number, name in enumerate(COLUMNS):
            table.add_column(name, justify="right" if number else "left", no_wrap=True)
        for row in rows:
            table.add_row(*row, style="bold" if row[0] == US else None)
        console = Console()
        console.width = max(console.width, 130)
        console.print(table)
        return
    widths = [max(len(row[i]) for row in (COLUMNS, *rows)) for i in range(len(COLUMNS))]
    print(title)
    for row in (COLUMNS, *rows):
        cells = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        print("  ".join([row[0].ljust(widths[0]), *cells]))
    print()


def verdicts(shape: str, series: dict[str, Series]) -> Iterator[str]:
    """What was to be reached with a shape, and what was."""
    for target in TARGETS:
        if target.shape == shape and {US, target.other} <= series.keys():
            reached = series[US].median_us / series[target.other].median_us
            word = "reached" if reached <= target.limit else "MISSED"
            yield (
                f"target: at most {ratio(target.limit)} of {target.other}; "
                f"is {ratio(reached)}: {word}"
            )


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = parser_for(__doc__)
    parser.add_argument(
        "--tasks",
        type=int,
        default=SHAPES["independent"],
        help="how many independent tasks, the other shapes in proportion (default: 10000)",
    )
    parser.add_argument("--rounds", type=int, default=5, help="(default: 5)")
    parser.add_argument("--only", nargs="+", choices=SHAPES, default=list(SHAPES), metavar="SHAPE")
    parser.add_argument("--without", nargs="+", choices=CONTENDERS, default=[], metavar="CONTENDER")
    arguments = parser.parse_args()
    if arguments.tasks < 1 or arguments.rounds < 1:
        parser.error("it takes at least one task and one round")
    return arguments


def main() -> None:
    """Measure and print."""
    arguments = parse_arguments()
    names = [name for name in CONTENDERS if name not in arguments.without]
    where = circumstances("trio", "distributed")
    print(f"{where}, {THREADS} threads; medians of {arguments.rounds} rounds\n")
    for shape in arguments.only:
        n = max(2, SHAPES[shape] * arguments.tasks // SHAPES["independent"])
        series = measure_shape(shape, n, names, arguments.rounds)
        show(TITLES[shape], list(rows_of(series)))
        for verdict in verdicts(shape, series):
            print(f"  {verdict}")
        print(flush=True)


if __name__ == "__main__":
    main()
