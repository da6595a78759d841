"""What it costs to bring messages to another process: trouper beside four others, by turns.

    python tests/bench/wire.py
    python tests/bench/wire.py --rounds 9 --only trouper "tcp://"

The contenders are told in `lines`. In each round each of them gets two fresh processes, a holder
that listens and a fetcher that dials, and does all the work:

- **one way**: 200 bytes each from fetcher to holder, who says at the end that all are there;
- **ping-pong**: 200 bytes there and back, one at a time;
- **coalesced**: as one way, but nobody waits for a message to be handed over;
- **64 KiB**, **1 MiB**, **16 MiB**: from holder to fetcher, one after the other, each asked for;
- **256 MiB**: the same, once, before all else;
- **peak**: by how much the memory of a fetcher grows meanwhile, at most, in multiples of that.

Figures are medians over the rounds, with the best and the worst beside them. Trust the ratios.
distributed's ws:// waits 44 ms for each answer, as its client leaves Nagle's algorithm on; it does
a tenth of the work.
"""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from command_line import circumstances, parser_for, tell
from lines import LINES, Line
from resident import peak_nbytes, resident_nbytes

SMALL_NBYTES = 200
SIZES = {"64 KiB": 1 << 16, "1 MiB": 1 << 20, "16 MiB": 1 << 24}
LARGEST_NBYTES = 1 << 28
TRANSFERS_NBYTES = 1 << 27
"""Brought in all, for each size."""
UNITS = {"one way": "us", "ping-pong": "us", "coalesced": "us", "peak": "x"} | dict.fromkeys(
    (*SIZES, "256 MiB"), "MB/s"
)


async def hold(line: Line) -> None:
    """The holder does as it is told: how to answer, to how many messages, and with how much."""
    while (order := bytes(await line.receive())) != b"stop":
        how, count, nbytes = order.decode().split()
        data = bytes(int(nbytes))
        for _ in range(int(count)):
            message = await line.receive()
            if how == "echo":
                await line.send(bytes(message))
            elif how == "give":
                await line.send(data)
        if how == "count":
            await line.send(b"all are there")


async def ask(line: Line, how: str, count: int, nbytes: int = 0) -> float:
    """Let the holder answer so many messages; the seconds that it took."""
    await line.send(f"{how} {count} {nbytes}".encode())
    data = bytes(SMALL_NBYTES)
    began = time.perf_counter()
    for _ in range(count):
        await line.send(data)
        if how != "count":
            answer = await line.receive()
            assert len(answer) == (nbytes or SMALL_NBYTES)
    if how == "count":
        await line.receive()
    return time.perf_counter() - began


async def coalesce(line: Line, count: int) -> float:
    """The same one way, where nobody waits for a message to be handed over."""
    await line.send(f"count {count} 0".encode())
    began = time.perf_counter()
    await line.send_many(bytes(SMALL_NBYTES), count)
    await line.receive()
    return time.perf_counter() - began


async def measure(line: Line, scale: float) -> dict[str, float]:
    """All the work, or a part of it, in the units of `UNITS`."""
    figures: dict[str, float] = {}
    count = max(2, round(2000 * scale))
    before = resident_nbytes()
    figures["256 MiB"] = LARGEST_NBYTES / await ask(line, "give", 1, LARGEST_NBYTES) / 1e6
    figures["peak"] = (peak_nbytes() - before) / LARGEST_NBYTES
    await ask(line, "echo", count // 2)
    figures["one way"] = await ask(line, "count", count) / count * 1e6
    figures["ping-pong"] = await ask(line, "echo", count) / count * 1e6
    figures["coalesced"] = await coalesce(line, count * 10) / count / 10 * 1e6
    for size, nbytes in SIZES.items():
        transfers = max(2, round(TRANSFERS_NBYTES * scale / nbytes))
        seconds = await ask(line, "give", transfers, nbytes)
        figures[size] = transfers * nbytes / seconds / 1e6
    await line.send(b"stop")
    return figures


def be_holder(name: str) -> None:
    """In a process of its own."""
    listen, _, run = LINES[name]
    run(listen, hold)


def be_fetcher(name: str, port: int, scale: float) -> None:
    """In a process of its own: prints the figures."""
    _, dial, run = LINES[name]

    async def work(line: Line) -> None:
        print(json.dumps(await measure(line, scale)), flush=True)

    run(dial, port, work)


def one_round(name: str, scale: float) -> dict[str, float]:
    """A holder and a fetcher, and what they have seen."""
    command = [sys.executable, __file__, "--be"]
    with subprocess.Popen([*command, "holder", name], stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout is not None
            port = holder.stdout.readline().strip()
            result = subprocess.run(
                [*command, "fetcher", name, port, str(scale)],
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
            holder.wait(timeout=30)
        finally:
            holder.kill()
    figures: dict[str, float] = json.loads(result.stdout)
    return figures


def report(results: dict[str, list[dict[str, float]]]) -> None:
    """A table for each work."""
    for work, unit in UNITS.items():
        print(f"{work} ({unit})")
        print(f"{'':18}{'median':>12}{'best':>12}{'worst':>12}")
        for name, rounds in results.items():
            figures = sorted((figures[work] for figures in rounds), reverse=unit == "MB/s")
            cells = (statistics.median(figures), figures[0], figures[-1])
            print(f"  {name:16}" + "".join(f"{cell:12,.2f}" for cell in cells))
        print()


def main(arguments: Sequence[str]) -> None:
    """Run what was asked for."""
    parser = parser_for(__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0, help="how much of the work is done")
    parser.add_argument("--only", nargs="+", choices=LINES, default=list(LINES))
    options = parser.parse_args(arguments)
    results: dict[str, list[dict[str, float]]] = {name: [] for name in options.only}
    for number in range(options.rounds):
        for name, rounds in results.items():
            tell(f"round {number + 1} of {options.rounds}, {name}")
            share = 0.1 if name == "ws://" else 1.0
            rounds.append(one_round(name, options.scale * share))
    tell("")
    print(f"{circumstances('trio', 'distributed')} at the end; {options.rounds} rounds\n")
    report(results)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["--be", "holder", name]:
            be_holder(name)
        case ["--be", "fetcher", name, port, scale]:
            be_fetcher(name, int(port), float(scale))
        case arguments:
            main(arguments)
