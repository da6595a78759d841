"""What a stimulus was to a task, in words; and whether a word names a task."""

import pytest
from journals import random_life, told

from trouper.runtime.debugging.notation import INSTRUCTIONS, STIMULI, read
from trouper.runtime.debugging.occasions import mentions, occasion, subjects
from trouper.runtime.machine import HANDLERS

OCCASIONS = [
    ("compute-task x", "when it was to be computed"),
    ("compute-task y local=x", "when y was to be computed"),
    ("free-keys x,y", "when it was freed"),
    ("free-keys a,b", "when a and b were freed"),
    ("cancel-task y", "when y was cancelled"),
    ("cancel-compute x", "when it was to be given up"),
    ("steal-request x stimulus-id=s", "when it was to be given up"),
    ("acquire-replicas x@tcp://b:1", "when a copy was asked for"),
    ("remove-replicas x", "when it was to be let go"),
    ("refresh-who-has x@-", "when nobody was said to hold it"),
    ("refresh-who-has x@tcp://b:1+tcp://c:1", "when tcp://b:1 and tcp://c:1 were said to hold it"),
    ("remove-worker tcp://b:1", "when tcp://b:1 was lost"),
    ("update-data x:8:int #-1", "when it was put here from outside"),
    ("update-data y:8:int #-1", "when y was put here from outside"),
    ("pause", "when the worker was paused"),
    ("unpause", "when the worker went on"),
    ("execute-success x #4 nbytes=8", "when attempt 4 of it succeeded"),
    ("execute-failure y #4 type-name=KeyError", "when attempt 4 of y raised KeyError"),
    ("execute-reschedule x #4", "when it asked to be run elsewhere"),
    ("execute-cancelled x #4", "when attempt 4 of it had ended, cancelled"),
    ("secede y #4", "when y gave its slot back"),
    ("gather-success tcp://b:1 #4 x:8:int", "when it came from tcp://b:1"),
    ("gather-success tcp://b:1 #4 y:8:int", "when tcp://b:1 sent y"),
    ("gather-success tcp://b:1 #4 -", "when tcp://b:1 sent nothing"),
    ("gather-busy tcp://b:1 #4", "when tcp://b:1 was busy"),
    ("gather-network-failure tcp://b:1 #4", "when tcp://b:1 was lost"),
    (
        "gather-failure tcp://b:1 #4 type-name=EOFError",
        "when what tcp://b:1 sent could not be read: EOFError",
    ),
    ("retry-busy-worker tcp://b:1 #4", "when tcp://b:1 could be asked again"),
    ("find-missing #4", "when it was time to ask for what is missing"),
]


@pytest.mark.parametrize(("line", "clause"), OCCASIONS, ids=[line for line, _ in OCCASIONS])
def test_in_words(line: str, clause: str) -> None:
    [stimulus] = told(line)
    assert occasion(stimulus, "x") == clause


def test_there_are_words_for_every_stimulus() -> None:
    assert {type(told(line)[0]) for line, _ in OCCASIONS} == set(HANDLERS)
    _, stimuli = random_life(seed=4, steps=300)
    assert all(occasion(stimulus, "some key").startswith("when ") for stimulus in stimuli)


@pytest.mark.parametrize(
    "line",
    [
        "compute-task x",
        "compute-task y local=a,x",
        "compute-task y who-has=x@tcp://b:1",
        "free-keys a,x",
        "update-data x:8:int #-1",
        "refresh-who-has x@-",
    ],
)
def test_a_stimulus_names_a_task(line: str) -> None:
    [stimulus] = told(line)
    assert mentions(stimulus, "x")
    assert not mentions(stimulus, "int")
    assert not mentions(stimulus, "tcp://b:1")


@pytest.mark.parametrize(
    "line",
    [
        "execute y #1 inputs=x#3",
        "gather tcp://b:1 #1 x nbytes=100",
        "drop-data x #3",
        "task-erred y #0 via=x",
        "reply request-id=r nbytes=x:3",
    ],
)
def test_an_instruction_names_a_task(line: str) -> None:
    instruction = read(line, INSTRUCTIONS)
    assert mentions(instruction, "x")
    assert not mentions(instruction, "3")


@pytest.mark.parametrize(
    ("line", "keys"),
    [
        ("compute-task y local=a who-has=x@tcp://b:1 nbytes=x:100", ("y", "x")),
        ("free-keys x,y", ("x", "y")),
        ("gather-success tcp://b:1 #4 x:8:int,y:8:int", ("x", "y")),
        ("pause", ()),
    ],
)
def test_whom_a_stimulus_is_about(line: str, keys: tuple[str, ...]) -> None:
    assert subjects(read(line, STIMULI)) == keys


def test_an_instruction_is_not_about_the_inputs_it_names() -> None:
    assert subjects(read("execute y #1 inputs=x#3", INSTRUCTIONS)) == ("y",)
