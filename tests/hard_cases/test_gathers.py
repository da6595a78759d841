"""Hard cases of gathering: peers that lose, refuse or garble what they were asked for."""

import pytest
from hard_cases.cast import HERE, INT, P, Q, distributed, ours, tell

from trouper.wire.instructions import (
    AddKeys,
    CancelGather,
    DropData,
    DropSpec,
    Execute,
    FindMissingLater,
    Gather,
    RequestRefreshWhoHas,
    StealResponse,
    TaskErred,
)
from trouper.wire.stimuli import (
    AcquireReplicas,
    ComputeTask,
    ExecuteCancelled,
    ExecuteSuccess,
    FindMissing,
    FreeKeys,
    GatherBusy,
    GatherFailure,
    GatherNetworkFailure,
    GatherSuccess,
    RefreshWhoHas,
    RemoveReplicas,
    RemoveWorker,
    StealRequest,
    Stimulus,
)


@pytest.mark.parametrize(
    "ending",
    [GatherNetworkFailure(P, 1), GatherSuccess(P, 1, {}), GatherBusy(P, 1)],
    ids=["lost", "not there", "busy"],
)
def test_6159_task_to_be_computed_while_its_gather_hangs_cannot_be_stolen(
    ending: Stimulus,
) -> None:
    """A fetch hangs, the task is to be computed instead, and then stolen (distributed #6159).

    P is alive, but too short of memory to answer. The scheduler frees y and its input x, and asks
    this worker to compute x itself: x is "resumed" until the gather has failed. Then work stealing
    asks for x, and the cluster stood still. Closed without a reproducer, after much had changed;
    today the scheduler takes "resumed" for a refusal.

    Here a task with an attempt, whatever for, is refused to thieves, the answer says so, and
    nothing changes: however the gather ends without a value, x is computed.
    """
    world = ours()
    world.send(ComputeTask("y", 1, 1, who_has={"x": (P,)}))
    assert world.send(FreeKeys(("y", "x"))) == [DropSpec("y", 1), CancelGather(P, 1, ("x",))]
    assert world.machine.phase("x") == "cancelled(flight)"
    assert world.send(ComputeTask("x", 2, 2)) == []
    before = world.machine.fingerprint()
    out = world.send(StealRequest("x", "steal-1"))
    assert out == [StealResponse("x", "resumed(flight->waiting)", "steal-1")]
    assert world.machine.fingerprint() == before
    execute = world.send(ending)[-1]
    assert isinstance(execute, Execute)
    assert execute.key == "x"


def test_6877_unreadable_answer_to_a_gather_that_was_cancelled() -> None:
    """A gather is cancelled and then fails, not for want of a network (distributed #6877).

    x had been freed when the network stack raised a TypeError of its own over its answer. Of
    cancelled tasks only those that ran were thought to be able to fail: an assertion stopped the
    transition halfway. Mended by distributed #6699.

    Here any outcome that meets no goal is dropped.
    """
    world = ours()
    world.play(ComputeTask("y", 1, 1, who_has={"x": (P,)}), FreeKeys(("y", "x")))
    assert world.send(GatherFailure(P, 1, "TypeError")) == [DropData("x", 1)]
    assert not world.machine.ledger.tasks
    assert not world.machine.ledger.peers


def test_8006_gather_whose_connection_ends_in_an_unforeseen_way() -> None:
    """A peer is gone before the connection to it is open (distributed #8006).

    The network stack cancelled the attempt to connect, which is no OSError: the gather ended
    without a stimulus. x was "in flight" for ever, its peer was not asked for anything else, and
    y waited. Mended by distributed #8013.

    Here a gather has exactly one terminal stimulus. Until it comes, x is in flight, also if the
    scheduler has long said that the peer is gone; and when it comes, the next holder is asked.
    Whatever is heard of the lost gather afterwards is stale.
    """
    world = ours()
    gather = Gather(P, 1, ("x",), 0)
    assert world.send(ComputeTask("y", 1, 1, who_has={"x": (P, Q)})) == [gather]
    assert world.send(RemoveWorker(P)) == []
    assert world.owed == {1: gather}
    assert world.send(GatherNetworkFailure(P, 1)) == [Gather(Q, 2, ("x",), 0)]
    assert world.send(GatherSuccess(P, 1, {"x": INT})) == [DropData("x", 1)]
    out = world.send(GatherSuccess(Q, 2, {"x": INT}))
    assert out == [AddKeys(("x",)), Execute("y", 3, 1, 1, "thread", (("x", 2),))]


def test_5951_key_that_was_not_asked_of_a_lost_peer_is_looked_for_too() -> None:
    """A peer is lost while only a part of what it holds was on its way (distributed #5951).

    P is taken to hold nothing from then on. What was in flight was looked for elsewhere, but z,
    which waited for its turn, stood in "fetch" without a holder, and nobody asked for it. Mended
    by distributed #6112.

    Here losing a peer puts everything that it held where it belongs.
    """
    world = ours()
    world.send(ComputeTask("y", 1, 1, who_has={"x": (P,)}))
    assert world.send(AcquireReplicas({"z": (P,)})) == []
    assert world.send(GatherNetworkFailure(P, 1)) == [FindMissingLater(2, 1.0)]
    assert world.machine.phase("x") == world.machine.phase("z") == "missing"
    out = world.send(FindMissing(2))
    assert out == [RequestRefreshWhoHas(("x", "z")), FindMissingLater(3, 1.0)]


