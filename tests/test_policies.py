"""The choices: who starts next, and what is gathered from whom."""

from itertools import permutations

import pytest
from model import World

from trouper.runtime.ledger import PREFIXES, Config, Limits
from trouper.runtime.machine import Machine
from trouper.wire.instructions import Execute, Gather, Instruction
from trouper.wire.stimuli import (
    AcquireReplicas,
    ComputeTask,
    ExecuteSuccess,
    FreeKeys,
    GatherSuccess,
    Pause,
    RefreshWhoHas,
    Secede,
    Unpause,
    UpdateData,
)

HERE = "tcp://10.0.0.1:1"
NEAR = "tcp://10.0.0.1:2"
P = "tcp://10.0.0.2:1"
Q = "tcp://10.0.0.3:1"


def started(out: list[Instruction]) -> list[str]:
    """The keys that these instructions start, in order."""
    return [word.key for word in out if isinstance(word, Execute)]


def gathers(out: list[Instruction]) -> list[tuple[str, tuple[str, ...]]]:
    """What is asked of whom, in order."""
    return [(word.peer, word.keys) for word in out if isinstance(word, Gather)]


# Executing


def test_smaller_priority_first() -> None:
    world = World(Config(slots={"thread": 9}))
    world.play(
        Pause(),
        ComputeTask("later", 1, 1, priority=(1, 0)),
        ComputeTask("first", 1, 1, priority=(0, 2)),
        ComputeTask("second", 1, 1, priority=(0, 2.5)),
    )
    assert started(world.send(Unpause())) == ["first", "second", "later"]


def test_order_of_arrival_does_not_matter() -> None:
    """Whatever has come in turn, out of turn, or has left meanwhile."""
    for arrival in permutations(range(5)):
        machine = Machine(Config(slots={"thread": 9}))
        machine.handle(Pause())
        for number in arrival:
            machine.handle(ComputeTask(f"t{number}", 1, 1, priority=(number,)))
        for number in arrival[::3]:
            machine.handle(FreeKeys((f"t{number}",)))
        left = sorted(set(arrival) - set(arrival[::3]))
        assert started(machine.handle(Unpause())) == [f"t{number}" for number in left]


def test_equal_priority_youngest_first() -> None:
    """Depth first: what was submitted last is likely to need what is still in memory."""
    world = World(Config(slots={"thread": 9}))
    world.play(Pause(), *[ComputeTask(key, 1, 1) for key in "abc"])
    assert started(world.send(Unpause())) == ["c", "b", "a"]


def test_task_asked_for_anew_takes_the_place_of_its_new_priority() -> None:
    world = World(Config(slots={"thread": 9}))
    world.play(
        Pause(),
        ComputeTask("x", 1, 1, priority=(0,)),
        ComputeTask("y", 2, 2, priority=(1,)),
        ComputeTask("x", 3, 3, priority=(2,)),
    )
    assert started(world.send(Unpause())) == ["y", "x"]


def test_one_slot_one_task() -> None:
    world = World(Config())
    assert started(world.send(ComputeTask("a", 1, 1))) == ["a"]
    assert started(world.send(ComputeTask("b", 1, 1))) == []
    assert started(world.send(ExecuteSuccess("a", 1, 1, "int"))) == ["b"]


def test_executors_have_slots_of_their_own() -> None:
    world = World(Config(slots={"thread": 1, "process": 2}))
    world.play(Pause())
    for key in ("t1", "t2"):
        world.send(ComputeTask(key, 1, 1, executor="thread"))
    for key in ("p1", "p2", "p3"):
        world.send(ComputeTask(key, 1, 1, executor="process"))
    assert started(world.send(Unpause())) == ["p3", "p2", "t2"]
    assert started(world.send(ExecuteSuccess("p2", 2, 1, "int"))) == ["p1"]
    assert started(world.send(ExecuteSuccess("t2", 3, 1, "int"))) == ["t1"]


