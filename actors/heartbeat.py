"""The heartbeat actor: tells the scheduler at intervals that the node is alive, and how it is.

On a comm of its own, which is made again when it is lost, as long as the node is: the stream to the
scheduler decides whether it is, not the heartbeat.
"""

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, TypeAlias, cast

import trio

from trouper.actors.dask_link import DaskLink
from trouper.wire.errors import (
    CannotConnect,
    Code,
    ProtocolError,
    SessionClosed,
    SessionRefused,
)

logger = logging.getLogger(__name__)

Dial: TypeAlias = Callable[[], AbstractAsyncContextManager[DaskLink]]
"""Opens a comm with the scheduler."""


LONGEST_S = 60.0
"""A scheduler that asks for longer intervals, or for none, has not meant it."""


class Patient(Protocol):
    """Whose heart it is."""

    def vital_signs(self) -> dict[str, Any]:
        """What is sent: the arguments of `heartbeat_worker`."""
        ...

    def on_answer(self, answer: dict[str, Any], sent: float, received: float) -> None:
        """The scheduler has answered; times by our clock, in seconds since 1970."""
        ...


async def heartbeat(dial: Dial, patient: Patient, interval_s: float) -> None:
    """Send heartbeats until cancelled.

    Args:
        dial: Opens a comm with the scheduler.
        patient: Whose heart it is.
        interval_s: Until the scheduler says what it would like better.
    """
    while True:
        try:
            async with dial() as link:
                while True:
                    interval_s = await _beat(link, patient) or interval_s
                    await trio.sleep(interval_s)
        except (CannotConnect, SessionRefused, SessionClosed, ProtocolError) as error:
            logger.info("no heartbeat: %s", error)
            await trio.sleep(interval_s)


async def _beat(link: DaskLink, patient: Patient) -> float | None:
    """One heartbeat; in how many seconds the scheduler would like the next."""
    sent = time.time()
    answer = await link.call("heartbeat_worker", **patient.vital_signs())
    if type(answer) is not dict:
        raise ProtocolError(Code.UNEXPECTED, f"no answer to a heartbeat, but {answer!r:.200}")
    said = cast("dict[str, Any]", answer)
    patient.on_answer(said, sent, time.time())
    return interval_of(said)


def interval_of(answer: Mapping[str, Any]) -> float | None:
    """In how many seconds the scheduler would like to hear of a node; None if it does not say."""
    interval_s = answer.get("heartbeat-interval")
    if isinstance(interval_s, (int, float)) and 0 < interval_s <= LONGEST_S:
        return float(interval_s)
    return None
