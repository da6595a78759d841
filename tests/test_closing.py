"""How a worker's block is left: at the end, by an exception, by a cancellation, by Ctrl-C."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from gates import AsyncGate, Gate, interrupted_at_call, until, worker_threads

from trouper.runtime import (
    ResourceError,
    TaskCancelled,
    TaskHandle,
    Worker,
    WorkerClosed,
    check_cancelled,
    open_worker,
)
from trouper.runtime.invariants import check
from trouper.runtime.machine import Machine
from trouper.wire.instructions import Instruction
from trouper.wire.stimuli import ComputeTask, ExecuteSuccess, Stimulus


def same(value: Any) -> Any:
    return value


def assert_closed(worker: Worker | None) -> None:
    """Nothing is left of it, and nothing more can be begun."""
    assert worker is not None
    assert worker.status().state == "closed"
    assert not worker.supervisor.owed
    assert worker.status().slots["thread"].used == 0
    assert worker_threads() == []
    check(worker.supervisor.machine)
    with pytest.raises(WorkerClosed):
        worker.submit(same, 1)


# At the end of the block


async def test_leaving_waits_for_what_was_submitted() -> None:
    done: list[int] = []
    gate = Gate()

    async def later(_: object) -> None:
        await trio.sleep(0.01)
        done.append(2)

    async with open_worker(threads=1) as worker:
        first = worker.submit(gate)
        worker.submit(done.append, 1)
        worker.submit(later, first)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(gate.entered.wait)
        gate.let_go()
    assert sorted(done) == [1, 2]
    assert_closed(worker)


async def test_leaving_waits_for_tasks_that_tasks_have_submitted() -> None:
    done: list[int] = []

    async def work(depth: int) -> None:
        if depth:
            worker.submit(work, depth - 1)  # while the block is being left
        else:
            done.append(1)

    async with open_worker(threads=1) as worker:
        worker.submit(work, 10)
    assert done == [1]


async def test_results_can_be_had_after_the_block() -> None:
    async with open_worker(threads=1) as worker:
        value = worker.submit(same, 5)
        error = worker.submit(int, "x")
    assert await value == 5
    with pytest.raises(ValueError, match="invalid literal"):
        await error
    del value, error
    await trio.testing.wait_all_tasks_blocked()


async def test_empty_block() -> None:
    async with open_worker(threads=2) as worker:
        pass
    assert_closed(worker)


async def test_several_workers_inside_each_other() -> None:
    async with open_worker(threads=1, name="one") as one, open_worker(threads=1, name="two") as two:
        assert await one.run(same, 1) == await two.run(same, 1)
        assert one.name == "one"
        assert two.status().name == "two"
    assert_closed(one)
    assert_closed(two)


# By an exception, by a cancellation


class Boom(Exception):
    pass


@pytest.mark.parametrize("error", [Boom(), KeyboardInterrupt(), SystemExit(1)])
async def test_an_exception_cancels_what_runs_and_leaves_as_itself(error: BaseException) -> None:
    worker: Worker | None = None
    gate = AsyncGate()
    handles: list[TaskHandle[Any]] = []
    with pytest.raises(type(error)) as caught:
        async with open_worker(threads=1) as worker:
            handles.append(worker.submit(gate))
            handles.append(worker.submit(same, handles[0]))
            await gate.entered.wait()
            raise error
    assert caught.value is error
    assert error.__context__ is None
    assert gate.cancelled
    for handle in handles:
        with pytest.raises(TaskCancelled):
            await handle
    assert_closed(worker)


async def test_an_exception_waits_for_threads_and_asks_them_to_stop() -> None:
    worker: Worker | None = None
    begun = trio.Event()
    token = trio.lowlevel.current_trio_token()
    stopped: list[int] = []

    def work() -> None:
        trio.from_thread.run_sync(begun.set, trio_token=token)
        try:
            while True:
                check_cancelled()
        finally:
            stopped.append(1)

    with pytest.raises(Boom):
        async with open_worker(threads=1) as worker:
            worker.submit(work)
            await begun.wait()
            raise Boom
    assert stopped == [1]
    assert_closed(worker)


async def test_closing_says_which_tasks_it_waits_for(caplog: pytest.LogCaptureFixture) -> None:
    gate = Gate()
    with pytest.raises(Boom):
        async with open_worker(threads=1, name="w") as worker:

            async def let_go() -> None:
                await until(lambda: caplog.records)
                gate.let_go()

            worker.submit(gate, key=("k", 1))
            await gate.entered.wait()
            trio.lowlevel.spawn_system_task(let_go)
            raise Boom
    (record,) = caplog.records
    assert record.getMessage() == (
        "worker w is closing and waits for 1 task(s) that do not stop: ('k', 1); "
        "Ctrl-C leaves without waiting"
    )


async def test_a_group_leaves_as_that_very_group() -> None:
    with pytest.raises(ExceptionGroup) as caught:
        async with open_worker(threads=1), trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            raise Boom
    assert [type(error) for error in caught.value.exceptions] == [Boom]


async def test_a_cancellation_from_outside_is_absorbed_by_its_own_scope() -> None:
    worker: Worker | None = None
    gate = AsyncGate()
    with trio.CancelScope() as outer:
        with trio.CancelScope() as scope:
            async with open_worker(threads=1) as worker:
                worker.submit(gate)
                await gate.entered.wait()
                scope.cancel()
                await trio.sleep_forever()
        assert scope.cancelled_caught
        assert gate.cancelled
        assert_closed(worker)
        await trio.lowlevel.checkpoint()
    assert not outer.cancelled_caught


async def test_a_cancellation_while_leaving_waits() -> None:
    worker: Worker | None = None
    gate = AsyncGate()
    with trio.CancelScope() as scope:
        async with open_worker(threads=1) as worker:
            worker.submit(gate)
            worker.submit(trio.sleep_forever)
            trio.lowlevel.spawn_system_task(cancel_once, gate, scope)
    assert scope.cancelled_caught
    assert gate.cancelled
    assert_closed(worker)


async def cancel_once(gate: AsyncGate, scope: trio.CancelScope) -> None:
    await gate.entered.wait()
    await trio.testing.wait_all_tasks_blocked()
    scope.cancel()


async def test_tasks_go_on_cleaning_up_under_a_cancellation_from_outside() -> None:
    worker: Worker | None = None
    # Also a second one, that comes while the first is being answered.
    cleaned: list[int] = []

    async def work() -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                scope.cancel()
                await trio.sleep(0.01)
            cleaned.append(1)

    with trio.move_on_after(0.01) as scope:
        async with open_worker(threads=1) as worker:
            worker.submit(work)
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert cleaned == [1]
    assert_closed(worker)


async def test_submitting_while_it_closes() -> None:
    refused: list[BaseException] = []

    async def work() -> None:
        try:
            await trio.sleep_forever()
        finally:
            try:
                worker.submit(same, 1)
            except WorkerClosed as error:
                refused.append(error)

    with pytest.raises(Boom):
        async with open_worker(threads=1) as worker:
            handle = worker.submit(work)
            await until(lambda: handle.phase == "executing")
            await trio.testing.wait_all_tasks_blocked()
            raise Boom
    assert len(refused) == 1


# Opening


@pytest.mark.parametrize("wrong", [{"threads": 0}, {"threads": -1}, {"coroutines": 0}])
def test_numbers_that_are_not_positive(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least one"):
        open_worker(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("amount", [0, -1, float("nan"), float("inf")])
def test_resources_that_are_not_positive(amount: float) -> None:
    with pytest.raises(ResourceError, match="gpu"):
        open_worker(resources={"gpu": amount})


async def test_as_many_threads_as_cpus_and_names_of_their_own() -> None:
    async with open_worker() as one, open_worker() as two:
        assert one.status().slots["thread"].total == os.cpu_count()
        assert one.name != two.name
        assert len(worker_threads()) == 2 * (os.cpu_count() or 1)


async def test_no_thread_is_left_if_there_cannot_be_as_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start = threading.Thread.start
    count = 0

    def start_some(thread: threading.Thread) -> None:
        nonlocal count
        count += 1
        if count == 3:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_some)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        async with open_worker(threads=5):
            pass
    assert worker_threads() == []


# Ctrl-C, in this process


async def scenario() -> None:
    async with open_worker(threads=1) as worker:
        a = worker.submit(same, 1)
        b = worker.submit(same, [a])

        async def coroutine(value: object) -> object:
            await trio.lowlevel.checkpoint()
            return value

        assert await worker.run(coroutine, b) == [1]
        b.release()
        worker.submit(trio.sleep_forever).cancel()
        with pytest.raises(ValueError, match="invalid literal"):
            await worker.run(int, "x")
        worker.submit(same, 1)


@pytest.mark.skipif(sys.gettrace() is not None, reason="somebody else traces")
def test_ctrl_c_at_every_so_many_calls() -> None:
    n = 0
    while interrupted_at_call(scenario, n):
        n += 1 + n // 40
    assert n > 200


def test_ctrl_c_while_the_machine_is_in_the_middle_of_a_stimulus() -> None:
    workers: list[Worker] = []
    seen: list[str] = []

    async def main(kind: type[Stimulus]) -> None:
        async with open_worker(threads=1) as worker:
            workers.append(worker)
            machine = worker.supervisor.machine
            handle = machine.handle

            def interrupted(stimulus: Stimulus) -> list[Instruction]:
                if type(stimulus) is not kind or seen:
                    return handle(stimulus)
                fingerprint = machine.fingerprint()
                signal.raise_signal(signal.SIGINT)
                assert machine.fingerprint() == fingerprint
                seen.append("before")
                instructions = handle(stimulus)
                seen.append("after")
                return instructions

            machine.handle = interrupted  # type: ignore[method-assign]
            task = worker.submit(same, worker.submit(same, 1))
            with trio.fail_after(10):
                await task
                await trio.sleep_forever()

    for kind in (ComputeTask, ExecuteSuccess):
        seen.clear()
        with pytest.raises(KeyboardInterrupt):
            trio.run(main, kind)
        assert seen == ["before", "after"]
        worker = workers.pop()
        assert_closed_outside(worker)


def assert_closed_outside(worker: Worker) -> None:
    """The same as `assert_closed`, when the event loop has ended."""
    check(worker.supervisor.machine)
    restored = Machine.from_snapshot(worker.supervisor.machine.snapshot())
    assert restored.fingerprint() == worker.supervisor.machine.fingerprint()
    assert worker_threads() == []
    assert not worker.supervisor.owed


def test_ctrl_c_in_the_nursery_of_a_coroutine_ends_the_block() -> None:
    async def child() -> None:
        signal.raise_signal(signal.SIGINT)
        while True:
            pass

    async def work() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child)
            nursery.start_soon(trio.sleep_forever)

    async def main() -> None:
        async with open_worker(threads=1) as worker:
            worker.submit(work)
            await trio.sleep_forever()

    with pytest.raises(KeyboardInterrupt) as caught:
        trio.run(main)
    assert isinstance(caught.value.__cause__, BaseExceptionGroup)


def test_ctrl_c_in_a_coroutine_that_was_cancelled_is_not_lost() -> None:
    async def work() -> None:
        try:
            await trio.sleep_forever()
        finally:
            signal.raise_signal(signal.SIGINT)
            while True:
                pass

    async def main() -> None:
        async with open_worker(threads=1) as worker:
            handle = worker.submit(work)
            await until(lambda: handle.phase == "executing")
            await trio.testing.wait_all_tasks_blocked()
            handle.cancel()
            with trio.fail_after(10):
                await trio.sleep_forever()

    with pytest.raises(KeyboardInterrupt):
        trio.run(main)


@pytest.mark.parametrize("awaited", [True, False])
def test_ctrl_c_in_a_coroutine_ends_the_block(awaited: bool) -> None:
    async def work() -> None:
        signal.raise_signal(signal.SIGINT)
        while True:
            pass

    async def main() -> None:
        async with open_worker(threads=1) as worker:
            handle = worker.submit(work)
            if awaited:
                await handle
            await trio.sleep_forever()

    with pytest.raises(KeyboardInterrupt):
        trio.run(main)
    assert worker_threads() == []


def test_ctrl_c_in_a_coroutine_while_the_block_is_being_left() -> None:
    async def work() -> None:
        signal.raise_signal(signal.SIGINT)
        while True:
            pass

    async def main() -> None:
        async with open_worker(threads=1) as worker:
            worker.submit(work)
            worker.submit(trio.sleep_forever)

    with pytest.raises(KeyboardInterrupt):
        trio.run(main)
    assert worker_threads() == []


# Ctrl-C, in a process of its own


PROGRAM = """
import sys, threading, time
import trio
from trouper.runtime import open_worker, check_cancelled