def test_paused_worker_starts_nothing_and_finishes_what_runs() -> None:
    world = World(Config())
    world.play(ComputeTask("a", 1, 1), AcquireReplicas({"x": (P,)}), Pause())
    assert started(world.send(ComputeTask("b", 1, 1))) == []
    assert gathers(world.send(AcquireReplicas({"y": (Q,)}))) == []
    world.play(ExecuteSuccess("a", 1, 1, "int"), GatherSuccess(P, 2, {"x": (1, "int")}))
    assert world.machine.phase("a") == world.machine.phase("x") == "memory"
    out = world.send(Unpause())
    assert started(out) == ["b"]
    assert gathers(out) == [(Q, ("y",))]


def test_seceded_task_leaves_its_slot_to_another() -> None:
    world = World(Config())
    world.play(ComputeTask("outer", 1, 1), ComputeTask("inner", 1, 1))
    assert started(world.send(Secede("outer", 1))) == ["inner"]
    assert started(world.send(ComputeTask("third", 1, 1))) == []
    assert started(world.send(ExecuteSuccess("outer", 1, 1, "int"))) == []  # it had none to give
    assert started(world.send(ExecuteSuccess("inner", 2, 1, "int"))) == ["third"]


def test_resources_limit_what_runs_together() -> None:
    world = World(Config(slots={"thread": 9}, resources={"gpu": 1}))
    assert started(world.send(ComputeTask("a", 1, 1, resources={"gpu": 0.5}))) == ["a"]
    assert started(world.send(ComputeTask("b", 1, 1, resources={"gpu": 0.75}))) == []
    assert world.machine.phase("b") == "constrained"
    assert started(world.send(ComputeTask("c", 1, 1))) == ["c"]
    assert started(world.send(ExecuteSuccess("a", 1, 1, "int"))) == ["b"]


def test_blocked_head_keeps_its_resources_from_those_behind_it() -> None:
    """Else the big one could wait for ever, while small ones take turns."""
    world = World(Config(slots={"thread": 9}, resources={"gpu": 2, "disk": 1}))
    world.play(
        ComputeTask("runs", 1, 1, resources={"gpu": 1}),
        ComputeTask("big", 1, 1, priority=(0,), resources={"gpu": 2, "disk": 1}),
    )
    assert started(world.send(ComputeTask("gpu", 1, 1, priority=(1,), resources={"gpu": 1}))) == []
    disk = ComputeTask("disk", 1, 1, priority=(1,), resources={"disk": 1})
    assert started(world.send(disk)) == []
    assert started(world.send(ComputeTask("none", 1, 1, priority=(1,)))) == ["none"]
    better = ComputeTask("better", 1, 1, priority=(-1,), resources={"gpu": 1})
    assert started(world.send(better)) == ["better"]
    assert started(world.send(ExecuteSuccess("runs", 1, 1, "int"))) == []
    assert started(world.send(ExecuteSuccess("better", 3, 1, "int"))) == ["big"]
    assert started(world.send(ExecuteSuccess("big", 4, 1, "int"))) == ["disk", "gpu"]


def test_other_resources_may_pass() -> None:
    world = World(Config(slots={"thread": 9}, resources={"gpu": 1, "disk": 1}))
    world.play(
        ComputeTask("runs", 1, 1, resources={"gpu": 1}),
        ComputeTask("blocked", 1, 1, priority=(0,), resources={"gpu": 1}),
    )
    disk = ComputeTask("disk", 1, 1, priority=(1,), resources={"disk": 1})
    assert started(world.send(disk)) == ["disk"]


def test_resources_come_back_whole() -> None:
    """As floats, 1 - 0.1 - 0.2 - 0.7 + 0.1 + 0.2 + 0.7 is less than 1."""
    world = World(Config(slots={"thread": 9}, resources={"gpu": 1}))
    amounts = {"a": 0.1, "b": 0.2, "c": 0.7}
    for key, amount in amounts.items():
        assert started(world.send(ComputeTask(key, 1, 1, resources={"gpu": amount}))) == [key]
    for attempt, key in enumerate(amounts, 1):
        world.send(ExecuteSuccess(key, attempt, 1, "int"))
    assert world.machine.ledger.resources_free == {"gpu": 1}
    assert started(world.send(ComputeTask("whole", 1, 1, resources={"gpu": 1}))) == ["whole"]


