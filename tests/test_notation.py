"""Words as lines of text: each is read as it was written, and a wrong line says what is wrong."""

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import fields

from trouper.runtime.debugging.notation import (
    INSTRUCTIONS,
    STIMULI,
    NotationError,
    Words,
    read,
    write,
)
from trouper.runtime.ledger import Config, Limits
from trouper.wire.instructions import Execute, Gather, StealResponse, TaskErred
from trouper.wire.stimuli import AcquireReplicas, ComputeTask, ExecuteSuccess, GatherSuccess

KINDS: Words = {**STIMULI, **INSTRUCTIONS, "config": Config, "limits": Limits}


@st.composite
def structs(draw: st.DrawFn) -> msgspec.Struct:
    """Any word or configuration, with anything in its fields; limits have a line of their own."""
    kind = draw(st.sampled_from(list(KINDS.values())))
    values = {
        field.name: draw(st.from_type(field.type))
        for field in fields(kind)
        if field.type is not Limits
    }
    return kind(**values)


SAID = [
    ("compute-task y", ComputeTask("y", 1, 1)),
    (
        "compute-task y run-id=2 priority=0,1.5 who-has=x@tcp://a:1+tcp://b:1,z@- nbytes=x:100",
        ComputeTask(
            *("y", 2, 1, (0, 1.5), ()),
            {"x": ("tcp://a:1", "tcp://b:1"), "z": ()},
            {"x": 100},
        ),
    ),
    ("acquire-replicas x@tcp://a:1", AcquireReplicas({"x": ("tcp://a:1",)})),
    ("gather tcp://a:1 #3 x,y nbytes=7", Gather("tcp://a:1", 3, ("x", "y"), 7)),
    ("gather-success tcp://a:1 #3 x:4:str", GatherSuccess("tcp://a:1", 3, {"x": (4, "str")})),
    ("gather-success tcp://a:1 #3 -", GatherSuccess("tcp://a:1", 3, {})),
    ("execute-success x #1 nbytes=8", ExecuteSuccess("x", 1, 8, "int")),
    ("execute-success x #1 nbytes=8 duration-s=0.5", ExecuteSuccess("x", 1, 8, "int", 0.5)),
    (
        "execute y #2 inputs=x#1,z#-1 resources=gpu:0.5",
        Execute("y", 2, 1, 1, "thread", (("x", 1), ("z", -1)), (("gpu", 0.5),)),
    ),
    ("task-erred y #0 via=x cancelled=true", TaskErred("y", 1, 0, "x", True)),
    ("steal-response x phase=- stimulus-id=s", StealResponse("x", None, "s")),
    ('steal-response "-" phase="" stimulus-id="a b"', StealResponse("-", "", "a b")),
    ('free-keys "(\'x\', 1)","a\\"b",c', STIMULI["free-keys"](("('x', 1)", 'a"b', "c"))),
    ("config slots=thread:2 resources=gpu:1.0", Config({"thread": 2}, {"gpu": 1.0})),
    ("limits incoming-nbytes=100 message-nbytes=-", Limits(10, 10_000_000, 100, None)),
]


@pytest.mark.parametrize(("line", "said"), SAID, ids=[line for line, _ in SAID])
def test_a_word_is_written_as_people_write_it(line: str, said: msgspec.Struct) -> None:
    assert write(said) == line
    assert read(line, KINDS) == said


@given(said=structs())
def test_every_word_is_read_as_it_was_written(said: msgspec.Struct) -> None:
    line = write(said)
    assert line.splitlines() == [line]
    assert repr(read(line, KINDS)) == repr(said)


def test_an_unknown_time_is_infinite() -> None:
    said = read("execute-success x #1 nbytes=8 duration-s=inf", STIMULI)
    assert said.duration_s == math.inf


WRONG = [
    ("compute-tsak y", "there is no 'compute-tsak'; is 'compute-task' meant?"),
    ("", "there is no ''"),
    ("compute-task", "compute-task: key is missing"),
    ("compute-task y z", "'z' is one too many; other fields are written name=value"),
    ("compute-task y spec-id=2 spec-id=3", "'spec-id=3' says again what has been said"),
    ("execute-success y #1 nbytes=8 #2", "'#2' says again what has been said"),
    ("compute-task y colour=red", "there is no field 'colour'"),
    ("compute-task y spec_id=2", "there is no field 'spec_id'; is 'spec-id' meant?"),
    ("compute-task y spec-id=two", "compute-task: spec-id: Expected `int`, got `str`"),
    ('compute-task "y', "a quotation mark is left open"),
    ('compute-task y"z" prefix="\\q"', '"\\q" is not a text in quotation marks'),
    ("compute-task y who-has=x", "'x' is not a key and its holders, as in x@tcp://a:1"),
    ("compute-task y nbytes=x", "'x' is not a key and what belongs to it, with colons between"),
    ("update-data x:8 #-1", "'x:8' is not a key and what belongs to it, with colons between"),
    ("free-keys #1 x", "'#1' is an attempt, and there is none to be named"),
]


@pytest.mark.parametrize(("line", "wrong"), WRONG, ids=[line for line, _ in WRONG])
def test_a_wrong_line_says_what_is_wrong(line: str, wrong: str) -> None:
    with pytest.raises(NotationError) as caught:
        read(line, STIMULI)
    assert str(caught.value) == wrong
