"""The shape of an actor: a loop that is told what to do, and says how it has ended.

An actor decides nothing: a retry, a choice of peer, a limit is the machine's. It is run by a
supervisor, which restarts it when it crashes and keeps the table of what it owes.
"""

from collections.abc import Sequence
from typing import Protocol, TypeAlias, TypeVar

import trio

from trouper.actors.store import Store
from trouper.wire.stimuli import (
    ExecuteCancelled,
    ExecuteFailure,
    ExecuteReschedule,
    ExecuteSuccess,
    FindMissing,
    GatherBusy,
    GatherFailure,
    GatherNetworkFailure,
    GatherSuccess,
    RetryBusyWorker,
)

Terminal: TypeAlias = (
    ExecuteSuccess
    | ExecuteFailure
    | ExecuteReschedule
    | ExecuteCancelled
    | GatherSuccess
    | GatherBusy
    | GatherNetworkFailure
    | GatherFailure
    | RetryBusyWorker
    | FindMissing
)
"""How something that an actor was told to do has ended."""

C = TypeVar("C")


class Stimuli(Protocol):
    """Where an actor says how things have ended: a channel, or a supervisor's `Keeper`."""

    def send_nowait(self, stimuli: Sequence[Terminal], /) -> None:
        """Queue terminal stimuli; what they bring is in the store already."""
        ...


class Actor(Protocol[C]):
    """One async function; what else it needs (its links) is bound before."""

    async def __call__(
        self, instructions: trio.MemoryReceiveChannel[list[C]], stimuli: Stimuli, store: Store
    ) -> None:
        """Follow batches of instructions until their channel is closed.

        Each attempt or timer that it is told to begin gets one terminal stimulus.
        """
        ...