def test_inputs_in_the_order_in_which_they_were_named() -> None:
    world = World(Config())
    world.play(
        UpdateData({"l2": (1, "int"), "l1": (1, "int")}, -1),
        UpdateData({"r2": (1, "int"), "r1": (1, "int")}, -2),
    )
    out = world.send(ComputeTask("x", 7, 3, local=("l2", "l1"), who_has={"r2": (P,), "r1": ()}))
    inputs = (("l2", -1), ("l1", -1), ("r2", -2), ("r1", -2))
    assert out == [Execute("x", 1, 7, 3, "thread", inputs)]


def brief(world: World, prefix: str, durations_s: tuple[float, ...]) -> None:
    """Let tasks of a kind run one after the other."""
    for number, duration_s in enumerate(durations_s):
        key = f"{prefix}-{number}"
        (execute,) = world.send(ComputeTask(key, 1, 1, prefix=prefix))
        assert isinstance(execute, Execute)
        world.send(ExecuteSuccess(key, execute.attempt, 1, "int", duration_s))


def test_brief_tasks_are_handed_over_ahead_of_a_free_slot() -> None:
    world = World(Config(run_ahead={"thread": 2}))
    brief(world, "inc", (0.0001,) * 7)
    for key, expected in (("a", ["a"]), ("b", ["b"]), ("c", ["c"]), ("d", [])):
        assert started(world.send(ComputeTask(key, 1, 1, prefix="inc"))) == expected
    (attempt,) = [n for n, owed in world.owed.items() if getattr(owed, "key", "") == "a"]
    assert started(world.send(ExecuteSuccess("a", attempt, 1, "int", 0.0001))) == ["d"]


def test_nothing_is_handed_over_ahead_unless_all_is_known_to_be_brief() -> None:
    world = World(Config(run_ahead={"thread": 2}))
    brief(world, "inc", (0.0001,) * 8)
    brief(world, "mixed", (0.0001, 3.0) * 4)
    assert started(world.send(ComputeTask("a", 1, 1, prefix="inc"))) == ["a"]
    assert started(world.send(ComputeTask("b", 1, 1, prefix="mixed"))) == []
    world = World(Config(run_ahead={"thread": 2}))
    brief(world, "inc", (0.0001,) * 8)
    assert started(world.send(ComputeTask("unknown", 1, 1))) == ["unknown"]
    assert started(world.send(ComputeTask("a", 1, 1, prefix="inc"))) == []


def ahead(world: World, prefix: str) -> bool:
    """Whether a task of a kind is handed over while the slot is taken by a brief one."""
    assert started(world.send(ComputeTask("slot", 1, 1, prefix="always"))) == ["slot"]
    return started(world.send(ComputeTask("next", 1, 1, prefix=prefix))) == ["next"]


def test_brief_is_who_was_so_in_seven_of_the_last_eight_times() -> None:
    short, long = 0.0002, 0.00021
    for durations_s, expected in (
        ((short,) * 6, False),
        ((short,) * 7, True),
        ((short,) * 3 + (long,) + (short,) * 4, True),
        ((short,) * 3 + (long,) + (short,) * 2 + (long,) + (short,), False),
        ((long,) * 9 + (short,) * 7, True),
        ((short,) * 9 + (long,) * 2, False),
    ):
        world = World(Config(run_ahead={"thread": 2}))
        brief(world, "always", (short,) * 8)
        brief(world, "kind", durations_s)
        assert ahead(world, "kind") is expected, durations_s


def test_of_a_task_without_a_kind_nothing_is_known() -> None:
    world = World(Config(run_ahead={"thread": 2}))
    brief(world, "always", (0.0001,) * 8)
    brief(world, "", (0.0001,) * 8)
    assert not ahead(world, "")


