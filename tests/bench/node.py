"""What a node of trouper's does under a Dask scheduler, beside a worker of Dask's, by turns.

    python tests/bench/node.py
    python tests/bench/node.py --tasks 200 --rounds 1
    python tests/bench/node.py --rounds 9 --only "node cws" "stock cws"
    python tests/bench/node.py --beside 4

The contenders have two threads and no nanny: a node, and ``dask worker`` over the same protocol and
over Dask's own. The client talks ``tcp://`` with the scheduler whatever the workers talk, so that
its part is the same for all. All are processes of their own, and new in each round.

In a cluster of its own, one worker of each contender does:

- **no-ops**: a map of so many tasks that do nothing and have no inputs, from submission until the
  client knows that all are done: tasks per second, and what the worker's process has worked for
  each. A scheduler gives a worker of two threads no more than three such tasks at once, and
  something every 5 ms at most. So no worker does 600 per second, and beside the others is shown
  what an **ideal** one does, which runs nothing and answers at once;
- **with inputs**: the same with tasks that take the result of another one. Of these, a scheduler
  gives a worker all that there are.

Under one scheduler, by turns, two workers of each contender do:

- **latency**: ``submit(...).result()``, one at a time. In a row, when most of it is the time for
  which client and scheduler hold back what they send, 10 ms and 5 ms after what they have sent
  before; and at rest, after a pause in which these have run out;
- **result**: an array of 100 MB that is in memory on the worker, brought to the client;
- **exchange**: two workers have 200 arrays of 1 MB each, and each of them needs all of the other's.

Of what is done by turns, a round's figure is a median. Shown are medians over the rounds, with the
least and the most beside them. Trust the ratios: scheduler and client take their share of the same
machine, which is often the larger one. A worker that works little gains where there is little to be
had: with ``--beside``, other processes compute all the time, and take what they get.
"""

import importlib
import math
import statistics
import sys
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import chain, cycle, islice, permutations
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, TypeAlias

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import psutil
from command_line import circumstances, parser_for, tell
from dask_client import Client, wait_for_workers
from dask_processes import Process, Scheduler, stock_worker

THREADS = 2
INPUTS = 10
"""Whose results tasks take; a scheduler would see fewer than five as none."""
REST_S = 0.1
"""Nothing that has gone before is felt any more."""
IN_A_ROW = 10
RESULT_NBYTES = 100_000_000
ARRAY_NBYTES = 1_000_000
ARRAYS = 200
"""On each of two workers."""

US = "node cws"
RIVAL = "stock cws"
"""Whom the targets speak of."""
IDEAL = "ideal cws"
CONTENDERS = {US: "cws", RIVAL: "cws", "stock tcp": "tcp", IDEAL: "cws"}
"""With the protocol of each."""

KINDS = {"no-ops": 0, "with inputs": INPUTS}
"""Of tasks in a map, and of how many others they take the results."""


class Target(NamedTuple):
    """A figure, and what it has to be as a multiple of that of a stock worker."""

    unit: str
    limit: float
    at_least: bool

    def reached(self, ratio: float) -> bool:
        """Whether such a multiple is good enough."""
        return ratio >= self.limit if self.at_least else ratio <= self.limit

    def __str__(self) -> str:
        return f"{'>=' if self.at_least else '<='} {self.limit:.1f}x"


def targets(counts: Sequence[int]) -> dict[str, Target]:
    """What is measured, by name."""
    maps = [f"{count:,} {kind}" for kind in KINDS for count in counts]
    return {
        **{work: Target("tasks/s", 1.2, at_least=True) for work in maps},
        **{f"{work}, CPU": Target("us/task", 0.6, at_least=False) for work in maps},
        "latency, in a row": Target("ms", 1.0, at_least=False),
        "latency, at rest": Target("ms", 1.0, at_least=False),
        "result": Target("MB/s", 1.0, at_least=True),
        "exchange": Target("MB/s", 1.0, at_least=True),
    }


def one_round(
    about: str,
    contenders: Sequence[str],
    *,
    counts: Sequence[int],
    calls: int,
    transfers: int,
) -> dict[str, dict[str, float]]:
    """What each does in clusters that are new."""
    figures: dict[str, dict[str, float]] = {}
    for contender in contenders:
        tell(f"{about}, {contender} alone")
        figures[contender] = alone(contender, counts)
    real = [contender for contender in contenders if contender != IDEAL]
    tell(f"{about}, by turns")
    for contender, more in together(real, calls, transfers).items():
        figures[contender] |= more
    return figures


