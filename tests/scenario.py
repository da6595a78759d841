"""Stories of a machine, in `tests/scenarios/*.txt`: what it is told, and what it answers.

    # A task with an input that a peer holds
    #
    # What there is to know about it, in a few lines.

    config slots=thread:2

    > compute-task y who-has=x@tcp://a:1 nbytes=x:100
    < gather tcp://a:1 #1 x nbytes=100
      x flight
      y waiting

A line tells by its beginning what it is:

    #           a comment; the first one is the title
    config      the machine's configuration, as far as it differs from the default; and
    limits      its limits. Both stand before the first stimulus.
    >           a stimulus, and below it what it is expected to lead to:
    <           an instruction, in the order in which they are given
    !           the error with which the machine refuses the stimulus
    (blanks)    a task whose phase has changed, and its new phase; ordered by key

How words are written stands in `trouper.runtime.debugging.notation`. A story is told by a
`model.World`, which verifies after each stimulus that the machine does not contradict itself, nor
what it has told the store and the scheduler. ``python tests/scenario.py`` writes what the machine
does into all stories, or into those that are named; comments and blank lines stay. Read the
difference before you keep it: a story says what is right.
"""

import sys
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
from model import World

from trouper.runtime.debugging.notation import (
    INSTRUCTIONS,
    STIMULI,
    NotationError,
    Words,
    read,
    write,
    write_value,
)
from trouper.runtime.errors import StimulusError
from trouper.runtime.ledger import Config, Limits
from trouper.runtime.machine import Machine
from trouper.wire.instructions import Instruction
from trouper.wire.stimuli import Stimulus
from trouper.wire.vocabulary import Key

FOLDER: Final = Path(__file__).parent / "scenarios"

SETTINGS: Final[Words] = {"config": Config, "limits": Limits}


class ScenarioError(AssertionError):
    """A story that cannot be read, or that is not what happens."""

    def __init__(self, path: Path, number: int, problem: str) -> None:
        super().__init__(f"{path}:{number}: {problem}")


class Line(NamedTuple):
    """A line of a story, and its number, from 1."""

    number: int
    text: str


class Step(NamedTuple):
    """A stimulus, and the lines below it up to the next one."""

    said: Line
    stimulus: Stimulus
    below: list[Line]


class Scenario:
    """A story as it is written.

    Args:
        path: Where it stands.
        text: The story; read from there by default.

    Raises:
        ScenarioError: A setting or stimulus that cannot be read.
    """

    def __init__(self, path: Path, text: str | None = None) -> None:
        self.path = path
        self.opening: list[Line] = []
        """The lines above the first stimulus."""
        self.steps: list[Step] = []
        lines = (path.read_text() if text is None else text).split("\n")
        for line in (Line(number, text) for number, text in enumerate(lines, start=1)):
            if line.text.startswith(">"):
                self.steps.append(Step(line, self._read(line, line.text[1:], STIMULI), []))
            elif self.steps:
                self.steps[-1].below.append(line)
            else:
                self.opening.append(line)
        self.config = self._config()

    def _config(self) -> Config:
        config, limits = Config(), Limits()
        for line in self.opening:
            if not _is_remark(line):
                setting: Config | Limits = self._read(line, line.text, SETTINGS)
                if isinstance(setting, Config):
                    config = setting
                else:
                    limits = setting
        return msgspec.structs.replace(config, limits=limits)

    def _read(self, line: Line, text: str, words: Words) -> Any:
        try:
            return read(text.strip(), words)
        except NotationError as error:
            raise ScenarioError(self.path, line.number, str(error)) from None

    def check(self) -> None:
        """Tell the story and compare, line by line.

        Raises:
            ScenarioError: The first line that cannot be read or does not come true.
        """
        for step, answer in zip(self.steps, self.tell(), strict=True):
            expected = [line for line in step.below if not _is_remark(line)]
            last = expected[-1] if expected else step.said
            for line, comes in zip_longest(expected, answer):
                if line is None:
                    raise ScenarioError(self.path, last.number, f"after this comes {comes!r}")
                if self._canonical(line) != comes:
                    instead = f"{comes!r} comes here" if comes else "nothing more comes here"
                    problem = f"{line.text!r} is expected; {instead}"
                    raise ScenarioError(self.path, line.number, problem)

    def _canonical(self, line: Line) -> str:
        """An expectation as `tell` would write it."""
        match line.text[0]:
            case "<":
                return f"< {write(self._read(line, line.text[1:], INSTRUCTIONS))}"
            case " ":
                return f"  {line.text.strip()}"
            case "!":
                return line.text
            case _:
                problem = f"{line.text!r} is neither a stimulus (>), nor an instruction (<), "
                problem += "a refusal (!), a phase (blanks) or a comment (#)"
                raise ScenarioError(self.path, line.number, problem)

    def tell(self) -> Iterator[list[str]]:
        """What comes of each stimulus, as lines; at the end nothing may be left behind."""
        world = World(self.config)
        for step in self.steps:
            before = phases(world.machine)
            answer = answer_of(world, step.stimulus)
            after = phases(world.machine)
            for key in sorted(before.keys() | after.keys()):
                phase = after.get(key, "released")
                if phase != before.get(key, "released"):
                    answer.append(f"  {write_value(key)} {phase}")
            yield answer
        world.finish()

    def rewritten(self) -> str:
        """The story with the expectations that come true; comments and blank lines stay."""
        lines = [line.text for line in self.opening]
        for step, answer in zip(self.steps, self.tell(), strict=True):
            lines += [step.said.text, *answer]
            lines += [line.text for line in step.below if _is_remark(line)]
        return "\n".join(lines)


def answer_of(world: World, stimulus: Stimulus) -> list[str]:
    """The instructions that a stimulus leads to, or the error with which it is refused."""
    refused = world.refused
    instructions: list[Instruction] = world.send(stimulus)
    if world.refused == refused:
        return [f"< {write(instruction)}" for instruction in instructions]
    try:
        world.machine.handle(stimulus)  # the world has verified that this changes nothing
    except StimulusError as error:
        return [f"! {error}"]
    raise AssertionError(f"refused once, and then taken: {stimulus}")


def phases(machine: Machine) -> dict[Key, str]:
    """The phase of every task that a machine knows."""
    return {key: task.phase for key, task in machine.ledger.tasks.items()}


def _is_remark(line: Line) -> bool:
    return not line.text.strip() or line.text.startswith("#")


def scenarios() -> list[Path]:
    """All stories."""
    return sorted(FOLDER.glob("*.txt"))


def rewrite(paths: list[Path]) -> None:
    """Write what the machine does into stories."""
    for path in paths:
        path.write_text(Scenario(path).rewritten())


if __name__ == "__main__":
    rewrite([Path(name) for name in sys.argv[1:]] or scenarios())
