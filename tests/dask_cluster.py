"""A cluster on this machine, in real processes: an unmodified scheduler, nodes, stock workers."""

import json
import sys
import warnings
from collections import Counter
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from dask_client import Client
from dask_processes import Process, Scheduler, stock_worker

from trouper.runtime.errors import JournalWarning
from trouper.runtime.journal.journal import Journal

QUIET = {"DASK_DISTRIBUTED__SCHEDULER__ACTIVE_MEMORY_MANAGER__START": "False"}
"""Nobody removes copies of values every two seconds, whether or not a test has seen them."""

NODE = str(Path(__file__).with_name("node_process.py"))


class Cluster:
    """See the module's text."""

    def __init__(
        self, directory: Path, scheme: str, env: Mapping[str, str], stack: ExitStack
    ) -> None:
        self.directory = directory
        self.journals: list[Path] = []
        self.workers: dict[str, Process] = {}
        self._env = env
        self._stack = stack
        self.scheduler = stack.enter_context(Scheduler(directory, ("tcp", scheme), env=env))
        self.tcp = self.scheduler["tcp"]
        self.cws = self.scheduler[scheme]

    def path(self, name: str) -> str:
        """Of a file in the directory."""
        return str(self.directory / name)

    def node(
        self,
        name: str,
        *options: str,
        scheduler: str = "",
        limits: Mapping[str, float] = {},
        env: Mapping[str, str] | None = None,
    ) -> Process:
        """Start a node with one thread, which keeps a journal."""
        journal = self.directory / f"{name}.journal"
        self.journals.append(journal)
        command = [
            *(sys.executable, NODE, json.dumps(limits), "node", scheduler or self.cws),
            *("--name", name, "--threads", "1", "--memory-limit", "0", "--journal", str(journal)),
            *options,
        ]
        env = self._env if env is None else env
        return self._started(Process(name, command, self.directory, env=env))

    def stock_worker(self, name: str, scheduler: str) -> Process:
        """Start a worker of Dask's own."""
        return self._started(stock_worker(scheduler, self.directory, name=name, env=self._env))

    def _started(self, worker: Process) -> Process:
        self.workers[worker.name] = worker
        return self._stack.enter_context(worker)

    def client(self, **options: Any) -> Client:
        """Start a client, which ends with its ``with`` block."""
        return Client(self.tcp, self.directory, **options)


@contextmanager
def cluster(directory: Path, *, scheme: str = "cws", **env: str) -> Generator[Cluster]:
    """A cluster for the length of a ``with`` block; the journals of its nodes must verify.

    Args:
        directory: For logs and journals.
        scheme: At which the scheduler listens beside ``tcp``; ``cws`` or ``cwss``.
        env: Environment variables of its processes.
    """
    with ExitStack() as stack:
        one = Cluster(directory, scheme, QUIET | env, stack)
        try:
            yield one
        finally:
            for worker in one.workers.values():
                worker.ask_to_end()  # all at once, before one after the other is waited for
    for path in one.journals:
        with warnings.catch_warnings():  # who was killed has left a torn end
            warnings.simplefilter("ignore", JournalWarning)
            assert Journal.open(path).verify() > 0


def computed_times(directory: Path) -> dict[int, int]:
    """How often each of the tasks has run that `node_tasks.noted` has noted there."""
    notes = directory / "notes"
    return Counter(map(int, notes.read_text().split()) if notes.exists() else ())