def test_kinds_are_remembered_up_to_a_number() -> None:
    machine = Machine(Config(run_ahead={"thread": 2}))
    for number in range(8 + PREFIXES):
        prefix = f"kind-{max(0, number - 7)}"
        (execute,) = machine.handle(ComputeTask("x", 1, 1, prefix=prefix))
        assert isinstance(execute, Execute)
        machine.handle(ExecuteSuccess("x", execute.attempt, 1, "int", 0.0001))
        machine.handle(FreeKeys(("x",)))
    assert len(machine.ledger.brevity) == PREFIXES
    assert "kind-0" not in machine.ledger.brevity
    assert f"kind-{PREFIXES}" in machine.ledger.brevity


def test_only_brief_tasks_follow_who_was_handed_over_ahead() -> None:
    world = World(Config(run_ahead={"thread": 3}))
    brief(world, "inc", (0.0001,) * 8)
    world.play(ComputeTask("a", 1, 1, prefix="inc"), ComputeTask("b", 1, 1, prefix="inc"))
    assert started(world.send(ComputeTask("unknown", 1, 1))) == []


def test_brief_tasks_that_take_resources_are_handed_over_ahead_too() -> None:
    world = World(Config(run_ahead={"thread": 1}, resources={"gpu": 3}))
    brief(world, "inc", (0.0001,) * 8)
    for key, expected in (("a", ["a"]), ("b", ["b"]), ("c", [])):
        one = ComputeTask(key, 1, 1, prefix="inc", resources={"gpu": 1})
        assert started(world.send(one)) == expected


def test_nothing_is_handed_over_ahead_of_a_lengthy_task_until_it_secedes() -> None:
    world = World(Config(run_ahead={"thread": 1}))
    brief(world, "inc", (0.0001,) * 8)
    world.play(ComputeTask("lengthy", 1, 1), ComputeTask("a", 1, 1, prefix="inc"))
    world.send(ComputeTask("b", 1, 1, prefix="inc"))
    (attempt,) = [n for n, owed in world.owed.items() if getattr(owed, "key", "") == "lengthy"]
    assert started(world.send(Secede("lengthy", attempt))) == ["b", "a"]


# Gathering


def limits(**given: int) -> World:
    return World(Config(address=HERE, limits=Limits(**given)))


def test_keys_of_one_stimulus_travel_in_one_message() -> None:
    world = limits()
    out = world.send(AcquireReplicas({"x": (P,), "y": (Q,), "z": (P,)}, {"x": 2, "z": 3}))
    assert out == [Gather(P, 1, ("x", "z"), 5), Gather(Q, 2, ("y",), 0)]


def test_own_host_before_others_and_never_oneself() -> None:
    world = limits()
    assert gathers(world.send(AcquireReplicas({"x": (P, HERE, NEAR)}))) == [(NEAR, ("x",))]
    assert world.machine.phase("x") == "flight"


def test_most_wanted_peer_first_then_by_address() -> None:
    world = limits()
    out = world.send(AcquireReplicas({"x": (P, Q), "y": (Q,), "z": (P, Q)}))
    assert gathers(out) == [(Q, ("x", "y", "z"))]
    world = limits()
    assert gathers(world.send(AcquireReplicas({"x": (Q, P)}))) == [(P, ("x",))]


def test_better_task_first() -> None:
    """An input of a task goes before a copy that is made for later."""
    world = limits()
    world.play(Pause(), AcquireReplicas({"x": (P,)}))
    world.send(ComputeTask("y", 1, 1, priority=(0,), who_has={"z": (Q,)}))
    assert gathers(world.send(Unpause())) == [(Q, ("z",)), (P, ("x",))]


