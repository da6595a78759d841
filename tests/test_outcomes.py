"""How attempts end: what is dropped, told and tried again."""

from itertools import product

import pytest
from model import World

from trouper.runtime.errors import StimulusError
from trouper.runtime.ledger import Config
from trouper.wire.instructions import (
    AddKeys,
    CancelExecute,
    CancelGather,
    DropData,
    DropSpec,
    Execute,
    FindMissingLater,
    Gather,
    LongRunning,
    ReleaseWorkerData,
    RequestRefreshWhoHas,
    RescheduleTask,
    RetryBusyWorkerLater,
    TaskErred,
    TaskFinished,
)
from trouper.wire.stimuli import (
    AcquireReplicas,
    CancelTask,
    ComputeTask,
    ExecuteCancelled,
    ExecuteFailure,
    ExecuteReschedule,
    ExecuteSuccess,
    FindMissing,
    FreeKeys,
    GatherBusy,
    GatherFailure,
    GatherNetworkFailure,
    GatherSuccess,
    Pause,
    RefreshWhoHas,
    RemoveWorker,
    RetryBusyWorker,
    Secede,
    Stimulus,
    Unpause,
    UpdateData,
)

P = "tcp://10.0.0.2:1"
Q = "tcp://10.0.0.3:1"
INT = (5, "int")


def new() -> World:
    return World(Config())


# Executing


def test_failure_goes_down_along_local_inputs() -> None:
    world = new()
    world.play(
        ComputeTask("a", 1, 1),
        ComputeTask("b", 2, 2, local=("a",)),
        ComputeTask("c", 3, 3, local=("a",)),
        ComputeTask("d", 4, 4, local=("b", "c")),
        ComputeTask("other", 5, 5),
    )
    out = world.send(ExecuteFailure("a", 1, "ValueError"))
    assert [word for word in out if isinstance(word, TaskErred)] == [
        TaskErred("a", 1, 1),
        TaskErred("b", 2, 0, via="a"),
        TaskErred("c", 3, 0, via="a"),
        TaskErred("d", 4, 0, via="b"),
    ]
    assert world.machine.phase("other") == "executing"


def test_failure_spares_who_fetches_the_input() -> None:
    """The scheduler decides what becomes of dependents on a cluster; the need fetches instead."""
    world = new()
    world.play(ComputeTask("a", 1, 1), ComputeTask("b", 2, 2, who_has={"a": (P,)}))
    out = world.send(ExecuteFailure("a", 1, "ValueError"))
    assert out == [
        DropSpec("a", 1),
        TaskErred("a", 1, 1),
        DropData("a", 1),
        Gather(P, 2, ("a",), 0),
    ]
    out = world.send(GatherSuccess(P, 2, {"a": INT}))
    assert out == [AddKeys(("a",)), Execute("b", 3, 2, 2, "thread", (("a", 2),))]


def test_result_of_another_spec_does_not_count() -> None:
    """Freed while it runs and asked for anew with another spec: the old outcome is worthless."""
    outcomes: tuple[Stimulus, ...] = (
        ExecuteSuccess("x", 1, 5, "int"),
        ExecuteFailure("x", 1, "ValueError"),
        ExecuteReschedule("x", 1),
        ExecuteCancelled("x", 1),
    )
    for outcome, (old, anew) in product(outcomes, ((1, 2), (2, 1))):
        world = new()
        world.play(ComputeTask("x", 1, old), FreeKeys(("x",)), ComputeTask("x", 2, anew))
        out = world.send(outcome)
        assert out[-1] == Execute("x", 2, 2, anew, "thread", ())
        brings = isinstance(outcome, ExecuteSuccess | ExecuteFailure)
        assert out[:-1] == [DropData("x", 1)] * brings
        assert world.send(ExecuteSuccess("x", 2, 5, "int"))[-1] == TaskFinished("x", 2, 2, 5, "int")


