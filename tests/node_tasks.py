"""What the tests of nodes have computed: functions that nodes, schedulers and clients import."""

import asyncio
import builtins
import importlib
import os
import pickle
import threading
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np


def distributed() -> Any:
    """Only processes of Dask's own import it, not that of the tests."""
    return importlib.import_module("distributed")


def inc(number: int) -> int:
    return number + 1


def total(*numbers: Any) -> Any:
    return sum(numbers)


def slow_inc(number: int, delay_s: float) -> int:
    time.sleep(delay_s)
    return number + 1


def noted(number: int, directory: str, delay_s: float = 0.0) -> int:
    """Notes each time that it runs."""
    with (Path(directory) / "notes").open("a") as file:  # a short line is written as a whole
        file.write(f"{number}\n")
    time.sleep(delay_s)
    return number


def note_order(number: int, file: str) -> None:
    with Path(file).open("a") as sink:
        sink.write(f"{number}\n")


def wait_for_file(file: str) -> str:
    while not Path(file).exists():
        time.sleep(0.01)
    return str(distributed().get_worker().name)


def fail_deeply(message: str) -> None:
    raise ValueError(message)


UNUSUAL = ("BaseException", "KeyboardInterrupt", "SystemExit", "GeneratorExit", "CancelledError")
"""What is raised now and then, and is no `Exception`."""


def fail_with(name: str) -> None:
    raise getattr(builtins, name, asyncio.CancelledError)


async def fail_later_with(name: str) -> None:
    await asyncio.sleep(0)
    fail_with(name)


def ones(nbytes: int) -> Any:
    return np.ones(nbytes // 8)


def length(array: Any) -> int:
    return int(array.sum())


def name_of_worker(*_: object) -> Any:
    return str(distributed().get_worker().name)


async def coroutine_task(number: int) -> int:
    await asyncio.sleep(0.01)
    return number + 1


def reschedule_once(file: str) -> Any:
    if not Path(file).exists():
        Path(file).touch()
        raise distributed().Reschedule
    return str(distributed().get_worker().name)


def secede_until(file: str) -> str:
    distributed().secede()
    return wait_for_file(file)


def secede_and_rejoin() -> str:
    distributed().secede()
    distributed().rejoin()
    return threading.current_thread().name


def with_worker_client(number: int) -> int:
    with distributed().worker_client() as client:
        return int(client.submit(inc, number).result(timeout=30))


def with_get_client(number: int) -> int:
    client = distributed().get_client()
    futures = client.map(inc, range(number))
    distributed().secede()
    return sum(list(client.gather(futures)))


class Unopenable:
    """Can be pickled, and opened by a scheduler, which has the file; not by a node."""


class NotPicklable:
    def __reduce__(self) -> Any:
        raise TypeError("this cannot be pickled")


def not_picklable() -> Any:
    return NotPicklable()


class BadError(Exception):
    """Nothing that is done with it works."""

    def __reduce__(self) -> Any:
        raise RuntimeError("no pickle")

    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    __str__ = __repr__


def fail_badly() -> None:
    raise BadError


def pid() -> int:
    return os.getpid()


def name_of(dask_worker: Any) -> Any:
    return dask_worker.name


def held_here(key: str, dask_worker: Any) -> Any:
    return dask_worker.data.get(key)


def scatter_inside(number: int) -> int:
    with distributed().worker_client() as client:
        (numbers,) = client.scatter([list(range(number))])
        return int(client.submit(sum, numbers).result(timeout=30))


def log_events() -> None:
    distributed().get_worker().log_event("node-tests", {"when": datetime(2026, 1, 1)})


class OpensInOneProcessOnly:
    """A function whose pickle only one process opens, and whoever made it."""

    def __init__(self, where: int) -> None:
        self._pids = (where, os.getpid())

    def __reduce__(self) -> Any:
        return _open_in, self._pids

    def __call__(self, number: int) -> int:
        return number


def _open_in(*pids: int) -> OpensInOneProcessOnly:
    if os.getpid() not in pids:
        raise RuntimeError("it cannot be opened, not in this process")
    return OpensInOneProcessOnly(pids[0])


KINDS: dict[str, Any] = {
    "none": None,
    "text": "ü" * 5000,
    "bytes": bytes(100_000),
    "list": [1, (2, {3}), {"four": 4.0}],
    "array": np.arange(12.0).reshape(3, 4),
    "slice": np.arange(1000)[::-7],
    "arrays": [np.ones(3), {"x": np.zeros((2, 2))}],
    "empty": np.empty((0, 3)),
}


def made(kind: str) -> Any:
    return KINDS[kind]


def kinds(*values: Any) -> list[str]:
    """Of values, which of the `KINDS` they are, in the order of them."""
    return [
        next(kind for kind, known in KINDS.items() if pickle.dumps(known) == pickle.dumps(value))
        for value in values
    ]


def smooth(block: Any) -> Any:
    return (block + np.roll(block, 1, 0) + np.roll(block, 1, 1)) / 3


def second_of(pair: tuple[str, int]) -> tuple[int, str]:
    return pair[1], pair[0]


def larger(one: int, other: int) -> int:
    return max(one, other)


def size_of_group(group: tuple[int, list[str]]) -> tuple[int, int]:
    return group[0], len(group[1])