def test_inputs_of_the_youngest_of_equal_tasks_first() -> None:
    """As the tasks themselves start, so are their inputs fetched."""
    world = limits(incoming_count=1, incoming_throttle_nbytes=0)
    world.play(
        Pause(),
        ComputeTask("old", 1, 1, priority=(0,), who_has={"x": (P,)}),
        ComputeTask("young", 2, 1, priority=(0,), who_has={"y": (Q,)}),
    )
    assert gathers(world.send(Unpause())) == [(Q, ("y",))]


def test_key_sought_anew_takes_the_place_of_its_new_priority() -> None:
    """Sought for an urgent task, then to be computed for a later one, then to be fetched after all.

    Where it stood at first is forgotten.
    """
    world = limits()
    world.play(
        Pause(),
        ComputeTask("urgent", 1, 1, priority=(-5,), who_has={"x": (P,)}),
        AcquireReplicas({"x": (P,)}),
        FreeKeys(("urgent",)),
        ComputeTask("x", 2, 2, priority=(9,)),
        AcquireReplicas({"x": (P,)}),
        ComputeTask("other", 3, 3, priority=(0,), who_has={"z": (P,)}),
    )
    assert gathers(world.send(Unpause())) == [(P, ("z", "x"))]


def test_youngest_of_equal_tasks_first_when_they_are_fetched_instead_of_computed() -> None:
    world = limits(message_nbytes=1)
    world.play(
        Pause(),
        ComputeTask("old", 1, 1, priority=(0,)),
        ComputeTask("young", 2, 1, priority=(0,)),
        AcquireReplicas({"old": (P,), "young": (P,)}, {"old": 1, "young": 1}),
    )
    assert gathers(world.send(Unpause())) == [(P, ("young",))]


def test_one_gather_from_a_peer_at_a_time() -> None:
    world = limits()
    world.send(AcquireReplicas({"x": (P,)}))
    assert gathers(world.send(AcquireReplicas({"y": (P,)}))) == []
    assert gathers(world.send(GatherSuccess(P, 1, {"x": (1, "int")}))) == [(P, ("y",))]


def test_count_limits_only_what_carries_much() -> None:
    world = limits(incoming_count=1, incoming_throttle_nbytes=10)
    assert gathers(world.send(AcquireReplicas({"x": (P,)}, {"x": 9}))) == [(P, ("x",))]
    assert gathers(world.send(AcquireReplicas({"y": (Q,)}, {"y": 1}))) == [(Q, ("y",))]
    assert gathers(world.send(AcquireReplicas({"z": (NEAR,)}, {"z": 1}))) == []
    out = world.send(GatherSuccess(Q, 2, {"y": (1, "int")}))
    assert gathers(out) == [(NEAR, ("z",))]


def test_count_limits_what_carries_ten_megabytes_unless_told_otherwise() -> None:
    world = limits(incoming_count=1)
    world.send(AcquireReplicas({"x": (P,)}, {"x": 9_999_999}))
    assert gathers(world.send(AcquireReplicas({"y": (Q,)}, {"y": 1}))) == [(Q, ("y",))]
    assert gathers(world.send(AcquireReplicas({"z": (NEAR,)}, {"z": 1}))) == []


def test_bytes_in_flight_are_limited() -> None:
    world = limits(incoming_nbytes=10)
    assert gathers(world.send(AcquireReplicas({"x": (P,)}, {"x": 6}))) == [(P, ("x",))]
    assert gathers(world.send(AcquireReplicas({"y": (Q,)}, {"y": 5}))) == []
    assert gathers(world.send(GatherSuccess(P, 1, {"x": (6, "int")}))) == [(Q, ("y",))]


def test_bytes_in_flight_may_reach_their_limit() -> None:
    world = limits(incoming_nbytes=10)
    world.send(AcquireReplicas({"x": (P,)}, {"x": 6}))
    assert gathers(world.send(AcquireReplicas({"y": (Q,)}, {"y": 4}))) == [(Q, ("y",))]
    assert gathers(world.send(AcquireReplicas({"nothing": (NEAR,)}, {"nothing": 0}))) == []
    world = limits(incoming_nbytes=10)
    world.send(AcquireReplicas({"x": (P,)}, {"x": 6}))
    assert gathers(world.send(AcquireReplicas({"y": (Q,)}, {"y": 3}))) == [(Q, ("y",))]