def test_cancellation_that_came_too_late_for_a_task_wanted_again() -> None:
    world = new()
    world.play(ComputeTask("x", 1, 1), FreeKeys(("x",)), ComputeTask("x", 2, 1))
    out = world.send(ExecuteSuccess("x", 1, 5, "int"))
    assert out == [DropSpec("x", 1), TaskFinished("x", 2, 1, 5, "int")]


def test_inputs_of_a_running_attempt_are_dropped_when_it_ends() -> None:
    """Whoever runs keeps what it runs with, wanted or not (distributed #6893)."""
    world = new()
    world.play(
        ComputeTask("a", 1, 1),
        ExecuteSuccess("a", 1, 5, "int"),
        ComputeTask("b", 2, 2, local=("a",)),
    )
    assert world.send(FreeKeys(("a", "b"))) == [DropSpec("b", 2), CancelExecute("b", 2)]
    assert world.machine.phase("a") == "memory"
    out = world.send(ExecuteCancelled("b", 2))
    assert out == [DropData("a", 1), ReleaseWorkerData("a")]
    assert not world.machine.ledger.tasks


def test_attempt_gives_back_only_what_it_runs_with() -> None:
    """Its input was cancelled under it: what is there by then, if anything, is not its own."""
    world = World(Config(slots={"thread": 2}))
    world.play(
        UpdateData({"a": INT}, -1),
        ComputeTask("b", 1, 1, local=("a",)),
        CancelTask("a"),
        UpdateData({"a": INT}, -2),
        ComputeTask("c", 2, 2, local=("a",)),
        ExecuteCancelled("b", 1),
        FreeKeys(("a",)),
    )
    assert world.machine.phase("a") == "memory"  # c runs with it
    assert DropData("a", -2) in world.send(ExecuteSuccess("c", 2, 5, "int"))


def test_attempt_ends_after_its_input_is_forgotten() -> None:
    world = new()
    world.play(
        UpdateData({"a": INT}, -1),
        ComputeTask("b", 1, 1, local=("a",)),
        CancelTask("a"),
        FreeKeys(("a", "b")),
    )
    assert world.machine.phase("b") == "cancelled(executing)"
    assert world.send(ExecuteCancelled("b", 1)) == []
    assert not world.machine.ledger.tasks


def test_replica_is_released_when_nobody_needs_it() -> None:
    world = new()
    world.play(
        ComputeTask("b", 1, 1, who_has={"a": (P,)}),
        GatherSuccess(P, 1, {"a": INT}),
        FreeKeys(("a",)),
    )
    assert world.machine.phase("a") == "memory"
    out = world.send(ExecuteSuccess("b", 2, 5, "int"))
    assert out[1:] == [TaskFinished("b", 1, 2, 5, "int"), DropData("a", 1), ReleaseWorkerData("a")]


def test_task_that_wants_to_run_elsewhere_is_given_up() -> None:
    world = new()
    world.send(ComputeTask("x", 7, 1))
    assert world.send(ExecuteReschedule("x", 1)) == [RescheduleTask("x"), DropSpec("x", 1)]
    assert not world.machine.ledger.tasks


def test_task_that_wants_to_run_elsewhere_and_is_needed_here_runs_again() -> None:
    world = new()
    world.play(ComputeTask("x", 7, 1), ComputeTask("y", 8, 2, local=("x",)))
    out = world.send(ExecuteReschedule("x", 1))
    assert out == [RescheduleTask("x"), Execute("x", 2, 7, 1, "thread", ())]


def test_secede_is_told_once_and_only_of_the_run_that_is_wanted() -> None:
    world = new()
    world.send(ComputeTask("x", 7, 1))
    assert world.send(Secede("x", 1, 0.5)) == [LongRunning("x", 7, 0.5)]
    assert world.send(Secede("x", 1, 0.5)) == []
    world = new()
    world.play(ComputeTask("x", 7, 1), ComputeTask("x", 8, 2))
    assert world.send(Secede("x", 1, 0.5)) == []


