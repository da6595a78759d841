"""How much memory a value is said to take."""

import sys
from typing import Any

import pytest

from trouper.actors.sizeof import MOST_NBYTES, SAMPLE, sizeof


@pytest.mark.parametrize("value", [0, 1.5, True, "text", b"bytes", None, object(), {1, 2}])
def test_plain_values(value: object) -> None:
    assert sizeof(value) == sys.getsizeof(value)


def test_what_tells_its_own_size() -> None:
    class Array:
        nbytes = 10**9

    assert sizeof(Array()) == 10**9
    assert sizeof([Array(), Array()]) == sys.getsizeof([1, 2]) + 2 * 10**9
    assert sizeof(memoryview(bytes(1000))) == 1000


@pytest.mark.parametrize("wrong", ["5", -5, None, 1.5, MOST_NBYTES + 1, 1 << 80])
def test_what_tells_nonsense_is_measured(wrong: object) -> None:
    class Array:
        nbytes = wrong

    value = Array()
    assert sizeof(value) == sys.getsizeof(value)


def test_containers_count_their_elements() -> None:
    text = "x" * 1000
    one = sys.getsizeof(text)
    assert sizeof([text]) == sys.getsizeof([text]) + one
    assert sizeof((text, text)) == sys.getsizeof((text, text)) + 2 * one
    assert sizeof({"k": text}) == sys.getsizeof({"k": text}) + one
    assert sizeof([]) == sys.getsizeof([])
    assert sizeof({}) == sys.getsizeof({})


def test_long_containers_by_a_sample() -> None:
    class Counting:
        asked = 0

        @property
        def nbytes(self) -> int:
            type(self).asked += 1
            return 100

    for container in ([Counting()] * 1000, dict.fromkeys(range(1000), Counting())):
        Counting.asked = 0
        assert sizeof(container) == sys.getsizeof(container) + 100 * 1000
        assert Counting.asked == SAMPLE


def test_nothing_takes_more_than_a_process_can_address() -> None:
    class Array:
        nbytes = MOST_NBYTES

    assert sizeof(Array()) == MOST_NBYTES
    assert sizeof([Array()] * 1000) == sys.getsizeof([None] * 1000) + MOST_NBYTES


def test_containers_that_contain_themselves() -> None:
    knot: list[Any] = []
    knot.append(knot)
    assert sizeof(knot) > 0


class Error(BaseException):
    pass


class Hostile:
    def __getattr__(self, name: str) -> object:
        raise Error(name)

    def __sizeof__(self) -> int:
        raise Error("__sizeof__")


def test_what_breaks_when_it_is_asked_counts_as_nothing() -> None:
    assert sizeof(Hostile()) == 0
    assert sizeof([Hostile()]) == sys.getsizeof([1])
    assert sizeof({1: Hostile()}) == sys.getsizeof({1: 1})


def test_a_dict_that_changes_meanwhile() -> None:
    changing: dict[int, object] = {}

    class Grow:
        @property
        def nbytes(self) -> int:
            changing[len(changing)] = Grow()
            return 1

    for i in range(5):
        changing[i] = Grow()
    assert sizeof(changing) > 0
