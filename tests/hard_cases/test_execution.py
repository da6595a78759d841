"""Hard cases of execution: what becomes of an attempt that outlives the wish for it.

Distributed has the states *cancelled* and *resumed* for such a task, each with the state it came
from and the one it is to go to; most of these stories are about a pair that nobody had thought
of. Here an attempt is an activity, the wish a goal, and an outcome is judged by the goal that the
task has by then (`transitions.OUTCOMES`): there is no pair to forget.
"""

import pytest
from hard_cases.cast import HERE, INT, P, distributed, ours, tell

from trouper.runtime.ledger import Config
from trouper.wire.instructions import (
    AddKeys,
    CancelExecute,
    DropData,
    DropSpec,
    Execute,
    Gather,
    Instruction,
    ReleaseWorkerData,
    RescheduleTask,
    TaskErred,
    TaskFinished,
)
from trouper.wire.stimuli import (
    ComputeTask,
    ExecuteCancelled,
    ExecuteFailure,
    ExecuteReschedule,
    ExecuteSuccess,
    FreeKeys,
    GatherSuccess,
    Pause,
    Secede,
    Stimulus,
    Unpause,
)

ONE_GPU = Config(address=HERE, slots={"thread": 2}, resources={"gpu": 1})


def test_6689_stolen_task_that_fails_here_is_fetched_from_its_thief() -> None:
    """A flaky task is stolen while it runs, and fails only here (distributed #6689).

    x runs here, is stolen and succeeds at P. y, which needs x, is sent here while the old attempt
    still runs; then that attempt fails. The cluster stood still: the failure was handled as if
    the scheduler had asked for it, so x became "error" and y waited for it for ever. Mended by
    distributed #6699.

    Here the failure meets the goal FETCH, and is dropped: x is fetched from P.
    """
    world = ours()
    assert world.send(ComputeTask("x", 1, 1)) == [Execute("x", 1, 1, 1, "thread", ())]
    assert world.send(FreeKeys(("x",))) == [DropSpec("x", 1), CancelExecute("x", 1)]
    assert world.send(ComputeTask("y", 2, 2, who_has={"x": (P,)})) == []
    assert world.machine.phase("x") == "resumed(executing->fetch)"
    out = world.send(ExecuteFailure("x", 1, "ValueError"))
    assert out == [DropData("x", 1), Gather(P, 2, ("x",), 0)]
    out = world.send(GatherSuccess(P, 2, {"x": INT}))
    assert out == [AddKeys(("x",)), Execute("y", 3, 2, 2, "thread", (("x", 2),))]


def test_6685_stolen_task_that_asks_to_be_rescheduled_is_fetched_from_its_thief() -> None:
    """The same, and the old attempt raises Reschedule (distributed #6685).

    There was no transition from "resumed" to "rescheduled": the worker killed itself, with all
    the data that it held. Mended by distributed #6913.

    Here a reschedule that nobody waits for is dropped as any other outcome, and not reported: the
    scheduler knows x to be in memory at P.
    """
    world = ours()
    world.play(
        ComputeTask("x", 1, 1), FreeKeys(("x",)), ComputeTask("y", 2, 2, who_has={"x": (P,)})
    )
    assert world.send(ExecuteReschedule("x", 1)) == [Gather(P, 2, ("x",), 0)]
    world.drain()
    assert world.machine.phase("y") == "memory"


@pytest.mark.parametrize(
    "ending",
    [
        ExecuteSuccess("x", 1, *INT),
        ExecuteFailure("x", 1, "ValueError"),
        ExecuteReschedule("x", 1),
        ExecuteCancelled("x", 1),
    ],
    ids=lambda ending: type(ending).__name__,
)
def test_6682_attempt_gives_its_resources_back_however_it_ends(ending: Stimulus) -> None:
    """A resource is lost for good when its task fails after it was stolen.

    The transitions that released resources were those of "executing"; a "resumed" task that
    failed went by another way (distributed #6682, #6915). Whatever else wanted the resource never
    ran. Mended by distributed #6699 and #6914.

    Here the activity owns what it took, and ending it gives everything back, on one path.
    """
    world = ours(ONE_GPU)
    world.play(
        ComputeTask("x", 1, 1, resources={"gpu": 1}),
        FreeKeys(("x",)),
        ComputeTask("y", 2, 2, who_has={"x": (P,)}),
        ComputeTask("z", 3, 3, resources={"gpu": 1}),
    )
    assert world.machine.phase("z") == "constrained"
    world.send(ending)
    assert world.machine.phase("z") == "executing"


