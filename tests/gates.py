"""What tests of the embedded worker share: functions that wait to be let go, and sweeps.

A sweep runs a scenario again and again and disturbs it at another point each time, until it gets
through undisturbed. What must hold whatever the point, it verifies: the run ends, no thread of a
worker is left, and what comes out of it is what was put in.
"""

import gc
import signal
import sys
import threading
from collections.abc import Awaitable, Callable
from types import FrameType
from typing import Any

import trio

from trouper.runtime import Worker
from trouper.runtime.invariants import check

PATIENCE_S = 10.0
"""No test waits longer than this for what has to happen."""


class Gate:
    """A plain function that stands still in its thread until it is let go.

    Args:
        result: What it returns; an exception is raised instead.
    """

    def __init__(self, result: object = None) -> None:
        self.entered = trio.Event()
        self._token = trio.lowlevel.current_trio_token()
        self._open = threading.Event()
        self._result = result

    def __call__(self, *_: object) -> Any:
        trio.from_thread.run_sync(self.entered.set, trio_token=self._token)
        assert self._open.wait(PATIENCE_S), "nobody let it go"
        if isinstance(self._result, BaseException):
            raise self._result
        return self._result

    def let_go(self) -> None:
        """Let it return, at whatever time it is called."""
        self._open.set()


class AsyncGate:
    """The same as a coroutine function."""

    def __init__(self, result: object = None) -> None:
        self.entered = trio.Event()
        self.let_go_event = trio.Event()
        self.cancelled = False
        self._result = result

    async def __call__(self, *_: object) -> Any:
        self.entered.set()
        try:
            await self.let_go_event.wait()
        except trio.Cancelled:
            self.cancelled = True
            raise
        return self._result

    def let_go(self) -> None:
        """Let it return."""
        self.let_go_event.set()


async def until(condition: Callable[[], object]) -> None:
    """Wait for a condition that nobody announces."""
    with trio.fail_after(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - nobody would set the event
            await trio.sleep(0.001)


async def until_empty(worker: Worker) -> None:
    """Wait until a worker holds nothing any more; who still holds a handle waits in vain."""
    with trio.fail_after(PATIENCE_S):
        while (
            worker.supervisor.machine.ledger.tasks
            or worker.supervisor.owed
            or len(worker.supervisor.store)
        ):
            gc.collect()  # again and again: some are known to a frame that has yet to move on
            await trio.sleep(0.001)
    check(worker.supervisor.machine)


def worker_threads() -> list[str]:
    """The names of threads of any worker."""
    return [thread.name for thread in threading.enumerate() if "-thread-" in thread.name]


class AtStep(trio.abc.Instrument):
    """Does something before the n-th step that any task makes."""

    def __init__(self, n: int, action: Callable[[], object]) -> None:
        self.left = n
        self._action = action

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if self.left == 0:
            self._action()
        self.left -= 1

    @property
    def fired(self) -> bool:
        """Whether there were so many steps."""
        return self.left < 0


def cancelled_at_every_step(scenario: Callable[[], Awaitable[None]]) -> int:
    """Run a scenario and cancel it from outside before its n-th step, for every n.

    Returns:
        How many steps there were.
    """

    async def main(n: int) -> bool:
        scope = trio.CancelScope()
        instrument = AtStep(n, scope.cancel)
        with trio.fail_after(PATIENCE_S), scope:
            trio.lowlevel.add_instrument(instrument)
            try:
                await scenario()
            finally:
                trio.lowlevel.remove_instrument(instrument)
        return instrument.fired

    n = 0
    while trio.run(main, n):
        assert worker_threads() == [], f"cancelled before step {n}"
        n += 1
        assert n < 10_000, "the scenario does not end"
    return n


def interrupted_at_call(scenario: Callable[[], Awaitable[None]], n: int) -> bool:
    """Run a scenario and send it Ctrl-C at the n-th call of a function of trouper.

    Returns:
        Whether there were so many calls.
    """
    left = n

    def on_call(frame: FrameType, what: str, _: object) -> None:
        nonlocal left
        name = frame.f_globals.get("__name__", "")
        if what == "call" and isinstance(name, str) and name.startswith("trouper."):
            left -= 1
            if left == -1:
                signal.raise_signal(signal.SIGINT)

    async def main() -> None:
        with trio.fail_after(PATIENCE_S):
            sys.settrace(on_call)
            try:
                await scenario()
            finally:
                sys.settrace(None)

    try:
        trio.run(main)
    except KeyboardInterrupt:
        assert left < 0
    else:
        assert left >= 0, "Ctrl-C was lost"
    assert worker_threads() == [], f"interrupted at call {n}"
    return left < 0
