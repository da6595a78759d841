"""How a node introduces itself to its scheduler, and what it says in heartbeats."""

import logging
import os
import time
from collections.abc import Mapping
from math import isfinite
from typing import Any, cast

import msgspec
import trio
from distributed.versions import get_versions

from trouper.actors.dask_link import DaskLink
from trouper.actors.heartbeat import interval_of
from trouper.actors.metrics import Metrics
from trouper.runtime.cluster.node import ExitCode, Node
from trouper.runtime.errors import NodeRefused
from trouper.wire.errors import ProtocolError, SessionClosed
from trouper.wire.keys import decode_key

logger = logging.getLogger(__name__)

NAME_TAKEN = "name taken"
"""How a scheduler begins to say that another worker has this name."""

NAME_TAKEN_S = 1.0
"""After so many seconds it is asked for again."""

FIRST_INTERVAL_S = 1.0
"""Between heartbeats, if the scheduler does not say."""


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What a scheduler wants to know of a node once."""

    nthreads: int
    memory_limit: int
    """In bytes; 0 if there is none."""
    resources: Mapping[str, float]
    local_directory: str


class Pulse:
    """What the node says of itself in every heartbeat, and makes of the answers."""

    def __init__(self, node: Node, metrics: Metrics) -> None:
        self._node = node
        self._metrics = metrics
        self._missing = False
        """Whether the scheduler has answered that it does not know this node."""

    def metrics(self) -> dict[str, Any]:
        """Of the process, and of the machine's state."""
        ledger = self._node.supervisor.machine.ledger
        gathers = ledger.flights.values()
        return self._metrics.sample() | {
            "managed_bytes": ledger.nbytes,
            "spilled_bytes": {"memory": 0, "disk": 0},
            "transfer": {
                "incoming_bytes": sum(flight.nbytes for flight in gathers),
                "incoming_count": len(gathers),
                "incoming_count_total": self._node.fetched_total,
                "outgoing_bytes": 0,
                "outgoing_count": self._node.serving,
                "outgoing_count_total": self._node.served_total,
            },
        }

    def vital_signs(self) -> dict[str, Any]:
        """The arguments of a heartbeat."""
        now = self._node.now()
        return {
            "address": self._node.address,
            "now": time.time(),
            "metrics": self.metrics(),
            "executing": {
                decode_key(run.key): now - run.start
                for run in list(self._node.site.running.values())
            },
            "extensions": {},
        }

    def on_answer(self, answer: dict[str, Any], sent: float, received: float) -> None:
        """Set the clock, or find out that nobody knows this node any more.

        Whom a scheduler removes it tells so on the stream, a moment later: a heartbeat that comes
        in between is answered that the node is missing. Only the second such answer ends it.
        """
        missing = answer.get("status") == "missing"
        if missing and self._missing:
            self._node.end(ExitCode.LOST, "the scheduler does not know this node any more")
        elif missing:
            self._missing = True
            logger.info("the scheduler does not know this node; it may be about to say why")
        elif isinstance(theirs := answer.get("time"), float) and isfinite(theirs):
            self._node.clock_ahead_s = theirs - (sent + received) / 2


class Welcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a scheduler wants of a node that it takes."""

    interval_s: float
    """How often it would like to hear of it."""
    plugins: Mapping[str, bytes]
    """Pickles by name of what every worker is to have."""


async def register(
    link: DaskLink, node: Node, pulse: Pulse, facts: Facts, deadline: float
) -> Welcome:
    """Introduce a node; what the scheduler answers.

    The comm is the stream between both from then on. A name that is taken is asked for again for a
    while: its holder may be a node that has died just now, and is still waited for.

    Raises:
        NodeRefused: The scheduler does not take it, and has said why.
    """
    versions = await trio.to_thread.run_sync(get_versions)
    while True:
        sent = time.time()
        answer = await _introduce(link, node, pulse, facts, versions)
        if answer.get("status") == "OK":
            break
        said = str(answer.get("message") or answer.get("exception_text") or answer)
        refused = f"the scheduler does not take node {node.name!r}: {said:.500}"
        again = trio.current_time() + NAME_TAKEN_S
        if not said.startswith(NAME_TAKEN) or again > deadline:
            raise NodeRefused(refused)
        logger.warning("%s; asking again in %g s", refused, NAME_TAKEN_S)
        await trio.sleep_until(again)
    pulse.on_answer(answer, sent, time.time())
    return Welcome(
        interval_s=interval_of(answer) or FIRST_INTERVAL_S,
        plugins=_plugins_of(answer.get("worker-plugins")),
    )


def _plugins_of(offered: object) -> dict[str, bytes]:
    """Pickles by name, as far as there are any."""
    if type(offered) is not dict:
        return {}
    return {
        name: pickled
        for name, pickled in cast("dict[object, object]", offered).items()
        if isinstance(name, str) and isinstance(pickled, bytes)
    }


async def _introduce(
    link: DaskLink, node: Node, pulse: Pulse, facts: Facts, versions: dict[str, Any]
) -> dict[str, Any]:
    """Say who this is; what the scheduler says to that."""
    now = time.time()
    introduction = {
        "op": "register-worker",
        "reply": False,
        "address": node.address,
        "status": node.status,
        "server_id": f"trouper-{node.address}",
        "name": node.name,
        "nthreads": facts.nthreads,
        "memory_limit": facts.memory_limit,
        "resources": dict(facts.resources),
        "local_directory": facts.local_directory,
        "services": {},
        "nanny": None,
        "pid": os.getpid(),
        "versions": versions,
        "metrics": pulse.metrics(),
        "extra": {},
        "now": now,
        "stimulus_id": f"worker-connect-{now}",
    }
    try:
        await link.send(introduction)
        answer = await link.receive()
    except (ProtocolError, SessionClosed) as error:
        raise NodeRefused(f"the scheduler does not answer node {node.name!r}: {error}") from error
    return cast("dict[str, Any]", answer) if type(answer) is dict else {"message": repr(answer)}
