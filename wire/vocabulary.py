"""What every stimulus and instruction has in common: frozen, tagged, plain data.

As plain data a word is an array: its tag, which is its place in the union `Stimulus` or
`Instruction`, and its fields in order. So a codec that knows msgspec carries it in the fewest bytes
and in the least time: a journal writes millions. Read back, it is validated.

`gc=False`: words hold plain data and never each other, so they cannot be part of a cycle.
"""

import re
from typing import TypeAlias

import msgspec

Key: TypeAlias = str
"""A task, as text. Users' keys of other types are mapped to text by `trouper.wire.keys`."""

Peer: TypeAlias = str
"""The address of another worker, scheme included."""

Priority: TypeAlias = tuple[int | float, ...]
"""Smaller runs first, compared as tuples are."""

Entry: TypeAlias = tuple[Key, int]
"""Where the store keeps a value: the key, and the attempt that produced it."""


def kebab_case(name: str) -> str:
    """``ComputeTask`` to ``compute-task``."""
    return re.sub(r"(?<!^)(?=[A-Z])", "-", name).lower()


class Word(
    msgspec.Struct,
    frozen=True,
    gc=False,
    array_like=True,
    forbid_unknown_fields=True,
):
    """A stimulus or an instruction."""
