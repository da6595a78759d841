"""Tests of how a node reaches others: on comms that it keeps, until their worker is gone."""

import gc
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from gates import until

from trouper.actors.dask_link import DaskLink
from trouper.actors.dask_values import dump
from trouper.actors.errors import PeerUnreachable
from trouper.actors.fetched import Fetched, Found, PeerBusy
from trouper.actors.rpc import Request, answer_requests
from trouper.runtime.cluster.addresses import address_of
from trouper.runtime.cluster.dialling import Dialler, open_dialler
from trouper.wire.connection import Connection
from trouper.wire.dask_message import DASK_COMM
from trouper.wire.endpoint import Endpoint
from trouper.wire.listener import open_listener

US = Endpoint(role="dask-node", name="us", capabilities=(DASK_COMM,), required=(DASK_COMM,))
KEY = "x"


class Holder:
    """A worker with one value."""

    def __init__(self) -> None:
        self.connections = 0
        self.answer: dict[str, Any] = {"status": "OK", "data": {KEY: dump(5)}}

    async def receive(self, connection: Connection) -> None:
        self.connections += 1
        await answer_requests(DaskLink(connection), {"get_data": self.get_data})

    async def get_data(self, request: Request, keys: Iterable[Any], who: str) -> object:
        assert (list(keys), who) == ([KEY], "cws://us:1")
        return self.answer


@asynccontextmanager
async def beside(holder: Holder) -> AsyncGenerator[tuple[Dialler, str]]:
    """Somebody who dials, and where the holder listens."""
    async with (
        open_listener(US, holder.receive, token=None) as listener,
        open_dialler(US, "cws://us:1", "", None) as dialler,
    ):
        yield dialler, address_of("cws", "127.0.0.1", listener.port)


async def test_values_are_fetched_on_one_comm() -> None:
    holder = Holder()
    async with beside(holder) as (dialler, peer):
        for _ in range(3):
            assert await dialler.fetch(peer, (KEY,), 1) == Fetched({KEY: Found(5, 28, "int")}, {})
        assert holder.connections == 1


async def test_a_busy_worker_keeps_its_comm() -> None:
    holder = Holder()
    holder.answer = {"status": "busy"}
    async with beside(holder) as (dialler, peer):
        for _ in range(2):
            assert isinstance(await dialler.fetch(peer, (KEY,), 1), PeerBusy)
        assert holder.connections == 1


async def test_what_answers_nonsense_is_not_asked_again_on_that_comm() -> None:
    holder = Holder()
    holder.answer = {"status": "odd"}
    async with beside(holder) as (dialler, peer):
        for asked in (1, 2):
            with pytest.raises(PeerUnreachable, match="odd"):
                await dialler.fetch(peer, (KEY,), 1)
            assert holder.connections == asked


async def test_a_worker_that_is_gone_is_dialled_anew() -> None:
    holder = Holder()
    async with beside(holder) as (dialler, peer):
        await dialler.fetch(peer, (KEY,), 1)
        dialler.forget(peer)
        dialler.forget("tcp://127.0.0.1:1")  # to whom there is no comm
        await dialler.fetch(peer, (KEY,), 1)
        assert holder.connections == 2


async def test_nothing_is_kept_of_a_comm_that_has_ended() -> None:
    def connections() -> int:
        gc.collect()
        return sum(isinstance(thing, Connection) for thing in gc.get_objects())

    holder, before = Holder(), connections()
    async with beside(holder) as (dialler, peer):
        for _ in range(3):
            await dialler.fetch(peer, (KEY,), 1)
            dialler.forget(peer)
        await until(lambda: connections() == before)


async def test_nobody_there_and_no_address() -> None:
    async with open_dialler(US, "cws://us:1", "", None) as dialler:
        for peer in ("cws://127.0.0.1:1", "tcp://127.0.0.1:1"):
            with pytest.raises(PeerUnreachable), trio.fail_after(5):
                await dialler.fetch(peer, (KEY,), 1)