def test_secede_while_unwanted_is_told_when_wanted_again() -> None:
    world = new()
    world.play(ComputeTask("x", 7, 1), FreeKeys(("x",)))
    assert world.send(Secede("x", 1)) == []
    assert world.send(ComputeTask("x", 8, 1)) == [LongRunning("x", 8, None)]


# Gathers


def test_failed_copy_is_unreadable_only_for_who_fetches() -> None:
    world = new()
    world.play(AcquireReplicas({"x": (P,), "y": (P,)}), ComputeTask("y", 1, 1))
    out = world.send(GatherFailure(P, 1, "UnpicklingError"))
    assert out == [
        TaskErred("x", 0, 1),
        DropData("y", 1),
        Execute("y", 2, 1, 1, "thread", ()),
    ]


def test_unreadable_input_fails_all_that_wait_for_it() -> None:
    """And who depends on those; each fails once, whatever else it has waited for."""
    world = new()
    world.play(
        ComputeTask("y", 1, 1, who_has={"a": (P,), "b": (P,)}),
        ComputeTask("z", 2, 2, local=("y",)),
        ComputeTask("other", 3, 3, who_has={"c": (Q,)}),
    )
    assert world.send(GatherFailure(P, 1, "UnpicklingError")) == [
        TaskErred("a", 0, 1),
        TaskErred("b", 0, 1),
        DropSpec("y", 1),
        TaskErred("y", 1, 0, via="a"),
        DropSpec("z", 2),
        TaskErred("z", 2, 0, via="y"),
    ]
    assert world.machine.phase("other") == "waiting"


def test_unreadable_copy_does_not_fail_who_runs_with_another() -> None:
    world = new()
    world.play(
        ComputeTask("y", 1, 1, who_has={"x": (P,)}),
        GatherSuccess(P, 1, {"x": INT}),
        CancelTask("x"),
        AcquireReplicas({"x": (Q,)}),
    )
    assert world.send(GatherFailure(Q, 3, "UnpicklingError")) == [TaskErred("x", 0, 3)]
    assert world.send(ExecuteSuccess("y", 2, 5, "int"))[-1] == TaskFinished("y", 1, 2, 5, "int")


def test_unreadable_copy_is_fetched_again_for_who_begins_to_wait_for_it() -> None:
    """Y was in flight itself when x failed, and was to be computed from x by then."""
    world = new()
    world.play(
        AcquireReplicas({"y": (P,)}),
        ComputeTask("y", 1, 1, who_has={"x": (Q,)}),
        AcquireReplicas({"x": (Q,)}),
        GatherFailure(Q, 2, "UnpicklingError"),
    )
    assert world.machine.phase("x") == "error"
    out = world.send(GatherNetworkFailure(P, 1))
    assert out == [DropData("x", 2), Gather(Q, 3, ("x",), 0)]
    assert [type(word) for word in world.send(GatherFailure(Q, 3, "UnpicklingError"))] == [
        TaskErred,
        DropSpec,
        TaskErred,
    ]


def test_unreadable_copy_is_fetched_again_also_if_both_were_in_one_gather() -> None:
    world = new()
    world.play(AcquireReplicas({"x": (P,), "y": (P,)}), ComputeTask("y", 1, 1, who_has={"x": (P,)}))
    out = world.send(GatherFailure(P, 1, "UnpicklingError"))
    assert out[0] == TaskErred("x", 0, 1)
    assert out[-1] == Gather(P, 2, ("x",), 0)


def test_peer_that_does_not_hold_it_is_not_asked_again() -> None:
    world = new()
    world.send(AcquireReplicas({"x": (P, Q)}))
    assert world.send(GatherSuccess(P, 1, {})) == [Gather(Q, 2, ("x",), 0)]
    assert world.send(GatherSuccess(Q, 2, {})) == [FindMissingLater(3, 1.0)]
    assert world.machine.phase("x") == "missing"


