"""A node without a scheduler, in a process of its own: it holds values, or fetches them.

    peer_node.py hold SMALL LARGE NBYTES
    peer_node.py fetch SMALL LARGE NBYTES URL

`soak_exchange` starts it so. Both know the same values: so many small ones, and so many large ones
of so many bytes. A node says what happens to it as lines of JSON on its standard output. It ends
when its standard input does.

Large values are fetched as inputs of tasks that look at them, small ones as copies. In the place of
a scheduler, `Node` says again who holds what is missing.
"""

import json
import sys
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from contextvars import copy_context
from functools import partial
from typing import Any

import numpy as np
import trio
from gates import until
from pair import endpoint
from resident import peak_nbytes, resident_nbytes
from sides import QUICK

from trouper.actors.execute import THREAD, execute
from trouper.actors.fetch import PeerFetcher
from trouper.actors.gather import gather
from trouper.actors.serve import PeerServer
from trouper.actors.sizeof import sizeof
from trouper.actors.spec import Input, Spec
from trouper.actors.store import Store
from trouper.actors.timers import timers
from trouper.runtime.errors import StimulusError
from trouper.runtime.invariants import check
from trouper.runtime.keeper import RestartPolicy
from trouper.runtime.ledger import Config, Limits
from trouper.runtime.machine import Machine
from trouper.runtime.supervisor import Supervisor
from trouper.wire.instructions import (
    AddKeys,
    Instruction,
    Report,
    RequestRefreshWhoHas,
    TaskErred,
    TaskFinished,
)
from trouper.wire.listener import Listener, open_listener
from trouper.wire.messages import PEER_EXCHANGE
from trouper.wire.pool import Pool, open_pool
from trouper.wire.stimuli import (
    AcquireReplicas,
    ComputeTask,
    FreeKeys,
    GatherNetworkFailure,
    GatherSuccess,
    RefreshWhoHas,
    Stimulus,
    UpdateData,
)
from trouper.wire.vocabulary import Key, Peer

NODE = endpoint("node", QUICK, capabilities=(PEER_EXCHANGE,), required=(PEER_EXCHANGE,))


class Node:
    """All parts of it; and what it is told by its machine, as a scheduler would be."""

    heeded: frozenset[type[Report]] = frozenset(
        {AddKeys, TaskFinished, TaskErred, RequestRefreshWhoHas}
    )

    def __init__(self, pool: Pool, message_nbytes: int) -> None:
        self.pool = pool
        self.store = Store()
        limits = Limits(
            message_nbytes=message_nbytes, find_missing_delay_s=0.05, retry_busy_delay_s=0.02
        )
        self.supervisor = Supervisor(
            Machine(Config(limits=limits)),
            self.store,
            self,
            name="node",
            execute=execute,
            gather=partial(gather, fetch=PeerFetcher(pool).fetch),
            timers=timers,
            restart_policy=RestartPolicy(),
        )
        self.server = PeerServer(self.supervisor.value_of)
        self.listener: Listener
        self.holder: Peer = ""
        """Who has everything that is missing."""
        self.added: Counter[Key] = Counter()
        self.finished: Counter[Key] = Counter()
        self.brought: Counter[Key] = Counter()
        """How often each key came from a peer."""
        self.network_failures = 0
        self._handle = self.supervisor.machine.handle
        self.supervisor.machine.handle = self._watch  # type: ignore[method-assign]

    def _watch(self, stimulus: Stimulus) -> list[Instruction]:
        if isinstance(stimulus, GatherSuccess):
            self.brought.update(stimulus.data.keys())
        self.network_failures += isinstance(stimulus, GatherNetworkFailure)
        return self._handle(stimulus)

    def on_reports(self, reports: Sequence[Report]) -> None:
        for report in reports:
            self._on_report(report)

    def _on_report(self, report: Report) -> None:
        if isinstance(report, AddKeys):
            self.added.update(report.keys)
        elif isinstance(report, TaskFinished):
            self.finished[report.key] += 1
        elif isinstance(report, TaskErred):
            raise AssertionError(report)
        elif isinstance(report, RequestRefreshWhoHas):
            self.supervisor.send(RefreshWhoHas(dict.fromkeys(report.keys, (self.holder,))))

    def on_batch_end(self) -> None:
        pass

    def on_stimulus_refused(self, stimulus: Stimulus, error: StimulusError) -> None:
        raise error

    def on_failure(self, reason: BaseException) -> None:
        raise reason

    def put(self, values: dict[Key, object]) -> None:
        """Hold values from now on."""
        self.store.values.update({(key, -1): value for key, value in values.items()})
        sizes = {key: (sizeof(value), type(value).__name__) for key, value in values.items()}
        self.supervisor.send(UpdateData(sizes, -1))

    def look_at(self, key: Key, nbytes: int, spec_id: int) -> None:
        """Have a task look at a value of the holder's."""
        look = Spec(first_byte, (Input(key),), {}, copy_context())
        self.store.specs[spec_id] = look
        who_has: dict[Key, tuple[Peer, ...]] = {key: (self.holder,)}
        self.supervisor.send(
            ComputeTask(f"look-{key}", 1, spec_id, (0,), (), who_has, {key: nbytes}, THREAD)
        )

    @property
    def flights(self) -> int:
        """Gathers that have not ended."""
        return len(self.supervisor.machine.ledger.flights)


