"""Why tasks are where they are, and which of them are stuck."""

from contextlib import suppress

import pytest
from journals import LOST_PEER, random_life, told

from trouper.runtime.debugging.reasons import Scene, named
from trouper.runtime.errors import StimulusError
from trouper.runtime.ledger import Config, Limits
from trouper.runtime.machine import Machine
from trouper.runtime.task import Place
from trouper.wire.stimuli import Stimulus

ONE = Config(slots={"thread": 1})


def after(stimuli: list[Stimulus], config: Config = ONE) -> Machine:
    machine = Machine(config)
    for stimulus in stimuli:
        machine.handle(stimulus)
    return machine


GPU = Config(slots={"thread": 3}, resources={"gpu": 2.0})
NARROW = Config(limits=Limits(incoming_nbytes=100))

NOT_STUCK = [
    (ONE, "compute-task a", "a", "executing", "attempt 1 runs"),
    (
        ONE,
        "compute-task a\nfree-keys a",
        "a",
        "cancelled(executing)",
        "attempt 1 runs, and is asked to end",
    ),
    (
        ONE,
        "compute-task a\nexecute-success a #1 nbytes=28",
        "a",
        "memory",
        "its value of 28 bytes is here, for whoever asked for it",
    ),
    (
        ONE,
        "compute-task a\ncompute-task b",
        "b",
        "ready",
        "1 of 1 slots for 'thread' are taken, by a",
    ),
    (ONE, "compute-task a\ncompute-task b local=a", "b", "waiting", "it waits for a"),
    (
        GPU,
        "compute-task a resources=gpu:2\ncompute-task b resources=gpu:1",
        "b",
        "constrained",
        "too much is taken of gpu, by a",
    ),
    (
        GPU,
        "compute-task a resources=gpu:1\n"
        "compute-task b resources=gpu:2 priority=1\n"
        "compute-task c resources=gpu:1 priority=2",
        "c",
        "constrained",
        "too much is taken of gpu, by a",
    ),
    (ONE, "acquire-replicas x@tcp://b:1", "x", "flight", "gather 1 from tcp://b:1 is in flight"),
    (
        ONE,
        "acquire-replicas x@tcp://b:1\nfree-keys x",
        "x",
        "cancelled(flight)",
        "gather 1 from tcp://b:1 is in flight, and is asked to end",
    ),
    (
        ONE,
        "acquire-replicas x@tcp://b:1\nacquire-replicas y@tcp://b:1",
        "y",
        "fetch",
        "tcp://b:1 answers another gather first",
    ),
    (
        ONE,
        "acquire-replicas x@tcp://b:1\ngather-busy tcp://b:1 #1",
        "x",
        "fetch",
        "tcp://b:1 was busy, and will be asked again",
    ),
    (
        NARROW,
        "acquire-replicas x@tcp://b:1 nbytes=x:100\nacquire-replicas y@tcp://c:1 nbytes=y:9",
        "y",
        "fetch",
        "100 bytes are in flight, as much as the limits allow",
    ),
    (ONE, "pause", "a", "released", "the worker knows nothing of it"),
]


@pytest.mark.parametrize(("config", "life", "key", "phase", "text"), NOT_STUCK)
def test_what_gets_on(config: Config, life: str, key: str, phase: str, text: str) -> None:
    scene = Scene(after(told(life), config))
    reason = scene.reason(key)
    assert (reason.phase, reason.text) == (phase, text)
    assert scene.stuck() == []
    assert scene.causes() == []


STUCK = [
    (ONE, "pause\ncompute-task a", "a", "the worker is paused"),
    (ONE, "pause\nacquire-replicas x@tcp://b:1", "x", "the worker is paused"),
    (ONE, "acquire-replicas x@-", "x", "no holder is known"),
    (Config(slots={"thread": 0}), "compute-task a", "a", "the worker has no slots for 'thread'"),
]


@pytest.mark.parametrize(("config", "life", "key", "text"), STUCK)
def test_what_only_somebody_else_can_free(config: Config, life: str, key: str, text: str) -> None:
    scene = Scene(after(told(life), config))
    assert scene.stuck() == [key]
    assert [(cause.reason.key, cause.reason.text) for cause in scene.causes()] == [(key, text)]


def lose_slot(machine: Machine) -> None:
    machine.ledger.slots["thread"].free -= 1


def lose_gpu(machine: Machine) -> None:
    machine.ledger.millionths_free["gpu"] -= 2_000_000


BLAMELESS = {"the worker is paused", "no holder is known"}
"""What may hinder a task though the machine is right; anything else would be a fault of it."""


