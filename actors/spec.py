"""What a task runs: a function and its arguments, with places for the results of other tasks.

`extract` takes handles out of arguments when a task is submitted and leaves `Input` in their
place; `fill` puts values there when it runs. A container with an input anywhere inside becomes a
`Nested`, so that filling looks at nothing else: a list of a million numbers is scanned once.
"""

import copy
import inspect
from collections.abc import Callable
from contextvars import Context
from types import FunctionType
from typing import Any, Generic, Protocol, TypeVar, cast

import msgspec

from trouper.wire.vocabulary import Key

H = TypeVar("H")

ATOMS = frozenset({int, float, str, bytes, bool, type(None), complex, bytearray, FunctionType})
"""Types of arguments that hold no handle: nearly all arguments, so these are looked at first."""


CONTAINERS = (list, tuple, set, frozenset, dict)


class Runnable(Protocol):
    """What a task runs: a `Spec`, or what a scheduler has sent."""

    @property
    def context(self) -> Context:
        """The context variables it is to see."""
        ...

    def call(self, inputs: dict[Key, object]) -> Any:
        """Run it with the values of its inputs."""
        ...


class Spec(msgspec.Struct, eq=False, gc=False):
    """A function, its arguments, and the context variables it is to see.

    Not tracked by the garbage collector: only the store and a running job know it, both let it go.
    """

    fn: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    context: Context

    def call(self, inputs: dict[Key, object]) -> Any:
        """Call the function with its inputs in place."""
        if not inputs:
            # Without the keyword arguments that most calls do not have: it is on the way of all.
            return self.fn(*self.args, **self.kwargs) if self.kwargs else self.fn(*self.args)
        args = [fill(value, inputs) for value in self.args]
        kwargs = {name: fill(value, inputs) for name, value in self.kwargs.items()}
        return self.fn(*args, **kwargs)


class Input:
    """The place of another task's result."""

    __slots__ = ("key",)

    def __init__(self, key: Key) -> None:
        self.key = key


class Nested:
    """A container with inputs in it: its parts, and how to put them together."""

    __slots__ = ("build", "parts")

    def __init__(self, build: Callable[[list[Any]], object], parts: list[Any]) -> None:
        self.build = build
        self.parts = parts


def fill(value: Any, inputs: dict[Key, object]) -> object:
    """An argument with the inputs' values in place."""
    if type(value) is Input:
        return inputs[value.key]
    if type(value) is Nested:
        parts = [fill(part, inputs) for part in value.parts]
        try:
            return value.build(parts)
        except Exception as error:
            error.add_note("this was when results were put into an argument of the task")
            raise
    return value


class Extractor(Generic[H]):
    """Takes handles of one type out of arguments.

    Args:
        handle_type: The type to look for; subclasses are not looked for.
        key_of: The key of a handle's task.
    """

    def __init__(self, handle_type: type[H], key_of: Callable[[H], Key]) -> None:
        self._handle_type = handle_type
        self._key_of = key_of

    def extract_all(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], found: list[H]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of a call with `Input` for each handle; see `extract`."""
        return (
            tuple([self.extract(value, found) for value in args]),
            {name: self.extract(value, found) for name, value in kwargs.items()},
        )

    def extract(self, value: Any, found: list[H]) -> Any:
        """The argument with `Input` for each handle, which is added to `found`.

        Handles are found in lists, tuples, sets and dicts, their subclasses and named tuples too,
        at any depth.

        Raises:
            ValueError: The argument contains itself, or is nested too deep.
        """
        if type(value) in ATOMS:
            return value
        try:
            return self._extract(value, found)
        except RecursionError:
            raise ValueError(
                f"cannot look for handles in an argument ({type(value).__name__}) that contains "
                "itself or is nested too deep"
            ) from None

    def _extract(self, value: Any, found: list[H]) -> Any:
        if type(value) in ATOMS:
            return value
        if type(value) is self._handle_type:
            found.append(value)
            return Input(self._key_of(value))
        if not isinstance(value, CONTAINERS):
            return value
        container = cast("Any", value)
        before = len(found)
        if isinstance(value, dict):
            parts = [self._extract(part, found) for item in container.items() for part in item]
        else:
            parts = [self._extract(part, found) for part in container]
        return container if len(found) == before else Nested(_builder(container), parts)


def _builder(value: Any) -> Callable[[list[Any]], object]:
    """How to make a container like `value` of other parts; of a dict: keys and values in turn."""
    kind = cast("Any", type(value))
    if isinstance(value, dict):
        return lambda parts: _refill(value, dict(zip(parts[::2], parts[1::2], strict=True)))
    if isinstance(value, tuple) and hasattr(kind, "_make"):  # a named tuple
        return cast("Callable[[list[Any]], object]", kind._make)
    if isinstance(value, (list, set)) and kind is not list and kind is not set:
        return lambda parts: _refill(value, parts)
    return cast("Callable[[list[Any]], object]", kind)


def _refill(value: Any, parts: Any) -> object:
    """A copy of a subclass of list, set or dict (a defaultdict, say), with other contents."""
    if type(value) is dict:
        return parts
    made: Any = copy.copy(value)
    made.clear()
    if isinstance(value, list):
        made.extend(parts)
    else:
        made.update(parts)
    return cast("object", made)


def kind_of(fn: Callable[..., Any]) -> tuple[str, bool]:
    """The name that tasks of this function have in common; whether calling it gives a coroutine."""
    if type(fn) is FunctionType and not fn.__dict__:  # the common case, without inspect's detours
        return fn.__qualname__, bool(fn.__code__.co_flags & inspect.CO_COROUTINE)
    name = getattr(fn, "__qualname__", None) or type(fn).__qualname__
    call = getattr(type(fn), "__call__", None)  # noqa: B004 - an instance with an async __call__
    return name, inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(call)
