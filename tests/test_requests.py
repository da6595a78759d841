"""What is asked of a worker, beyond the cells of the table: inputs, cascades, refusals."""

from itertools import pairwise

import pytest
from model import World

from trouper.runtime.errors import StimulusError
from trouper.runtime.invariants import check
from trouper.runtime.ledger import Config
from trouper.runtime.machine import Machine
from trouper.wire.instructions import (
    AddKeys,
    CancelExecute,
    DropData,
    DropSpec,
    Execute,
    Gather,
    Instruction,
    ReleaseWorkerData,
    Reply,
    StealResponse,
    TaskErred,
    TaskFinished,
)
from trouper.wire.stimuli import (
    AcquireReplicas,
    CancelCompute,
    CancelTask,
    ComputeTask,
    ExecuteCancelled,
    ExecuteFailure,
    ExecuteSuccess,
    FreeKeys,
    GatherFailure,
    GatherSuccess,
    Pause,
    RefreshWhoHas,
    RemoveReplicas,
    RemoveWorker,
    StealRequest,
    Stimulus,
    Unpause,
    UpdateData,
)

HERE = "tcp://10.0.0.1:1"
P = "tcp://10.0.0.2:1"
Q = "tcp://10.0.0.3:1"
INT = (5, "int")
PUT_A = UpdateData({"a": INT}, -1)


def new() -> World:
    return World(Config(address=HERE))


# Compute


def test_task_waits_for_inputs_however_they_arrive() -> None:
    world = new()
    world.play(
        Pause(),
        ComputeTask("a", 1, 1),
        ComputeTask("c", 3, 3, local=("a",), who_has={"b": (P,), "d": ()}),
        Unpause(),
    )
    assert world.machine.phase("c") == "waiting"
    world.play(ExecuteSuccess("a", 2, 5, "int"), UpdateData({"d": INT}, -1))
    out = world.send(GatherSuccess(P, 3, {"b": INT}))
    inputs = (("a", 2), ("b", 3), ("d", -1))
    assert out == [AddKeys(("b",)), Execute("c", 4, 3, 3, "thread", inputs)]


def test_value_in_memory_is_answered_again() -> None:
    world = new()
    world.send(PUT_A)
    out = world.send(ComputeTask("a", 9, 4))
    assert out == [DropSpec("a", 4), TaskFinished("a", 9, -1, 5, "int")]
    assert world.send(AcquireReplicas({"a": (P,)})) == [AddKeys(("a",))]


def test_what_is_said_later_of_an_answered_request_carries_its_run_id() -> None:
    world = new()
    world.play(ComputeTask("a", 1, 1), ExecuteSuccess("a", 1, *INT), ComputeTask("a", 2, 1))
    assert TaskErred("a", 2, 0, cancelled=True) in world.send(CancelTask("a"))


def test_same_spec_takes_over_the_run_id() -> None:
    world = new()
    world.send(ComputeTask("x", 1, 1))
    assert world.send(ComputeTask("x", 2, 1)) == [DropSpec("x", 1)]
    assert world.send(ExecuteSuccess("x", 1, 5, "int"))[-1] == TaskFinished("x", 2, 1, 5, "int")


def test_failure_is_forgotten_when_asked_anew() -> None:
    world = new()
    world.play(ComputeTask("x", 1, 1), ExecuteFailure("x", 1, "ValueError"))
    out = world.send(ComputeTask("x", 2, 2))
    assert out == [DropData("x", 1), Execute("x", 2, 2, 2, "thread", ())]


def test_local_input_that_has_failed_fails_the_task_at_once() -> None:
    world = new()
    world.play(ComputeTask("a", 1, 1), ExecuteFailure("a", 1, "ValueError"))
    out = world.send(ComputeTask("b", 2, 2, local=("a",)))
    assert out == [DropSpec("b", 2), TaskErred("b", 2, 0, via="a")]


def test_local_input_that_was_cancelled_cancels_the_task() -> None:
    world = new()
    world.play(Pause(), ComputeTask("a", 1, 1), CancelTask("a"))
    out = world.send(ComputeTask("b", 2, 2, local=("a",)))
    assert out == [DropSpec("b", 2), TaskErred("b", 2, 0, via="a", cancelled=True)]


def test_input_that_could_not_be_read_is_fetched_anew_for_the_next_task() -> None:
    """Who names its holders asks for it again; a failure of the past must not let it wait."""
    world = new()
    world.play(AcquireReplicas({"a": (P,)}), GatherFailure(P, 1, "UnpicklingError"))
    assert world.machine.phase("a") == "error"
    out = world.send(ComputeTask("b", 1, 1, who_has={"a": (Q,)}))
    assert out == [DropData("a", 1), Gather(Q, 2, ("a",), 0)]