def say(word):
    sys.stdout.write(word + "\\n")  # at once, so that two threads' words do not mix
    sys.stdout.flush()

def hang():
    say("ready")
    threading.Event().wait()

def polite():
    say("ready")
    while True:
        check_cancelled()
        time.sleep(0.001)

async def burn():
    say("ready")
    while True:
        pass

async def wait():
    try:
        say("ready")
        await trio.sleep_forever()
    finally:
        say("cleaned up")

async def main():
    try:
        async with open_worker(threads=2) as worker:
            {body}
    finally:
        say("left")

try:
    trio.run(main)
except KeyboardInterrupt:
    say("KeyboardInterrupt")
for thread in threading.enumerate():
    if "-thread-" in thread.name:
        thread.join(0.3)  # it may be about to end
threads = [thread for thread in threading.enumerate() if "-thread-" in thread.name]
say(f"{{len(threads)}} threads")
"""


class Child:
    """A program that is sent Ctrl-C."""

    def __init__(self, body: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-u", "-c", PROGRAM.format(body=body)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parent,
        )
        self._guard = threading.Timer(20, self._process.kill)
        self._guard.start()

    def expect(self, line: str) -> None:
        """Wait for what it says next."""
        assert self._process.stdout is not None
        said = self._process.stdout.readline().strip()
        assert said == line, f"{said!r}, and not {line!r}: {self._said_wrong() if not said else ''}"

    def expect_complaint(self, words: str) -> None:
        """Wait for a line in its log."""
        assert self._process.stderr is not None
        while words not in (line := self._process.stderr.readline()):
            assert line, f"it has not said {words!r}"

    def _said_wrong(self) -> str:
        assert self._process.stderr is not None
        return self._process.stderr.read()

    def interrupt(self) -> None:
        self._process.send_signal(signal.SIGINT)

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *_: object) -> None:
        self._guard.cancel()
        self._process.kill()
        self._process.communicate()

    def end(self, *lines: str) -> None:
        """It ends after these lines, and makes no noise."""
        for line in lines:
            self.expect(line)
        out, noise = self._process.communicate()
        assert (out, noise) == ("", "")
        assert self._process.returncode == 0


BODIES: dict[str, tuple[str, tuple[str, ...]]] = {
    "the body awaits a coroutine": ("await worker.submit(wait)", ("cleaned up",)),
    "the body awaits a thread": ("await worker.submit(polite)", ()),
    "the body awaits something else": (
        "worker.submit(wait); await trio.sleep_forever()",
        ("cleaned up",),
    ),
    "a coroutine uses the CPU, and is awaited": ("await worker.submit(burn)", ()),
    "a coroutine uses the CPU, and nobody awaits it": (
        "worker.submit(burn); await trio.sleep_forever()",
        (),
    ),
    "the block is being left": ("worker.submit(wait)", ("cleaned up",)),
    "the block is being left, and a thread runs": ("worker.submit(polite)", ()),
    "the body uses the CPU": ("say('ready')\n            while True: pass", ()),
}


@pytest.mark.parametrize("when", BODIES)
def test_ctrl_c_while(when: str) -> None:
    body, said = BODIES[when]
    with Child(body) as child:
        child.expect("ready")
        child.interrupt()
        child.end(*said, "left", "KeyboardInterrupt", "0 threads")


@pytest.mark.parametrize(
    "body",
    [
        "await worker.submit(hang)",
        "worker.submit(hang)",
        "worker.submit(hang); await trio.sleep_forever()",
    ],
)
def test_second_ctrl_c_leaves_without_a_thread_that_hangs(body: str) -> None:
    with Child(body) as child:
        child.expect("ready")
        child.interrupt()
        child.expect_complaint("waits for 1 task(s) that do not stop: 'hang-1'")
        child.interrupt()
        child.end("left", "KeyboardInterrupt", "1 threads")


def test_second_ctrl_c_lets_coroutines_clean_up() -> None:
    body = "worker.submit(wait); worker.submit(hang); await trio.sleep_forever()"
    with Child(body) as child:
        child.expect("ready")
        child.expect("ready")
        child.interrupt()
        child.expect("cleaned up")
        child.expect_complaint("waits for 1 task(s) that do not stop: 'hang-2'")
        child.interrupt()
        child.end("left", "KeyboardInterrupt", "1 threads")


Handler = Callable[[int, Any], Any]


def test_worker_outside_of_the_main_thread_leaves_signals_alone() -> None:
    before = signal.getsignal(signal.SIGINT)

    async def main() -> None:
        gate = Gate()
        async with open_worker(threads=1) as worker:
            handle = worker.submit(gate)
            await gate.entered.wait()
            handle.cancel()
            worker.submit(gate.let_go)
            gate.let_go()

    thread = threading.Thread(target=trio.run, args=(main,))
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    assert signal.getsignal(signal.SIGINT) is before
