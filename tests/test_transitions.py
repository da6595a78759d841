"""The tables, cell by cell, through `Machine.handle`; and what follows from them by `settle`."""

from itertools import product

import pytest
from model import World

from trouper.runtime.ledger import Config
from trouper.runtime.task import Goal, Result
from trouper.runtime.transitions import OUTCOMES, REQUESTS, Do, Outcome, Request, Standing, Verdict
from trouper.runtime.transitions import standing as standing_of
from trouper.wire.instructions import (
    AddKeys,
    DropData,
    DropSpec,
    Execute,
    FindMissingLater,
    Gather,
    Instruction,
    ReleaseWorkerData,
    RescheduleTask,
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
    ExecuteReschedule,
    ExecuteSuccess,
    FreeKeys,
    GatherFailure,
    GatherSuccess,
    Pause,
    RemoveReplicas,
    StealRequest,
    Stimulus,
    UpdateData,
)

P = "tcp://10.0.0.2:1"
Q = "tcp://10.0.0.3:1"

COMPUTE = ComputeTask("x", 7, 1)
ACQUIRE = AcquireReplicas({"x": (P, Q)}, {"x": 5})
FREE = FreeKeys(("x",))

EXECUTING: dict[Goal, tuple[Stimulus, ...]] = {
    Goal.NONE: (COMPUTE, FREE),
    Goal.COMPUTE: (COMPUTE,),
    Goal.FETCH: (COMPUTE, FREE, ACQUIRE),
}
FETCHING: dict[Goal, tuple[Stimulus, ...]] = {
    Goal.NONE: (ACQUIRE, FREE),
    Goal.COMPUTE: (ACQUIRE, COMPUTE),
    Goal.FETCH: (ACQUIRE,),
}
ENDINGS: dict[Outcome, tuple[dict[Goal, tuple[Stimulus, ...]], Stimulus]] = {
    Outcome.COMPUTED: (EXECUTING, ExecuteSuccess("x", 1, 5, "int")),
    Outcome.FETCHED: (FETCHING, GatherSuccess(P, 1, {"x": (5, "int")})),
    Outcome.FAILED: (EXECUTING, ExecuteFailure("x", 1, "ValueError")),
    Outcome.CANCELLED: (EXECUTING, ExecuteCancelled("x", 1)),
    Outcome.UNREADABLE: (FETCHING, GatherFailure(P, 1, "UnpicklingError")),
    Outcome.RESCHEDULED: (EXECUTING, ExecuteReschedule("x", 1)),
    Outcome.NOT_FETCHED: (FETCHING, GatherSuccess(P, 1, {})),
}
"""How an attempt numbered 1 comes to meet each goal, and how it ends."""

DROP = DropData("x", 1)
UNSPEC = DropSpec("x", 1)
FINISHED = TaskFinished("x", 7, 1, 5, "int")
ADDED = AddKeys(("x",))
AGAIN = Execute("x", 2, 7, 1, "thread", ())
FROM_P = Gather(P, 2, ("x",), 5)
FROM_Q = Gather(Q, 2, ("x",), 5)

EXPECTED: dict[Outcome, tuple[list[Instruction], list[Instruction], list[Instruction]]] = {
    # goal:                NONE    COMPUTE                              FETCH
    Outcome.COMPUTED:    ([DROP], [UNSPEC, FINISHED],                  [ADDED]),
    Outcome.FETCHED:     ([DROP], [UNSPEC, FINISHED],                  [ADDED]),
    Outcome.FAILED:      ([DROP], [UNSPEC, TaskErred("x", 7, 1)],      [DROP, FROM_P]),
    Outcome.CANCELLED:   ([],     [AGAIN],                             [FROM_P]),
    Outcome.UNREADABLE:  ([DROP], [DROP, AGAIN],                       [TaskErred("x", 0, 1)]),
    Outcome.RESCHEDULED: ([],     [RescheduleTask("x"), UNSPEC],       [FROM_P]),
    Outcome.NOT_FETCHED: ([],     [AGAIN],                             [FROM_Q]),
}  # fmt: skip

PHASES: dict[Verdict, dict[Goal, str]] = {
    Verdict.DROP: {Goal.NONE: "released"},
    Verdict.FINISHED: {Goal.COMPUTE: "memory"},
    Verdict.ADDED: {Goal.FETCH: "memory"},
    Verdict.ERRED: {Goal.COMPUTE: "error", Goal.FETCH: "error"},
    Verdict.RESCHEDULED: {Goal.COMPUTE: "released"},
    Verdict.KEEP_GOAL: {Goal.COMPUTE: "executing", Goal.FETCH: "flight"},
}


@pytest.mark.parametrize("goal", Goal)
@pytest.mark.parametrize("outcome", EXPECTED)
def test_outcome_meets_goal(outcome: Outcome, goal: Goal) -> None:
    situations, ending = ENDINGS[outcome]
    world = World(Config())
    world.play(*situations[goal])
    assert world.machine.ledger.tasks["x"].goal is goal
    assert world.send(ending) == EXPECTED[outcome][goal]
    assert world.machine.phase("x") == PHASES[OUTCOMES[outcome][goal]][goal]


