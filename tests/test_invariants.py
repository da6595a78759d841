"""The watchdog barks: each invariant, broken by hand, is named with the tasks concerned."""

from collections.abc import Callable

import pytest

from trouper.runtime.invariants import InvariantError, check
from trouper.runtime.ledger import Config, Ledger
from trouper.runtime.machine import Machine
from trouper.runtime.settling import leave
from trouper.runtime.task import Activity, Fetching, Goal, Place
from trouper.wire.instructions import Gather
from trouper.wire.stimuli import (
    AcquireReplicas,
    ComputeTask,
    ExecuteFailure,
    FreeKeys,
    Pause,
    UpdateData,
)

P = "tcp://10.0.0.2:1"


def machine() -> Machine:
    """One task in each of the common phases."""
    it = Machine(Config(slots={"thread": 2}, resources={"gpu": 1}))
    for stimulus in (
        ComputeTask("failed", 1, 1),
        ExecuteFailure("failed", 1, "ValueError"),
        ComputeTask("gone", 1, 1),
        UpdateData({"value": (5, "int")}, -1),
        ComputeTask("runs", 1, 1, local=("value",), resources={"gpu": 1}),
        FreeKeys(("gone",)),
        ComputeTask("ready", 1, 1),
        ComputeTask("waits", 1, 1, local=("runs",), who_has={"missing": ()}),
        AcquireReplicas({"flies": (P,)}),
        AcquireReplicas({"wanted": (P,)}),
    ):
        it.handle(stimulus)
    check(it)
    return it


def activity(ledger: Ledger, key: str) -> Activity:
    found = ledger.tasks[key].activity
    assert found is not None
    return found


def lose_the_flight(ledger: Ledger) -> None:
    """A second flight from the peer, that nobody has written down."""
    wanted = ledger.tasks["wanted"]
    leave(ledger, wanted)
    wanted.activity = Fetching(99, P, 0)


def change_passengers(ledger: Ledger) -> None:
    """The flight says that it carries something else."""
    (attempt,) = ledger.flights
    ledger.flights[attempt] = Gather(P, attempt, ("wanted",), 0)


def overbook(ledger: Ledger) -> None:
    """Fewer slots than tasks that run."""
    ledger.config.slots["thread"] = 1
    ledger.slots["thread"].free = -1


BREAKS: dict[str, Callable[[Ledger], object]] = {
    "tasks are left unsettled: 'ready'": lambda it: it.unsettled.append(it.tasks["ready"]),
    "stands under another key: 'x', 'ready'": lambda it: it.tasks.update(x=it.tasks.pop("ready")),
    "wrong count of unmet inputs: 'waits'": lambda it: setattr(it.tasks["waits"], "unmet", 1),
    "in the wrong place: 'ready'": lambda it: setattr(it.tasks["ready"], "place", Place.WAITING),
    "spec without use, or none: 'missing'": lambda it: setattr(it.tasks["missing"], "spec_id", 4),
    "inputs without a spec: 'flies'": lambda it: setattr(
        it.tasks["flies"], "local", (it.tasks["value"],)
    ),
    "an input is unknown: 'runs'": lambda it: it.tasks.pop("value"),
    "not linked back: 'runs' .*'value'": lambda it: setattr(it.tasks["value"], "dependents", None),
    "no such input: 'ready' .*'runs'": lambda it: (it.tasks["runs"].dependents or {}).setdefault(
        it.tasks["ready"]
    ),
    "empty map kept: 'ready'": lambda it: setattr(it.tasks["ready"], "holders", {}),
    "result that nobody wants: 'failed'": lambda it: setattr(it.tasks["failed"], "hold", False),
    "claim that is answered: 'value'": lambda it: setattr(it.tasks["value"], "claim", Goal.FETCH),
    "held without a result: 'wanted'": lambda it: setattr(it.tasks["wanted"], "pins", 1),
    "task that nobody knows: 'x'": lambda it: it.ensure("x"),
    "unwanted attempt goes on: 'gone'": lambda it: setattr(
        activity(it, "gone"), "cancelling", False
    ),
    "not missing: 'ready'": lambda it: it.missing.setdefault(it.tasks["ready"]),
    "wrong count of local needs: 'runs'": lambda it: setattr(it.tasks["runs"], "local_needs", 2),
    "wrong count of remote needs: 'missing'": lambda it: setattr(
        it.tasks["missing"], "remote_needs", 2
    ),
    "wrong count of pins: 'value'": lambda it: setattr(it.tasks["value"], "pins", 2),
    "wrong sum of bytes": lambda it: setattr(it, "nbytes", 6),
    "wrong count of slots": lambda it: setattr(it.slots["thread"], "free", 1),
    "more tasks than slots": overbook,
    "wrong sum of a resource": lambda it: it.millionths_free.update(gpu=1),
    "wrong count of ready tasks": lambda it: setattr(it.plain_queues["thread"], "live", 2),
    "fetching without a flight: 'wanted'": lose_the_flight,
    "wrong passengers": change_passengers,
    "flight without its peer": lambda it: setattr(it.peers[P], "attempt", 0),
    "wrong sum of bytes in flight": lambda it: setattr(it, "incoming_nbytes", 1),
    "wrong holdings": lambda it: it.peers[P].held.clear(),
    "wrong count of wanted values": lambda it: setattr(it.peers[P], "wanted_count", 3),
    "a peer without use": lambda it: it.peer("tcp://10.9.9.9:1"),
    "nobody looks for what is missing": lambda it: setattr(it, "missing_attempt", 0),
    "a peer of its own": lambda it: it.peer(""),
}


@pytest.mark.parametrize("message", BREAKS)
def test_broken_invariant_is_named(message: str) -> None:
    broken = machine()
    BREAKS[message](broken.ledger)
    with pytest.raises(InvariantError, match=message):
        check(broken)


def test_idle_slot_is_named() -> None:
    """There is no later moment at which it would be used."""
    idle = Machine(Config())
    idle.handle(Pause())
    idle.handle(ComputeTask("x", 1, 1))
    idle.ledger.paused = False
    with pytest.raises(InvariantError, match="a ready task could start"):
        check(idle)


def test_idle_peer_is_named() -> None:
    idle = Machine(Config())
    idle.handle(Pause())
    idle.handle(AcquireReplicas({"x": (P,)}))
    idle.ledger.paused = False
    with pytest.raises(InvariantError, match="a peer could be asked, nothing is in flight"):
        check(idle)


def test_forgotten_offer_is_named() -> None:
    idle = Machine(Config())
    idle.handle(Pause())
    idle.handle(AcquireReplicas({"x": (P,)}))
    idle.ledger.restless.clear()
    with pytest.raises(InvariantError, match="offers something else"):
        check(idle)
    idle.ledger.peers[P].offered = idle.ledger.peers[P].rank()
    with pytest.raises(InvariantError, match="not offered"):
        check(idle)
