"""A small cluster on this machine: Dask's scheduler and client, and two nodes of trouper's.

Both nodes count bytes: of every file in Python's own standard library, how often each of the 256
bytes occurs. The table (files by bytes) is a Dask array; a singular value decomposition of it,
computed by the nodes too, says in how many independent ways those files differ.

    python examples/cluster.py
    python examples/cluster.py --nodes 3 --path src

This is what it starts, each in a terminal of its own if you like:

    dask scheduler --protocol tcp,cws --port 8786,8787
    trouper node cws://127.0.0.1:8787
"""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false
# pyright: reportUnknownVariableType=false, reportFunctionMemberAccess=false
# pyright: reportPrivateImportUsage=false
# What Dask does not say about its types is not known here either.

import argparse
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from operator import itemgetter
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import numpy.typing as npt
from distributed import Client, as_completed, futures_of
from rich.box import SIMPLE
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

Floats = npt.NDArray[np.float64]

FILES_A_TASK = 16
PATIENCE_S = 30
INTERRUPTED = 130
"""What a shell makes of a program that Ctrl-C has ended: 128 + SIGINT."""


def frequencies(paths: Sequence[Path]) -> Floats:
    """How often each byte occurs in each file: a row of 256 shares for each, which add up to 1."""
    rows = [np.bincount(np.fromfile(path, np.uint8), minlength=256) for path in paths]
    counts = np.array(rows, dtype=np.float64)
    shares: Floats = counts / counts.sum(axis=1, keepdims=True)
    return shares


def files_of(root: Path) -> list[Path]:
    """All files of Python source that are not empty."""
    skipped = {"site-packages", "dist-packages"}
    return [
        path
        for path in sorted(root.rglob("*.py"))
        if skipped.isdisjoint(path.parts) and path.stat().st_size
    ]


def byte_table(files: Sequence[Path]) -> Any:
    """The table as a Dask array: nothing is read yet."""
    groups = [files[i : i + FILES_A_TASK] for i in range(0, len(files), FILES_A_TASK)]
    read = dask.delayed(frequencies, pure=True)
    return da.concatenate(
        [da.from_delayed(read(group), (len(group), 256), np.float64) for group in groups]
    )


@contextmanager
def running(*command: str) -> Generator[None]:
    """A program, for the length of a ``with`` block."""
    with subprocess.Popen([sys.executable, "-m", *command], stderr=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.terminate()


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens at."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@contextmanager
def cluster(nodes: int) -> Generator[Client]:
    """A scheduler, nodes, and a client of theirs."""
    tcp, cws = free_ports(2)
    ports = f"{tcp},{cws}"
    with ExitStack() as stack:
        scheduler = ["distributed.cli.dask_scheduler", "--protocol", "tcp,cws", "--port", ports]
        stack.enter_context(running(*scheduler, "--host", "127.0.0.1", "--no-dashboard"))
        for number in range(nodes):
            node = ["trouper.runtime.cli.main", "node", f"cws://127.0.0.1:{cws}"]
            stack.enter_context(running(*node, "--threads", "1", "--name", f"node-{number}"))
        client = stack.enter_context(Client(f"tcp://127.0.0.1:{tcp}", timeout=PATIENCE_S))
        client.wait_for_workers(nodes, timeout=PATIENCE_S)
        yield client


def persisted(table: Any, console: Console) -> Any:
    """The table, computed and kept on the nodes; with a progress bar meanwhile."""
    table = table.persist()
    futures = futures_of(table)
    columns = (TextColumn("reading"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("", total=len(futures))
        for _ in as_completed(futures):
            progress.advance(bar)
    return table


def name_of(dask_worker: Any) -> str:
    """Run on each node, which is passed to it."""
    return str(dask_worker.name)


def report(console: Console, files: int, client: Client, singular: Floats) -> None:
    """What was found."""
    shares = singular**2 / (singular**2).sum()
    table = Table(box=SIMPLE)
    table.add_column("of the differences", justify="right")
    table.add_column("directions needed", justify="right")
    for part in (0.5, 0.9, 0.99):
        table.add_row(f"{part:.0%}", str(int(np.searchsorted(shares.cumsum(), part)) + 1))
    names: Any = client.run(name_of)
    console.print(f"{files} files, read by {len(names)} nodes:")
    for address, name in sorted(names.items(), key=itemgetter(1)):
        console.print(f"    {name} at {address}")
    console.print(table)


def main() -> None:
    """Start the cluster, compute, and end it."""
    parser = argparse.ArgumentParser(description="A Dask array on two nodes of trouper's.")
    parser.add_argument("--nodes", type=int, default=2, help="how many (default: %(default)s)")
    parser.add_argument("--path", type=Path, default=Path(sysconfig.get_path("stdlib")))
    arguments = parser.parse_args()
    files = files_of(arguments.path)
    if not files:
        parser.error(f"{arguments.path} has no Python files")
    console = Console()
    with cluster(arguments.nodes) as client:
        table = persisted(byte_table(files), console)
        _, singular, _ = da.linalg.svd(table - table.mean(axis=0))
        report(console, len(files), client, singular.compute())


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("cluster: interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)
