"""What to look for in a journal, as a Python expression that is true of a machine. Pure.

    "y" in stuck(machine)
    machine.phase("x") == "missing" and isinstance(stimulus, FindMissing)
    not is_sound(machine)

It may use `machine`, `stimulus`, `instructions`; `stuck` and `is_sound`; the types of all stimuli
and instructions; and what Python itself has.
"""

import ast
from typing import Any

from trouper.runtime.debugging.minimise import Moment
from trouper.runtime.debugging.reasons import Scene
from trouper.runtime.errors import JournalError
from trouper.runtime.invariants import InvariantError, check
from trouper.runtime.journal.format import INSTRUCTION_TYPES, STIMULUS_TYPES
from trouper.runtime.machine import Machine
from trouper.wire.vocabulary import Key


def stuck(machine: Machine) -> list[Key]:
    """The tasks that wait although nothing is in flight that could free them, oldest first."""
    return Scene(machine).stuck()


def is_sound(machine: Machine) -> bool:
    """Whether a machine does not contradict itself; see `invariants`."""
    try:
        check(machine)
    except (InvariantError, KeyError):  # what an index names may not even exist
        return False
    return True


NAMES: dict[str, Any] = {"stuck": stuck, "is_sound": is_sound} | {
    word.__name__: word for word in (*STIMULUS_TYPES, *INSTRUCTION_TYPES)
}
"""What an expression may use, besides what a moment has."""


class Predicate:
    """Whether an expression is true of a moment.

    Args:
        text: The expression. It is Python, and is run.

    Raises:
        JournalError: It is no expression.
    """

    def __init__(self, text: str) -> None:
        self.text = text.strip()
        try:
            tree = ast.parse(self.text, mode="eval")
        except (SyntaxError, ValueError) as error:
            raise JournalError(f"{text!r} is no expression of Python: {error}") from error
        self.names = sorted({node.id for node in ast.walk(tree) if isinstance(node, ast.Name)})
        """That it uses."""
        self._code = compile(tree, "<predicate>", "eval")

    def __call__(self, moment: Moment) -> bool:
        """Evaluate it; a moment in which the machine has failed is none to be asked about.

        Raises:
            JournalError: It cannot be evaluated.
        """
        if moment.error is not None:
            return False
        names = NAMES | {
            "machine": moment.machine,
            "stimulus": moment.stimulus,
            "instructions": moment.instructions,
        }
        try:
            return bool(eval(self._code, names))
        except Exception as error:
            problem = f"{type(error).__name__}: {error}"
            raise JournalError(f"{self.text!r} cannot be evaluated: {problem}") from error
