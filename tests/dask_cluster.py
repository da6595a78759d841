"""A cluster on this machine, in real processes: an unmodified scheduler, nodes, stock workers."""

import importlib
import json
import os
import signal
import subprocess
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

from trouper.runtime.errors import JournalWarning
from trouper.runtime.journal.journal import Journal

distributed: Any = importlib.import_module("distributed")

PATIENCE_S = 30.0
"""No test waits longer than this for what has to happen; the machine may be very busy."""

TESTS = Path(__file__).parent

ENVIRONMENT = {"PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
"""Of all processes: many on few processors, each of which would take all of them."""


class Process:
    """A process of the cluster, and its log."""

    def __init__(self, name: str, arguments: list[str], log: Path, environment: Any) -> None:
        self.name = name
        self.log = log
        with log.open("ab") as sink:
            self._popen = subprocess.Popen(
                [sys.executable, *arguments],
                stdout=sink,
                stderr=sink,
                env={**os.environ, **ENVIRONMENT, **environment},
                cwd=log.parent,
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._popen.pid

    def lines(self, text: str) -> list[str]:
        """Of its log, those with this text."""
        return [line for line in self.log.read_text().splitlines() if text in line]

    def wait_for_line(self, text: str) -> str:
        """The first line of its log with this text, as soon as there is one."""
        until(lambda: self.lines(text) or self.ended())
        assert self.lines(text), f"{self.name} has ended: {self.log.read_text()}"
        return self.lines(text)[0]

    def ended(self) -> bool:
        """Whether it has."""
        return self._popen.poll() is not None

    def exit_code(self) -> int:
        """How it ends; waits for that."""
        return self._popen.wait(PATIENCE_S)

    def send_signal(self, number: int) -> None:
        """Send it a signal."""
        self._popen.send_signal(number)

    def end(self) -> None:
        """End it, in order if it can."""
        self.send_signal(signal.SIGTERM)
        try:
            self._popen.wait(15)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()


class Cluster:
    """See the module's text."""

    def __init__(self, directory: Path, config: Mapping[str, str]) -> None:
        self.directory = directory
        self.journals: list[Path] = []
        self._config = config
        self.processes: dict[str, Process] = {}
        self.scheduler = self._start(
            "scheduler",
            ["-m", "distributed.cli.dask_scheduler", "--no-dashboard", "--no-show"],
            ["--host", "127.0.0.1", "--protocol", "tcp,cws", "--port", "0,0"],
        )
        self.tcp = self._listens_at("tcp")
        self.cws = self._listens_at("cws")

    def _listens_at(self, scheme: str) -> str:
        line = self.scheduler.wait_for_line(f"{scheme}://")
        return line.split()[-1]

    def node(
        self, name: str, *options: str, scheduler: str = "", limits: Mapping[str, float] = {}
    ) -> Process:
        """Start a node with one thread, which keeps a journal."""
        journal = self.directory / f"{name}.journal"
        self.journals.append(journal)
        return self._start(
            name,
            [str(TESTS / "node_process.py"), json.dumps(limits), "node", scheduler or self.cws],
            ["--name", name, "--threads", "1", "--memory-limit", "0", "--journal", str(journal)],
            list(options),
        )

    def stock_worker(self, name: str, scheduler: str) -> Process:
        """Start a worker of Dask's own."""
        return self._start(
            name,
            ["-m", "distributed.cli.dask_worker", scheduler, "--name", name, "--nthreads", "1"],
            ["--no-nanny", "--no-dashboard", "--host", "127.0.0.1"],
            ["--memory-limit", "0", "--local-directory", str(self.directory)],
        )

    def _start(self, name: str, *arguments: list[str]) -> Process:
        log = self.directory / f"{name}.log"
        process = Process(name, [*chain(*arguments)], log, self._config)
        self.processes[name] = process
        return process

    @contextmanager
    def client(self, **options: Any) -> Generator[Any]:
        """A client of this process, unmodified."""
        client = distributed.Client(self.tcp, timeout=PATIENCE_S, **options)
        try:
            yield client
        finally:
            client.close()

    def end(self) -> None:
        """End all that still runs, workers first."""
        _, *others = self.processes.values()
        for process in others:
            process.send_signal(signal.SIGTERM)
        for process in (*others, self.scheduler):
            process.end()


@contextmanager
def cluster(directory: Path, **config: str) -> Generator[Cluster]:
    """A cluster for the length of a ``with`` block; the journals of its nodes must verify.

    Args:
        directory: For logs and journals.
        config: Environment variables of its processes.
    """
    one = Cluster(directory, config)
    try:
        yield one
    finally:
        one.end()
    for path in one.journals:
        with warnings.catch_warnings():  # who was killed has left a torn end
            warnings.simplefilter("ignore", JournalWarning)
            assert Journal.open(path).verify() > 0


def until(condition: Callable[[], object]) -> None:
    """Wait for a condition that nobody announces."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it does not come to pass"
        time.sleep(0.02)


def workers(client: Any) -> dict[Any, str]:
    """The addresses of all workers, by name."""
    info = client.scheduler_info(n_workers=-1)["workers"]
    return {worker["name"]: address for address, worker in info.items()}


def wait_for_workers(client: Any, *names: str) -> None:
    """Until these, and no others, are there."""
    until(lambda: set(workers(client)) == set(names))


def result_of(future: Any) -> Any:
    """What a task returns or raises, in time."""
    return future.result(timeout=PATIENCE_S)


def results_of(client: Any, futures: Any, **how: Any) -> Any:
    """What tasks return, in time."""
    distributed.wait(futures, timeout=PATIENCE_S)
    return client.gather(futures, **how)


def computed_times(directory: Path) -> dict[int, int]:
    """How often each of the tasks has run that `node_tasks.noted` has noted there."""
    notes = directory / "notes"
    return Counter(map(int, notes.read_text().split()) if notes.exists() else ())
