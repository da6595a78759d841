"""What a worker says of itself and of its tasks."""

from typing import Any

from gates import Gate

from trouper.runtime import open_worker


def same(value: Any) -> Any:
    return value


async def test_the_phases_of_a_task() -> None:
    async with open_worker(threads=1) as worker:
        gate, other = Gate(1), Gate(2)
        a = worker.submit(gate, key="a")
        assert a.phase == "waiting"  # the machine has not heard of it
        b = worker.submit(other, a, key="b")
        c = worker.submit(same, 3)
        await gate.entered.wait()
        assert (a.phase, b.phase, c.phase) == ("executing", "waiting", "ready")
        assert repr(a) == "<TaskHandle 'a' executing>"
        gate.let_go()
        assert await a == 1
        assert a.phase == "memory"
        await other.entered.wait()
        assert b.phase == "executing"
        assert b.cancel()
        assert b.phase == "cancelled"
        other.let_go()
        await c
        c.release()
        assert c.phase == "released"


async def test_status() -> None:
    async with open_worker(threads=2, name="w", coroutines=5, resources={"gpu": 1.5}) as worker:
        gate = Gate(b"x" * 1000)
        a = worker.submit(gate, resources={"gpu": 0.5})
        b = worker.submit(same, a)
        await gate.entered.wait()
        status = worker.status()
        assert (status.name, status.state) == ("w", "running")
        assert status.tasks == {"executing": 1, "waiting": 1}
        assert (status.slots["thread"].used, status.slots["thread"].total) == (1, 2)
        assert (status.slots["coroutine"].used, status.slots["coroutine"].total) == (0, 5)
        assert (status.resources["gpu"].used, status.resources["gpu"].total) == (0.5, 1.5)
        assert status.nbytes == 0
        gate.let_go()
        await b
        assert worker.status().tasks == {"memory": 2}
        assert 2000 < worker.status().nbytes < 3000
    assert worker.status().state == "closed"
