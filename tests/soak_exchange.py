"""Two nodes in two processes exchange values while a proxy between them cuts connections at random.

    python tests/soak_exchange.py                      10,000 small values and 50 of 4 MiB, 100 cuts
    python tests/soak_exchange.py --seed 1 --rounds 10

Fails unless every value arrives, right and once. The suite runs the same with fewer.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import trio
from command_line import parser_for
from sides import open_cutter

HERE = Path(__file__).parent
NODE = str(HERE / "peer_node.py")


class Process:
    """A node in a process of its own, and what it says."""

    def __init__(self, process: trio.Process) -> None:
        self.kill: Callable[[], None] = process.kill
        assert process.stdout is not None
        self._stdout = process.stdout
        self._rest = b""

    async def hear(self, what: str) -> Any:
        """The next thing of this name that it says; others are passed over."""
        while True:
            while b"\n" not in self._rest:
                data = await self._stdout.receive_some()
                assert data, f"the node has ended before it said {what!r}"
                self._rest += data
            line, _, self._rest = self._rest.partition(b"\n")
            said = json.loads(line)
            if what in said:
                return said if len(said) > 1 else said[what]


@asynccontextmanager
async def open_process(
    role: str, small: int, large: int, nbytes: int, *url: str
) -> AsyncGenerator[Process]:
    """A node for the length of a block."""
    command = [sys.executable, NODE, role, *map(str, (small, large, nbytes)), *url]
    async with trio.open_nursery() as nursery:
        process: trio.Process = await nursery.start(
            partial(
                trio.run_process,
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                check=False,
                env={**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, str(HERE / "bench")])},
            )
        )
        yield Process(process)
        nursery.cancel_scope.cancel()


async def exchange(small: int, large: int, nbytes: int, cuts: int, seed: int) -> dict[str, int]:
    """Exchange values while connections are cut; what the fetcher says of it."""
    async with open_process("hold", small, large, nbytes) as holder:
        port: int = await holder.hear("port")
        most_nbytes = 3 * nbytes
        async with open_cutter(port, seed=seed, cuts=cuts, most_nbytes=most_nbytes) as cutter:
            url = f"ws://127.0.0.1:{cutter.port}"
            async with open_process("fetch", small, large, nbytes, url) as fetcher:
                told: dict[str, int] = await fetcher.hear("arrived")
            told["cuts"] = cuts - cutter.cuts_left
    assert told["arrived"] == small + large, told
    assert told["right"] == small + large, told
    assert told["looked_at"] == large, told
    assert told["twice"] == told["added_twice"] == told["still_held"] == 0, told
    return told


def main() -> None:
    """Parse the command line and soak."""
    parser = parser_for(__doc__)
    parser.add_argument("--small", type=int, default=10_000)
    parser.add_argument("--large", type=int, default=50)
    parser.add_argument("--nbytes", type=int, default=1 << 22, help="of a large one")
    parser.add_argument("--cuts", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for seed in range(options.seed, options.seed + options.rounds):
        began = time.monotonic()
        what = (options.small, options.large, options.nbytes, options.cuts, seed)
        told = trio.run(exchange, *what)
        print(f"seed {seed}, {time.monotonic() - began:.1f} s: {told}", flush=True)


if __name__ == "__main__":
    main()
