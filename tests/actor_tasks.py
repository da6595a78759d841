"""Dask's actors, and tasks that call them, which nodes and stock workers import."""

import asyncio
import threading
from pathlib import Path
from typing import Any

from node_tasks import distributed


class Counter:
    """Counts, and notes its end in a file if there is one."""

    n = 0  # proxies look for attributes in the class

    def __init__(self, begin: int = 0, file: str = "") -> None:
        self.n = begin
        self._file = file
        self._may_go_on = asyncio.Event()

    def __del__(self) -> None:
        if self._file:
            Path(self._file).touch()

    def add(self, number: int = 1) -> int:
        self.n += number
        return self.n

    async def wait(self) -> int:
        await self._may_go_on.wait()
        return self.n

    async def go_on(self) -> None:
        self._may_go_on.set()

    def where(self) -> tuple[Any, int]:
        return distributed().get_worker().name, threading.get_ident()

    def fail(self, kind: type[BaseException]) -> None:
        raise kind("an actor has enough")

    def as_lambda(self) -> Any:
        return lambda: self.n

    def lock(self) -> Any:
        return threading.Lock()


class Asker:
    """Calls another actor."""

    def __init__(self, counter: Any) -> None:
        self.counter = counter

    def ask(self) -> int:
        return int(self.counter.add(1).result())


def add_to(counter: Any, number: int) -> int:
    return int(counter.add(number).result())


async def add_in_coroutine(counter: Any, number: int) -> int:
    return int(await counter.add(number))
