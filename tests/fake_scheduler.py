"""A scheduler that says whatever a test wants, and a node under it, in one event loop."""

import pickle
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import trio
from gates import PATIENCE_S

from trouper.actors.dask_link import DaskLink
from trouper.runtime.cluster.node import Node
from trouper.runtime.cluster.opening import open_node
from trouper.wire.connect import connect
from trouper.wire.connection import Connection
from trouper.wire.dask_message import DASK_COMM, Pickled
from trouper.wire.endpoint import Endpoint
from trouper.wire.errors import SessionClosed
from trouper.wire.limits import Limits
from trouper.wire.listener import open_listener

LIMITS = Limits(goodbye_s=0.2, resume_after_close_s=0.3, resume_after_silence_s=0.3, silence_s=1.0)
US = Endpoint(role="dask", name="scheduler", capabilities=(DASK_COMM,), limits=LIMITS)
BEAT: dict[str, Any] = {"status": "OK", "time": 0.0, "heartbeat-interval": 0.05}
WELCOME: dict[str, Any] = {**BEAT, "worker-plugins": {}}


class FakeScheduler:
    """Takes one node, and answers its heartbeats."""

    def __init__(self) -> None:
        self.address = ""
        self.welcome: Any = WELCOME
        """What a node is told that registers."""
        self.beat: Any = BEAT
        """What a heartbeat is answered with."""
        self.registered: dict[str, Any] = {}
        """What the node has said of itself."""
        self.beats = 0
        self.link: DaskLink
        """The stream."""
        self._came = trio.Event()
        self._told: list[dict[str, Any]] = []

    async def serve(self, connection: Connection) -> None:
        """The life of one comm."""
        link = DaskLink(connection)
        try:
            await link.shake_hands()
            first = await link.receive()
            if first["op"] == "register-worker":
                self.registered, self.link = first, link
                await link.send(self.welcome)
                self._came.set()
                await connection.wait_ended()
                return
            while True:
                assert first["op"] == "heartbeat_worker"
                self.beats += 1
                await link.send(self.beat)
                first = await link.receive()
        except SessionClosed:
            pass

    async def say(self, *ops: Any) -> None:
        """Say something on the stream, in one message."""
        await self.link.send(list(ops))

    async def hear(self, op: str) -> dict[str, Any]:
        """The next op of this name that the node says; others are kept."""
        with trio.fail_after(PATIENCE_S):
            while True:
                for i, said in enumerate(self._told):
                    if said["op"] == op:
                        return self._told.pop(i)
                self._told += await self.link.receive()

    async def wait_for_node(self) -> None:
        """Until one has registered."""
        await self._came.wait()


@asynccontextmanager
async def fake_scheduler() -> AsyncGenerator[FakeScheduler]:
    """A scheduler for the length of an ``async with`` block."""
    scheduler = FakeScheduler()
    async with open_listener(US, scheduler.serve, token=None) as listener:
        scheduler.address = f"cws://127.0.0.1:{listener.port}"
        yield scheduler
        await listener.end_sessions(failed=True)  # nobody waits for what they still have to say


@asynccontextmanager
async def node_of(scheduler: FakeScheduler, **options: Any) -> AsyncGenerator[Node]:
    """A node that has registered, with one thread."""
    options = {"threads": 1, "name": "n", "limits": LIMITS, **options}
    with trio.fail_after(3 * PATIENCE_S):
        async with open_node(scheduler.address, **options) as node:
            await scheduler.wait_for_node()
            yield node


@asynccontextmanager
async def comm_with(node: Node) -> AsyncGenerator[DaskLink]:
    """A comm with a node, as clients and peers have it."""
    async with connect(node.address.replace("cws", "ws", 1), US) as connection:
        link = DaskLink(connection)
        await link.shake_hands()
        yield link


def compute(key: Any, function: Any, *arguments: Any, **fields: Any) -> dict[str, Any]:
    """The op that has a function computed."""
    from dask._task_spec import Task

    return {
        "op": "compute-task",
        "key": key,
        "run_id": 1,
        "priority": (0, 1),
        "run_spec": Pickled(pickle.dumps(Task(key, function, *arguments))),
        "stimulus_id": "test",
        **fields,
    }
