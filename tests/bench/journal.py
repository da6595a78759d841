"""What a journal costs: its size, replaying it, and recording it.

    python tests/bench/journal.py
    python tests/bench/journal.py --stimuli 100000 --tasks 5000 --rounds 3

- **size**: of a journal of independent tasks whose keys have 20 characters, in bytes per stimulus;
  once with 1,000 tasks in flight that are freed together, as an embedded worker does it, and once
  with a stimulus for each that is freed, as a scheduler does it.
- **replay**: of a million stimuli, every record and every digest verified, against `Machine.handle`
  alone with the same stimuli, which are ready in memory; and what is resident meanwhile.
- **recording**: no-ops in an embedded worker, 1,000 in flight, with and without a journal, in
  alternating rounds, in processor time of all threads; and tasks that take a millisecond, in time
  that passes.
"""

import gc
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import trio
from command_line import circumstances, parser_for, tell
from resident import resident_nbytes

from trouper.runtime import Journal, open_worker
from trouper.runtime.journal.options import JournalOptions
from trouper.runtime.journal.recorder import Recorder
from trouper.runtime.ledger import Config
from trouper.runtime.machine import Machine
from trouper.wire.instructions import Execute
from trouper.wire.stimuli import ComputeTask, ExecuteSuccess, FreeKeys, Stimulus

WAVE = 1000
"""Tasks in flight."""
UNLIMITED = 1 << 40
CONFIG = Config(slots={"thread": 2}, run_ahead={"thread": 64})

SIZE_TARGET = 60
REPLAY_TARGET = 2.5
RECORD_TARGET = 0.3


def noop(value: int) -> int:
    """Do nothing."""
    return value


def nap(value: int) -> int:
    """Take a millisecond."""
    time.sleep(0.001)
    return value


def key_of(number: int) -> str:
    """A key of 20 characters."""
    return f"task-{number:015}"


def live(recorder: Recorder | Machine, stimuli: int, *, together: bool) -> Iterator[Stimulus]:
    """Lead a machine through waves of independent tasks; the stimuli on the way."""
    done = number = 0
    while done < stimuli:
        keys = [key_of(number + i) for i in range(1, WAVE + 1)]
        begun: list[Execute] = []
        for key in keys:
            number += 1
            stimulus: Stimulus = ComputeTask(key, number, number, (0, number), prefix="noop")
            begun += [i for i in recorder.handle(stimulus) if type(i) is Execute]
            yield stimulus
        for execute in begun:  # grows while it is walked
            duration_s = 1e-5 + execute.attempt % 100 * 1e-7
            stimulus = ExecuteSuccess(execute.key, execute.attempt, 28, "int", duration_s)
            begun += [i for i in recorder.handle(stimulus) if type(i) is Execute]
            yield stimulus
        for freed in [tuple(keys)] if together else [(key,) for key in keys]:
            stimulus = FreeKeys(freed)
            recorder.handle(stimulus)
            yield stimulus
        done = number * (2 if together else 3)


def write(path: Path, stimuli: int, *, together: bool) -> int:
    """Write a journal; how many stimuli it has."""
    options = JournalOptions(path=path, max_nbytes=UNLIMITED, flush="buffered", hash_keys=False)
    recorder = Recorder(Machine(CONFIG), "bench", options)
    count = sum(1 for _ in live(recorder, stimuli, together=together))
    recorder.close()
    return count


# Size and replay


def measure_size(folder: Path, stimuli: int) -> bool:
    """Print the sizes; whether they are as they should be."""
    good = True
    for name, together in (("freed 1,000 at a time", True), ("freed one by one", False)):
        path = folder / f"size-{together}"
        nbytes = write(path, stimuli, together=together)
        each = path.stat().st_size / nbytes
        good &= each <= SIZE_TARGET
        print(f"size, {name:24} {each:7.1f} bytes per stimulus  (target: {SIZE_TARGET})")
    return good


def handle_alone_us(stimuli: int) -> float:
    """Microseconds per stimulus of the machine alone."""
    told = list(live(Machine(CONFIG), stimuli, together=True))
    machine = Machine(CONFIG)
    gc.collect()
    start = time.process_time()
    for stimulus in told:
        machine.handle(stimulus)
    return (time.process_time() - start) / len(told) * 1e6


def replay_us(path: Path) -> float:
    """Microseconds per stimulus of a replay that verifies everything."""
    journal = Journal.open(path)
    gc.collect()
    start = time.process_time()
    count = journal.verify()
    return (time.process_time() - start) / count * 1e6


