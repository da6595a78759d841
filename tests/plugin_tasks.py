"""Worker plugins, and tasks that need them, which nodes import: see `node_tasks`."""

import importlib
from pathlib import Path
from typing import Any

from node_tasks import distributed


def _note(worker: Any, directory: str, what: str) -> None:
    with (Path(directory) / str(worker.name)).open("a") as sink:
        sink.write(f"{what} ")


class Noted(distributed().WorkerPlugin):  # type: ignore[misc]
    """Notes what happens to it in a file of the worker's name."""

    def __init__(self, directory: str, number: int) -> None:
        self.directory = directory
        self.number = number

    def setup(self, worker: Any) -> None:
        _note(worker, self.directory, f"+{self.number}")

    async def teardown(self, worker: Any) -> None:
        _note(worker, self.directory, f"-{self.number}")


class Quits(distributed().WorkerPlugin):  # type: ignore[misc]
    def setup(self, worker: Any) -> None:
        raise SystemExit("a plugin wants to go")


class WantsTransitions(distributed().WorkerPlugin):  # type: ignore[misc]
    def transition(self, *args: Any, **kwargs: Any) -> None:
        raise AssertionError("it is told of none")


def number_in(module: str) -> int:
    """What a module says that is only there if it was uploaded."""
    return int(importlib.import_module(module).NUMBER)


def text_of_file(name: str) -> str:
    return Path(distributed().get_worker().local_directory, name).read_text()


def length_of_file(name: str) -> int:
    return Path(distributed().get_worker().local_directory, name).stat().st_size
