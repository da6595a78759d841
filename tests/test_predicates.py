"""Expressions that are true of a machine."""

import pytest
from journals import LOST_PEER, told

from trouper.runtime.debugging.minimise import Moment, Said, lead
from trouper.runtime.debugging.predicates import Predicate, is_sound, stuck
from trouper.runtime.errors import JournalError
from trouper.runtime.machine import Machine


def moments() -> list[Moment]:
    return list(lead(Machine(), [Said(stimulus) for stimulus in LOST_PEER]))


@pytest.mark.parametrize(
    "text",
    [
        "'y' in stuck(machine)",
        "machine.phase('x') == 'missing'",
        "isinstance(stimulus, FindMissing)",
        "any(isinstance(word, RequestRefreshWhoHas) for word in instructions)",
        " is_sound(machine) ",
        "[key for key in machine.ledger.tasks if machine.phase(key) == 'missing'] == ['x']",
    ],
)
def test_what_is_true_at_the_end(text: str) -> None:
    assert Predicate(text)(moments()[-1])
    assert not Predicate(f"not ({text})")(moments()[-1])


def test_what_an_expression_uses() -> None:
    assert Predicate("'y' in stuck(machine)").names == ["machine", "stuck"]


def test_a_moment_in_which_the_machine_has_failed_is_not_asked_about() -> None:
    [moment] = lead(Machine(), [Said(told("compute-task a local=q")[0])])
    assert not Predicate("True")(moment)


@pytest.mark.parametrize("text", ["", "x =", "import os", "\0"])
def test_no_expression(text: str) -> None:
    with pytest.raises(JournalError, match="is no expression of Python"):
        Predicate(text)


def test_an_expression_that_cannot_be_evaluated() -> None:
    with pytest.raises(JournalError, match="'queue' cannot be evaluated: NameError: name 'queue'"):
        Predicate("queue")(moments()[0])


def test_a_machine_that_contradicts_itself_is_not_sound() -> None:
    machine = moments()[-1].machine
    assert is_sound(machine)
    assert stuck(machine) == ["y", "x", "z"]
    machine.ledger.slots["thread"].free -= 1
    assert not is_sound(machine)


def test_an_index_that_names_what_does_not_exist_is_not_sound() -> None:
    machine = Machine()
    machine.handle(told("acquire-replicas x@tcp://b:1")[0])
    machine.ledger.tasks.clear()
    assert not is_sound(machine)
