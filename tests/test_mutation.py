"""The parts of the mutation run that make mutants, without the run and without cosmic-ray."""

import ast

from mutation import annotations, has_effect, shuffled, without

SOURCE = """\
Alias: TypeAlias = int | None


def f(x: int | None) -> list[int]:
    self.y = 1
    z = x
    if z:
        g(x,
          z)
    return z
"""


def test_statement_with_an_effect_is_deleted() -> None:
    statements = [node for node in ast.walk(ast.parse(SOURCE)) if isinstance(node, ast.stmt)]
    deleted = [without(SOURCE, statement) for statement in statements if has_effect(statement)]
    assert deleted == [
        SOURCE.replace("self.y = 1", "pass"),
        SOURCE.replace("g(x,\n          z)", "pass"),
    ]


def test_types_are_known_as_such() -> None:
    lines = SOURCE.splitlines()
    spoken = [lines[first[0] - 1][first[1] : last[1]] for first, last in annotations(SOURCE)]
    assert sorted(spoken) == ["TypeAlias", "int | None", "int | None", "list[int]"]


def test_sample_is_the_same_for_the_same_seed_and_begins_the_larger_one() -> None:
    mutants = list(range(100))
    assert shuffled(mutants, 1) == shuffled(mutants, 1)
    assert shuffled(mutants, 1) != shuffled(mutants, 2)
    assert sorted(shuffled(mutants, 1)) == mutants
