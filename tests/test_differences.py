"""Where our machine differs from distributed's on purpose: one test for each, showing both.

The names are those of `differential/differences.md` and of the counters in `mended.py` there.
Distributed is taken as it is, not mended. Each story is one that a scheduler can tell.
"""

from pathlib import Path

import pytest
from duel import said
from reference import Reference

from trouper.runtime.ledger import Config, Limits
from trouper.runtime.machine import Machine
from trouper.wire.instructions import CancelExecute, FindMissingLater
from trouper.wire.stimuli import (
    AcquireReplicas,
    CancelCompute,
    ComputeTask,
    ExecuteCancelled,
    ExecuteSuccess,
    FindMissing,
    FreeKeys,
    GatherBusy,
    GatherFailure,
    GatherNetworkFailure,
    GatherSuccess,
    Pause,
    RemoveReplicas,
    StealRequest,
    Stimulus,
    Unpause,
    UpdateData,
)

HERE = "tcp://10.0.0.1:1"
P = "tcp://10.0.0.2:1"
Q = "tcp://10.0.0.3:1"
ONE = (1, "int")

ADD_KEYS = [("AddKeys", ())]
RELEASED = [("ReleaseWorkerData", ())]


class Both:
    """Our machine and distributed's, told the same."""

    def __init__(self, config: Config | None = None, *, validate: bool = True) -> None:
        config = config or Config(address=HERE)
        self.machine = Machine(config)
        self.reference = Reference(config, validate=validate)

    def tell(self, *stimuli: Stimulus) -> None:
        """Let this have happened."""
        for stimulus in stimuli:
            self.ours = self.machine.handle(stimulus)
            self.theirs = self.reference.handle(stimulus)

    def said(self, about: str) -> tuple[object, object]:
        """What each has said last of a key or a peer."""
        return said(self.ours).get(about, []), said(self.theirs).get(about, [])

    def phases(self, key: str) -> tuple[str, str]:
        """Where each has a task."""
        return self.machine.phase(key), self.reference.phase(key)


def started(key_and_inputs: tuple[object, object], run_id: int = 1) -> tuple[bool, bool]:
    """Who of both has started an attempt."""
    ours, theirs = (
        any(name == "Execute" and fields[0] == run_id for name, fields in words)  # type: ignore
        for words in key_and_inputs
    )
    return ours, theirs


# What distributed does because its states know no claims


def test_inputs_stay() -> None:
    """Whoever runs or waits to run keeps what it runs with (distributed #6893)."""
    both = Both()
    both.tell(
        UpdateData({"x": ONE}, -1),
        ComputeTask("y", 1, 1, who_has={"x": (HERE,)}),
        FreeKeys(("x",)),
    )
    assert both.said("x") == ([], RELEASED)
    both.tell(ExecuteSuccess("y", 1, *ONE))
    assert both.said("x") == (RELEASED, [])


def test_inputs_stay_under_a_task_that_is_ready() -> None:
    """Distributed 2026.8 in production runs y without its input."""
    both = Both(validate=False)
    both.tell(
        ComputeTask("busy", 1, 1),
        UpdateData({"x": ONE}, -1),
        ComputeTask("y", 1, 2, who_has={"x": (HERE,)}),
        FreeKeys(("x",)),
        ExecuteSuccess("busy", 1, *ONE),
    )
    assert started(both.said("y")) == (True, True)
    assert both.phases("x") == ("memory", "released")


def test_needs_stand() -> None:
    """A stale run of x is answered with free-keys, while y here waits for a copy of x."""
    both = Both(validate=False)
    both.tell(ComputeTask("y", 1, 1, who_has={"x": (P,)}, nbytes={"x": 1}), FreeKeys(("x",)))
    assert both.phases("x") == ("flight", "cancelled(flight)")
    both.tell(GatherSuccess(P, 1, {"x": ONE}))
    assert started(both.said("y")) == (True, False)
    assert both.phases("y") == ("executing", "waiting")


