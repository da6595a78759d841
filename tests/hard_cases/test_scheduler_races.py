"""Hard cases of messages that cross: the scheduler acts on what was true a moment ago.

The last four are of distributed 2026.8 as it runs in production, reported nowhere that we know
of: random sequences of messages turned them up. Each is told to both machines.
"""

import pytest
from hard_cases.cast import CONFIG, HERE, INT, P, Q, R, distributed, ours, tell
from reference import wsm

from trouper.runtime.ledger import Config, Limits
from trouper.wire.instructions import (
    AddKeys,
    DropData,
    DropSpec,
    Execute,
    FindMissingLater,
    ReleaseWorkerData,
    TaskFinished,
)
from trouper.wire.stimuli import (
    AcquireReplicas,
    ComputeTask,
    ExecuteFailure,
    ExecuteSuccess,
    FreeKeys,
    GatherBusy,
    GatherNetworkFailure,
    GatherSuccess,
    Pause,
    RemoveReplicas,
    RemoveWorker,
    Stimulus,
)


def test_6244_replica_that_is_awaited_is_to_be_computed_instead() -> None:
    """A replica is asked for, and before its turn comes it is to be computed (distributed #6244).

    A worker retires and its data are to move here; it dies before x was fetched, and the
    scheduler asks this worker to compute x. No task here depends on x, so on its way from "fetch"
    to "waiting" it passed through "released" and was forgotten there, and with it the request.
    Mended by distributed #6248.

    Here the request for the computation replaces the one for the replica; nothing is passed
    through.
    """
    world = ours()
    world.play(AcquireReplicas({"other": (P,)}), AcquireReplicas({"x": (P,)}))
    assert world.machine.phase("x") == "fetch"
    out = world.send(ComputeTask("x", 1, 1))
    assert out == [Execute("x", 2, 1, 1, "thread", ())]
    assert world.send(GatherNetworkFailure(P, 1)) == [FindMissingLater(3, 1.0)]  # for the other
    out = world.send(ExecuteSuccess("x", 2, *INT))
    assert out == [DropSpec("x", 1), TaskFinished("x", 1, 2, *INT)]


# A replica that is still awaited becomes a task with an input


Held = tuple[Config, tuple[Stimulus, ...]]

AWAITED: dict[str, Held] = {
    "paused": (CONFIG, (Pause(), AcquireReplicas({"y": (P,)}))),
    "peer busy": (CONFIG, (AcquireReplicas({"y": (P,)}), GatherBusy(P, 1))),
    "limit reached": (
        Config(address=HERE, limits=Limits(incoming_count=1, incoming_throttle_nbytes=0)),
        (AcquireReplicas({"other": (Q,)}), AcquireReplicas({"y": (P,)})),
    ),
}
"""What can hold a replica in "fetch"."""

COMPUTED_INSTEAD = ComputeTask("y", 1, 1, who_has={"x": (R,)})


@pytest.mark.parametrize("held", AWAITED.values(), ids=AWAITED)
def test_replica_still_awaited_becomes_a_task_with_an_input(held: Held) -> None:
    """A replica y is awaited and then to be computed, from an input that is not here.

    In distributed y passes through "released", which recommends that x, needed by nobody yet, be
    released too; then through "waiting", which recommends that x be fetched. The two
    recommendations contradict each other, an exception is raised and the worker closes, with all
    that it holds. Pause, acquire y, compute y(x): three messages are enough.

    Here the new claim takes y out of one place, and settling puts it into another.
    """
    config, story = held
    world = ours(config)
    world.play(*story)
    assert world.machine.phase("y") == "fetch"
    world.send(COMPUTED_INSTEAD)
    assert world.machine.phase("y") == "waiting"
    world.drain()
    assert world.machine.phase("y") == "memory"


@pytest.mark.parametrize("held", AWAITED.values(), ids=AWAITED)
def test_replica_becomes_a_task_with_an_input_still_fails_in_distributed(held: Held) -> None:
    """The recommendations for x conflict: the exception closes the worker."""
    config, story = held
    reference = distributed(config)
    tell(reference, *story)
    assert reference.phase("y") == "fetch"
    with pytest.raises(wsm.InvalidTransition) as raised:
        reference.handle(COMPUTED_INSTEAD)
    assert isinstance(raised.value.__cause__, wsm.RecommendationsConflict)


# A task that was in flight is to be computed, and a dependent of old is freed


def dependent_is_freed(ending: Stimulus) -> tuple[Stimulus, ...]:
    """A key x is in flight for the second time, and a task that used it the first time is freed."""
    return (
        ComputeTask("old", 1, 1, who_has={"x": (P,)}),
        GatherSuccess(P, 1, {"x": INT}),
        ending,
        RemoveReplicas(("x",)),
        AcquireReplicas({"x": (P,)}),
        RemoveWorker(P),
        ComputeTask("x", 2, 2),
        FreeKeys(("old",)),
    )


ENDINGS = [ExecuteSuccess("old", 2, *INT), ExecuteFailure("old", 2, "ValueError")]


