"""What the tests of nodes have computed: functions that nodes, schedulers and clients import."""

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from distributed import Reschedule, get_client, get_worker, rejoin, secede, worker_client


def inc(number: int) -> int:
    return number + 1


def total(*numbers: Any) -> Any:
    return sum(numbers)


def slow_inc(number: int, delay_s: float) -> int:
    time.sleep(delay_s)
    return number + 1


def noted(number: int, directory: str, delay_s: float = 0.0) -> int:
    """Leaves a line for each time that it runs."""
    with (Path(directory) / f"{number}.ran").open("a") as file:
        file.write("ran\n")
    time.sleep(delay_s)
    return number


def note_order(number: int, file: str) -> None:
    with Path(file).open("a") as sink:
        sink.write(f"{number}\n")


def wait_for_file(file: str) -> str:
    while not Path(file).exists():
        time.sleep(0.01)
    return str(get_worker().name)


def fail_deeply(message: str) -> None:
    raise ValueError(message)


def ones(nbytes: int) -> Any:
    return np.ones(nbytes // 8)


def length(array: Any) -> int:
    return int(array.sum())


def name_of_worker(*_: object) -> Any:
    return str(get_worker().name)


async def coroutine_task(number: int) -> int:
    await asyncio.sleep(0.01)
    return number + 1


def reschedule_once(file: str) -> Any:
    if not Path(file).exists():
        Path(file).touch()
        raise Reschedule
    return str(get_worker().name)


def secede_until(file: str) -> str:
    secede()
    return wait_for_file(file)


def secede_and_rejoin() -> str:
    secede()
    rejoin()
    return threading.current_thread().name


def with_worker_client(number: int) -> int:
    with worker_client() as client:
        return int(client.submit(inc, number).result(timeout=30))


def with_get_client(number: int) -> int:
    client = get_client()
    futures = client.map(inc, range(number))
    secede()
    return sum(client.gather(futures))


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


class Counter:
    """For Dask's actors."""

    n = 0

    def increment(self) -> int:
        self.n += 1
        return self.n
