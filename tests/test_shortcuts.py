"""The shortcuts of the machine are no more than that: the long way leads to the same place.

What is most frequent goes a way of its own past the machine's books. Each such way is closed here,
and long random stories are told again: same instructions, same state, after every stimulus.
"""

from collections.abc import Callable
from random import Random

import pytest
from generator import Story
from model import World
from monkey import CONFIGS, DRAWS

from trouper.runtime.errors import StimulusError
from trouper.runtime.ledger import Config, Ledger
from trouper.runtime.machine import Machine
from trouper.runtime.policies import gather_alone
from trouper.runtime.task import Task
from trouper.wire.instructions import Instruction
from trouper.wire.stimuli import Stimulus


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
    machine = Machine(config)
    said: list[tuple[list[Instruction] | str, str]] = []
    for stimulus in told:
        try:
            answer: list[Instruction] | str = machine.handle(stimulus)
        except StimulusError as error:
            answer = str(error)
        said.append((answer, machine.fingerprint()))
    return said


@pytest.mark.parametrize("tell", [sane, crazy])
def test_a_fetch_that_competes_with_no_other(
    monkeypatch: pytest.MonkeyPatch, tell: Callable[[int], tuple[Config, list[Stimulus]]]
) -> None:
    taken = 0

    def counted(ledger: Ledger, task: Task, out: list[Instruction]) -> bool:
        nonlocal taken
        begun = gather_alone(ledger, task, out)
        taken += begun
        return begun

    for seed in range(30):
        config, told = tell(seed)
        monkeypatch.setattr("trouper.runtime.requests.gather_alone", counted)
        short = answers(config, told)
        monkeypatch.setattr("trouper.runtime.requests.gather_alone", lambda *_: False)
        assert answers(config, told) == short
    assert taken > 50
