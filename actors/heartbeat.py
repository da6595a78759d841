"""The heartbeat actor: tells the scheduler at intervals that the node is alive, and how it is.

On a comm of its own, which is made again when it is lost, as long as the node is: the stream to the
scheduler decides whether it is, not the heartbeat.
"""

import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, TypeAlias

import trio

from trouper.actors.dask_link import DaskLink
from trouper.wire.errors import CannotConnect, ProtocolError, SessionClosed, SessionRefused

logger = logging.getLogger(__name__)

Dial: TypeAlias = Callable[[], AbstractAsyncContextManager[DaskLink]]
"""Opens a comm with the scheduler."""


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
                async for answered_interval_s in _beats(link, patient):
                    interval_s = answered_interval_s or interval_s
                    await trio.sleep(interval_s)
        except (CannotConnect, SessionRefused, SessionClosed, ProtocolError) as error:
            logger.warning("no heartbeat: %s", error)
            await trio.sleep(interval_s)


async def _beats(link: DaskLink, patient: Patient) -> AsyncIterator[float | None]:
    while True:
        sent = time.time()
        answer = await link.call("heartbeat_worker", **patient.vital_signs())
        if type(answer) is not dict:
            logger.warning("the scheduler has answered a heartbeat with %r", answer)
            answer = {}
        patient.on_answer(answer, sent, time.time())
        interval_s = answer.get("heartbeat-interval")
        yield float(interval_s) if interval_s else None