def test_6869_new_spec_of_a_task_whose_old_attempt_still_runs() -> None:
    """A task is freed and asked for anew, with another function and without its old input.

    y(x) is about to run, is freed and comes back as another y, without inputs (distributed #6869).
    The coroutine that was to run it looked up the task when it got its turn: it found the new
    spec, or an input that was gone, or gave up without a word; y stayed "resumed" for ever, or
    the worker killed itself. Mended by distributed #6878.

    Here `Execute` is a snapshot: an attempt runs what it was told to run with what it was told to
    use. The spec_id of its outcome is not the one that is wanted by then, so the outcome is
    dropped and the new y starts.
    """
    world = ours()
    world.play(ComputeTask("y", 1, 1, who_has={"x": (P,)}), GatherSuccess(P, 1, {"x": INT}))
    assert world.machine.phase("y") == "executing"
    assert world.send(FreeKeys(("y", "x"))) == [DropSpec("y", 1), CancelExecute("y", 2)]
    assert world.send(ComputeTask("y", 2, 2)) == []
    assert world.machine.phase("x") == "memory"  # the old attempt may still use it
    assert world.send(ExecuteSuccess("y", 2, *INT)) == [
        DropData("y", 2),
        DropData("x", 1),
        ReleaseWorkerData("x"),
        Execute("y", 3, 2, 2, "thread", ()),
    ]
    out = world.send(ExecuteSuccess("y", 3, *INT))
    assert out == [DropSpec("y", 2), TaskFinished("y", 2, 3, *INT)]


def test_6869_attempt_that_gives_up_when_its_task_is_wanted_again_is_begun_again() -> None:
    """The same spec comes back, but the attempt has seen its cancellation: it has to run again."""
    world = ours()
    world.play(ComputeTask("x", 1, 1), FreeKeys(("x",)), ComputeTask("x", 2, 1))
    assert world.machine.phase("x") == "executing"
    assert world.send(ExecuteCancelled("x", 1)) == [Execute("x", 2, 2, 1, "thread", ())]


@pytest.mark.parametrize(
    ("ending", "told", "phase"),
    [
        (ExecuteSuccess("x", 1, *INT), TaskFinished("x", 1, 1, *INT), "memory"),
        (ExecuteFailure("x", 1, "ValueError"), TaskErred("x", 1, 1), "error"),
        (ExecuteReschedule("x", 1), RescheduleTask("x"), "released"),
    ],
    ids=["success", "failure", "reschedule"],
)
def test_6867_task_sent_to_a_worker_that_pauses_at_that_moment(
    ending: Stimulus, told: Instruction, phase: str
) -> None:
    """Compute-task and a change of status arrive in one packet (distributed #6867).

    The scheduler sends x and, just behind it, asks the worker to retire. x was "executing" before
    its coroutine had begun; the coroutine then found a worker that was not running any more, and
    ended without a word. When the worker went on after all, x was "executing" for ever and held
    its slot. Mended by distributed #6878.

    Here a pause takes nothing back, and every `Execute` has exactly one terminal stimulus, which
    is owed until it comes.
    """
    world = ours()
    execute = Execute("x", 1, 1, 1, "thread", ())
    assert world.send(ComputeTask("x", 1, 1)) == [execute]
    assert world.send(Pause()) == []
    assert world.owed == {1: execute}
    assert told in world.send(ending)
    assert world.machine.phase("x") == phase
    assert world.send(Unpause()) == []
    out = world.send(ComputeTask("next", 2, 2))
    assert out == [Execute("next", 2, 2, 2, "thread", ())]  # the slot is free


def test_6867_attempt_that_a_pausing_worker_gives_back_is_begun_again() -> None:
    """The same, and x is given back undone: it waits for the end of the pause, no longer."""
    world = ours()
    world.play(ComputeTask("x", 1, 1), Pause())
    assert world.send(ExecuteCancelled("x", 1)) == []
    assert world.machine.phase("x") == "ready"
    assert world.send(Unpause()) == [Execute("x", 2, 1, 1, "thread", ())]


FREED_WITH_ITS_INPUT = (
    ComputeTask("y", 1, 1, who_has={"x": (P,)}),
    GatherSuccess(P, 1, {"x": INT}),
    FreeKeys(("y", "x")),
)
COMPUTED_AGAIN = ComputeTask("y", 2, 1, who_has={"x": (P,)})


