"""Values to buffers and back, without copies that can be avoided."""

import math
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np
import pytest
import trio

from trouper.actors.serialize import (
    OUT_OF_BAND_NBYTES,
    TINY_NBYTES,
    TINY_VALUES,
    deserialize,
    in_thread,
    serialize,
)
from trouper.wire.cbor import Chunk
from trouper.wire.messages import MAX_KEYS

LARGE = OUT_OF_BAND_NBYTES


def received(buffers: list[Chunk]) -> list[bytes | bytearray]:
    """As they arrive: a body of bytes is not among them."""
    return [bytearray(buffer) for buffer in buffers]


@pytest.mark.parametrize(
    "value",
    [
        None,
        1,
        1.5,
        "text",
        b"bytes",
        (1, [2, {3: {4}}]),
        math.nan,
        len,
        LookupError("why"),
        "x" * 10**5,
    ],
    ids=repr,
)
def test_plain_values_are_one_pickle(value: object) -> None:
    buffers = serialize(value)
    assert len(buffers) == 1
    assert repr(deserialize(received(buffers))) == repr(value)


@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_are_copied_on_neither_side(order: Any) -> None:
    array = np.asarray(np.arange(LARGE, dtype="i4").reshape(64, -1), order=order)
    pickled, buffer = serialize(array)
    assert np.shares_memory(np.frombuffer(buffer, "u1"), array)
    assert len(pickled) < 300
    came = received([pickled, buffer])
    result = deserialize(came)
    assert np.array_equal(result, array)
    assert np.shares_memory(result, np.frombuffer(came[1], "u1"))
    assert result.flags.writeable
    result[0, 0] = 7
    assert array[0, 0] == 0


def test_arrays_inside_of_others_are_not_copied_either() -> None:
    a, b = np.zeros(LARGE, "u1"), np.ones(LARGE, "u1")
    value = {"a": [a], "b": (b, a)}
    buffers = serialize(value)
    assert len(buffers) == 3
    result = deserialize(received(buffers))
    assert result["a"][0] is result["b"][1]
    assert np.array_equal(result["b"][0], b)


def test_what_cannot_be_written_to_arrives_so() -> None:
    array = np.zeros(LARGE, "u1")
    array.flags.writeable = False
    assert not deserialize(received(serialize(array))).flags.writeable


def test_small_buffers_go_into_the_pickle_and_can_be_written_to() -> None:
    buffers = serialize(np.zeros(LARGE - 1, "u1"))
    assert len(buffers) == 1
    assert deserialize(received(buffers)).flags.writeable


def test_bytes_of_an_array_that_do_not_lie_in_one_row_are_copied() -> None:
    array = np.arange(4 * LARGE, dtype="u1")[::2]
    assert np.array_equal(deserialize(received(serialize(array))), array)


def test_a_value_has_no_more_buffers_than_a_message_may_tell_of() -> None:
    block = np.zeros(LARGE, "u1")
    blocks = [block.copy() for _ in range(MAX_KEYS + 5)]
    buffers = serialize(blocks)
    assert len(buffers) == MAX_KEYS
    assert len(deserialize(buffers)) == len(blocks)


def test_functions_that_have_no_name_are_pickled_by_value() -> None:
    six = 6
    assert deserialize(received(serialize(lambda: six)))() == 6
    array = np.zeros(LARGE, "u1")
    pickled, *others = serialize((lambda: None, array))
    assert len(others) == 1
    assert deserialize([pickled, *others])[1].base is not None


def test_what_a_script_defines_is_known_where_the_script_is_not() -> None:
    script = """
import sys
from trouper.actors.serialize import serialize
class Point:
    def __init__(self, x): self.x = x
    def double(self): return self.x * factor()
def factor(): return 2
(pickled,) = serialize([Point(21), Point, factor])
sys.stdout.buffer.write(pickled)
"""
    pickled = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True).stdout
    point, cls, factor = deserialize([pickled])
    assert point.double() == 42
    assert isinstance(point, cls)
    assert factor() == 2


class Stubborn:
    def __reduce__(self) -> NoReturn:
        raise LookupError("I stay here")


@pytest.mark.parametrize(
    ("value", "error", "why"),
    [
        (Stubborn(), LookupError, "I stay here"),
        (threading.Lock(), TypeError, "cannot pickle '_thread.lock' object"),
        ((i for i in range(3)), TypeError, "cannot pickle 'generator' object"),
    ],
)
def test_what_cannot_be_pickled_says_why(value: Any, error: type[Exception], why: str) -> None:
    with pytest.raises(error, match=why):
        serialize(value)


def test_what_cannot_be_read_says_why() -> None:
    with pytest.raises(pickle.UnpicklingError):
        deserialize([b"no pickle"])
    pickled, _ = serialize(np.zeros(LARGE))
    with pytest.raises(pickle.UnpicklingError, match="not enough"):
        deserialize([pickled])


@pytest.mark.parametrize(
    ("sizes", "aside"),
    [
        ([("int", 28)], False),
        ([("str", TINY_NBYTES)] * TINY_VALUES, False),
        ([("str", TINY_NBYTES + 1)], True),
        ([("list", 28)], True),
        ([("int", 28)] * (TINY_VALUES + 1), True),
        ([("int", 28), ("DataFrame", 0)], True),
    ],
)
async def test_what_may_take_long_is_done_aside(sizes: list[tuple[str, int]], aside: bool) -> None:
    here = threading.get_ident()
    work: Callable[[], bool] = lambda: threading.get_ident() != here  # noqa: E731
    assert await in_thread(work, iter(sizes), trio.CapacityLimiter(1)) is aside