@pytest.mark.parametrize("ending", ENDINGS, ids=["memory", "error"])
def test_task_to_be_computed_outlives_its_dependent(ending: Stimulus) -> None:
    """A replica x is on its way, its holder dies, x is to be computed; an old dependent goes.

    In distributed, releasing a task also releases those of its inputs that nobody waits for and
    that are not being processed; "resumed", which is x's state until the gather has failed, does
    not count as being processed. So x is cancelled, the gather fails, x is forgotten, and the
    scheduler waits for x for ever.

    Here the scheduler's claim on x does not depend on who has x as an input.
    """
    world = ours()
    world.play(*dependent_is_freed(ending))
    assert world.machine.phase("x") == "resumed(flight->waiting)"
    assert world.send(GatherNetworkFailure(P, 3)) == [Execute("x", 4, 2, 2, "thread", ())]
    assert world.send(ExecuteSuccess("x", 4, *INT))[-1] == TaskFinished("x", 2, 4, *INT)


@pytest.mark.parametrize("ending", ENDINGS, ids=["memory", "error"])
def test_task_to_be_computed_is_forgotten_still_fails_in_distributed(ending: Stimulus) -> None:
    """When the gather fails, nothing is executed, and x is unknown."""
    reference = distributed()
    tell(reference, *dependent_is_freed(ending))
    assert reference.phase("x") == "cancelled(flight)"
    assert tell(reference, GatherNetworkFailure(P, 3)) == []
    assert not reference.state.tasks


# The answer to a stale report


ANSWERED_IN_FLIGHT = (
    ComputeTask("x", 1, 1),
    ExecuteSuccess("x", 1, *INT),
    FreeKeys(("x",)),
    ComputeTask("y", 2, 2, who_has={"x": (P,)}),
    FreeKeys(("x",)),
)
"""task-finished of x, run 1, is still travelling while x is freed, computed again at P and needed
here for y; the scheduler answers the stale run with free-keys."""


def test_answer_to_a_stale_report_finds_the_key_in_flight() -> None:
    """The scheduler frees what it takes for the result of an old run, and hits a new fetch.

    In distributed, free-keys cancels the flight of x although y waits for it: x arrives, is
    dropped, and y waits for ever.

    Here free-keys ends the claim of the scheduler. The need of the waiting task is another, and
    remains.
    """
    world = ours()
    assert world.play(*ANSWERED_IN_FLIGHT) == []
    assert world.machine.phase("x") == "flight"
    out = world.send(GatherSuccess(P, 2, {"x": INT}))
    assert out == [AddKeys(("x",)), Execute("y", 3, 2, 2, "thread", (("x", 2),))]


def test_answer_to_a_stale_report_strands_a_task_still_fails_in_distributed() -> None:
    """The input x arrives and is dropped; y waits, and nothing is under way that could end it."""
    reference = distributed()
    tell(reference, *ANSWERED_IN_FLIGHT)
    assert reference.phase("x") == "cancelled(flight)"
    assert tell(reference, GatherSuccess(P, 2, {"x": INT})) == []
    assert reference.phase("y") == "waiting"
    assert reference.phase("x") == "released"
    assert not reference.flights


Queued = tuple[Config, str, tuple[Stimulus, ...], Stimulus]

QUEUED: list[Queued] = [
    (
        CONFIG,
        "ready",
        (ComputeTask("other", 1, 1), ComputeTask("y", 2, 2, who_has={"x": (P,)})),
        ExecuteSuccess("other", 1, *INT),
    ),
    (
        Config(address=HERE, slots={"thread": 2}, resources={"gpu": 1}),
        "constrained",
        (
            ComputeTask("other", 1, 1, resources={"gpu": 1}),
            ComputeTask("y", 2, 2, who_has={"x": (P,)}, resources={"gpu": 1}),
        ),
        ExecuteSuccess("other", 1, *INT),
    ),
    (
        CONFIG,
        "waiting",
        (
            AcquireReplicas({"other": (Q,)}),
            ComputeTask("y", 2, 2, who_has={"x": (P,), "other": (Q,)}),
        ),
        GatherSuccess(Q, 1, {"other": INT}),
    ),
]
"""What y waits for when free-keys comes, and the stimulus that then lets it start. x is asked for
with attempt 2."""


@pytest.mark.parametrize("queued", QUEUED, ids=lambda queued: queued[1])
def test_answer_to_a_stale_report_finds_the_key_under_a_task_that_will_use_it(
    queued: Queued,
) -> None:
    """The same, and x has already arrived when it is freed.

    In distributed x is dropped under y, which is ready, constrained, or waits for another input:
    y starts without x and fails with a KeyError that has nothing to do with the user's code.

    Here what a task waits with, it has when it starts.
    """
    config, phase, story, start = queued
    world = ours(config)
    world.play(*story, GatherSuccess(P, 2, {"x": INT}))
    assert world.machine.phase("y") == phase
    assert world.send(FreeKeys(("x",))) == []
    execute = world.send(start)[-1]
    assert isinstance(execute, Execute)
    assert execute.key == "y"
    assert ("x", 2) in execute.inputs
    out = world.send(ExecuteSuccess("y", execute.attempt, *INT))
    assert out[-2:] == [DropData("x", 2), ReleaseWorkerData("x")]


@pytest.mark.parametrize("queued", QUEUED, ids=lambda queued: queued[1])
def test_task_starts_without_its_input_still_fails_in_distributed(queued: Queued) -> None:
    """The task y is executed while x is not there."""
    config, phase, story, start = queued
    reference = distributed(config)
    tell(reference, *story, GatherSuccess(P, 2, {"x": INT}))
    assert reference.phase("y") == phase
    assert tell(reference, FreeKeys(("x",))) == [ReleaseWorkerData("x")]
    execute = tell(reference, start)[-1]
    assert isinstance(execute, Execute)
    assert execute.key == "y"
    assert "x" not in reference.state.data