def test_input_computed_here_and_named_as_remote_is_not_fetched() -> None:
    world = new()
    world.send(ComputeTask("a", 1, 1))
    assert world.send(ComputeTask("b", 2, 2, who_has={"a": (P,)})) == []
    out = world.send(ExecuteSuccess("a", 1, 5, "int"))
    assert out[-1] == Execute("b", 2, 2, 2, "thread", (("a", 1),))


def test_sizes_of_inputs_are_what_was_last_said() -> None:
    world = new()
    world.send(Pause())
    world.send(ComputeTask("y", 1, 1, who_has={"a": (P,), "b": (P,)}, nbytes={"a": 7, "b": 9}))
    world.send(ComputeTask("z", 2, 2, who_has={"a": (P,), "c": (P,)}, nbytes={"a": 8}))
    assert gathered(world.send(Unpause())) == 8 + 9


def test_size_of_a_replica_is_what_was_last_said() -> None:
    world = new()
    world.send(Pause())
    world.send(AcquireReplicas({"a": (P,), "b": (P,)}, {"a": 7, "b": 9}))
    world.send(AcquireReplicas({"a": (P,), "c": (P,)}, {"a": 8}))
    assert gathered(world.send(Unpause())) == 8 + 9


def test_size_of_a_value_that_is_here_is_its_own() -> None:
    world = new()
    world.send(PUT_A)
    world.send(ComputeTask("y", 1, 1, who_has={"a": (P,)}, nbytes={"a": 70}))
    world.send(AcquireReplicas({"a": (P,)}, {"a": 70}))
    assert world.send(ComputeTask("a", 2, 2))[-1] == TaskFinished("a", 2, -1, 5, "int")


def gathered(out: list[Instruction]) -> int:
    """How many bytes are expected of the one gather that these instructions begin."""
    (nbytes,) = [word.nbytes for word in out if isinstance(word, Gather)]
    return nbytes


def test_same_local_input_named_twice_is_one_input() -> None:
    world = new()
    world.send(PUT_A)
    out = world.send(ComputeTask("b", 1, 1, local=("a", "a")))
    assert out == [Execute("b", 1, 1, 1, "thread", (("a", -1),))]


@pytest.mark.parametrize(
    ("impossible", "message"),
    [
        (ComputeTask("x", 1, 1, executor="gpu"), r"'x' wants the executor 'gpu'; there is thread"),
        (ComputeTask("x", 1, 0), r"'x' has the spec_id 0; it has to be positive"),
        (ComputeTask("x", 1, 1, priority=(0, float("nan"))), r"'x' has the priority \(0, nan\)"),
        (ComputeTask("x", 1, 1, resources={"gpu": 0}), r"asks for 0 of the resource 'gpu'; an am"),
        (ComputeTask("x", 1, 1, resources={"gpu": -1}), r"asks for -1 .* positive, finite"),
        (ComputeTask("x", 1, 1, resources={"gpu": float("inf")}), r"asks for inf .* finite"),
        (ComputeTask("x", 1, 1, resources={"gpu": 3}), r"for 3 .*'gpu'; this worker has 2.0 of it"),
        (ComputeTask("x", 1, 1, resources={"tpu": 1}), r"'tpu'; this worker has 0 of it in all"),
        (ComputeTask("x", 1, 1, local=("x",)), r"'x' cannot have itself as an input"),
        (ComputeTask("x", 1, 1, who_has={"x": (P,)}), r"'x' cannot have itself as an input"),
        (ComputeTask("x", 1, 1, local=("no",)), r"local input 'no', which .* neither holds nor"),
        (ComputeTask("x", 1, 1, local=("flying",)), r"local input 'flying', which this worker"),
        (ComputeTask("x", 1, 1, local=("a",), who_has={"a": (P,)}), r"names its input 'a' twice"),
        (ComputeTask("b", 1, 2, local=("d",)), r"'b' would wait for itself, through its inputs"),
        (UpdateData({"x": INT}, 0), r"have the attempt 0; it has to be negative"),
    ],
)
def test_impossible_request_is_refused_and_changes_nothing(
    impossible: Stimulus, message: str
) -> None:
    machine = Machine(Config(resources={"gpu": 2}))
    for stimulus in (
        Pause(),
        PUT_A,
        AcquireReplicas({"flying": (P,)}),
        ComputeTask("b", 1, 1),
        ComputeTask("c", 1, 1, local=("b", "a")),
        ComputeTask("d", 1, 1, local=("a", "c")),
    ):
        machine.handle(stimulus)
    before = machine.snapshot()
    with pytest.raises(StimulusError, match=message):
        machine.handle(impossible)
    assert machine.snapshot() == before
    check(machine)