def first_byte(block: Any) -> int:
    """Of a large value, whose bytes are all the same."""
    first, last = int(block[0]), int(block[-1])
    assert first == last
    return first


@asynccontextmanager
async def open_node(message_nbytes: int) -> AsyncGenerator[Node]:
    """A node that listens on a port of its own, and asks for so much at once."""
    async with open_pool(NODE) as pool:
        node = Node(pool, message_nbytes)
        async with (
            open_listener(NODE, node.server.serve, token=None) as node.listener,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(node.supervisor.run)
            try:
                yield node
            finally:
                node.supervisor.abandon()


def small_value(i: int) -> object:
    """One of the values that both sides know."""
    return {"number": i, "text": "x" * (i % 50)}


def large_value(i: int, nbytes: int) -> object:
    """And one of the large ones."""
    return np.full(nbytes, i % 251, "u1")


def tell(**what: object) -> None:
    """Say what has happened."""
    print(json.dumps(what), flush=True)


async def hold(small: int, large: int, nbytes: int) -> None:
    """Hold the values; say when somebody is served, and when nobody is any more."""
    async with open_node(2 * nbytes) as node:
        node.put({f"small-{i}": small_value(i) for i in range(small)})
        node.put({f"large-{i}": large_value(i, nbytes) for i in range(large)})
        await until(node.supervisor.is_idle)
        tell(port=node.listener.port)
        while True:
            await forever(lambda: node.server.requests)
            tell(serving=node.server.requests)
            await forever(lambda: not node.server.requests and not node.listener.sessions)
            tell(free=True)


async def fetch(small: int, large: int, nbytes: int, url: str) -> None:
    """Fetch the values, say how it went, and let them go."""
    async with open_node(2 * nbytes) as node:
        before_nbytes = resident_nbytes()
        node.holder = url
        keys = [f"small-{i}" for i in range(small)]
        node.supervisor.send(AcquireReplicas(dict.fromkeys(keys, (url,))))
        for i in range(large):
            node.look_at(f"large-{i}", nbytes, i + 1)
        await forever(lambda: node.flights)
        tell(fetching=node.flights)
        looks = [f"look-large-{i}" for i in range(large)]
        keys += [f"large-{i}" for i in range(large)]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tell_of_loss, node)
            await forever(lambda: len(node.added) + len(node.finished) >= len(keys) + len(looks))
            nursery.cancel_scope.cancel()
        value_of = node.supervisor.value_of
        right = sum(value_of(f"small-{i}").value == small_value(i) for i in range(small))  # type: ignore[union-attr]
        right += sum(
            value_of(look).value == i % 251  # type: ignore[union-attr]
            for i, look in enumerate(looks)
        )
        check(node.supervisor.machine)
        node.supervisor.send(FreeKeys((*keys, *looks)))
        await until(node.supervisor.is_idle)
        await until(lambda: not len(node.store))
        tell(
            arrived=len(node.brought),
            twice=sum(count > 1 for count in node.brought.values()),
            added_twice=sum(count > 1 for count in node.added.values()),
            looked_at=node.finished.total(),
            right=right,
            network_failures=node.network_failures,
            still_held=len(node.supervisor.machine.ledger.tasks),
            grown_nbytes=peak_nbytes() - before_nbytes,
        )
        await trio.sleep_forever()


async def tell_of_loss(node: Node) -> None:
    """Say when the holder was lost for the first time, and nothing is kept for it any more."""
    await forever(lambda: node.network_failures)
    await forever(lambda: not node.flights and not node.pool.connections)
    tell(free=True)


async def forever(condition: Any) -> None:
    """Wait for a condition, however long it takes."""
    while not condition():  # noqa: ASYNC110 - nobody would set the event
        await trio.sleep(0.001)


async def main(role: str, small: str, large: str, nbytes: str, url: str = "") -> None:
    """Until whoever started this has gone."""
    async with trio.open_nursery() as nursery:
        sizes = int(small), int(large), int(nbytes)
        if role == "hold":
            nursery.start_soon(hold, *sizes)
        else:
            nursery.start_soon(fetch, *sizes, url)
        await trio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(partial(main, *sys.argv[1:]))