def test_key_left_out_because_it_was_cancelled_may_be_held_all_the_same() -> None:
    world = new()
    world.send(AcquireReplicas({"x": (P,), "y": (P,)}))
    assert world.send(FreeKeys(("x",))) == [CancelGather(P, 1, ("x",))]
    world.send(ComputeTask("z", 1, 1, who_has={"x": (P,)}))
    out = world.send(GatherSuccess(P, 1, {"y": INT}))
    assert out == [AddKeys(("y",)), Gather(P, 2, ("x",), 0)]


def test_what_has_landed_is_not_cancelled() -> None:
    """Two keys of one flight, and the first makes the second useless: it is dropped, no more."""
    world = new()
    world.play(
        Pause(),
        AcquireReplicas({"b": (P,)}),
        AcquireReplicas({"a": (P,)}),
        Unpause(),
        ComputeTask("b", 1, 1),
        ComputeTask("a", 2, 2, local=("b",)),
        ComputeTask("b", 3, 3),  # so b is the younger, and judged after a
        FreeKeys(("b",)),
    )
    assert world.send(GatherSuccess(P, 1, {"a": INT, "b": INT})) == [
        DropSpec("a", 2),
        TaskFinished("a", 2, 1, 5, "int"),
        DropData("b", 1),
        DropSpec("b", 3),
    ]


def test_busy_peer_is_left_alone_for_a_while() -> None:
    world = new()
    world.send(AcquireReplicas({"x": (P,), "y": (P, Q)}))
    assert world.send(GatherBusy(P, 1)) == [
        RetryBusyWorkerLater(P, 2, 0.15),
        RequestRefreshWhoHas(("x",)),
        Gather(Q, 3, ("y",), 0),
    ]
    assert world.send(RefreshWhoHas({"x": (P,)})) == []
    assert world.send(RetryBusyWorker(P, 99)) == []  # not its timer
    assert world.send(RetryBusyWorker(P, 2)) == [Gather(P, 4, ("x",), 0)]


def test_nobody_is_asked_for_the_holders_of_what_is_unwanted() -> None:
    world = new()
    world.play(AcquireReplicas({"x": (P,)}), FreeKeys(("x",)))
    assert world.send(GatherBusy(P, 1)) == [RetryBusyWorkerLater(P, 2, 0.15)]
    assert not world.machine.ledger.tasks
    assert world.send(RetryBusyWorker(P, 2)) == []
    assert not world.machine.ledger.peers


def test_lost_peer_holds_nothing() -> None:
    world = new()
    world.play(AcquireReplicas({"x": (P,), "y": (P, Q)}), AcquireReplicas({"z": (P,)}))
    out = world.send(GatherNetworkFailure(P, 2))
    assert out == []  # not a flight of P's
    out = world.send(GatherNetworkFailure(P, 1))
    assert out == [FindMissingLater(2, 1.0), Gather(Q, 3, ("y",), 0)]
    assert world.machine.phase("x") == world.machine.phase("z") == "missing"
    assert list(world.machine.ledger.peers) == [Q]


def test_removed_peer_may_still_answer() -> None:
    world = new()
    world.play(AcquireReplicas({"x": (P,)}), RemoveWorker(P))
    assert world.machine.phase("x") == "flight"
    assert world.send(GatherSuccess(P, 1, {"x": INT})) == [AddKeys(("x",))]
    assert not world.machine.ledger.peers


# Timers


def test_missing_keys_are_asked_for_again_and_again() -> None:
    world = new()
    assert world.send(AcquireReplicas({"x": (), "y": ()})) == [FindMissingLater(1, 1.0)]
    assert world.send(FindMissing(7)) == []  # not its timer
    again = [RequestRefreshWhoHas(("x", "y")), FindMissingLater(2, 1.0)]
    assert world.send(FindMissing(1)) == again
    world.send(RefreshWhoHas({"x": (P,)}))
    assert world.send(FindMissing(2)) == [RequestRefreshWhoHas(("y",)), FindMissingLater(4, 1.0)]
    world.send(FreeKeys(("y",)))
    assert world.send(FindMissing(4)) == []
    assert world.machine.ledger.missing_attempt == 0


