"""How the test vectors write down what JSON cannot say."""

import json
from typing import Any

import msgspec

from trouper.wire.frames import Frame


def frame_notation(frame: Frame) -> dict[str, object]:
    """A frame's name, and its fields by name."""
    fields: dict[str, object] = json.loads(msgspec.json.encode(msgspec.structs.asdict(frame)))
    return {"frame": type(frame).__name__.lower()} | fields


def value_notation(value: Any) -> object:
    """A generic value: what JSON has as it is, the rest as a map with one key that says what."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return {"float": repr(value)}
        case bytes():
            return {"bytes": value.hex()}
        case tuple():
            return [value_notation(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
        case set():
            return {"set": sorted(map(value_notation, value), key=str)}  # pyright: ignore
        case dict():
            return {"dict": [[value_notation(k), value_notation(v)] for k, v in value.items()]}  # pyright: ignore
        case _:
            raise TypeError(repr(value))
