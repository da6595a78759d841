"""Structs whose fields are assigned to all the time."""

from typing import TypeVar

import msgspec

S = TypeVar("S", bound=msgspec.Struct)


def mutable(cls: type[S]) -> type[S]:
    """Class decorator: assigning to a field costs what it costs in an ordinary object.

    With each assignment, a struct looks whether it has become one that the garbage collector has
    to know of, and that takes four times as long as the assignment. This does without: right for
    a struct with ``gc=False``, and for one that is known to the collector from the start because
    a field has a value from the start that is not a plain number or text (a member of an Enum,
    say).
    """
    cls.__setattr__ = object.__setattr__  # type: ignore[method-assign]
    cls.__delattr__ = object.__delattr__  # type: ignore[method-assign]
    return cls