def test_compute_claims_stand() -> None:
    """Y is in memory and goes; distributed gives up the computation of its former input x."""
    both = Both(validate=False)
    both.tell(
        ComputeTask("y", 1, 1, who_has={"x": (P,)}, nbytes={"x": 1}),
        GatherSuccess(P, 1, {"x": ONE}),
        ExecuteSuccess("y", 2, *ONE),
        FreeKeys(("x",)),
        AcquireReplicas({"x": (P,)}, {"x": 1}),
        ComputeTask("x", 5, 2),
        FreeKeys(("y",)),
    )
    assert both.phases("x") == ("resumed(flight->waiting)", "cancelled(flight)")
    both.tell(GatherNetworkFailure(P, 3))
    assert started(both.said("x"), run_id=5) == (True, False)
    assert both.phases("x") == ("executing", "released")


def test_compute_claims_outlive_news() -> None:
    """That a peer holds x does not end the request to compute x here."""
    both = Both()
    both.tell(ComputeTask("x", 1, 1), ComputeTask("y", 2, 1, who_has={"x": (P,)}, nbytes={"x": 1}))
    assert both.phases("x") == ("executing", "resumed(executing->fetch)")
    both.tell(ExecuteSuccess("x", 1, *ONE))
    assert both.said("x") == ([("TaskFinished", (1, *ONE))], ADD_KEYS)


def test_what_came_is_kept() -> None:
    """One gather brings x; y was in it too, but is to be computed, and takes x."""
    both = Both()
    both.tell(
        AcquireReplicas({"x": (P,), "y": (P,)}, {"x": 1, "y": 1}),
        ComputeTask("y", 1, 1, who_has={"x": (P,)}, nbytes={"x": 1}),
        GatherSuccess(P, 1, {"x": ONE}),
    )
    assert both.said("x") == (ADD_KEYS, [])
    assert both.phases("x") == ("memory", "flight")
    assert started(both.said("y")) == (True, False)


def test_copies_outlive_needs() -> None:
    """A copy was asked for; a task that needed it too is freed."""
    both = Both()
    both.tell(
        AcquireReplicas({"x": (P,)}, {"x": 1}),
        ComputeTask("y", 1, 1, who_has={"x": (P,)}, nbytes={"x": 1}),
        FreeKeys(("y",)),
    )
    assert both.phases("x") == ("flight", "cancelled(flight)")


def test_failures_stay_known() -> None:
    """Until the key is freed: the scheduler has been told of it."""
    both = Both()
    both.tell(
        ComputeTask("y", 1, 1, who_has={"x": (P,)}, nbytes={"x": 1}),
        GatherFailure(P, 1, "UnpicklingError"),
        FreeKeys(("y",)),
    )
    assert both.phases("x") == ("error", "released")


def test_failures_end_with_news() -> None:
    """It is in flight as a copy when y is to be computed, so y does not wait for x yet."""
    both = Both()
    both.tell(
        AcquireReplicas({"x": (P,)}, {"x": 1}),
        GatherFailure(P, 1, "UnpicklingError"),
        AcquireReplicas({"y": (P,)}, {"y": 1}),
        ComputeTask("y", 1, 1, who_has={"x": (Q,)}, nbytes={"x": 1}),
    )
    assert both.phases("x") == ("released", "error")


def test_unreadable_inputs() -> None:
    """Who waits for an input that cannot be read fails with it: nobody else would tell."""
    both = Both()
    both.tell(
        ComputeTask("y", 1, 1, who_has={"x": (P,)}, nbytes={"x": 1}),
        GatherFailure(P, 1, "UnpicklingError"),
    )
    assert both.phases("x") == ("error", "error")
    assert both.phases("y") == ("error", "waiting")
    assert both.said("y") == ([("TaskErred", (1, False))], [])


