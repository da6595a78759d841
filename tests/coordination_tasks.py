"""Tasks that wait for one another, which nodes and stock workers import: see `node_tasks`."""

import asyncio
import time
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from node_tasks import distributed, inc

LOCKED_S = 0.02


@contextmanager
def noted(file: str) -> Generator[None]:
    """Notes when it begins and when it ends."""
    with Path(file).open("a") as sink:
        sink.write("+")
    yield
    with Path(file).open("a") as sink:
        sink.write("-")


def most_at_once(notes: str) -> int:
    """How many have been between begin and end together."""
    depth = most = 0
    for note in notes:
        depth += 1 if note == "+" else -1
        most = max(most, depth)
    return most


def while_it_holds(lock: Any, file: str, _: int) -> str:
    with lock, noted(file):
        time.sleep(LOCKED_S)
    return str(distributed().get_worker().name)


def with_named_lock(name: str, file: str, number: int) -> str:
    return while_it_holds(distributed().Lock(name), file, number)


def with_locks(names: Iterable[str], file: str, number: int) -> str:
    return while_it_holds(distributed().MultiLock(list(names)), file, number)


async def with_named_lock_in_coroutine(name: str, file: str, _: int) -> str:
    async with distributed().Lock(name):
        with noted(file):
            await asyncio.sleep(LOCKED_S)
    return str(distributed().get_worker().name)


def pass_on(incoming: Any, outgoing: Any) -> None:
    outgoing.put(incoming.get(timeout=30) + 1)


def set_when_set(first: Any, second: Any) -> bool:
    arrived = bool(first.wait(timeout=30))
    second.set()
    return arrived


def add_to_variable(name: str, number: int) -> int:
    variable = distributed().Variable(name)
    variable.set(variable.get(timeout=30) + number)
    return int(variable.get(timeout=30))


async def sum_of_tasks(numbers: int) -> int:
    """Awaits what it has submitted itself."""
    client = distributed().get_client()
    futures = client.map(inc, range(numbers))
    gathered: list[int] = await client.gather(futures)
    return sum(gathered) + int(await client.submit(inc, 1))


async def meet(name: str, number: int) -> Any:
    """Two that run at once, in whatever threads, wait for each other."""
    event = distributed().Event(f"{name}-{number}")
    await event.set()
    await distributed().Event(f"{name}-{1 - number}").wait(timeout=30)
    return distributed().get_worker().get_current_task()


def status_of(dask_worker: Any) -> Any:
    return dask_worker.status


async def client_id(dask_worker: Any) -> Any:
    return (await dask_worker.client).id


def client_closed_by_a_task() -> int:
    with distributed().get_client() as client:
        return int(client.submit(inc, 1).result(timeout=30))
