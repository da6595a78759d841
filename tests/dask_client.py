"""A client of a Dask scheduler: unmodified, and in a process of its own, which a test leads.

In the test's process, `Client` is a handle: `Client.run` calls a function there, with the real
client. Whole tests are called there if they are decorated with `by_client`. The functions of the
module that asks travel by value, with what they use of it: it need not be found there, and its
asserts are those that pytest has rewritten. What they raise comes back with its traceback.
"""

import functools
import importlib
import json
import pickle
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar

from dask_processes import PATIENCE_S, Process, until
from node_tasks import distributed

cloudpickle: Any = importlib.import_module("cloudpickle")
tracebacks: Any = importlib.import_module("tblib.pickling_support")

T = TypeVar("T")

RUN_S = 3 * PATIENCE_S
"""How long a function may take: longer than what it waits for itself, which says more."""

SERVE = "import dask_client; dask_client.serve()"


class Kept:
    """Stands for something that a client's process keeps; among arguments, it is that there."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __reduce__(self) -> Any:
        return _stands_for, (self._number,)


class Client(Process):
    """A process with a client, and the handle of both; among arguments, it is the client there.

    Args:
        address: Of the scheduler.
        directory: For its log.
        options: Of `distributed.Client`.

    Attributes:
        limit_s: How long a function may take there.
    """

    def __init__(self, address: str, directory: Path, **options: Any) -> None:
        self.limit_s: float | None = RUN_S
        self._connection, theirs = Pipe()
        fd = theirs.fileno()
        with theirs:
            command = [
                *(sys.executable, "-W", "error", "-X", "faulthandler", "-c", SERVE),
                *(str(fd), address, json.dumps(options)),
            ]
            super().__init__("client", command, directory, pass_fds=[fd])

    def __reduce__(self) -> Any:
        return _stands_for, (0,)

    def run(self, function: Callable[..., T], *arguments: Any, **named: Any) -> T:
        """What a function returns or raises that is called there, with the client first."""
        __tracebackhide__ = True
        result: T = self._ask(function, (self, *arguments), named, keep=False)
        return result

    def keep(self, function: Callable[..., Any], *arguments: Any, **named: Any) -> Kept:
        """Run a function, whose result stays there, until the client ends: futures, say."""
        __tracebackhide__ = True
        return Kept(self._ask(function, (self, *arguments), named, keep=True))

    def _ask(
        self, function: Any, arguments: tuple[Any, ...], named: Mapping[str, Any], *, keep: bool
    ) -> Any:
        __tracebackhide__ = True
        if function.__module__ != __name__:
            cloudpickle.register_pickle_by_value(sys.modules[function.__module__])
        try:
            self._connection.send_bytes(cloudpickle.dumps((function, arguments, named, keep)))
            if not self._connection.poll(self.limit_s):
                self.send_signal(signal.SIGABRT)  # so that it says where all its threads are
                raise EOFError
            answer = self._connection.recv_bytes()
        except (EOFError, OSError):
            raise AssertionError(
                f"no answer of {function.__name__}; exit code {self.exit_code()}:\n{self.log}"
            ) from None
        result, error = pickle.loads(answer)
        if error is not None:
            print(f"----- {self.name}\n{self.log}-----")
            raise error
        return result

    def ask_to_end(self) -> None:
        """Ask it to close the client, and to end then; do not wait for that."""
        self._connection.close()

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        super().__exit__(kind, error, traceback)
        code = self.exit_code()
        assert error is not None or code == 0, f"the client: exit code {code}\n{self.log}"


def by_client(test: Callable[..., None]) -> Callable[..., None]:
    """A test which all runs where its ``client`` is: a fixture that is a `Client`."""

    @functools.wraps(test)
    def run(client: Client, **fixtures: Any) -> None:
        __tracebackhide__ = True
        client.run(test, **fixtures)

    return run


# In the client's process

_kept: list[Any] = []
"""What handles stand for; the first is the client."""


def _stands_for(number: int) -> Any:
    return _kept[number]


def serve() -> None:
    """Do what is asked for, until who asks closes the connection."""
    fd, address, options = sys.argv[1:]
    with (
        Connection(int(fd)) as connection,
        distributed().Client(address, timeout=PATIENCE_S, **json.loads(options)) as client,
        suppress(EOFError),
    ):
        _kept.append(client)
        while True:
            connection.send_bytes(_answer(connection.recv_bytes()))


def _answer(request: bytes) -> bytes:
    try:
        function, arguments, named, keep = pickle.loads(request)
        result = function(*arguments, **named)
        if keep:
            _kept.append(result)
            result = len(_kept) - 1
        return bytes(cloudpickle.dumps((result, None)))
    except BaseException as error:  # noqa: BLE001 - who has asked raises it
        tracebacks.install(error)
        return bytes(cloudpickle.dumps((None, error)))


# What tests do with a client, in its process


def workers(client: Any) -> dict[Any, str]:
    """The addresses of all workers, by name."""
    return {worker["name"]: address for address, worker in worker_infos(client).items()}


def worker_infos(client: Any) -> dict[str, Any]:
    """What the scheduler knows of all workers, by address.

    Not by `Client.scheduler_info`: it returns what was fetched last, and that may be what a timer
    of the client fetches now and then, without the workers.
    """
    workers: dict[str, Any] = client.sync(client.scheduler.identity, n_workers=-1)["workers"]
    return workers


def wait_for_workers(client: Any, *names: str) -> None:
    """Until these, and no others, are there."""
    until(lambda: set(workers(client)) == set(names))


def result_of(future: Any) -> Any:
    """What a task returns or raises, in time."""
    return future.result(timeout=PATIENCE_S)


def results_of(client: Any, futures: Any, **how: Any) -> Any:
    """What tasks return, in time."""
    distributed().wait(futures, timeout=PATIENCE_S)
    return client.gather(futures, **how)