@pytest.mark.parametrize("seed", range(5))
def test_a_right_machine_is_never_blamed(seed: int) -> None:
    config, life = random_life(seed, steps=1500)
    machine = Machine(config)
    causes: set[str] = set()
    for stimulus in life:
        with suppress(StimulusError):
            machine.handle(stimulus)
        scene = Scene(machine)
        causes |= {cause.reason.text for cause in scene.causes()}
        for key in machine.ledger.tasks:
            assert scene.chain(key)[-1].text
    assert causes == BLAMELESS


def test_a_slot_that_nobody_has_and_nobody_gives_back() -> None:
    machine = after(told("compute-task a\nexecute-success a #1 nbytes=28"))
    lose_slot(machine)
    machine.handle(told("compute-task b")[0])
    scene = Scene(machine)
    assert scene.stuck() == ["b"]
    assert scene.reason("b").text == (
        "1 of 1 slots for 'thread' are taken, though nothing runs there"
    )


def test_a_resource_that_nobody_has_and_nobody_gives_back() -> None:
    machine = Machine(GPU)
    lose_gpu(machine)
    machine.handle(told("compute-task b resources=gpu:1")[0])
    assert Scene(machine).reason("b").text == (
        "0 of 'gpu' is free, though nothing runs that takes any"
    )
    assert Scene(machine).stuck() == ["b"]


def test_a_task_that_could_start_and_does_not() -> None:
    machine = after(told("compute-task a\ncompute-task b"))
    machine.ledger.slots["thread"].free = 1
    assert Scene(machine).reason("b").text == "all that it takes is free, and it is not started"
    assert Scene(machine).stuck() == ["b"]


def test_a_task_that_has_its_inputs_and_is_not_queued() -> None:
    machine = after(told("compute-task a\ncompute-task b local=a"))
    machine.ledger.tasks["b"].local = ()
    assert Scene(machine).reason("b").text == "its inputs are all here, and it is not queued"
    assert Scene(machine).stuck() == ["b"]


def test_a_task_that_could_be_fetched_and_is_not() -> None:
    machine = after(told("acquire-replicas x@-"))
    machine.ledger.set_holders(machine.ledger.tasks["x"], ("tcp://c:1",))
    machine.ledger.tasks["x"].place = Place.WANTED
    assert Scene(machine).reason("x").text == "tcp://c:1 could be asked for it, and is not"
    assert Scene(machine).stuck() == ["x"]


def test_an_input_that_is_not_on_its_way() -> None:
    machine = after(told("compute-task a\ncompute-task b local=a\ncompute-task c local=b"))
    machine.ledger.tasks["a"].activity = None
    scene = Scene(machine)
    assert scene.stuck() == ["b", "c"]
    [cause] = scene.causes()
    assert (cause.reason.text, cause.behind) == ("nobody computes or fetches it", ("b", "c"))


def test_who_waits_for_what_is_stuck_is_stuck() -> None:
    scene = Scene(after(LOST_PEER))
    assert scene.stuck() == ["y", "x", "z"]  # oldest first
    [cause] = scene.causes()
    assert (cause.reason.key, cause.behind) == ("x", ("y", "z"))
    assert [reason.key for reason in scene.chain("z")] == ["z", "y", "x"]


def test_the_chain_follows_the_input_that_is_stuck() -> None:
    life = told("compute-task a\ncompute-task b local=a who-has=x@-")
    scene = Scene(after(life))
    assert [reason.key for reason in scene.chain("b")] == ["b", "x"]
    assert scene.reason("b").text == "it waits for a and x"
    assert scene.chain("b")[0].text == "it waits for x and a"


def test_a_faulty_circle_of_tasks_has_an_end() -> None:
    machine = after(told("compute-task a\ncompute-task b local=a\ncompute-task c local=b"))
    tasks = machine.ledger.tasks
    tasks["a"].activity = None
    tasks["a"].place = Place.WAITING
    tasks["a"].local = (tasks["c"],)
    assert [reason.key for reason in Scene(machine).chain("c")] == ["c", "b", "a"]


def test_a_chain_may_be_long() -> None:
    life = ["compute-task t0 who-has=x@-"]
    life += [f"compute-task t{n} local=t{n - 1}" for n in range(1, 5000)]
    scene = Scene(after(told("\n".join(life))))
    assert len(scene.stuck()) == 5001
    assert len(scene.chain("t4999")) == 5001


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, ""), (1, "a"), (2, "a and b"), (4, "a, b, c and d"), (6, "a, b, c and 3 more")],
)
def test_names_in_a_sentence(count: int, text: str) -> None:
    assert named("abcdef"[:count]) == text