def test_add_keys_for_what_is_held() -> None:
    """A scheduler that asks for a copy does not know of the one that is here."""
    both = Both()
    both.tell(UpdateData({"x": ONE}, -1), AcquireReplicas({"x": (P,)}, {"x": 1}))
    assert both.said("x") == (ADD_KEYS, [])


def test_add_keys_for_what_stays() -> None:
    """A copy that is to be removed and that a task here still uses (here: ready, or running)."""
    both = Both(validate=False)
    both.tell(
        ComputeTask("busy", 1, 1),
        UpdateData({"x": ONE}, -1),
        ComputeTask("y", 2, 1, who_has={"x": (HERE, P)}),
        RemoveReplicas(("x",)),
    )
    assert both.said("x") == (ADD_KEYS, RELEASED)
    both = Both(validate=False)
    both.tell(UpdateData({"x": ONE}, -1), ComputeTask("y", 2, 1, who_has={"x": (HERE, P)}))
    with pytest.raises(RuntimeError, match="Cannot remove replica"):
        both.tell(RemoveReplicas(("x",)))
    assert both.said("x")[0] == ADD_KEYS


# What distributed forgets, and what it does not


def test_links_linger() -> None:
    """X stays known as the input of a task that is done, and with it a priority of long ago."""
    config = Config(address=HERE, limits=Limits(message_nbytes=1))
    both = Both(config)
    both.tell(
        ComputeTask("y", 1, 1, priority=(0,), who_has={"x": (P,)}, nbytes={"x": 1}),
        GatherSuccess(P, 1, {"x": ONE}),
        ExecuteSuccess("y", 2, *ONE),
        RemoveReplicas(("x",)),
        Pause(),
        AcquireReplicas({"older": (P,)}, {"older": 1}),
        AcquireReplicas({"x": (P,)}, {"x": 1}),
        Unpause(),
    )
    assert both.said(P) == ([("Gather", (["older"], 1))], [("Gather", (["x"], 1))])


def test_links_to_old_inputs_linger() -> None:
    """X is computed again after free, without the input that it had."""
    both = Both()
    both.tell(
        UpdateData({"old": ONE}, -1),
        ComputeTask("x", 1, 1, who_has={"old": (HERE,)}),
        ExecuteSuccess("x", 1, *ONE),
        ComputeTask("y", 2, 1, who_has={"x": (HERE,)}),
        ExecuteSuccess("y", 2, *ONE),
        FreeKeys(("x",)),
        ComputeTask("x", 3, 2),
    )
    ours, theirs = both.said("x")
    assert ours == [("Execute", (3, 2, [], ()))]
    assert theirs == [("Execute", (3, 2, ["old"], ()))]


def test_holders_remembered() -> None:
    """A copy could not be read and is asked for again: distributed forgets what it is just told."""
    both = Both()
    both.tell(
        AcquireReplicas({"x": (P,)}, {"x": 1}),
        GatherFailure(P, 1, "UnpicklingError"),
        AcquireReplicas({"x": (P,)}, {"x": 1}),
    )
    assert both.phases("x") == ("flight", "missing")


def test_fetch_without_holders() -> None:
    """The scheduler still takes this worker for a holder of x; nobody else is."""
    both = Both(validate=False)
    both.tell(
        Pause(),
        AcquireReplicas({"x": (P,)}, {"x": 1}),
        ComputeTask("y", 1, 1, who_has={"x": (HERE,)}, nbytes={"x": 1}),
    )
    assert both.phases("x") == ("missing", "fetch")
    both.tell(FindMissing(1))
    assert both.said("x") == ([("RequestRefreshWhoHas", ())], [])


def test_left_out_not_lost() -> None:
    """A peer need not send what was cancelled; so what it leaves out it may still hold."""
    both = Both()
    both.tell(
        AcquireReplicas({"x": (P,), "y": (P,)}, {"x": 1, "y": 1}),
        FreeKeys(("x",)),
        ComputeTask("z", 1, 1, who_has={"x": (P,)}, nbytes={"x": 1}),
        GatherSuccess(P, 1, {"y": ONE}),
    )
    assert both.phases("x") == ("flight", "missing")