def alone(contender: str, counts: Sequence[int]) -> dict[str, float]:
    """What one worker does that its scheduler has for itself."""
    with cluster({contender: [contender]}) as (client, (worker,)):
        return client.run(throughput, worker.pid, counts)


def together(contenders: Sequence[str], calls: int, transfers: int) -> dict[str, dict[str, float]]:
    """What two workers of each do by turns."""
    pairs = {contender: (f"{contender} 1", f"{contender} 2") for contender in contenders}
    with cluster(pairs) as (client, _):
        return client.run(by_turns, pairs, calls, transfers)


@contextmanager
def computing(count: int) -> Generator[None]:
    """Have so many processes compute, of no use to anybody."""
    with TemporaryDirectory() as path, ExitStack() as stack:
        for number in range(count):
            command = [sys.executable, "-c", "while True: pass"]
            stack.enter_context(Process(f"computing {number}", command, Path(path)))
        yield


@contextmanager
def cluster(names: Mapping[str, Sequence[str]]) -> Generator[tuple[Client, Sequence[Process]]]:
    """A new scheduler with a client, and workers of contenders, of these names."""
    with TemporaryDirectory() as path, ExitStack() as stack:
        directory = Path(path)
        scheduler = stack.enter_context(Scheduler(directory))
        client = stack.enter_context(Client(scheduler["tcp"], directory))
        client.limit_s = None
        workers: list[Process] = []
        for contender, its_names in names.items():
            address = scheduler[CONTENDERS[contender]]
            for name in its_names:
                worker = start_worker(contender, address, name, directory)
                workers.append(stack.enter_context(worker))
        client.run(wait_for_workers, *chain(*names.values()))
        yield client, workers


def start_worker(contender: str, address: str, name: str, directory: Path) -> Process:
    """Start one of a contender's workers."""
    if contender == US:
        node = [sys.executable, "-m", "trouper.runtime.cli.main", "node", address]
        options = ["--name", name, "--threads", str(THREADS), "--memory-limit", "0"]
        return Process(name, [*node, *options], directory)
    if contender == IDEAL:
        script = str(Path(__file__).with_name("ideal_worker.py"))
        return Process(name, [sys.executable, script, address, name, str(THREADS)], directory)
    return stock_worker(address, directory, name=name, threads=THREADS)


# The work, in the client's process


def throughput(client: Any, pid: int, counts: Sequence[int]) -> dict[str, float]:
    """What the only worker does."""
    worker = psutil.Process(pid)
    figures: dict[str, float] = {}
    no_ops(client, worker, 200, 0)  # to warm up
    for kind, inputs in KINDS.items():
        for count in counts:
            seconds, worked = no_ops(client, worker, count, inputs)
            figures[f"{count:,} {kind}"] = count / seconds
            figures[f"{count:,} {kind}, CPU"] = worked / count * 1e6
    return figures


def no_ops(client: Any, worker: psutil.Process, count: int, inputs: int) -> tuple[float, float]:
    """The seconds that so many tasks take, and those that the worker works for them."""
    wait = importlib.import_module("distributed").wait
    held = client.map(bool, range(inputs), pure=False)
    wait(held)
    arguments = list(islice(cycle(held or range(2)), count))
    before, began = cpu_seconds(worker), time.perf_counter()
    futures = client.map(bool, arguments, pure=False)
    wait(futures)
    seconds = time.perf_counter() - began
    client.cancel([*futures, *held])
    settle(client)
    return seconds, cpu_seconds(worker) - before


def settle(client: Any) -> None:
    """Wait until nothing is held any more, so that whoever comes next has nothing in its way."""
    while client.run_on_scheduler(task_count):
        time.sleep(0.01)
    time.sleep(REST_S)  # workers let go of memory


def task_count(dask_scheduler: Any) -> int:
    """How many tasks a scheduler knows."""
    return len(dask_scheduler.tasks)


def cpu_seconds(worker: psutil.Process) -> float:
    """What a process has worked."""
    times = worker.cpu_times()
    return float(times.user + times.system)


Pair: TypeAlias = tuple[str, str]
"""The names of two workers of a contender."""


