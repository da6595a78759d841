"""Ctrl-C in this process: anywhere in a worker's life, and in the coroutines that it runs."""

import signal
import sys
import threading
from typing import Any

import pytest
import trio
import trio.testing
from gates import Gate, interrupted_at_call, until, worker_threads

from trouper.runtime import Worker, open_worker
from trouper.runtime.invariants import check
from trouper.runtime.machine import Machine
from trouper.wire.instructions import Instruction
from trouper.wire.stimuli import ComputeTask, ExecuteSuccess, Stimulus


def same(value: Any) -> Any:
    return value


async def interrupted() -> None:
    """Hit by Ctrl-C, without which it would go on for ever."""
    signal.raise_signal(signal.SIGINT)
    while True:
        pass


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

            def interrupting(stimulus: Stimulus) -> list[Instruction]:
                if type(stimulus) is not kind or seen:
                    return handle(stimulus)
                fingerprint = machine.fingerprint()
                signal.raise_signal(signal.SIGINT)
                assert machine.fingerprint() == fingerprint
                seen.append("before")
                instructions = handle(stimulus)
                seen.append("after")
                return instructions

            machine.handle = interrupting  # type: ignore[method-assign]
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
    """Nothing is left of it when the event loop has ended."""
    check(worker.supervisor.machine)
    restored = Machine.from_snapshot(worker.supervisor.machine.snapshot())
    assert restored.fingerprint() == worker.supervisor.machine.fingerprint()
    assert worker_threads() == []
    assert not worker.supervisor.owed


def test_ctrl_c_in_the_nursery_of_a_coroutine_ends_the_block() -> None:
    async def work() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(interrupted)
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
            await interrupted()

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
    async def main() -> None:
        async with open_worker(threads=1) as worker:
            handle = worker.submit(interrupted)
            if awaited:
                await handle
            await trio.sleep_forever()

    with pytest.raises(KeyboardInterrupt):
        trio.run(main)
    assert worker_threads() == []


def test_ctrl_c_in_a_coroutine_while_the_block_is_being_left() -> None:
    async def main() -> None:
        async with open_worker(threads=1) as worker:
            worker.submit(interrupted)
            worker.submit(trio.sleep_forever)

    with pytest.raises(KeyboardInterrupt):
        trio.run(main)
    assert worker_threads() == []


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
