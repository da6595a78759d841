"""A node without a scheduler: its machine, supervisor and stream, and nobody who listens."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import trio
from fake_host import facts
from gates import PATIENCE_S

from trouper.actors.comm import Intake
from trouper.actors.dask_worker import DaskWorker
from trouper.actors.errors import PeerUnreachable
from trouper.actors.execute import THREAD, execute
from trouper.actors.fetched import Answer, Fetch
from trouper.actors.gather import gather
from trouper.actors.timers import timers
from trouper.runtime.cluster.hosting import Hosting
from trouper.runtime.cluster.node import Node
from trouper.runtime.invariants import check
from trouper.runtime.keeper import RestartPolicy
from trouper.runtime.ledger import Config
from trouper.runtime.machine import Machine
from trouper.runtime.supervisor import Supervisor
from trouper.wire.vocabulary import Key, Peer

ADDRESS = "cws://127.0.0.1:1"


class BareNode:
    """A node, and what it says."""

    def __init__(self, fetch: Fetch) -> None:
        self.forgotten: list[str] = []
        worker = DaskWorker(**facts(address=ADDRESS))
        self.node = node = Node("n", ADDRESS, worker, self.forgotten.append)
        worker.host = Hosting(node)
        node.supervisor = Supervisor(
            Machine(Config(slots={THREAD: 1}, resources={"gpu": 1.0}, address=ADDRESS)),
            node.store,
            node,
            name="n",
            execute=execute,
            gather=partial(gather, fetch=fetch),
            timers=timers,
            restart_policy=RestartPolicy(),
        )
        self._intake = Intake(node, node.store, node.site)
        self._told: list[dict[str, Any]] = []

    def say(self, *ops: Any) -> None:
        """What comes on the stream."""
        self._intake.take(ops)

    async def hear(self, op: str) -> dict[str, Any]:
        """The next op of this name that is to leave; others are kept."""
        with trio.fail_after(PATIENCE_S):
            while True:
                for i, said in enumerate(self._told):
                    if said["op"] == op:
                        return self._told.pop(i)
                self._told += await self.node.outbox.take()


async def nobody(peer: Peer, keys: Sequence[Key], max_nbytes: int) -> Answer:
    """Where no values come from."""
    raise PeerUnreachable(f"peer {peer}: nobody is there")


@asynccontextmanager
async def bare_node(fetch: Fetch = nobody) -> AsyncGenerator[BareNode]:
    """A node for the length of an ``async with`` block; nothing runs at its end."""
    bare = BareNode(fetch)
    supervisor = bare.node.supervisor
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.run)
        try:
            yield bare
            assert bare.node.ending is None, bare.node.ending
            with trio.fail_after(PATIENCE_S):
                await bare.node.wind_down()
            check(supervisor.machine)
        finally:
            supervisor.abandon()
