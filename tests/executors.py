"""What tests of `WorkerExecutor` share: functions for its tasks, which run in threads."""

import threading
from typing import Any

from trouper.runtime import WorkerExecutor, WorkerFuture

PATIENCE_S = 20.0
"""How long a test waits for something that happens at once."""


class Gate:
    """A function that blocks until it is let go, and says that it has begun."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.open = threading.Event()

    def __call__(self, value: Any = None) -> Any:
        self.begun.set()
        assert self.open.wait(PATIENCE_S)
        return value

    def shut(self, executor: WorkerExecutor) -> "WorkerFuture[Any]":
        """Occupy a thread."""
        future = executor.submit(self)
        assert self.begun.wait(PATIENCE_S)
        return future


def fail(error: BaseException) -> None:
    raise error
