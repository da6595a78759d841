"""Whether a worker that runs for long grows: a million tasks, a thousand at a time.

    python tests/bench/memory.py
    python tests/bench/memory.py --tasks 100000 --wave 1000

Each task gets an argument and returns a new object, and its result is awaited. Given is what is
resident in the process after a first wave that is not counted, in the middle and at the end, and
what the worker still holds when everything is done, which has to be nothing. The exit code is 1 if
it holds something, or if memory grew by more than `TOLERANCE`.
"""

import gc
import sys
import time
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import trio
from command_line import circumstances, parser_for
from resident import resident_nbytes

from trouper.runtime import Worker, open_worker

THREADS = 2
TOLERANCE = 8 * 2**20
"""Bytes; an allocator is not a ledger."""


QUARTERS = ("start", "", "middle", "", "end")


class Held(NamedTuple):
    """What a worker holds."""

    tasks: int
    """In the machine."""
    payloads: int
    """Specs, values and exceptions in the store."""
    records: int
    """Of what was submitted."""
    attempts: int
    """Whose end is still to come."""


def make(number: int) -> list[int]:
    """A task with an argument and a result of its own."""
    return [number]


async def wave(worker: Worker, first: int, count: int) -> None:
    """Submit so many tasks and await them all."""
    for number, handle in enumerate(worker.map(make, range(first, first + count)), first):
        assert await handle == [number]


def holdings(worker: Worker) -> Held:
    """Count what the worker holds."""
    return Held(
        len(worker.supervisor.machine.ledger.tasks),
        len(worker.supervisor.store),
        len(worker._records),  # pyright: ignore[reportPrivateUsage]
        len(worker.supervisor.owed),
    )


def say(quarter: int, done: int, start: float) -> None:
    """Print a line of the table; what is resident, as of now."""
    rate = f"{done / (time.perf_counter() - start):,.0f}" if done else "-"
    where = QUARTERS[quarter]
    print(f"{where:<12}{done:>12,}{resident_nbytes() / 2**20:>12.1f}{rate:>12}", flush=True)


async def run(tasks: int, size: int) -> bool:
    """Run all waves and print; whether memory is flat."""
    async with open_worker(threads=THREADS) as worker:
        await wave(worker, 0, size)
        gc.collect()
        before = resident_nbytes()
        print(f"{'':<12}{'tasks':>12}{'MiB':>12}{'tasks/s':>12}")
        start = time.perf_counter()
        say(0, 0, start)
        done, quarter = 0, 0
        while done < tasks:
            count = min(size, tasks - done)
            await wave(worker, done, count)
            done += count
            if done * 4 // tasks > quarter:
                quarter = done * 4 // tasks
                say(quarter, done, start)
            elif sys.stderr.isatty():
                print(f"{done:,} of {tasks:,}", end="\r", file=sys.stderr, flush=True)
        growth = resident_nbytes() - before
        # Handles that were dropped are swept, and their keys freed, within the next few turns of
        # the event loop: as many as it takes, or as none can need.
        for _ in range(100):
            await trio.lowlevel.checkpoint()
        held = holdings(worker)
    print("\nheld at the end: " + ", ".join(f"{n} {what}" for what, n in held._asdict().items()))
    flat = growth <= TOLERANCE
    print(f"grown by {growth / 2**20:.1f} MiB: {'flat' if flat else 'NOT flat'}")
    return flat and not any(held)


def main() -> int:
    """Read the command line and run; gives the exit code."""
    parser = parser_for(__doc__)
    parser.add_argument("--tasks", type=int, default=1_000_000, help="(default: 1000000)")
    parser.add_argument("--wave", type=int, default=1000, help="in flight (default: 1000)")
    arguments = parser.parse_args()
    if arguments.tasks < 1 or arguments.wave < 1:
        parser.error("it takes at least one task")
    print(circumstances("trio"))
    return 0 if trio.run(run, arguments.tasks, arguments.wave) else 1


if __name__ == "__main__":
    sys.exit(main())