def measure_replay(folder: Path, stimuli: int, rounds: int) -> bool:
    """Print times and memory; whether the ratio is as it should be."""
    path = folder / "replay"
    count = write(path, stimuli, together=True)
    ratios: list[float] = []
    for _ in range(rounds):
        alone, replay = handle_alone_us(stimuli), replay_us(path)
        ratios.append(replay / alone)
        tell(f"replay {replay:.2f} us, handle alone {alone:.2f} us per stimulus")
    tell("")
    ratio = statistics.median(ratios)
    print(f"replay, verified {ratio:15.2f} x handle alone       (target: {REPLAY_TARGET})")
    journal = Journal.open(path)
    begin = most = 0
    for step in journal.steps():
        if step.record.n % (count // 20) == 0:
            most = max(most, resident_nbytes())
            begin = begin or most
    print(f"memory, {count:,} stimuli replayed: {begin / 2**20:.1f} MiB at a twentieth, "
          f"{most / 2**20:.1f} MiB at most")  # fmt: skip
    return ratio <= REPLAY_TARGET


# Recording


async def run_tasks(
    task: Callable[[int], int],
    count: int,
    wave: int,
    clock: Callable[[], float],
    journal: Path | None,
) -> float:
    """The seconds that so many tasks take, a wave at a time."""
    async with open_worker(threads=2, journal=journal) as worker:
        start = clock()
        for begin in range(0, count, wave):
            handles = [
                worker.submit(task, number, key=key_of(number))
                for number in range(begin, min(begin + wave, count))
            ]
            for handle in handles:
                await handle
        return clock() - start


def compare(
    name: str, folder: Path, rounds: int, run: Callable[[Path | None], float], count: int
) -> float:
    """Print what a task costs with and without; how much more it costs with."""
    times: dict[bool, list[float]] = {False: [], True: []}
    for number in range(rounds + 1):
        tell(f"{name}: round {number} of {rounds}")
        for recorded in (False, True) if number % 2 else (True, False):
            gc.collect()
            seconds = run(folder / f"{name}-{number}" if recorded else None)
            if number:  # the first round warms up
                times[recorded].append(seconds / count * 1e6)
    tell("")
    without, with_ = statistics.median(times[False]), statistics.median(times[True])
    # Neighbours in time had the same noise.
    more = statistics.median(b / a for a, b in zip(times[False], times[True], strict=True)) - 1
    print(f"{name:24} {without:9.1f} us per task, recorded {with_:9.1f} us: {more:+.1%}")
    return more


def measure_recording(folder: Path, tasks: int, rounds: int) -> bool:
    """Print what recording adds; whether it is as it should be."""
    more = compare(
        "no-ops, 1,000 in flight",
        folder,
        rounds,
        lambda journal: trio.run(run_tasks, noop, tasks, WAVE, time.process_time, journal),
        tasks,
    )
    print(f"{'':24} (target: at most {RECORD_TARGET:+.0%})")
    compare(
        "naps of 1 ms, 100 in flight",
        folder,
        rounds,
        lambda journal: trio.run(run_tasks, nap, tasks // 10, 100, time.perf_counter, journal),
        tasks // 10,
    )
    print(f"{'':24} (target: nothing to be seen)")
    return more <= RECORD_TARGET


def main() -> int:
    """Read the command line and measure; gives the exit code: 1 if a target is missed."""
    parser = parser_for(__doc__)
    parser.add_argument("--stimuli", type=int, default=1_000_000, help="(default: 1000000)")
    parser.add_argument("--tasks", type=int, default=20_000, help="(default: 20000)")
    parser.add_argument(
        "--rounds",
        type=int,
        default=5,
        help="of replay; of recording, three times as many (default: 5)",
    )
    arguments = parser.parse_args()
    if arguments.stimuli < 20 or arguments.tasks < 10 or arguments.rounds < 1:
        parser.error("it takes at least 20 stimuli, 10 tasks and a round")
    print(f"{circumstances('trio', 'msgspec')}; medians of {arguments.rounds} rounds")
    with TemporaryDirectory() as name:
        folder = Path(name)
        good = [
            measure_size(folder, arguments.stimuli),
            measure_replay(folder, arguments.stimuli, arguments.rounds),
            measure_recording(folder, arguments.tasks, 3 * arguments.rounds),
        ]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