def test_every_outcome_meets_every_goal() -> None:
    assert EXPECTED.keys() == ENDINGS.keys() == OUTCOMES.keys() == set(Outcome)
    for outcome, cells in OUTCOMES.items():
        assert len(cells) == len(EXPECTED[outcome]) == len(Goal)


SITUATIONS: dict[Standing, tuple[Stimulus, ...]] = {
    Standing.RELEASED: (  # y is in flight and may arrive: it does not need x yet
        AcquireReplicas({"y": (P,)}),
        ComputeTask("y", 1, 1, who_has={"x": (P,)}),
    ),
    Standing.QUEUED: (Pause(), COMPUTE),
    Standing.SOUGHT: (Pause(), ACQUIRE),
    Standing.BUSY: (COMPUTE,),
    Standing.MEMORY: (UpdateData({"x": (5, "int")}, -1),),
    Standing.ERROR: (COMPUTE, ExecuteFailure("x", 1, "ValueError")),
}
ASKED: dict[Request, tuple[Stimulus, ...]] = {
    Request.COMPUTE: (ComputeTask("x", 8, 2),),
    Request.REPLICA: (ACQUIRE,),
    Request.UPDATE: (UpdateData({"x": (5, "int")}, -9),),
    Request.FREE: (FREE,),
    Request.REMOVE: (RemoveReplicas(("x",)),),
    Request.STEAL: (StealRequest("x", "s"), CancelCompute("x")),
    Request.CANCEL: (CancelTask("x"),),
}
AFTER: dict[Request, tuple[str, ...]] = {
    # standing: RELEASED, QUEUED, SOUGHT, BUSY, MEMORY, ERROR; all while the worker is paused
    Request.COMPUTE: ("ready", "ready", "ready", "executing", "memory", "ready"),
    Request.REPLICA: ("fetch", "fetch", "fetch", "resumed(executing->fetch)", "memory", "fetch"),
    Request.UPDATE: ("memory", "memory", "memory", "cancelled(executing)", "memory", "memory"),
    Request.FREE: ("released",) * 3 + ("cancelled(executing)",) + ("released",) * 2,
    Request.REMOVE: ("released", "ready", "fetch", "executing", "released", "error"),
    Request.STEAL: ("released", "released", "fetch", "executing", "memory", "error"),
    Request.CANCEL: ("error",) * 3 + ("cancelled(executing)",) + ("error",) * 2,
}


@pytest.mark.parametrize("standing", Standing)
@pytest.mark.parametrize("request_", REQUESTS)
def test_request_meets_standing(request_: Request, standing: Standing) -> None:
    for asked in ASKED[request_]:
        world = World(Config())
        world.play(*SITUATIONS[standing], Pause())
        task = world.machine.ledger.tasks["x"]
        assert standing_of(task) is standing
        before = world.machine.snapshot()
        said = [word for word in world.send(asked) if not isinstance(word, StealResponse)]
        assert world.machine.phase("x") == AFTER[request_][standing]
        match REQUESTS[request_][standing]:
            case Do.CLAIM:
                assert task.claim.name == ("COMPUTE" if request_ is Request.COMPUTE else "FETCH")
                assert task.result is Result.NOTHING
            case Do.FINISHED:
                assert said == [DropSpec("x", 2), TaskFinished("x", 8, -1, 5, "int")]
            case Do.ADDED:
                assert said == [AddKeys(("x",))]
            case Do.PUT:
                assert (task.entry, task.hold, task.claim) == (-9, True, Goal.NONE)
            case Do.HOLD:
                assert said == [DropData("x", -9)]
                assert (task.entry, task.hold) == (-1, True)
            case Do.WITHDRAW:
                assert (task.claim, task.hold) == (Goal.NONE, False)
            case Do.REMOVE:
                assert said == [DropData("x", -1), ReleaseWorkerData("x")]
            case Do.FAIL:
                assert TaskErred("x", task.run_id, 0, None, cancelled=True) in said
            case Do.IGNORE:
                assert said == []
                assert world.machine.snapshot() == before


def test_every_request_meets_every_standing() -> None:
    assert ASKED.keys() == AFTER.keys() == REQUESTS.keys() == set(Request)
    assert SITUATIONS.keys() == set(Standing)
    for request_, standing in product(Request, Standing):
        assert REQUESTS[request_][standing] in Do
        assert AFTER[request_][standing]
    assert {len(cells) for cells in REQUESTS.values()} == {len(Standing)}
    assert {do for cells in REQUESTS.values() for do in cells} == set(Do)


def test_first_missing_key_starts_the_timer_and_others_share_it() -> None:
    world = World(Config())
    assert world.send(AcquireReplicas({"x": ()})) == [FindMissingLater(1, 1.0)]
    assert world.send(AcquireReplicas({"y": ()})) == []
