"""The phase grid: each cell reached by what really happens, and named as the grid says."""

import pytest
from model import World

from trouper.runtime.ledger import Config
from trouper.runtime.task import Executing, Fetching, Goal, Task
from trouper.wire.stimuli import (
    AcquireReplicas,
    ComputeTask,
    ExecuteFailure,
    FreeKeys,
    Pause,
    Secede,
    Stimulus,
    UpdateData,
)

P = "tcp://10.0.0.2:1"

EXECUTE = (ComputeTask("x", 1, 1),)
SECEDED = (*EXECUTE, Secede("x", 1))
FETCH = (AcquireReplicas({"x": (P,)}),)
FREE = FreeKeys(("x",))
INPUT_OF_Y = (  # y is in flight, so it does not need x before it is known how that ends
    AcquireReplicas({"y": (P,)}),
    ComputeTask("y", 1, 1, who_has={"x": (P,)}),
)

GRID: dict[str, tuple[Stimulus, ...]] = {
    "released": INPUT_OF_Y,
    "waiting": (Pause(), ComputeTask("x", 1, 1, who_has={"y": (P,)})),
    "ready": (Pause(), ComputeTask("x", 1, 1)),
    "constrained": (Pause(), ComputeTask("x", 1, 1, resources={"gpu": 1})),
    "fetch": (Pause(), AcquireReplicas({"x": (P,)})),
    "missing": (AcquireReplicas({"x": ()}),),
    "executing": EXECUTE,
    "long-running": SECEDED,
    "flight": FETCH,
    "cancelled(executing)": (*EXECUTE, FREE),
    "cancelled(long-running)": (*SECEDED, FREE),
    "cancelled(flight)": (*FETCH, FREE),
    "resumed(executing->fetch)": (*EXECUTE, FREE, *FETCH),
    "resumed(long-running->fetch)": (*SECEDED, FREE, *FETCH),
    "resumed(flight->waiting)": (*FETCH, *EXECUTE),
    "memory": (UpdateData({"x": (1, "int")}, -1),),
    "error": (*EXECUTE, ExecuteFailure("x", 1, "ValueError")),
}

GOALS = {
    Goal.NONE: {
        *("released", "memory", "error"),
        *("cancelled(executing)", "cancelled(long-running)", "cancelled(flight)"),
    },
    Goal.COMPUTE: {
        *("waiting", "ready", "constrained", "executing", "long-running"),
        "resumed(flight->waiting)",
    },
    Goal.FETCH: {
        *("fetch", "missing", "flight"),
        *("resumed(executing->fetch)", "resumed(long-running->fetch)"),
    },
}


def reach(phase: str) -> Task:
    world = World(Config(resources={"gpu": 1}))
    world.play(*GRID[phase])
    return world.machine.ledger.tasks["x"]


@pytest.mark.parametrize("phase", GRID)
def test_phase(phase: str) -> None:
    assert reach(phase).phase == phase


@pytest.mark.parametrize("goal", GOALS)
def test_phase_tells_the_goal(goal: Goal) -> None:
    for phase in GOALS[goal]:
        assert reach(phase).goal is goal


def test_phase_tells_the_activity() -> None:
    for phase in GRID:
        activity = reach(phase).activity
        assert isinstance(activity, Executing) == ("executing" in phase or "long-" in phase), phase
        assert isinstance(activity, Fetching) == ("flight" in phase), phase


def test_the_grid_is_complete() -> None:
    assert set().union(*GOALS.values()) == GRID.keys()


def test_unwanted_attempt_shows_even_if_there_is_a_result() -> None:
    """A value put here from outside answers the claim; the attempt that runs is for nobody."""
    world = World(Config())
    world.play(*EXECUTE, UpdateData({"x": (1, "int")}, -1))
    assert world.machine.phase("x") == "cancelled(executing)"


@pytest.mark.parametrize(
    ("task", "goal"),
    [
        (Task("x", 1, claim=Goal.FETCH, local_needs=1), Goal.COMPUTE),
        (Task("x", 1, claim=Goal.COMPUTE, remote_needs=1), Goal.COMPUTE),
        (Task("x", 1, claim=Goal.FETCH), Goal.FETCH),
        (Task("x", 1, remote_needs=2), Goal.FETCH),
        (Task("x", 1), Goal.NONE),
    ],
)
def test_compute_outranks_fetch(task: Task, goal: Goal) -> None:
    assert task.goal is goal


def test_unknown_key_is_released() -> None:
    assert World(Config()).machine.phase("x") == "released"