def test_nobody_seeks_the_unwanted() -> None:
    """A peer is busy; nobody wants any more what it was asked for."""
    both = Both()
    both.tell(AcquireReplicas({"x": (P,)}, {"x": 1}), FreeKeys(("x",)), GatherBusy(P, 1))
    assert both.said("x") == ([], [("RequestRefreshWhoHas", ())])


def test_size_of_a_copy() -> None:
    """Ours believes the peer that sends a value, distributed the scheduler that named the size."""
    both = Both()
    both.tell(AcquireReplicas({"x": (P,)}, {"x": 1}), GatherSuccess(P, 1, {"x": (5, "int")}))
    assert both.machine.ledger.nbytes == 5
    assert both.reference.counters()["nbytes"] == 1


# What starts next


def test_late_choice() -> None:
    """The slot that x frees goes to the best of all, though x is what unblocks it."""
    both = Both()
    both.tell(
        ComputeTask("x", 1, 1),
        ComputeTask("low", 1, 2, priority=(5,)),
        FreeKeys(("x",)),
        ComputeTask("high", 1, 3, priority=(0,), who_has={"x": (P,)}, nbytes={"x": 1}),
        ExecuteSuccess("x", 1, *ONE),
    )
    assert started(both.said("high")) == (True, False)
    assert started(both.said("low")) == (False, True)


def test_resources_passed_by() -> None:
    """A task that waits for a resource does not hold up those that take others."""
    both = Both(Config(slots={"thread": 3}, resources={"gpu": 1, "licence": 1}, address=HERE))
    both.tell(
        ComputeTask("a", 1, 1, resources={"gpu": 1}),
        ComputeTask("b", 1, 1, priority=(0,), resources={"gpu": 1}),
        ComputeTask("c", 1, 1, priority=(1,), resources={"licence": 1}),
    )
    assert started(both.said("c")) == (True, False)


def test_stale_priorities() -> None:
    """X comes again with priority 9, after z with 5; distributed's heap still has x under 0."""
    both = Both(validate=False)
    both.tell(
        ComputeTask("busy", 1, 1, priority=(0,)),
        ComputeTask("y", 1, 1, priority=(7,), who_has={"x": (P,)}, nbytes={"x": 1}),
        GatherSuccess(P, 2, {}),
        ComputeTask("z", 1, 1, priority=(5,)),
        ComputeTask("x", 1, 1, priority=(0,)),
        StealRequest("x", "steal-1"),
        ComputeTask("x", 2, 1, priority=(9,)),
        ExecuteSuccess("busy", 1, *ONE),
    )
    assert started(both.said("z")) == (True, False)
    assert started(both.said("x"), run_id=2) == (False, True)


def test_priorities_go_with_values() -> None:
    """X was computed here, late; y, which comes early, takes it when it has gone."""
    both = Both(Config(address=HERE, limits=Limits(message_nbytes=1)))
    both.tell(
        ComputeTask("x", 1, 1, priority=(5,)),
        ExecuteSuccess("x", 1, *ONE),
        AcquireReplicas({"y": (P,)}, {"y": 1}),
        ComputeTask("y", 2, 1, priority=(0,), who_has={"x": (Q,)}, nbytes={"x": 1}),
        FreeKeys(("x",)),
        Pause(),
        AcquireReplicas({"other": (Q,)}, {"other": 1}),
        GatherNetworkFailure(P, 2),
        Unpause(),
    )
    assert both.said(Q) == ([("Gather", (["x"], 1))], [("Gather", (["other"], 1))])


# Runs and attempts


def test_run_id_of_the_newest_request() -> None:
    """Or the scheduler would take the result for stale, and have it computed once more."""
    both = Both()
    both.tell(
        ComputeTask("x", 1, 1),
        FreeKeys(("x",)),
        ComputeTask("x", 2, 1),
        ExecuteSuccess("x", 1, *ONE),
    )
    assert both.said("x") == ([("TaskFinished", (2, *ONE))], [("TaskFinished", (1, *ONE))])


