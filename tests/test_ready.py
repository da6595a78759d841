"""Queues of what is ready: the best first, and no longer than what is in them."""

from trouper.runtime.invariants import check
from trouper.runtime.ledger import Config
from trouper.runtime.machine import Machine
from trouper.runtime.ready import ReadyQueue, Slots
from trouper.runtime.task import Place, Task
from trouper.wire.stimuli import ComputeTask, FreeKeys, Pause


def test_queue_gives_the_best_that_is_still_ready() -> None:
    queue = ReadyQueue(("thread", ()), Slots(1))
    tasks = [Task(key, age, priority=(0,), place=Place.READY) for age, key in enumerate("abc", 1)]
    for task in tasks:
        queue.push(task)
    assert queue.head() == ((0,), -3, tasks[2])
    tasks[2].place = Place.NOWHERE
    queue.discard()
    for age, task in ((2, tasks[1]), (1, tasks[0])):
        assert queue.head() == ((0,), -age, task)
        assert queue.pop() is task
        assert task.place is Place.NOWHERE
    assert queue.live == 0


def test_queue_does_not_outgrow_what_is_ready() -> None:
    machine = Machine(Config())
    machine.handle(Pause())
    for number in range(1000):
        machine.handle(ComputeTask(f"t{number}", 1, 1))
    machine.handle(FreeKeys(tuple(f"t{number}" for number in range(990))))
    (queue,) = machine.ledger.queues.values()
    assert queue.live == 10
    assert len(vars(queue)["_heap"]) <= 2 * queue.live + 16
    check(machine)
