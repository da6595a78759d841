"""Dask's markers: what arrives over ``cws://`` equals what ``tcp://`` delivers, value by value."""

# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownLambdaType=false, reportUnknownMemberType=false
# pyright: reportUntypedNamedTuple=false

import asyncio
import datetime
import enum
import importlib
from collections import OrderedDict, namedtuple
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from dask_comms import Serialize, ToPickle, comms, protocol, run

status: Any = importlib.import_module("distributed.core").Status


async def delivered(scheme: str, message: Any, *, deserialize: bool, **how: Any) -> list[Any]:
    """What a message becomes, sent from either side."""
    async with comms(scheme, deserialize=deserialize) as (dialled, listening):
        arrived = []
        for sender, receiver in ((dialled, listening), (listening, dialled)):
            writing = asyncio.create_task(sender.write(message(), **how))
            try:
                arrived.append(await receiver.read())
            finally:
                await writing
        return arrived


Point = namedtuple("Point", "x y")
NUMBERS = np.arange(24.0).reshape(4, 6)


class Colour(enum.IntEnum):
    RED = 1


VALUES: dict[str, Callable[[], Any]] = {
    "plain": lambda: {"op": "x", "a": [1, (2.5, None)], "b": {"c": [True, b"raw"]}},
    "batch": lambda: [{"op": "task-finished", "key": ("x", 1), "nbytes": 3}, {"op": "free-keys"}],
    "keys": lambda: {("x", 1): 1, 2: "b", b"c": 3, 1.5: 4, None: 5, ("y", ("z", 1)): {6: 7}},
    "integers": lambda: [0, -1, 2**63, 2**64 - 1, -(2**63)],
    "floats": lambda: [float("inf"), -0.0, 1e-310],
    "sets": lambda: [{1, "a", (2, 3)}, set(), {"s": {1}}],
    "frozenset": lambda: [frozenset({1, 2}), {"f": frozenset()}],
    "enumeration": lambda: [status.running, {"status": status.paused}, {status.init: 1}],
    "integer enumeration": lambda: Colour.RED,
    "namedtuple": lambda: [Point(1, [2]), ToPickle(Point(1, [2])), Serialize(Point(1, [2]))],
    "ordered dict": lambda: OrderedDict(b=1, a=2),
    "buffers": lambda: [memoryview(b"view"), bytearray(b"array"), b""],
    "dates": lambda: [datetime.datetime(2026, 1, 2, 3), datetime.timedelta(1), Decimal("1.5"), 1j],
    "numpy scalars": lambda: [np.float64(1.5), np.int64(3), np.bool_(True), np.str_("s")],
    "numpy": lambda: {"data": {"x": Serialize(NUMBERS), ("y", 1): Serialize(NUMBERS.T)}},
    "numpy strides": lambda: [Serialize(NUMBERS[:, ::2]), Serialize(np.array(["a", None]))],
    "numpy empty": lambda: [Serialize(np.empty(0)), Serialize(np.float32(2)), Serialize(b"")],
    "numpy read-only": lambda: Serialize(np.broadcast_to(np.ones(1), (3, 1000))),
    "nested": lambda: [
        Serialize([NUMBERS, {"a": [NUMBERS], "b": (1, {2})}]),
        {"k": [Serialize(1)]},
    ],
    "deep": lambda: Serialize(deep(40)),
    "pickled": lambda: [ToPickle({"a": [1, {2}], "f": frozenset("x")}), {"k": ToPickle(len)}],
    "pickled arrays": lambda: ToPickle([np.zeros(9), np.ones(9999), np.ones((9, 99), order="F")]),
    "functions": lambda: [Serialize(lambda x: x + 1), ToPickle(lambda: 1)],
    "exceptions": lambda: [Serialize(ValueError("x", 1)), ToPickle(KeyError("k"))],
    "user lists": lambda: [Serialize([1, [2]]), ToPickle([1, [2]]), Serialize({"a": [1]})],
    "user sets": lambda: [Serialize({1, 2}), Serialize(frozenset({1}))],
    "simple values": lambda: Serialize([bytes(range(256)), "\xf7\xf8"]),
    "many frames": lambda: [Serialize(b"%d" % i * 1000) for i in range(300)],
    "large": lambda: [
        Serialize(bytes(11_000_000)),
        Serialize(np.ones(300_000)),
        b"x" * 3_000_000,
    ],
    "half a surrogate, pickled": lambda: ToPickle("\ud800"),
    "text": lambda: ["", "\N{SNOWMAN}\0", "x" * 100_000],
    "cyclic": lambda: Serialize(cyclic()),
}


def deep(levels: int) -> Any:
    value: Any = NUMBERS
    for _ in range(levels):
        value = [value]
    return value


def cyclic() -> list[Any]:
    value: list[Any] = [1]
    value.append(value)
    return value


def picture(value: Any) -> Any:
    """A value with its types, so that what looks equal and is not is told apart."""
    match value:
        case protocol.Serialized():
            header = {key: item for key, item in value.header.items() if key != "num-sub-frames"}
            opened = (
                picture(protocol.deserialize(dict(header), value.frames))
                if header.get("serializer") != "error"
                else "error"
            )
            return "Serialized", type(value.header), opened
        case np.ndarray():
            flags = value.flags
            data = repr(value.tolist()) if value.dtype == object else hash(value.tobytes())
            return value.dtype, value.shape, flags.writeable, flags.f_contiguous, data
        case dict():
            return type(value), [(picture(k), picture(v)) for k, v in value.items()]
        case list() if len(value) == 2 and value[1] is value:
            return "cycle", value[0]
        case list() | tuple():
            return type(value), list(map(picture, value))
        case set() | frozenset():
            return type(value), sorted(map(repr, value))
        case Exception():
            return type(value), value.args
        case bytes():
            return bytes, len(value), hash(value)
        case _ if callable(value):
            return type(value), value.__code__.co_code if hasattr(value, "__code__") else value
        case _:
            return type(value), repr(value)


@pytest.mark.parametrize("deserialize", [True, False], ids=["opened", "relayed"])
@pytest.mark.parametrize("name", VALUES)
def test_what_arrives_equals_what_tcp_delivers(name: str, deserialize: bool) -> None:
    async def story() -> None:
        expected = await delivered("tcp", VALUES[name], deserialize=deserialize)
        arrived = await delivered("cws", VALUES[name], deserialize=deserialize)
        assert picture(arrived) == picture(expected)

    run(story)