def test_outcome_of_another_spec() -> None:
    """X is computed again from another spec while the first attempt still runs."""
    both = Both()
    both.tell(
        ComputeTask("x", 1, 1),
        FreeKeys(("x",)),
        ComputeTask("x", 2, 2),
        ExecuteSuccess("x", 1, *ONE),
    )
    ours, theirs = both.said("x")
    assert ours == [("Execute", (2, 2, [], ()))]
    assert theirs == [("TaskFinished", (1, *ONE))]


def test_cancellation_of_what_is_wanted_again() -> None:
    """Ours ends attempts that nobody wants; one that is wanted again begins anew."""
    both = Both()
    both.tell(ComputeTask("x", 1, 1), FreeKeys(("x",)))
    assert CancelExecute("x", 1) in both.ours
    assert not both.theirs
    both.tell(ComputeTask("x", 2, 1), ExecuteCancelled("x", 1))
    assert started(both.said("x"), run_id=2) == (True, False)


# Where distributed falls over, in production too


def test_recommendations_conflict() -> None:
    """Y is held in fetch as a copy; then it is to be computed here, with an input to be fetched."""
    both = Both(validate=False)
    both.tell(Pause(), AcquireReplicas({"y": (P,)}, {"y": 1}))
    with pytest.raises(Exception, match="fetch->waiting"):
        both.tell(ComputeTask("y", 1, 1, who_has={"x": (P,)}, nbytes={"x": 1}))
    assert both.machine.phase("y") == "waiting"
    assert both.machine.phase("x") == "fetch"


def test_cancel_compute_of_an_input() -> None:
    """X is still known as the input of y, which is done."""
    both = Both(validate=False)
    both.tell(
        ComputeTask("x", 1, 1),
        ExecuteSuccess("x", 1, *ONE),
        ComputeTask("y", 2, 1, who_has={"x": (HERE,)}),
        ExecuteSuccess("y", 2, *ONE),
        FreeKeys(("x",)),
        Pause(),
        ComputeTask("x", 3, 1),
    )
    with pytest.raises(AssertionError):
        both.tell(CancelCompute("x"))
    assert both.machine.phase("x") == "released"


def test_scatter_meets_work() -> None:
    """A client puts a value here while the same key is being computed here."""
    both = Both(validate=False)
    both.tell(ComputeTask("x", 1, 1))
    with pytest.raises(AssertionError):
        both.tell(UpdateData({"x": ONE}, -1))
    assert both.said("x")[0] == [("TaskFinished", (1, *ONE))]
    assert both.machine.handle(ExecuteSuccess("x", 1, *ONE))[0].key == "x"  # type: ignore
    assert both.machine.phase("x") == "memory"


def test_scatter_meets_a_flight() -> None:
    """The gather fails, and distributed throws the value away that the client has put here."""
    both = Both(validate=False)
    both.tell(
        AcquireReplicas({"x": (P,)}, {"x": 1}),
        UpdateData({"x": ONE}, -1),
        GatherFailure(P, 1, "UnpicklingError"),
    )
    assert both.phases("x") == ("memory", "error")
    assert ("released", "error") in both.reference.transitions.seen


def test_timers() -> None:
    """Ours asks to be reminded when something becomes missing; distributed asks every second."""
    both = Both()
    both.tell(AcquireReplicas({"x": (P,)}, {"x": 1}), GatherNetworkFailure(P, 1))
    assert both.ours == [FindMissingLater(2, 1.0)]
    assert both.theirs == []


def test_every_difference_is_in_the_ledger() -> None:
    text = (Path(__file__).parent / "differential" / "differences.md").read_text()
    tests = [name for name in globals() if name.startswith("test_") and "ledger" not in name]
    assert not [name for name in tests if f"`{name}`" not in text]
