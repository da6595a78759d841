"""Dask's messages on a session: the handshake, what is pickled on the way, what is no message."""

import sys
import threading
from typing import Any

import pytest
import trio
from dask_links import links

from trouper.actors.dask_link import HANDSHAKE, PICKLE_PROTOCOL, DaskLink
from trouper.wire.dask_message import Pickled
from trouper.wire.errors import Code, NotEncodable, ProtocolError, SessionClosed
from trouper.wire.events import IncomingLost


async def test_both_sides_say_what_they_can_do() -> None:
    async with links() as (near, far), trio.open_nursery() as nursery:
        nursery.start_soon(far.shake_hands)
        await near.shake_hands()
    assert near.pickle_protocol == far.pickle_protocol == PICKLE_PROTOCOL
    assert HANDSHAKE["python"] == sys.version_info[:3]


@pytest.mark.parametrize(("theirs", "agreed"), [(4, 4), (5, 5), (9, PICKLE_PROTOCOL)])
async def test_the_pickle_protocol_is_the_best_that_both_know(theirs: int, agreed: int) -> None:
    async with links() as (near, far):
        await far.send({**HANDSHAKE, "pickle-protocol": theirs})
        await near.shake_hands()
        assert near.pickle_protocol == agreed


@pytest.mark.parametrize(
    "said", ["hello", None, {}, {"pickle-protocol": "5"}, {"pickle-protocol": True}, (5,)], ids=repr
)
async def test_what_is_no_handshake_is_refused(said: object) -> None:
    async with links() as (near, far):
        await far.send(said)
        with pytest.raises(ProtocolError, match="no handshake of a Dask comm") as raised:
            await near.shake_hands()
        assert raised.value.code is Code.UNEXPECTED


async def test_who_says_nothing_and_goes() -> None:
    async with links() as (near, far):
        far.connection.abandon("no time")
        with pytest.raises(SessionClosed, match="no time"):
            await near.shake_hands()


async def test_a_call_is_a_question_and_its_answer() -> None:
    async with links() as (near, far):

        async def answer() -> None:
            assert await far.receive() == {"op": "add", "reply": True, "a": 1}
            await far.send([2])

        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer)
            assert await near.call("add", a=1) == (2,)


class Point:
    """Neither plain data nor a marker."""


async def test_what_is_no_plain_data_is_pickled() -> None:
    async with links() as (near, far):
        await near.send({"where": Point()})
        where = (await far.receive())["where"]
        assert isinstance(where, Pickled)
        assert b"Point" in where.pickle


class RaisesWhenPickled:
    def __reduce__(self) -> Any:
        raise LookupError("not me")


@pytest.mark.parametrize(
    ("message", "why"),
    [
        ({"a": threading.Lock()}, "a lock cannot be part of a message"),
        ([RaisesWhenPickled()], r"a RaisesWhenPickled cannot be .* LookupError\('not me'\)"),
        (1 << 64, "65 bits"),
        ("\ud800", "not Unicode"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_what_cannot_be_sent_is_said_and_leaves_the_comm_as_it_was(
    message: object, why: str
) -> None:
    async with links() as (near, far):
        with pytest.raises(NotEncodable, match=why):
            await near.send(message)
        await near.send("and on")
        assert await far.receive() == "and on"


async def test_what_is_too_deep_cannot_be_sent() -> None:
    deep: list[Any] = []
    for _ in range(10_000):
        deep = [deep]
    knot: list[Any] = []
    knot.append(knot)
    async with links() as (near, far):
        for message in (deep, knot):
            with pytest.raises(NotEncodable, match="deep"):
                await near.send(message)
        await near.send("and on")
        assert await far.receive() == "and on"


async def test_bytes_that_are_no_message() -> None:
    async with links() as (near, far):
        await far.connection.send(b"\xff")
        with pytest.raises(ProtocolError):
            await near.receive()


async def test_a_message_that_was_cut_is_an_error_and_no_message() -> None:
    class Cut:
        async def receive(self) -> IncomingLost:
            return IncomingLost(1)

    with pytest.raises(ProtocolError, match="cut by the loss of a connection") as raised:
        await DaskLink(Cut()).receive()  # type: ignore[arg-type]
    assert raised.value.code is Code.DISCONNECTED
