"""Real Dask processes on this machine: schedulers, stock workers and clients, for tests.

Each is a context manager that gives a process which is ready, and ends it for certain. If the block
fails, all that the process has said is printed.
"""

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager

READY_S = 60.0
"""How long a process may take to be ready, on a machine with a lot to do."""

ENDED_S = 15.0
"""How long it may take to end when it is asked to; then it is killed."""

FAULTS = ("Traceback (most recent call last)", "was destroyed but", "was never retrieved")
"""What a process says of which its test has to be told."""


class Process:
    """A process, and what it has said so far, on both its channels."""

    def __init__(self, name: str, command: Sequence[str], env: Mapping[str, str] | None) -> None:
        self.name = name
        self.lines: list[str] = []
        self._popen = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env={**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})},
        )
        self._said = threading.Condition()
        self._ended = False
        self._reader = threading.Thread(target=self._read, name=f"log of {name}", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._popen.pid

    @property
    def log(self) -> str:
        """All that it has said."""
        return "".join(self.lines)

    @property
    def faults(self) -> list[str]:
        """What it has said that nobody wants to hear."""
        return [line for line in self.lines if any(fault in line for fault in FAULTS)]

    def wait_for(self, pattern: str, *, timeout_s: float = READY_S) -> re.Match[str]:
        """Until it has said something that this is found in; it may have done so before."""
        deadline = time.monotonic() + timeout_s
        with self._said:
            seen = 0
            while True:
                for line in self.lines[seen:]:
                    if match := re.search(pattern, line):
                        return match
                seen = len(self.lines)
                left = deadline - time.monotonic()
                if self._ended or left <= 0:
                    raise AssertionError(f"{self.name} has not said {pattern!r}")
                self._said.wait(left)

    def wait(self, timeout_s: float) -> int:
        """Until it has ended by itself; its exit code, negative if a signal has ended it."""
        code = self._popen.wait(timeout_s)
        self._reader.join(ENDED_S)
        return code

    def send_signal(self, number: int) -> None:
        """Send it a signal."""
        self._popen.send_signal(number)

    def end(self) -> int:
        """Ask it to end, and see to it; its exit code."""
        if self._popen.poll() is None:
            self._popen.terminate()
            try:
                self._popen.wait(ENDED_S)
            except subprocess.TimeoutExpired:
                self._popen.kill()
        code = self._popen.wait()
        self._reader.join(ENDED_S)
        return code

    def _read(self) -> None:
        assert self._popen.stdout is not None
        with self._popen.stdout as said:
            for line in said:
                with self._said:
                    self.lines.append(line)
                    self._said.notify_all()
        with self._said:
            self._ended = True
            self._said.notify_all()


@contextmanager
def process(
    name: str, command: Sequence[str], *, env: Mapping[str, str] | None = None
) -> Generator[Process]:
    """Any process, for the length of a ``with`` block."""
    one = Process(name, command, env)
    try:
        yield one
    except BaseException:
        one.end()
        print(f"----- {name}\n{one.log}-----")
        raise
    finally:
        one.end()


class Scheduler:
    """A scheduler that is ready: its address for each protocol, and its process."""

    def __init__(self, process: Process, addresses: dict[str, str]) -> None:
        self.process = process
        self.addresses = addresses

    def __getitem__(self, protocol: str) -> str:
        return self.addresses[protocol]

    def port(self, protocol: str) -> int:
        """Where it listens for this protocol."""
        return int(self.addresses[protocol].rpartition(":")[2])


@contextmanager
def scheduler(
    protocols: Sequence[str] = ("tcp", "cws"),
    *,
    options: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
) -> Generator[Scheduler]:
    """``dask scheduler`` on free ports of 127.0.0.1."""
    command = [
        *(sys.executable, "-m", "dask", "scheduler", "--host", "127.0.0.1", "--no-dashboard"),
        *("--protocol", ",".join(protocols), "--port", ",".join("0" for _ in protocols)),
        *options,
    ]
    with process("the scheduler", command, env=env) as one:
        addresses = {
            protocol: one.wait_for(rf"Scheduler at: +({protocol}://\S+)")[1]
            for protocol in protocols
        }
        yield Scheduler(one, addresses)


@contextmanager
def stock_worker(
    address: str,
    *,
    name: str = "stock",
    threads: int = 1,
    options: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
) -> Generator[Process]:
    """``dask worker`` without a nanny, registered with the scheduler at this address."""
    command = [
        *(sys.executable, "-m", "dask", "worker", address, "--no-nanny", "--no-dashboard"),
        *("--host", "127.0.0.1", "--nthreads", str(threads), "--name", name, *options),
    ]
    with process(f"worker {name}", command, env=env) as one:
        one.wait_for("Registered to:")
        yield one


def run_client(
    script: str,
    *arguments: str,
    env: Mapping[str, str] | None = None,
    timeout_s: float = READY_S,
) -> str:
    """What a script says that uses `distributed.Client`; it finds its arguments in ``sys.argv``."""
    with process("the client", [sys.executable, "-c", script, *arguments], env=env) as one:
        code = one.wait(timeout_s)
        assert code == 0, f"the client has ended with exit code {code}"
        return one.log
