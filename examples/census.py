"""A census of the source of Python's own standard library, taken by a graph of tasks.

One task per file parses it and counts; a tree of tasks adds the counts up, eight at a time; a
table says what was found. A file that does not parse (the library keeps some, to test parsers
with) is counted and named, and is no reason to stop. Ctrl-C ends it at any time.

    python examples/census.py                    the library without its tests
    python examples/census.py --tests --top 30
    python examples/census.py --path src         any other tree of Python files
    python examples/census.py --journal census.journal
"""

import os
import signal
import sys

INTERRUPTED = 130
"""What a shell makes of a program that Ctrl-C has ended: 128 + SIGINT."""


def leave(*_: object) -> None:
    """End at once: for Ctrl-C while no worker runs, when there is nothing to clean up."""
    os.write(sys.stderr.fileno(), b"\ncensus: interrupted\n")
    os._exit(INTERRUPTED)


if __name__ == "__main__":  # before the other imports, which take a moment
    signal.signal(signal.SIGINT, leave)

import argparse
import ast
import sysconfig
import threading
import warnings
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import trio
from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from trouper.runtime import JournalError, TaskHandle, Worker, open_worker

ARITY = 8
"""So many counts are added up by one task."""

PARSER = threading.Lock()
"""One file is parsed at a time: up to Python 3.11, threads that parse at once can make each other
fail (python/cpython#106905). It costs nothing, for the parser never lets other threads run."""

SKIPPED = frozenset({"site-packages", "dist-packages"})
TESTS = frozenset({"test", "tests", "idle_test"})


@dataclass(frozen=True, slots=True)
class Function:
    """Where a function stands, and its length in lines."""

    lines: int
    name: str
    file: str
    line: int


@dataclass(frozen=True, slots=True)
class Count:
    """What was counted in one file, or in many."""

    files: int
    lines: int
    classes: int
    functions: int
    longest: Function | None

    def __add__(self, other: "Count") -> "Count":
        found = [count.longest for count in (self, other) if count.longest is not None]
        return Count(
            self.files + other.files,
            self.lines + other.lines,
            self.classes + other.classes,
            self.functions + other.functions,
            min(found, key=lambda function: (-function.lines, function.file, function.line))
            if found
            else None,
        )


@dataclass(frozen=True, slots=True)
class Census:
    """Counts by top-level package or module, and the files that could not be parsed."""

    packages: dict[str, Count]
    unparsed: tuple[str, ...] = ()

    @property
    def total(self) -> Count:
        """All packages taken together."""
        return sum(self.packages.values(), Count(0, 0, 0, 0, None))


# What the tasks do


def count_file(path: Path, root: Path) -> Census:
    """Parse one file and count."""
    place = path.relative_to(root)
    try:
        source = path.read_bytes()
        with PARSER:
            tree = ast.parse(source, path.name)
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return Census({}, (f"{place.as_posix()}: {error}",))
    classes = functions = 0
    longest = None
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            classes += 1
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            functions += 1
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if longest is None or lines > longest.lines:
                longest = Function(lines, node.name, place.as_posix(), node.lineno)
    package = place.parts[0].removesuffix(".py")
    return Census({package: Count(1, len(source.splitlines()), classes, functions, longest)})


def merge(censuses: Sequence[Census]) -> Census:
    """Add several counts up."""
    packages: dict[str, Count] = {}
    unparsed: list[str] = []
    for census in censuses:
        for package, count in census.packages.items():
            packages[package] = packages[package] + count if package in packages else count
        unparsed += census.unparsed
    return Census(packages, tuple(sorted(unparsed)))


# The graph


async def take_census(
    files: Sequence[Path],
    root: Path,
    threads: int | None,
    advance: Callable[[], None],
    journal: Path | None = None,
) -> Census:
    """Count all files; `advance` is called for each."""
    async with open_worker(threads, name="census", journal=journal) as worker:
        counts = worker.map(count_file, files, [root] * len(files))
        total = add_up(worker, counts)
        async for _ in worker.as_completed(counts):
            advance()
        return await total


def add_up(worker: Worker, counts: list[TaskHandle[Census]]) -> TaskHandle[Census]:
    """Submit a tree of tasks over the counts, and give its root."""
    while len(counts) > 1:
        # A handle in an argument, in a list too, stands for the result of its task. Sums are
        # made before further files are read, so that few counts have to be kept at a time.
        counts = [
            worker.submit(merge, counts[start : start + ARITY], priority=1)
            for start in range(0, len(counts), ARITY)
        ]
    return counts[0]


