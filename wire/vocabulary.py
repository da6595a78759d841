"""What every stimulus and instruction has in common: frozen, tagged, plain data.

The tag is the class name in kebab case under the field ``op`` (``ComputeTask`` is
``compute-task``), so that `msgspec.to_builtins` gives a map that any codec can carry, and
`msgspec.convert` reads it back, validated.

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
    tag_field="op",
    tag=kebab_case,
    forbid_unknown_fields=True,
):
    """A stimulus or an instruction."""
