"""Requests on one comm: answered one after the other, whatever they are; and what is no request."""

import logging
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from fake_scheduler import US
from gates import PATIENCE_S

from trouper.actors.dask_link import DaskLink
from trouper.actors.dask_values import load
from trouper.actors.rpc import Handler, Request, answer_requests
from trouper.wire.connect import connect
from trouper.wire.connection import Connection
from trouper.wire.errors import SessionClosed
from trouper.wire.listener import open_listener


async def add(request: Request, a: int, b: int = 1) -> int:
    return a + b


async def fail(request: Request) -> None:
    raise ValueError("no")


async def unsendable(request: Request) -> object:
    return threading.Lock()


async def families(request: Request) -> object:
    return request.families


async def get_data(request: Request) -> object:
    return {"status": "OK", "data": {}}


HANDLERS: dict[str, Handler] = {
    "add": add,
    "fail": fail,
    "unsendable": unsendable,
    "families": families,
    "get_data": get_data,
}


@asynccontextmanager
async def connection_with_answers() -> AsyncGenerator[Connection]:
    async def serve(connection: Connection) -> None:
        await answer_requests(DaskLink(connection), HANDLERS)

    with trio.fail_after(PATIENCE_S):
        async with (
            open_listener(US, serve, token=None) as listener,
            connect(f"ws://127.0.0.1:{listener.port}", US) as connection,
        ):
            yield connection


@asynccontextmanager
async def link_with_answers() -> AsyncGenerator[DaskLink]:
    async with connection_with_answers() as connection:
        link = DaskLink(connection)
        await link.shake_hands()
        yield link


async def test_one_after_the_other() -> None:
    async with link_with_answers() as link:
        assert await link.call("add", a=1) == 2
        assert await link.call("add", a=1, b=5) == 6
        assert await link.call("families", serializers=["pickle"]) == ("pickle",)
        await link.send({"op": "add", "reply": False, "a": 1})
        await link.send({"op": "close"})
        assert await link.receive() == "OK"
        with pytest.raises(SessionClosed):
            await link.receive()


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        ({"op": "fail"}, "ValueError('no')"),
        ({"op": "add"}, "TypeError"),
        ({"op": "add", "a": 1, "more": 2}, "TypeError"),
        ({"op": "add", "request": 1}, "TypeError"),
        ({"op": "add", 5: 1}, "TypeError"),
        ({"op": "dance"}, "NotSupported"),
        ({"op": "unsendable"}, "NotEncodable"),
    ],
    ids=str,
)
async def test_what_goes_wrong_is_the_answer(request_: dict[Any, Any], reason: str) -> None:
    async with link_with_answers() as link:
        await link.send(request_)
        answer = await link.receive()
        assert answer["status"] == "uncaught-error"
        assert reason in answer["exception_text"]
        assert load(answer["exception"])
        assert await link.call("add", a=1) == 2


async def test_who_got_data_says_so_before_the_next_request() -> None:
    async with link_with_answers() as link:
        assert await link.call("get_data") == {"status": "OK", "data": {}}
        await link.send("OK")
        assert await link.call("add", a=1) == 2


async def test_a_request_may_be_the_last() -> None:
    async with link_with_answers() as link:
        assert await link.call("add", a=1, close=True) == 2
        with pytest.raises(SessionClosed):
            await link.receive()


@pytest.mark.parametrize("nonsense", [17, "add", None, {}, {"op": 5}, ({"op": "add"},)], ids=repr)
async def test_what_is_no_request_closes_the_comm(
    nonsense: object, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        async with link_with_answers() as link:
            await link.send(nonsense)
            with pytest.raises(SessionClosed, match="no request"):
                await link.receive()
    assert "no request" in caplog.text


@pytest.mark.parametrize("hello", ["hello", {}, {"pickle-protocol": "5"}, None], ids=repr)
async def test_what_is_no_handshake_closes_the_comm(hello: object) -> None:
    async with connection_with_answers() as connection:
        link = DaskLink(connection)
        await link.send(hello)
        await link.receive()
        with pytest.raises(SessionClosed, match="no handshake"):
            await link.receive()


async def test_garbage_closes_the_comm() -> None:
    async with link_with_answers() as link:
        await link.connection.send(b"\xff\xff\xff", ())
        with pytest.raises(SessionClosed):
            await link.receive()
