"""Three nodes compute, and at every moment some connection to or from one of them is cut.

    python tests/soak_node.py --seconds 600

Between each node and its scheduler there is a proxy, and between each node and whoever dials it
another one; the cut ones refuse new connections for up to 0.8 seconds. All results have to be
right, and no worker may be removed.
"""

import importlib
import random
import socket
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from command_line import parser_for
from dask_client import result_of, wait_for_workers
from dask_cluster import Cluster, cluster
from proxy import Proxy, proxy

array: Any = importlib.import_module("dask.array")

NAMES = ("a", "b", "c")
SIDE = 400


def start_nodes(stack: ExitStack, one: Cluster) -> list[Proxy]:
    """Nodes behind proxies both ways."""
    proxies: list[Proxy] = []
    for name in NAMES:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port: int = free.getsockname()[1]
        outwards = stack.enter_context(proxy(int(one.cws.rpartition(":")[2])))
        inwards = stack.enter_context(proxy(port))
        proxies += [outwards, inwards]
        one.node(
            name,
            *("--listen", f"cws://127.0.0.1:{port}"),
            *("--contact-address", f"cws://127.0.0.1:{inwards.port}"),
            scheduler=f"cws://127.0.0.1:{outwards.port}",
        )
    return proxies


def cut_again_and_again(proxies: list[Proxy], stop: threading.Event, cuts: list[str]) -> None:
    """Cut one after the other, until told to stop."""
    while not stop.wait(random.uniform(0.2, 1.0)):
        one = random.choice(proxies)
        one.cut(refuse=True)
        cuts.append(f"cut {one.port}")
        stop.wait(random.uniform(0, 0.8))
        one.refusing = False


def compute(client: Any) -> None:
    """A computation whose result has to be right."""
    numbers = np.arange(float(SIDE * SIDE)).reshape(SIDE, SIDE)
    chunks = array.from_array(numbers, chunks=(50, 50))
    total = client.compute((chunks @ chunks.T + chunks.T).sum(axis=0))
    assert np.allclose(result_of(total), (numbers @ numbers.T + numbers.T).sum(axis=0))


def soak(seconds: float) -> None:
    """Compute for so long, and say what became of it."""
    stop, cuts, rounds = threading.Event(), list[str](), 0
    directory = Path(tempfile.mkdtemp())
    print(f"logs and journals are in {directory}", flush=True)
    with ExitStack() as stack, cluster(directory) as one, one.client() as client:
        proxies = start_nodes(stack, one)
        client.run(wait_for_workers, *NAMES)
        cutter = threading.Thread(target=cut_again_and_again, args=(proxies, stop, cuts))
        cutter.start()
        try:
            begun = time.monotonic()
            while time.monotonic() - begun < seconds:
                client.run(compute)
                rounds += 1
        finally:
            stop.set()
            cutter.join()
        assert not one.scheduler.said("Remove worker addr"), "a worker was given up"
    print(f"{rounds} computations, {len(cuts)} cuts; all right, no worker removed")


def main() -> None:
    """Parse the command line and soak."""
    parser = parser_for(__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="(default: 60)")
    soak(parser.parse_args().seconds)


if __name__ == "__main__":
    main()
