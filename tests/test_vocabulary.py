"""The words of the machine: plain data with a tag, read back as what was written."""

import ast
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

import trouper.runtime.machine as machine_module
from trouper.runtime.machine import HANDLERS
from trouper.wire import instructions, stimuli
from trouper.wire.instructions import Instruction
from trouper.wire.stimuli import Stimulus
from trouper.wire.vocabulary import Word, kebab_case

STIMULI: tuple[type[Word], ...] = get_args(Stimulus)
INSTRUCTIONS: tuple[type[Word], ...] = get_args(Instruction)

EXAMPLES: dict[str, object] = {
    "key": "x",
    "keys": ("x", "y"),
    "local": ("a",),
    "who_has": {"b": ("tcp://p:1", "tcp://q:1")},
    "nbytes": 7,
    "peer": "tcp://p:1",
    "executor": "process",
    "priority": (0, 1.5),
    "data": {"x": (8, "int")},
    "inputs": (("a", 3), ("b", -1)),
    "type_name": "int",
    "stimulus_id": "s-1",
    "request_id": "r-1",
    "phase": "ready",
    "via": "w",
    "cancelled": True,
    "delay_s": 0.25,
    "compute_duration_s": 1.5,
    "duration_s": 0.5,
    "prefix": "inc",
    "run_id": 11,
    "spec_id": 12,
    "attempt": 13,
}


def example(word: type[Word]) -> Word:
    """A word with something in every field."""
    values: dict[str, Any] = {name: EXAMPLES.get(name) for name in word.__struct_fields__}
    if word in (stimuli.ComputeTask, stimuli.AcquireReplicas):
        values["nbytes"] = {"b": 5}
    if word is instructions.Reply:
        values["nbytes"] = {"x": 8}
    if "resources" in values:
        values["resources"] = {"gpu": 0.5} if word in STIMULI else (("gpu", 0.5),)
    assert None not in values.values(), f"no example for every field of {word.__name__}"
    return word(**values)


@pytest.mark.parametrize("word", STIMULI, ids=lambda word: word.__name__)
def test_stimulus_arrives_as_it_was_sent(word: type[Word]) -> None:
    sent = example(word)
    plain = msgspec.to_builtins(sent)
    read: Any = msgspec.convert(plain, Stimulus)
    assert type(read) is word
    assert read == sent


@pytest.mark.parametrize("word", INSTRUCTIONS, ids=lambda word: word.__name__)
def test_instruction_arrives_as_it_was_sent(word: type[Word]) -> None:
    sent = example(word)
    encoded = msgspec.msgpack.encode(sent)
    read: Any = msgspec.msgpack.decode(encoded, type=Instruction)
    assert type(read) is word
    assert read == sent


@pytest.mark.parametrize("word", STIMULI + INSTRUCTIONS, ids=lambda word: word.__name__)
def test_unknown_field_is_refused(word: type[Word]) -> None:
    plain = msgspec.to_builtins(example(word))
    with pytest.raises(msgspec.ValidationError, match="Expected `array` of at most length"):
        msgspec.convert([*plain, "red"], word)


@pytest.mark.parametrize("word", STIMULI + INSTRUCTIONS, ids=lambda word: word.__name__)
def test_word_cannot_be_changed(word: type[Word]) -> None:
    said = example(word)
    for name in word.__struct_fields__:
        with pytest.raises(AttributeError):
            setattr(said, name, None)


@pytest.mark.parametrize("union", [STIMULI, INSTRUCTIONS], ids=["stimuli", "instructions"])
def test_a_tag_is_the_place_in_the_union(union: tuple[type[Word], ...]) -> None:
    assert [msgspec.to_builtins(example(word))[0] for word in union] == [*range(len(union))]


def test_a_word_is_an_array_of_its_tag_and_its_fields() -> None:
    assert msgspec.to_builtins(stimuli.StealRequest("x", "s-1")) == [6, "x", "s-1"]


def test_names_are_unique() -> None:
    names = [kebab_case(word.__name__) for word in STIMULI + INSTRUCTIONS]
    assert len(set(names)) == len(names)
    assert "compute-task" in names
    assert "request-refresh-who-has" in names


def test_every_word_of_a_module_is_in_its_union() -> None:
    for module, union in ((stimuli, STIMULI), (instructions, INSTRUCTIONS)):
        words = {
            word
            for word in vars(module).values()
            if isinstance(word, type) and issubclass(word, Word) and word is not Word
        }
        assert words == set(union)


def test_every_stimulus_has_a_handler() -> None:
    assert set(HANDLERS) == set(STIMULI)


def test_every_word_says_what_it_means() -> None:
    for word in STIMULI + INSTRUCTIONS:
        assert word.__doc__, word.__name__


PURE = (
    *("wire/vocabulary.py", "wire/stimuli.py", "wire/instructions.py"),
    *(
        f"runtime/{name}.py"
        for name in (
            *("task", "ledger", "transitions", "policies", "requests"),
            *("outcomes", "machine", "snapshot", "invariants"),
        )
    ),
)
FORBIDDEN = {
    *("trio", "asyncio", "threading", "concurrent", "time", "datetime", "random", "secrets"),
    *("uuid", "socket", "logging", "os", "weakref"),
}


@pytest.mark.parametrize("path", PURE)
def test_machine_imports_no_clock_and_no_chance(path: str) -> None:
    """The same stimuli have to give the same instructions, in every process, for ever."""
    source = Path(machine_module.__file__ or "").parents[1] / path
    imported: set[str] = set()
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Import):
            imported.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").partition(".")[0])
    assert imported
    assert imported.isdisjoint(FORBIDDEN)