def test_6305_input_that_only_this_worker_is_said_to_hold() -> None:
    """The scheduler believes a replica to be here that has just been removed (distributed #6305).

    Replicas come and go while workers die. y is sent here with this very worker as the only
    holder of x: the scheduler did not know yet that x is gone. The transition to "missing" led to
    "fetch", which led to "missing", until the worker ran into its limit of transitions; and a
    second task with the same input broke the state in another way. Mended by distributed #6327
    and #6404.

    Here a task to be fetched stands in one place, which follows from whether a holder is known,
    and this worker is never one. One timer asks for all that is missing.
    """
    world = ours()
    world.play(
        AcquireReplicas({"x": (P,)}), GatherSuccess(P, 1, {"x": INT}), RemoveReplicas(("x",))
    )
    out = world.send(ComputeTask("y", 1, 1, who_has={"x": (HERE,)}))
    assert out == [FindMissingLater(2, 1.0)]
    assert world.send(ComputeTask("z", 2, 2, who_has={"x": (HERE,)})) == []
    assert world.machine.phase("x") == "missing"
    out = world.send(FindMissing(2))
    assert out == [RequestRefreshWhoHas(("x",)), FindMissingLater(3, 1.0)]
    assert world.send(RefreshWhoHas({"x": (Q,)})) == [Gather(Q, 4, ("x",), 0)]
    world.drain()
    assert world.machine.phase("y") == world.machine.phase("z") == "memory"


DEPENDENT_COMES_TOO_EARLY = (
    ComputeTask("y", 1, 1, who_has={"x": (P,)}),
    RemoveWorker(P),
    FreeKeys(("y",)),
    ComputeTask("x", 2, 2),
    GatherNetworkFailure(P, 1),
    FreeKeys(("x",)),
    ComputeTask("y", 3, 3, who_has={"x": (HERE,)}),
)
"""P dies while x is fetched from it, x is to be computed here instead, is freed again, and then
y comes, with this worker as the holder of x: the scheduler has heard of an earlier run."""


def test_5751_dependent_comes_while_its_input_is_still_computed_here() -> None:
    """The only holder that is known of an input is the worker that computes it.

    Reports and requests cross until this worker is asked to fetch x from itself
    (distributed #5751). x stood in "fetch" without a holder: no one to ask, and not "missing"
    either, so that nobody asked the scheduler. y waited for ever. Mended by distributed #5786.

    Here the running attempt serves whoever wants x by the time it ends.
    """
    world = ours()
    world.play(*DEPENDENT_COMES_TOO_EARLY)
    assert world.machine.phase("x") == "resumed(executing->fetch)"
    out = world.send(ExecuteSuccess("x", 2, *INT))
    assert out == [AddKeys(("x",)), Execute("y", 3, 3, 3, "thread", (("x", 2),))]


def test_5751_input_whose_attempt_was_cancelled_is_looked_for() -> None:
    """The same, and the attempt ends cancelled: now x is missing, and the scheduler is asked."""
    world = ours()
    world.play(*DEPENDENT_COMES_TOO_EARLY)
    assert world.send(ExecuteCancelled("x", 2)) == [FindMissingLater(3, 1.0)]
    assert world.machine.phase("x") == "missing"
    out = world.send(FindMissing(3))
    assert out == [RequestRefreshWhoHas(("x",)), FindMissingLater(4, 1.0)]
    assert world.send(RefreshWhoHas({"x": (Q,)})) == [Gather(Q, 5, ("x",), 0)]


UNREADABLE = (
    ComputeTask("y", 7, 1, who_has={"x": (P,)}),
    GatherFailure(P, 1, "UnpicklingError"),
)


def test_7060_task_whose_input_cannot_be_read_fails() -> None:
    """An input comes and cannot be deserialised (distributed #7060, #4439 and #6705).

    The worker reports x as failed. But to the scheduler x is in memory at P, and "task-erred" of
    a task that is not being processed is ignored; of y, which is, it hears nothing. So the user
    waits, and the exception stands in a log.

    Here whoever waits for x fails with it, and names x as the cause: y is what the scheduler
    waits for, so the user gets the exception. x is not asked for again and again (#4439), only
    if somebody new needs it.
    """
    world = ours()
    out = world.play(*UNREADABLE)
    assert out == [TaskErred("x", 0, 1), DropSpec("y", 1), TaskErred("y", 7, 0, via="x")]
    assert world.machine.phase("y") == "error"
    assert world.send(FreeKeys(("y",))) == []
    out = world.send(ComputeTask("z", 8, 2, who_has={"x": (Q,)}))
    assert out == [DropData("x", 1), Gather(Q, 2, ("x",), 0)]


def test_7060_task_waits_for_ever_for_an_unreadable_input_still_fails_in_distributed() -> None:
    """Only x is reported, y goes on waiting, and nothing is under way that could end it."""
    reference = distributed()
    assert tell(reference, *UNREADABLE) == [TaskErred("x", 0, 0)]
    assert reference.phase("x") == "error"
    assert reference.phase("y") == "waiting"
    assert not reference.flights
    assert tell(reference, FindMissing(1)) == []
