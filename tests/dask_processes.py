"""Real processes of Dask's on this machine, for tests: schedulers, stock workers, and any others.

A process starts when it is made, and ends for certain with its ``with`` block. All that it says is
in a file of the directory that it works in; if the block fails, that is printed.
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

T = TypeVar("T")

PATIENCE_S = 60.0
"""No test waits longer than this for what has to happen; the machine may be very busy."""

ENDED_S = 15.0
"""How long a process may take to end when it is asked to; then it is killed."""

FAULTS = r"Traceback \(most recent call last\)|was destroyed but|was never retrieved"
"""What a process says of which its test has to be told."""

ENVIRONMENT = {
    "PYTHONPATH": str(Path(__file__).parent),
    "PYTHONUNBUFFERED": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}
"""Of all processes: many on few processors, each of which would take all of them."""


class Process:
    """A process, and what it has said so far, on both its channels."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        directory: Path,
        *,
        env: Mapping[str, str] = {},
        pass_fds: Collection[int] = (),
    ) -> None:
        self.name = name
        self._log = directory / f"{name}.log"
        with self._log.open("ab") as sink:
            self._popen = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                cwd=directory,
                env={**os.environ, **ENVIRONMENT, **env},
                pass_fds=pass_fds,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.end()
        if error is not None:
            print(f"----- {self.name}\n{self.log}-----")

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._popen.pid

    @property
    def log(self) -> str:
        """All that it has said."""
        return self._log.read_text(errors="replace")

    @property
    def faults(self) -> list[str]:
        """What it has said that nobody wants to hear."""
        return self.said(FAULTS)

    def said(self, pattern: str) -> list[str]:
        """Of the lines that it has said, those in which this is found."""
        return [line for line in self.log.splitlines() if re.search(pattern, line)]

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Until it has said something in which this is found; it may have done so before."""
        until(lambda: self._popen.poll() is not None or re.search(pattern, self.log))
        match = re.search(pattern, self.log)
        assert match, f"{self.name} has ended, and not said {pattern!r}:\n{self.log}"
        return match

    def exit_code(self) -> int:
        """How it ends, negative if by a signal; waits for that."""
        return self._popen.wait(PATIENCE_S)

    def send_signal(self, number: int) -> None:
        """Send it a signal."""
        self._popen.send_signal(number)

    def ask_to_end(self) -> None:
        """Ask it to end in order; do not wait for that."""
        self.send_signal(signal.SIGTERM)

    def end(self) -> int:
        """Ask it to end, and see to it; its exit code."""
        self.ask_to_end()
        try:
            return self._popen.wait(ENDED_S)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            return self._popen.wait()


class Scheduler(Process):
    """``dask scheduler`` on free ports of 127.0.0.1; ``scheduler["tcp"]`` is an address of it."""

    def __init__(
        self,
        directory: Path,
        protocols: Sequence[str] = ("tcp", "cws"),
        *,
        env: Mapping[str, str] = {},
    ) -> None:
        command = [
            *(sys.executable, "-m", "dask", "scheduler", "--host", "127.0.0.1", "--no-dashboard"),
            *("--protocol", ",".join(protocols), "--port", ",".join("0" for _ in protocols)),
        ]
        super().__init__("scheduler", command, directory, env=env)

    def __getitem__(self, protocol: str) -> str:
        return self.wait_for(rf"Scheduler at: +({protocol}://\S+)")[1]

    def port(self, protocol: str) -> int:
        """Where it listens for this protocol."""
        return int(self[protocol].rpartition(":")[2])


def stock_worker(
    address: str,
    directory: Path,
    *,
    name: str = "stock",
    threads: int = 1,
    env: Mapping[str, str] = {},
) -> Process:
    """``dask worker`` without a nanny; it says ``Registered to:`` when the scheduler has it."""
    command = [
        *(sys.executable, "-m", "dask", "worker", address, "--no-nanny", "--no-dashboard"),
        *("--host", "127.0.0.1", "--nthreads", str(threads), "--name", name),
        *("--memory-limit", "0", "--local-directory", str(directory)),
    ]
    return Process(name, command, directory, env=env)


def until(condition: Callable[[], T]) -> T:
    """Wait for a condition that nobody announces; what it is then."""
    deadline = time.monotonic() + PATIENCE_S
    while not (met := condition()):
        assert time.monotonic() < deadline, "it does not come to pass"
        time.sleep(0.02)
    return met