def test_needed_task_may_be_asked_for_anew_with_other_inputs() -> None:
    world = new()
    world.play(Pause(), PUT_A, ComputeTask("b", 1, 1), ComputeTask("c", 2, 2, local=("b",)))
    assert world.send(ComputeTask("b", 3, 3, local=("a",))) == [DropSpec("b", 1)]
    assert world.machine.phase("b") == "ready"


def test_inputs_with_many_ways_to_them_are_looked_at_once() -> None:
    """Whether a task would wait for itself is asked along 2 ** 60 ways."""
    machine = Machine(Config())
    machine.handle(Pause())
    below: tuple[str, ...] = ()
    for level in range(60):
        pair = (f"left{level}", f"right{level}")
        for key in pair:
            machine.handle(ComputeTask(key, 1, 1, local=below))
        below = pair
    machine.handle(ComputeTask("x", 1, 1))
    machine.handle(ComputeTask("user", 1, 1, local=("x",)))
    machine.handle(ComputeTask("x", 2, 2, local=below))
    assert machine.phase("x") == "waiting"


# Free


def test_value_that_somebody_may_need_later_is_told_to_be_gone() -> None:
    """While y may still arrive from elsewhere, it does not need x."""
    world = new()
    world.play(AcquireReplicas({"y": (P,)}), UpdateData({"x": INT}, -1))
    world.send(ComputeTask("y", 1, 1, who_has={"x": (P,)}))
    assert world.send(FreeKeys(("x",))) == [DropData("x", -1), ReleaseWorkerData("x")]


def test_keys_freed_twice_and_in_any_order_are_forgotten_once() -> None:
    for keys in (("a", "b"), ("b", "a"), ("a", "a", "b", "b", "unknown")):
        world = new()
        world.play(Pause(), ComputeTask("a", 1, 1), ComputeTask("b", 2, 2, local=("a",)))
        assert set(world.send(FreeKeys(keys))) == {DropSpec("a", 1), DropSpec("b", 2)}
        assert not world.machine.ledger.tasks


def test_freed_input_is_computed_all_the_same_if_it_is_needed() -> None:
    world = new()
    world.play(Pause(), ComputeTask("a", 1, 1), ComputeTask("b", 2, 2, local=("a",)))
    assert world.send(FreeKeys(("a",))) == []
    assert world.machine.phase("a") == "ready"
    world.play(Unpause(), ExecuteSuccess("a", 1, 5, "int"))
    assert world.machine.phase("b") == "executing"


def test_chain_is_freed_from_its_end() -> None:
    """Each input is needed by the next, however long the chain; and no recursion."""
    machine = Machine(Config())
    keys = chain(machine, 10_000)
    machine.handle(FreeKeys(tuple(keys[:-1])))
    assert len(machine.ledger.tasks) == 10_000
    out = machine.handle(FreeKeys((keys[-1],)))
    assert len(out) == 10_000
    assert not machine.ledger.tasks
    check(machine)


def chain(machine: Machine, length: int) -> list[str]:
    """A paused machine with tasks that each wait for the one before."""
    machine.handle(Pause())
    keys = [f"t{number}" for number in range(length)]
    machine.handle(ComputeTask(keys[0], 1, 1))
    for before, key in pairwise(keys):
        machine.handle(ComputeTask(key, 1, 1, local=(before,)))
    return keys


# Cancel


def test_cancellation_goes_down_a_diamond_once() -> None:
    world = new()
    world.play(
        ComputeTask("a", 1, 1),
        ComputeTask("b", 2, 2, local=("a",)),
        ComputeTask("c", 3, 3, local=("a",)),
        ComputeTask("d", 4, 4, local=("b", "c")),
    )
    out = world.send(CancelTask("a"))
    assert [word for word in out if isinstance(word, TaskErred)] == [
        TaskErred("a", 1, 0, None, cancelled=True),
        TaskErred("b", 2, 0, "a", cancelled=True),
        TaskErred("c", 3, 0, "a", cancelled=True),
        TaskErred("d", 4, 0, "b", cancelled=True),
    ]
    assert out[-1] == CancelExecute("a", 1)
    assert world.send(ExecuteCancelled("a", 1)) == []
    assert {world.machine.phase(key) for key in "abcd"} == {"error"}


def test_cancellation_goes_down_a_chain_of_any_length() -> None:
    machine = Machine(Config())
    keys = chain(machine, 10_000)
    out = machine.handle(CancelTask(keys[0]))
    assert [word.key for word in out if isinstance(word, TaskErred)] == keys
    machine.handle(FreeKeys(tuple(keys)))
    assert not machine.ledger.tasks


def test_cancellation_reaches_any_number_of_dependents() -> None:
    machine = Machine(Config())
    machine.handle(ComputeTask("a", 1, 1))
    keys = [f"t{number}" for number in range(10_000)]
    for key in keys:
        machine.handle(ComputeTask(key, 1, 1, local=("a",)))
    out = machine.handle(CancelTask("a"))
    assert [word.key for word in out if isinstance(word, TaskErred)] == ["a", *keys]
    check(machine)


