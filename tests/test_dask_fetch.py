"""Asking workers of a Dask cluster for values."""

import threading
from typing import Any

import pytest

from trouper.actors.dask_fetch import ask_for_data, load_data
from trouper.actors.dask_values import dump
from trouper.actors.errors import PeerUnreachable
from trouper.actors.fetched import Fetched, Found, PeerBusy
from trouper.actors.sizeof import sizeof
from trouper.wire.dask_message import Serialized

KEY, TEXT = ("x", 1), "~('x', 1)"


class Holder:
    """A comm with a worker that answers so."""

    def __init__(self, answer: Any) -> None:
        self._answer = answer
        self.said: list[Any] = []

    async def send(self, message: object) -> None:
        self.said.append(message)

    async def call(self, op: str, **arguments: Any) -> Any:
        self.said.append((op, arguments))
        return self._answer


async def fetched(**data: Any) -> Any:
    """What becomes of values that come so."""
    holder = Holder({"status": "OK", "data": data})
    return await load_data(await ask_for_data(holder, list(data), "cws://us"))


async def test_what_came_is_acknowledged_before_it_is_opened() -> None:
    holder = Holder({"status": "OK", "data": {KEY: b"opaque", "unasked": 1}})
    assert await ask_for_data(holder, [TEXT, "y"], "cws://us") == {TEXT: b"opaque"}
    assert holder.said == [("get_data", {"keys": [KEY, "y"], "who": "cws://us"}), "OK"]


async def test_who_is_busy_waits_for_no_acknowledgement() -> None:
    holder = Holder({"status": "busy"})
    answer = await ask_for_data(holder, ["x"], "cws://us")
    assert await load_data(answer) == PeerBusy()
    assert len(holder.said) == 1


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (None, "None"),
        ("OK", "'OK'"),
        ({}, "{}"),
        ({"status": "OK"}, "'OK'"),
        ({"status": "OK", "data": [1]}, r"\[1\]"),
        ({"status": "uncaught-error", "exception_text": "KeyError('x')"}, "KeyError"),
        ({"status": ["busy"], "data": {}}, "busy"),
        ("x" * 10_000, "x"),
    ],
    ids=lambda value: str(value)[:30],
)
async def test_what_is_neither_data_nor_busy(answer: Any, said: str) -> None:
    holder = Holder(answer)
    with pytest.raises(PeerUnreachable, match=f"request for 2 values has failed: .*{said}") as why:
        await ask_for_data(holder, ["x", "y"], "cws://us")
    assert len(str(why.value)) < 300
    assert len(holder.said) == 1


async def test_values_are_opened_in_a_thread() -> None:
    assert await fetched(x=dump(Whereabouts())) == Fetched(
        {"x": Found("elsewhere", sizeof("elsewhere"), "str")}
    )


class Whereabouts:
    """Becomes a text when it is opened, which says where."""

    def __reduce__(self) -> Any:
        return whereabouts, (threading.get_ident(),)


def whereabouts(pickled_in: int) -> str:
    return "here" if threading.get_ident() == pickled_in else "elsewhere"


async def test_plain_data_is_what_it_is() -> None:
    answer = await fetched(x=5, y=(1, 2))
    assert {key: found.value for key, found in answer.found.items()} == {"x": 5, "y": (1, 2)}


async def test_what_cannot_be_opened_spoils_nothing_else() -> None:
    answer = await fetched(
        x=dump(1),
        no_pickle=Serialized({"serializer": "pickle"}, [b"no pickle"]),
        no_frames=Serialized({"serializer": "pickle"}, []),
        nonsense=Serialized({}, []),
        unheard_of=Serialized({"serializer": "no such thing"}, [b""]),
        unserialised=dump(threading.Lock()),
        odd=Serialized({"serializer": "pickle", "compression": 5}, [b"x"]),
        exit=Serialized({"serializer": "pickle"}, [b"cbuiltins\nexit\n(tR."]),
    )
    assert list(answer.found) == ["x"]
    assert set(answer.unreadable) == {
        "no_pickle", "no_frames", "nonsense", "unheard_of", "unserialised", "odd", "exit",
    }  # fmt: skip
    assert all(isinstance(error, Exception) for error in answer.unreadable.values())
    assert "Could not serialize" in str(answer.unreadable["unserialised"])