# What the user sees


@contextmanager
def progress(total: int) -> Generator[Callable[[], None]]:
    """Show how far the census is, on stderr: a live bar on a terminal, lines elsewhere."""
    console = Console(stderr=True)
    done = 0
    if not console.is_terminal:
        step = max(1, total // 20)

        def advance() -> None:
            nonlocal done
            done += 1
            if done % step == 0 or done == total:
                say()

        def say() -> None:
            print(f"census: {done} of {total} files", file=sys.stderr, flush=True)

        say()
        yield advance
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("reading", total=total)
        yield lambda: bar.advance(task)


def show(census: Census, root: Path, top: int) -> None:
    """Print the table."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 120
    total = census.total
    biggest = sorted(census.packages.items(), key=lambda item: (-item[1].lines, item[0]))
    table = Table(title=f"{escape(str(root))}: the {min(top, len(biggest))} biggest", box=SIMPLE)
    table.add_column("package or module", style="cyan", no_wrap=True)
    for name in ("files", "lines", "classes", "functions"):
        table.add_column(name, justify="right")
    table.add_column("longest function", overflow="fold")
    for package, count in biggest[:top]:
        table.add_row(*row(package, count))
    if len(biggest) > top:
        rest = sum((count for _, count in biggest[top:]), Count(0, 0, 0, 0, None))
        table.add_row(*row(f"{len(biggest) - top} more", rest), style="dim")
    table.add_section()
    table.add_row(*row("total", total), style="bold")
    console.print(table)
    if census.unparsed:
        console.print(f"{len(census.unparsed)} could not be parsed:")
        for text in census.unparsed:
            console.print(f"  {text}", markup=False, soft_wrap=True)


def row(name: str, count: Count) -> tuple[str, ...]:
    """A row of the table."""
    numbers = (count.files, count.lines, count.classes, count.functions)
    longest = count.longest
    place = (
        f"{longest.name} ({longest.lines} lines) {longest.file}:{longest.line}" if longest else ""
    )
    return (escape(name), *(f"{number:,}" for number in numbers), escape(place))


def source_files(root: Path, with_tests: bool) -> list[Path]:
    """All Python files under a directory, in order; not those of installed packages."""
    left_out = SKIPPED if with_tests else SKIPPED | TESTS
    paths = (path for path in root.rglob("*.py") if path.is_file())
    return sorted(path for path in paths if left_out.isdisjoint(path.relative_to(root).parts))


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    description, _, examples = (__doc__ or "").partition("\n\n    ")
    parser = argparse.ArgumentParser(
        description=description,
        epilog=f"examples:\n    {examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--path",
        type=Path,
        default=Path(sysconfig.get_path("stdlib")),
        help="the directory to read; by default the standard library of this Python",
    )
    parser.add_argument("--tests", action="store_true", help="also read directories of tests")
    parser.add_argument("--threads", type=int, help="by default one for each processor")
    parser.add_argument("--journal", type=Path, help="record the worker's decisions in this file")
    parser.add_argument("--top", type=int, default=15, help="rows of the table (default: 15)")
    arguments = parser.parse_args()
    if not arguments.path.is_dir():
        parser.error(f"{arguments.path} is not a directory")
    if arguments.threads is not None and arguments.threads < 1:
        parser.error("it takes at least one thread")
    if arguments.top < 1:
        parser.error("it takes at least one row")
    return arguments


def main() -> int:
    """Take the census and print it; gives the exit code."""
    arguments = parse_arguments()
    root: Path = arguments.path.resolve()
    files = source_files(root, arguments.tests)
    if not files:
        print(f"census: there is no Python source in {root}", file=sys.stderr)
        return 1
    warnings.simplefilter("ignore", SyntaxWarning)  # that is for the authors of those files
    # From here on Ctrl-C is an exception: trio raises it where it does no harm, the worker
    # cancels what has not ended and waits for its threads, and it arrives here.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with progress(len(files)) as advance:
            census = trio.run(
                take_census, files, root, arguments.threads, advance, arguments.journal
            )
        signal.signal(signal.SIGINT, leave)
    except KeyboardInterrupt:
        Console(stderr=True).show_cursor()
        print("census: interrupted", file=sys.stderr)
        return INTERRUPTED
    except JournalError as error:
        print(f"census: {error}", file=sys.stderr)
        return 2
    show(census, root, arguments.top)
    return 0


if __name__ == "__main__":
    sys.exit(main())