def by_turns(
    client: Any, pairs: dict[str, Pair], calls: int, transfers: int
) -> dict[str, dict[str, float]]:
    """What the contenders do one after the other, again and again.

    In each order in turn, as it matters who was there before: exchanges right after those of
    workers that fill small pages of memory have been up to a quarter slower.
    """
    figures: dict[str, dict[str, list[float]]] = {contender: {} for contender in pairs}

    def note(work: str, each: Callable[[Pair], Sequence[float]], times: int) -> None:
        for order in islice(cycle(permutations(pairs)), times):
            for contender in order:
                figures[contender].setdefault(work, []).extend(each(pairs[contender]))
                settle(client)

    note("latency, in a row", partial(latencies, client, IN_A_ROW, 0), -(-calls // IN_A_ROW))
    note("latency, at rest", partial(latencies, client, 1, REST_S), calls)
    note("result", partial(result, client), transfers)
    note("exchange", partial(exchange, client), transfers)
    return {
        contender: {work: statistics.median(series) for work, series in its_figures.items()}
        for contender, its_figures in figures.items()
    }


def latencies(client: Any, count: int, pause_s: float, pair: Pair) -> list[float]:
    """Milliseconds until a client has the result of a task, one task after the other."""
    figures: list[float] = []
    for argument in range(count):
        time.sleep(pause_s)
        began = time.perf_counter()
        future = client.submit(bool, argument, workers=pair[0], pure=False)
        assert future.result() is bool(argument)
        figures.append((time.perf_counter() - began) * 1e3)
    return figures


def result(client: Any, pair: Pair) -> list[float]:
    """At how many MB/s a client is brought a large result that is there."""
    (future,) = arrays(client, 1, RESULT_NBYTES, pair[0])
    began = time.perf_counter()
    assert future.result().nbytes == RESULT_NBYTES
    return [RESULT_NBYTES / (time.perf_counter() - began) / 1e6]


def exchange(client: Any, pair: Pair) -> list[float]:
    """At how many MB/s two workers bring each other what they have, all together."""
    wait = importlib.import_module("distributed").wait
    held = [arrays(client, ARRAYS, ARRAY_NBYTES, worker) for worker in pair]
    began = time.perf_counter()
    counts = [
        client.submit(len, theirs, workers=worker)
        for worker, theirs in zip(pair, reversed(held), strict=True)
    ]
    wait(counts)
    seconds = time.perf_counter() - began
    assert client.gather(counts) == [ARRAYS, ARRAYS]
    return [2 * ARRAYS * ARRAY_NBYTES / seconds / 1e6]


def arrays(client: Any, count: int, nbytes: int, worker: str) -> Any:
    """Arrays that are in the memory of a worker."""
    distributed, numpy = map(importlib.import_module, ("distributed", "numpy"))
    futures = client.map(numpy.ones, [nbytes] * count, dtype="u1", pure=False, workers=worker)
    distributed.wait(futures)
    return futures


# The table


def report(rounds: dict[str, list[dict[str, float]]], counts: Sequence[int]) -> Iterator[str]:
    """The lines of the table: for each work, a line for each contender that does it."""
    yield f"{'':31}{'median':>10}{'least':>10}{'most':>10}{'node is':>10}  target"
    for work, target in targets(counts).items():
        yield f"{work} ({target.unit})"
        series = {
            contender: [figures[work] for figures in its_rounds if work in figures]
            for contender, its_rounds in rounds.items()
        }
        for contender, its_series in series.items():
            if not its_series:
                continue
            median = statistics.median(its_series)
            line = f"  {contender:29}"
            line += "".join(f"{n:10,.1f}" for n in (median, min(its_series), max(its_series)))
            if contender != US and US in series:
                ratio = statistics.median(series[US]) / median if median else math.inf
                line += f"{ratio:9.2f}x"
                if contender == RIVAL:
                    line += f"  {target} {'reached' if target.reached(ratio) else 'MISSED'}"
            yield line


def main(arguments: Sequence[str]) -> None:
    """Run what was asked for."""
    parser = parser_for(__doc__)
    parser.add_argument(
        "--tasks", type=int, nargs="+", default=[1000, 5000], help="no-ops in a map"
    )
    parser.add_argument("--calls", type=int, default=100, help="whose latency is measured")
    parser.add_argument("--transfers", type=int, default=18, help="of results, and exchanges")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument(
        "--beside", type=int, default=0, metavar="N", help="processes that compute all the time"
    )
    options = parser.parse_args(arguments)
    rounds: dict[str, list[dict[str, float]]] = {contender: [] for contender in options.only}
    with computing(options.beside):
        for number in range(options.rounds):
            about = f"round {number + 1} of {options.rounds}"
            figures = one_round(
                about,
                options.only,
                counts=options.tasks,
                calls=options.calls,
                transfers=options.transfers,
            )
            for contender, its_rounds in rounds.items():
                its_rounds.append(figures[contender])
    tell("")
    print(f"{circumstances('trio', 'distributed')} at the end; medians of {options.rounds} rounds")
    print("\n".join(report(rounds, options.tasks)))


if __name__ == "__main__":
    main(sys.argv[1:])