def test_6893_inputs_of_a_cancelled_task_stay_while_it_runs() -> None:
    """A task and its input are freed while the task runs, and then wanted again.

    Distributed lets x go at once (distributed #6893, open): its bytes stay occupied, by whom
    nobody can tell, and if y comes back before its coroutine has taken its inputs, it fails with
    a KeyError that has nothing to do with the user's code.

    Here the attempt pins its inputs until it has ended. So y may come back: the old attempt
    counts, it has had its input all the time, and x goes when it ends.
    """
    world = ours()
    out = world.play(*FREED_WITH_ITS_INPUT)
    assert out == [DropSpec("y", 1), CancelExecute("y", 2)]
    assert world.machine.phase("x") == "memory"
    assert world.machine.ledger.nbytes == 5
    assert world.send(COMPUTED_AGAIN) == []
    assert world.machine.phase("y") == "executing"
    assert world.send(ExecuteSuccess("y", 2, *INT)) == [
        DropSpec("y", 1),
        TaskFinished("y", 2, 2, *INT),
        DropData("x", 1),
        ReleaseWorkerData("x"),
    ]


def test_6893_inputs_are_gone_under_a_running_task_still_fails_in_distributed() -> None:
    """The input x is released under the running y, and y is "executing" again without it."""
    reference = distributed()
    out = tell(reference, *FREED_WITH_ITS_INPUT)
    assert out == [ReleaseWorkerData("x")]
    assert reference.phase("y") == "cancelled(executing)"
    assert tell(reference, COMPUTED_AGAIN) == []
    assert reference.phase("y") == "executing"
    assert reference.phase("x") == "released"
    assert "x" not in reference.state.data


def test_6710_task_that_comes_again_with_resources_waits_for_them() -> None:
    """A task is freed before it starts, and submitted again under a resource (distributed #6710).

    Its key stayed behind in the queue of those that need no resource, as a stale entry that was
    to be recognised when its turn came. It was not: a task of that key was waiting, so it started
    past the resource, and what was left of the resource became negative. Mended with queues from
    which tasks can be removed.

    Here stale entries are recognised by the age that a task gets with every request.
    """
    world = ours(ONE_GPU)
    world.play(
        ComputeTask("runs", 1, 1, resources={"gpu": 1}),
        ComputeTask("other", 2, 2),
        ComputeTask("x", 3, 3),
        FreeKeys(("x",)),
        ComputeTask("x", 4, 4, resources={"gpu": 1}),
    )
    assert world.machine.phase("x") == "constrained"
    out = world.send(ExecuteSuccess("other", 2, *INT))
    assert out == [DropSpec("other", 2), TaskFinished("other", 2, 2, *INT)]
    out = world.send(ExecuteSuccess("runs", 1, *INT))
    assert out[-1] == Execute("x", 3, 4, 4, "thread", (), (("gpu", 1.0),))


ENDS: list[Stimulus] = [
    ExecuteSuccess("x", 1, 5, "int"),
    ExecuteFailure("x", 1, "ValueError"),
    ExecuteReschedule("x", 1),
    ExecuteCancelled("x", 1),
]


@pytest.mark.parametrize(
    ("end", "freed"), [*((end, True) for end in ENDS), *((end, False) for end in ENDS[:-1])]
)
def test_6692_seceded_task_that_is_done_runs_no_more(end: Stimulus, *, freed: bool) -> None:
    """A task secedes, ends, and is counted as running for ever (distributed #6692).

    x gave its slot back, and when it had ended, freed meanwhile or not, it stayed in the set of
    long-running tasks: every later count of what runs was wrong. Mended by now.

    Here what runs is what has an activity, which ends with its one terminal stimulus. So its
    resource is back, its slot is not given back twice, and a second task gets both.
    """
    world = ours(ONE_GPU)
    world.play(ComputeTask("x", 1, 1, resources={"gpu": 1}), Secede("x", 1))
    assert world.machine.phase("x") == "long-running"
    if freed:
        world.send(FreeKeys(("x",)))
    world.send(end)
    assert not world.owed
    ledger = world.machine.ledger
    assert ledger.slots["thread"].free == 2
    assert ledger.resources_free == {"gpu": 1}
    world.send(ComputeTask("z", 9, 9, resources={"gpu": 1}))
    assert world.machine.phase("z") == "executing"
