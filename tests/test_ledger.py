"""The books: lazy heaps that stay small, and peers that are forgotten."""

import gc

import pytest
from model import World

from trouper.runtime.errors import ResourceError
from trouper.runtime.invariants import check
from trouper.runtime.ledger import Config, Ledger, millionths
from trouper.runtime.machine import Machine
from trouper.runtime.peers import PeerEntry
from trouper.runtime.task import Executing, Task
from trouper.wire.stimuli import (
    AcquireReplicas,
    ComputeTask,
    FreeKeys,
    GatherBusy,
    Pause,
    RefreshWhoHas,
    RetryBusyWorker,
)

P = "tcp://10.0.0.2:1"
Q = "tcp://10.0.0.3:1"


def test_wanted_and_offers_do_not_outgrow_what_is_wanted() -> None:
    machine = Machine(Config())
    machine.handle(Pause())
    for number in range(1000):
        machine.handle(AcquireReplicas({f"t{number}": (P, Q)}))
    machine.handle(FreeKeys(tuple(f"t{number}" for number in range(990))))
    ledger = machine.ledger
    for peer in ledger.peers.values():
        assert len(peer.wanted_heap) <= 2 * peer.wanted_count + 16
    assert len(ledger.offers) <= 4 * len(ledger.peers) + 65
    check(machine)


def test_peers_are_told_from_this_worker_whatever_their_addresses() -> None:
    machine = Machine(Config(address=P))
    before = "tcp://10.0.0.1:1"
    machine.handle(Pause())
    machine.handle(AcquireReplicas({"x": (before, P, Q)}))
    assert list(machine.ledger.tasks["x"].holders or ()) == [before, Q]


def alive(kind: type) -> int:
    """How many objects of a type anything at all still refers to."""
    gc.collect()
    return sum(type(one) is kind for one in gc.get_objects())


def test_tasks_that_have_left_a_queue_are_not_kept_by_it() -> None:
    machine = Machine(Config())
    before = alive(Task)
    machine.handle(Pause())
    machine.handle(ComputeTask("ready", 1, 1, priority=(1,)))
    machine.handle(AcquireReplicas({"wanted": (P,)}))
    for number in range(200):
        ready = (f"in turn {number}", f"out of turn {number}")
        for priority, key in zip((2, 0), ready, strict=True):
            machine.handle(ComputeTask(key, 1, 1, priority=(priority,)))
        wanted = (f"one {number}", f"other {number}")
        machine.handle(AcquireReplicas(dict.fromkeys(wanted, (P,))))
        machine.handle(FreeKeys((*ready, *wanted)))
    assert 2 <= alive(Task) - before < 50


def test_waiting_for_a_busy_peer_costs_no_memory() -> None:
    """Two keys, two peers, and every answer is "busy": what is wanted is indexed anew each time."""
    world = World(Config())
    world.send(AcquireReplicas({"x": (P, Q), "y": (Q, P)}))
    for _ in range(200):
        for owed in sorted(world.owed.values(), key=lambda owed: owed.attempt):
            peer = getattr(owed, "peer", "")
            if type(owed).__name__ == "Gather":
                world.send(GatherBusy(peer, owed.attempt))
            else:
                world.send(RetryBusyWorker(peer, owed.attempt))
    for entry in world.machine.ledger.peers.values():
        assert len(entry.wanted_heap) < 40
    assert len(world.machine.ledger.offers) < 80


def test_peer_is_forgotten_with_its_last_value() -> None:
    world = World(Config())
    world.play(Pause(), AcquireReplicas({"x": (P, Q)}), RefreshWhoHas({"x": (Q,)}))
    assert list(world.machine.ledger.peers) == [Q]
    world.send(FreeKeys(("x",)))
    assert not world.machine.ledger.peers


def test_peers_that_are_forgotten_while_paused_are_not_kept() -> None:
    machine = Machine(Config())
    before = alive(PeerEntry)
    machine.handle(Pause())
    machine.handle(AcquireReplicas({"stays": (P,)}))
    for number in range(50):
        machine.handle(AcquireReplicas({"goes": (f"tcp://10.0.1.{number}:1",)}))
        machine.handle(FreeKeys(("goes",)))
    assert list(machine.ledger.peers) == [P]
    assert alive(PeerEntry) - before == 1


def test_host_of_a_peer() -> None:
    ledger = Ledger(Config(address="tcp://10.0.0.1:80"))
    assert not ledger.peer("tcp://10.0.0.1:99").remote
    assert not ledger.peer("tls://10.0.0.1:99").remote
    assert ledger.peer("tcp://10.0.0.12:80").remote
    assert ledger.peer("tcp://[::1]:80").remote


def test_resources_are_counted_exactly() -> None:
    assert millionths(0.1) * 3 == millionths(0.3)
    assert millionths(16e9) == 16_000_000_000_000_000
    ledger = Ledger(Config(resources={"gpu": 0.3}))
    attempt = Executing(1, 1, "thread", (("gpu", 0.1),), ())
    ledger.take(attempt)
    assert ledger.resources_free == {"gpu": 0.2}
    assert ledger.slots["thread"].free == 0
    ledger.give_back(attempt)
    assert ledger.resources_free == {"gpu": 0.3}
    assert ledger.slots["thread"].free == 1


def test_amount_of_a_resource_is_positive_and_at_most_what_there_is() -> None:
    config = Config(resources={"gpu": 2, "disk": 0.5})
    config.check_resources({"gpu": 2, "disk": 0.1})
    for asked, message in (
        ({"gpu": 0}, r"asks for 0 of the resource 'gpu'; this worker has 2, and an amount is pos"),
        ({"gpu": -1}, r"asks for -1 of the resource 'gpu'"),
        ({"gpu": 1, "disk": 0.6}, r"asks for 0.6 of the resource 'disk'; this worker has 0.5,"),
        ({"tpu": 1}, r"no resource 'tpu'; it has disk, gpu"),
    ):
        with pytest.raises(ResourceError, match=message):
            config.check_resources(asked)
    with pytest.raises(ResourceError, match=r"no resource 'tpu'; it has none"):
        Config().check_resources({"tpu": 1})


def test_numbers_count_up() -> None:
    ledger = Ledger(Config())
    assert [ledger.next_attempt(), ledger.next_attempt()] == [1, 2]
    assert [ledger.next_age(), ledger.next_age()] == [1, 2]
    task = ledger.ensure("x", (3,))
    assert ledger.ensure("x", (1,)) is task
    assert (task.age, task.priority) == (3, (3,))
