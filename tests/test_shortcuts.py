"""The shortcuts of the machine are no more than that: the long way leads to the same place.

What is most frequent goes a way of its own past the machine's books. Each such way is closed here,
and long random stories are told again: same instructions, same state, after every stimulus.
"""

from collections.abc import Callable
from random import Random
from typing import TypeAlias

import pytest
from generator import Story
from model import World
from monkey import CONFIGS, DRAWS

from trouper.runtime import machine, requests
from trouper.runtime.errors import StimulusError
from trouper.runtime.ledger import Config, Ledger
from trouper.runtime.machine import Handler, Machine
from trouper.runtime.outcomes import current, drop_stale, land
from trouper.runtime.policies import gather_alone
from trouper.runtime.settling import settle_all
from trouper.runtime.task import Task
from trouper.runtime.transitions import Outcome, conclude
from trouper.wire.instructions import Instruction
from trouper.wire.stimuli import ComputeTask, ExecuteSuccess, GatherSuccess, Stimulus

Tell: TypeAlias = Callable[[int], tuple[Config, list[Stimulus]]]


def sane(seed: int) -> tuple[Config, list[Stimulus]]:
    """What a scheduler and peers could tell."""
    story = Story(seed)
    story.tell(400)
    return story.config, story.duel.told


def crazy(seed: int) -> tuple[Config, list[Stimulus]]:
    """Anything at all."""
    rng = Random(seed)
    world = World(CONFIGS[seed % len(CONFIGS)], tangled=bool(seed & 1))
    told: list[Stimulus] = []
    while len(told) < 400:
        stimulus = rng.choice(DRAWS)(rng, world)
        if stimulus is not None:
            told.append(stimulus)
            world.send(stimulus)
    return world.machine.ledger.config, told


def answers(config: Config, told: list[Stimulus]) -> list[tuple[list[Instruction] | str, str]]:
    """What a machine says to each stimulus, and its state then."""
    it = Machine(config)
    said: list[tuple[list[Instruction] | str, str]] = []
    for stimulus in told:
        try:
            answer: list[Instruction] | str = it.handle(stimulus)
        except StimulusError as error:
            answer = str(error)
        said.append((answer, it.fingerprint()))
    return said


def never(ledger: Ledger, task: Task, out: list[Instruction]) -> bool:
    """Every fetch competes with others."""
    return False


@pytest.mark.parametrize("tell", [sane, crazy])
def test_a_fetch_that_competes_with_no_other(monkeypatch: pytest.MonkeyPatch, tell: Tell) -> None:
    taken = 0

    def counted(ledger: Ledger, task: Task, out: list[Instruction]) -> bool:
        nonlocal taken
        begun = gather_alone(ledger, task, out)
        taken += begun
        return begun

    for seed in range(15):
        config, told = tell(seed)
        monkeypatch.setattr("trouper.runtime.requests.gather_alone", counted)
        short = answers(config, told)
        monkeypatch.setattr("trouper.runtime.requests.gather_alone", never)
        assert answers(config, told) == short
    assert taken > 20


def compute_at_length(ledger: Ledger, ev: ComputeTask, out: list[Instruction]) -> None:
    """A task that is new is made known first, and then asked for like one that was known."""
    requests.check_compute_task(ledger, ev)
    if ev.key not in ledger.tasks:
        ledger.ensure(ev.key)
        ledger.last_age -= 1  # asking anew takes an age; the task shall have had no other
    requests.compute_task(ledger, ev, out)


def succeed_at_length(ledger: Ledger, ev: ExecuteSuccess, out: list[Instruction]) -> None:
    """What an attempt has brought is judged by the table, whatever it is."""
    task = current(ledger, ev.key, ev.attempt)
    if task is None:
        drop_stale(ledger, ev.key, ev.attempt, out)
        return
    if ledger.observes and task.prefix:
        ledger.observe(task.prefix, ev.duration_s)
    conclude(ledger, task, Outcome.COMPUTED, ev.attempt, ev.nbytes, ev.type_name, out)
    settle_all(ledger, out)


def arrive_at_length(ledger: Ledger, ev: GatherSuccess, out: list[Instruction]) -> None:
    """What a gather has brought is judged by the table, value by value."""
    tasks = land(ledger, ev.peer, ev.attempt) or []
    for task in tasks:
        outcome = Outcome.FETCHED if task.key in ev.data else Outcome.NOT_FETCHED
        activity = task.activity
        if outcome is Outcome.NOT_FETCHED and activity is not None and not activity.cancelling:
            ledger.remove_holder(task, ev.peer)
        nbytes, type_name = ev.data.get(task.key, (0, ""))
        conclude(ledger, task, outcome, ev.attempt, nbytes, type_name, out)
    for key in ev.data:
        if key not in [task.key for task in tasks]:
            drop_stale(ledger, key, ev.attempt, out)
    settle_all(ledger, out)


@pytest.mark.parametrize("tell", [sane, crazy])
@pytest.mark.parametrize(
    ("kind", "at_length"),
    [
        (ComputeTask, compute_at_length),
        (ExecuteSuccess, succeed_at_length),
        (GatherSuccess, arrive_at_length),
    ],
)
def test_what_every_task_goes_through(
    monkeypatch: pytest.MonkeyPatch, tell: Tell, kind: type[Stimulus], at_length: Handler
) -> None:
    for seed in range(8):
        config, told = tell(seed)
        short = answers(config, told)
        with monkeypatch.context() as patch:
            patch.setattr(machine, "HANDLERS", {**machine.HANDLERS, kind: at_length})
            assert answers(config, told) == short
