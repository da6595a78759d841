"""What a header tells, and what a digest is of."""

import tomllib
import zlib
from pathlib import Path

import msgspec
import pytest
from journals import header

from trouper.runtime.journal.format import (
    INSTRUCTION_TYPES,
    INSTRUCTIONS,
    STIMULI,
    STIMULUS_TYPES,
    Digester,
    Header,
    Kind,
    pack,
    plain_number,
)
from trouper.wire import instructions, stimuli
from trouper.wire.instructions import DropData, Execute, Instruction
from trouper.wire.version import VERSION
from trouper.wire.vocabulary import Word

ANSWER: list[Instruction] = [DropData("a", 3), Execute("b", 4, 2, 2, "thread", (("a", 3),))]


def words(module: object) -> set[type]:
    return {w for w in vars(module).values() if isinstance(w, type) and issubclass(w, Word)}


def test_every_kind_of_stimulus_and_instruction_is_told_of() -> None:
    assert set(STIMULUS_TYPES) == words(stimuli) - {Word}
    assert set(INSTRUCTION_TYPES) == words(instructions) - {Word}
    assert {kind.op: kind.fields for kind in STIMULI}["steal-request"] == ("key", "stimulus_id")
    assert len({kind.op for kind in INSTRUCTIONS}) == len(INSTRUCTIONS) <= 256


def test_a_header_comes_back() -> None:
    assert pack(msgspec.msgpack.decode(pack(header()), type=Header)) == pack(header())


def test_the_version_is_that_of_the_distribution() -> None:
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())
    assert project["project"]["version"] == VERSION == header().trouper


def test_a_digest_is_the_crc_of_arrays() -> None:
    arrays = [[6, "a", 3], [0, "b", 4, 2, 2, "thread", [["a", 3]], []]]
    assert Digester().digest(ANSWER) == zlib.crc32(msgspec.msgpack.encode(arrays))
    assert Digester().digest([]) == 0


def test_fields_that_came_later_make_no_difference_to_a_digest() -> None:
    then = tuple([
        Kind(kind.op, tuple([name for name in kind.fields if name != "resources"]))
        for kind in INSTRUCTIONS
    ])  # fmt: skip
    arrays = [[6, "a", 3], [0, "b", 4, 2, 2, "thread", [["a", 3]]]]
    assert Digester(then).digest(ANSWER) == zlib.crc32(msgspec.msgpack.encode(arrays))


def test_a_digest_has_the_tags_that_the_writer_knew() -> None:
    then = tuple(reversed(INSTRUCTIONS))
    arrays = [[len(then) - 7, "a", 3]]
    assert Digester(then).digest(ANSWER[:1]) == zlib.crc32(msgspec.msgpack.encode(arrays))


def test_kinds_that_came_later_or_are_gone_make_a_difference() -> None:
    without = tuple([kind for kind in INSTRUCTIONS if kind.op != "execute"])
    assert Digester(without).digest(ANSWER) != Digester().digest(ANSWER)
    more = (Kind("execute", (*INSTRUCTIONS[0].fields, "mood")), *INSTRUCTIONS[1:])
    assert Digester(more).digest(ANSWER) != Digester().digest(ANSWER)
    assert Digester(more).digest(ANSWER[:1]) == Digester().digest(ANSWER[:1])


def test_what_is_no_number_is_refused() -> None:
    with pytest.raises(NotImplementedError, match="complex is no part of a journal"):
        plain_number(1j)
