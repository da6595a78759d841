"""A machine at one moment, for people."""

from journals import LOST_PEER, THREADS, told

from trouper.runtime.debugging.picture import Attempt, Gathering, picture, task_picture
from trouper.runtime.ledger import Config
from trouper.runtime.machine import Machine


def test_all_of_a_machine() -> None:
    machine = Machine(Config(slots={"thread": 1}, resources={"gpu": 2.0}))
    for stimulus in told("""
        compute-task a resources=gpu:1.5
        compute-task b priority=2
        compute-task c priority=1
        update-data v:100:str #-1
        acquire-replicas x@tcp://b:1+tcp://c:1 nbytes=x:7
        acquire-replicas y@tcp://b:1 nbytes=y:8
        acquire-replicas z@-
        acquire-replicas w@tcp://d:1 nbytes=w:8
        gather-busy tcp://d:1 #4
    """):
        machine.handle(stimulus)
    found = picture(machine)
    assert found.tasks == {
        "executing": 1, "fetch": 2, "flight": 1, "memory": 1, "missing": 1, "ready": 2,
    }  # fmt: skip
    assert found.slots == {"thread": "0 of 1 free"}
    assert found.resources == {"gpu": "0.5 of 2 free"}
    assert found.queues == {"thread": ["c", "b"]}
    assert found.executing == [Attempt("a", 1, "thread", "executing")]
    assert found.gathers == [Gathering("tcp://b:1", 2, ("x",), 7)]
    assert (found.to_fetch, found.missing, found.busy) == (["y", "w"], ["z"], ["tcp://d:1"])
    assert (found.nbytes, found.paused, found.stuck) == (100, False, ["z"])


def test_one_task() -> None:
    machine = Machine(THREADS)
    for stimulus in LOST_PEER:
        machine.handle(stimulus)
    found = task_picture(machine, "y")
    assert found is not None
    assert (found.phase, found.goal, found.attempt) == ("waiting", "compute", None)
    assert found.inputs == {"x": "missing"}
    assert found.dependents == {"z": "waiting"}
    assert found.reason == "it waits for x"
    assert task_picture(machine, "no such task") is None