def test_cancelled_value_is_sought_again_for_who_fetches_it() -> None:
    """A task that was ready with the value has to wait again: it must not start without it."""
    world = new()
    world.play(Pause(), PUT_A, ComputeTask("b", 2, 2, who_has={"a": (P,)}), CancelTask("a"))
    assert world.machine.phase("b") == "waiting"
    assert world.send(Unpause()) == [Gather(P, 1, ("a",), 5)]
    world.send(GatherSuccess(P, 1, {"a": INT}))
    assert world.machine.phase("b") == "executing"


def test_unknown_keys_are_ignored() -> None:
    world = new()
    for stimulus in (
        FreeKeys(("x",)),
        CancelTask("x"),
        CancelCompute("x"),
        RemoveReplicas(("x",)),
        RefreshWhoHas({"x": (P,)}),
        RemoveWorker(P),
    ):
        assert world.send(stimulus) == []
    assert not world.machine.ledger.tasks


# Steal


def test_steal_is_always_answered_with_the_phase_before() -> None:
    world = new()
    world.play(ComputeTask("runs", 1, 1), ComputeTask("waits", 2, 2))
    assert world.send(StealRequest("runs", "s1")) == [StealResponse("runs", "executing", "s1")]
    out = world.send(StealRequest("waits", "s2"))
    assert out == [StealResponse("waits", "ready", "s2"), DropSpec("waits", 2)]
    assert world.send(StealRequest("waits", "s3")) == [StealResponse("waits", None, "s3")]


def test_given_up_task_forgets_its_inputs() -> None:
    for give_up in (StealRequest("b", "s"), CancelCompute("b")):
        world = new()
        world.play(Pause(), ComputeTask("b", 1, 1, who_has={"a": (P,)}), give_up)
        assert not world.machine.ledger.tasks
        assert not world.machine.ledger.peers


# Replicas


def test_replica_in_use_is_kept_and_said_to_be() -> None:
    """Needed, or pinned by who runs with it: the scheduler is told, and holds it again."""
    for pause in ((), (Pause(),)):
        world = new()
        world.play(*pause, PUT_A, ComputeTask("b", 1, 1, who_has={"a": (P,)}), FreeKeys(("a",)))
        assert world.send(RemoveReplicas(("a",))) == [AddKeys(("a",))]
        assert world.machine.ledger.tasks["a"].hold
        world.play(Unpause(), ExecuteSuccess("b", 1, 5, "int"))
        assert world.machine.phase("a") == "memory"  # as the scheduler believes
        out = world.send(RemoveReplicas(("a", "a")))
        assert out == [DropData("a", -1), ReleaseWorkerData("a")]


def test_own_address_is_no_holder() -> None:
    world = new()
    world.send(AcquireReplicas({"x": (HERE,)}))
    assert world.machine.phase("x") == "missing"


def test_removed_worker_is_no_holder() -> None:
    world = new()
    world.play(Pause(), AcquireReplicas({"x": (P,), "y": (P, Q)}), RemoveWorker(P))
    assert world.machine.phase("x") == "missing"
    assert world.machine.phase("y") == "fetch"


def test_refreshed_holders_replace_the_old() -> None:
    world = new()
    world.play(Pause(), AcquireReplicas({"x": (P,)}), RefreshWhoHas({"x": (Q,)}))
    assert list(world.machine.ledger.peers) == [Q]
    world.send(RefreshWhoHas({"x": ()}))
    assert world.machine.phase("x") == "missing"


# Data from outside


def test_update_is_answered_if_an_answer_is_asked_for() -> None:
    world = new()
    out = world.send(UpdateData({"x": (5, "int"), "y": (0, "str")}, -1, "r"))
    assert out == [Reply("r", {"x": 5, "y": 0})]
    assert world.machine.ledger.nbytes == 5


def test_update_starts_who_waits_and_ends_who_computes() -> None:
    world = new()
    world.play(ComputeTask("a", 1, 1), ComputeTask("b", 2, 2, local=("a",)))
    out = world.send(UpdateData({"a": INT}, -1))
    assert out == [DropSpec("a", 1), TaskFinished("a", 1, -1, 5, "int"), CancelExecute("a", 1)]
    out = world.send(ExecuteCancelled("a", 1))
    assert out == [Execute("b", 2, 2, 2, "thread", (("a", -1),))]


def test_update_of_what_is_in_memory_keeps_the_older_value() -> None:
    world = new()
    world.send(PUT_A)
    assert world.send(UpdateData({"a": (9, "str")}, -2)) == [DropData("a", -2)]
    assert world.machine.ledger.nbytes == 5
