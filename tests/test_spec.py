"""Handles out of arguments, and results in their places."""

import functools
from collections import Counter, OrderedDict, defaultdict, deque
from contextvars import copy_context
from typing import Any, NamedTuple

import pytest

from trouper.actors.spec import Extractor, Input, Nested, Spec, fill, kind_of


class Handle:
    def __init__(self, key: str) -> None:
        self.key = key


class Subclass(Handle):
    pass


class Point(NamedTuple):
    x: Any
    y: Any


class MyList(list[Any]):
    pass


class MyTuple(tuple[Any, ...]):
    __slots__ = ()


class MyDict(dict[Any, Any]):
    pass


class MySet(set[Any]):
    pass


extractor = Extractor[Handle](Handle, lambda handle: handle.key)


def there_and_back(value: Any) -> tuple[object, list[str]]:
    """The argument with "A" in place of the handle "a", and the keys that were found."""
    found: list[Handle] = []
    extracted = extractor.extract(value, found)
    keys = [handle.key for handle in found]
    return fill(extracted, {key: key.upper() for key in keys}), keys


a, b = Handle("a"), Handle("b")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (a, "A"),
        ([a, 1, b], ["A", 1, "B"]),
        ((a,), ("A",)),
        ({a, 1}, {"A", 1}),
        (frozenset([a]), frozenset(["A"])),
        ({a: b, "k": [a]}, {"A": "B", "k": ["A"]}),
        ([[[[a]]]], [[[["A"]]]]),
        ({"k": ({(a, b)},)}, {"k": ({("A", "B")},)}),
        (Point(a, [b]), Point("A", ["B"])),
        (MyList([a]), MyList(["A"])),
        (MyTuple([a]), MyTuple(["A"])),
        (MyDict(k=a), MyDict(k="A")),
        (MySet([a]), MySet(["A"])),
        (OrderedDict([("y", a), ("x", b)]), OrderedDict([("y", "A"), ("x", "B")])),
        (Counter({a: 2}), Counter({"A": 2})),
    ],
)
def test_containers(value: Any, expected: Any) -> None:
    filled, keys = there_and_back(value)
    assert filled == expected
    assert type(filled) is type(expected)
    assert set(keys) <= {"a", "b"}


def test_defaultdicts_keep_their_factory() -> None:
    value: defaultdict[str, Any] = defaultdict(list, k=a)
    filled, _ = there_and_back(value)
    assert isinstance(filled, defaultdict)
    assert filled["new"] == []


def test_containers_without_handles_are_not_copied() -> None:
    for value in ([1, [2]], {"k": {1}}, (1, "x"), Point(1, 2)):
        assert there_and_back(value)[0] is value


def test_parts_without_handles_are_not_copied() -> None:
    inner = [1, 2]
    filled, _ = there_and_back([inner, a])
    assert isinstance(filled, list)
    assert filled[0] is inner


def test_the_argument_itself_is_left_as_it_is() -> None:
    argument: dict[str, Any] = {"k": [a], "d": OrderedDict(x=a)}
    there_and_back(argument)
    assert argument == {"k": [a], "d": {"x": a}}


def test_what_is_not_looked_into() -> None:
    for value in (Subclass("s"), deque([a]), lambda: a, iter([a]), object()):
        assert there_and_back(value) == (value, [])


def test_each_occurrence_is_found() -> None:
    assert there_and_back([a, (a, b)])[1] == ["a", "a", "b"]


@pytest.mark.parametrize("depth", [0, 100_000])
def test_an_argument_that_contains_itself_or_is_nested_too_deep(depth: int) -> None:
    knot: list[Any] = []
    inner = knot
    for _ in range(depth):
        inner.append([])
        inner = inner[0]
    if not depth:
        inner.append(knot)
    with pytest.raises(ValueError, match=r"\(list\) that contains itself or is nested too deep"):
        extractor.extract(knot, [])
    knot.clear()


def test_an_error_of_the_handle_passes() -> None:
    def refuse(_: Handle) -> str:
        raise LookupError

    with pytest.raises(LookupError):
        Extractor[Handle](Handle, refuse).extract([a], [])


def test_a_container_that_cannot_be_built_says_when() -> None:
    nested = Nested(set, [Input("a")])
    with pytest.raises(TypeError) as caught:
        fill(nested, {"a": []})
    assert "put into an argument" in caught.value.__notes__[0]


def test_call() -> None:
    def fn(*args: Any, **kwargs: Any) -> object:
        return args, kwargs

    spec = Spec(fn, (Input("a"), 1), {"k": Nested(list, [Input("b")])}, copy_context())
    assert spec.call({"a": 5, "b": 6}) == ((5, 1), {"k": [6]})
    spec = Spec(fn, (1,), {"k": 2}, copy_context())
    assert spec.call({}) == ((1,), {"k": 2})


async def coroutine() -> None:
    pass


class WithCall:
    async def __call__(self) -> None:
        pass

    async def method(self) -> None:
        pass


def wrapped() -> None:
    pass


@functools.wraps(coroutine)
def wrapper() -> Any:
    return coroutine()


@pytest.mark.parametrize(
    ("fn", "expected"),
    [
        (coroutine, True),
        (WithCall(), True),
        (WithCall().method, True),
        (functools.partial(coroutine), True),
        (functools.partial(functools.partial(WithCall().method)), True),
        (WithCall, False),
        (wrapped, False),
        (wrapper, False),
        (lambda: None, False),
        (int, False),
        (len, False),
        ("".join, False),
    ],
)
def test_coroutine_functions_are_known(fn: Any, expected: bool) -> None:
    assert kind_of(fn)[1] is expected


def test_the_name_of_a_function_is_its_kind() -> None:
    assert kind_of(coroutine)[0] == "coroutine"
    assert kind_of(WithCall().method)[0] == "WithCall.method"
    assert kind_of(WithCall())[0] == "WithCall"
    assert kind_of(functools.partial(coroutine))[0] == "partial"