@pytest.mark.parametrize(("nbytes", "begun"), [(4, [(Q, ("y",))]), (5, [])])
def test_bytes_in_flight_limit_the_inputs_of_new_tasks(nbytes: int, begun: list[object]) -> None:
    world = limits(incoming_nbytes=10)
    out = world.send(ComputeTask("u", 1, 1, who_has={"x": (P,)}, nbytes={"x": 6}))
    assert gathers(out) == [(P, ("x",))]
    out = world.send(ComputeTask("v", 2, 2, who_has={"y": (Q,)}, nbytes={"y": nbytes}))
    assert gathers(out) == begun


def test_message_carries_fifty_megabytes_unless_told_otherwise() -> None:
    sizes = {"x": 25_000_000, "y": 25_000_000, "z": 1}
    out = limits().send(AcquireReplicas(dict.fromkeys(sizes, (P,)), sizes))
    assert gathers(out) == [(P, ("x", "y"))]


def test_too_big_for_a_message_goes_alone_while_others_are_in_flight() -> None:
    world = limits(message_nbytes=5)
    world.send(AcquireReplicas({"x": (Q,)}, {"x": 1}))
    out = world.send(AcquireReplicas({"big": (P,), "small": (P,)}, {"big": 100, "small": 1}))
    assert gathers(out) == [(P, ("big",))]


def test_message_without_limit_takes_all() -> None:
    world = World(Config(address=HERE, limits=Limits(message_nbytes=None)))
    sizes = dict.fromkeys("xyz", 10**9)
    out = world.send(AcquireReplicas(dict.fromkeys("xyz", (P,)), sizes))
    assert out == [Gather(P, 1, ("x", "y", "z"), 3 * 10**9)]


def test_too_big_for_every_limit_goes_alone() -> None:
    """It has to arrive some time."""
    world = limits(incoming_nbytes=10, message_nbytes=5)
    out = world.send(AcquireReplicas({"big": (P,), "small": (Q,)}, {"big": 100, "small": 1}))
    assert gathers(out) == [(P, ("big",))]
    assert gathers(world.send(GatherSuccess(P, 1, {"big": (100, "b")}))) == [(Q, ("small",))]


def test_message_is_limited() -> None:
    world = limits(message_nbytes=10)
    out = world.send(AcquireReplicas(dict.fromkeys("xyz", (P,)), {"x": 6, "y": 4, "z": 1}))
    assert gathers(out) == [(P, ("x", "y"))]
    out = world.send(GatherSuccess(P, 1, {"x": (6, "int"), "y": (4, "int")}))
    assert gathers(out) == [(P, ("z",))]


def test_priority_of_what_is_wanted_stays() -> None:
    """A key sought without priority keeps its rank when it is acquired too, or nobody is asked."""
    world = limits()
    world.play(
        Pause(),
        ComputeTask("y", 1, 1, who_has={"x": (P,)}),
        AcquireReplicas({"x": (P,)}),
        ComputeTask("z", 1, 1, priority=(5,), who_has={"x": (P,)}),
    )
    assert gathers(world.send(Unpause())) == [(P, ("x",))]


def test_new_holder_is_asked_at_once() -> None:
    world = limits()
    world.send(AcquireReplicas({"x": ()}))
    assert gathers(world.send(RefreshWhoHas({"x": (Q,)}))) == [(Q, ("x",))]


def test_ten_thousand_ready_tasks_start_in_order() -> None:
    machine = Machine(Config(slots={"thread": 10_000}))
    machine.handle(Pause())
    for number in range(10_000):
        machine.handle(ComputeTask(f"t{number}", 1, 1, priority=(number * 7919 % 10_000,)))
    out = machine.handle(Unpause())
    assert started(out) == sorted(started(out), key=lambda key: int(key[1:]) * 7919 % 10_000)