# Stale and impossible


def over() -> World:
    """Attempts 1 and 2 are over, 3 executes x, 4 fetches y."""
    world = new()
    world.play(
        ComputeTask("x", 1, 1),
        ExecuteCancelled("x", 1),
        FreeKeys(("x",)),
        ExecuteCancelled("x", 2),
        ComputeTask("x", 1, 1),
        AcquireReplicas({"y": (P,)}),
    )
    return world


@pytest.mark.parametrize(
    "stale",
    [
        ExecuteSuccess("x", 1, 5, "int"),
        ExecuteSuccess("x", 4, 5, "int"),
        ExecuteSuccess("unknown", 3, 5, "int"),
        ExecuteFailure("x", 2, "ValueError"),
        ExecuteReschedule("x", 1),
        ExecuteCancelled("x", 1),
        Secede("x", 1),
        GatherSuccess(P, 2, {"y": INT}),
        GatherSuccess(Q, 4, {}),
        GatherBusy(P, 3),
        GatherNetworkFailure(P, 2),
        GatherFailure(P, 2, "UnpicklingError"),
        RetryBusyWorker(P, 2),
        FindMissing(2),
    ],
    ids=repr,
)
def test_stale_stimulus_changes_nothing(stale: Stimulus) -> None:
    world = over()
    before = world.machine.fingerprint()
    out = world.send(stale)
    if isinstance(stale, ExecuteSuccess | ExecuteFailure):
        assert out == [DropData(stale.key, stale.attempt)]
    elif isinstance(stale, GatherSuccess):
        assert out == [DropData(key, stale.attempt) for key in stale.data]
    else:
        assert out == []
    assert world.machine.fingerprint() == before


def test_attempt_that_ends_twice_does_not_take_the_value_away() -> None:
    world = new()
    world.play(ComputeTask("x", 1, 1), ExecuteSuccess("x", 1, 5, "int"))
    assert world.send(ExecuteSuccess("x", 1, 5, "int")) == []
    assert world.machine.phase("x") == "memory"


def test_gather_brings_what_was_not_asked_for() -> None:
    world = new()
    world.send(AcquireReplicas({"x": (P,)}))
    out = world.send(GatherSuccess(P, 1, {"x": INT, "y": INT}))
    assert out == [AddKeys(("x",)), DropData("y", 1)]


@pytest.mark.parametrize(
    "impossible",
    [
        ExecuteSuccess("x", 99, 5, "int"),
        ExecuteFailure("x", 99, "ValueError"),
        ExecuteReschedule("x", 99),
        ExecuteCancelled("x", 99),
        Secede("x", 99),
        GatherSuccess(P, 99, {}),
        GatherBusy(P, 99),
        GatherNetworkFailure(P, 99),
        GatherFailure(P, 99, "UnpicklingError"),
    ],
    ids=repr,
)
def test_attempt_that_was_never_begun_is_refused(impossible: Stimulus) -> None:
    machine = over().machine
    before = machine.snapshot()
    with pytest.raises(StimulusError, match=r"99 .*was never begun"):
        machine.handle(impossible)
    assert machine.snapshot() == before


def test_value_put_here_ends_the_flight() -> None:
    world = new()
    world.send(AcquireReplicas({"x": (P,)}))
    out = world.send(UpdateData({"x": INT}, -1))
    assert out == [AddKeys(("x",)), CancelGather(P, 1, ("x",))]
    assert world.send(GatherSuccess(P, 1, {"x": INT})) == [DropData("x", 1)]
    assert world.machine.phase("x") == "memory"
