"""The gather actor: fetches values from the peers that it is told to ask.

One trio task for each gather, which asks once, and again for what the peer has left out. How it
ends is said in one stimulus for all keys, so what of a mixed answer it can express comes first:

- what was found counts, whatever has become of the rest: `GatherSuccess`. The rest is then treated
  as not held there, and sought again: a value that cannot be read is asked for without those that
  can, and ends as the next says. A connection that breaks after the first of several answers ends
  so too;
- if none of the keys can be read: `GatherFailure`, with an exception for each;
- if the peer becomes busy after the first of several answers: `GatherBusy`, and what came is
  fetched again. Otherwise it would seem to have lost the rest.
"""

import logging
from typing import TypeAlias

import trio

from trouper.actors.actor import Stimuli, Terminal
from trouper.actors.errors import PeerUnreachable, text_of
from trouper.actors.fetched import Fetch, Fetched, PeerBusy
from trouper.actors.store import Store
from trouper.wire.instructions import CancelGather, Gather
from trouper.wire.stimuli import GatherBusy, GatherFailure, GatherNetworkFailure, GatherSuccess
from trouper.wire.vocabulary import Key

logger = logging.getLogger(__name__)

GatherCommand: TypeAlias = Gather | CancelGather

ANSWER_NBYTES = 1 << 26
"""Most bytes in one answer, but for a single value that is larger: some more than the machine asks
of a peer at once, which matters where it did not know how large the values are."""


class _Flight:
    """A gather that has not ended."""

    def __init__(self, gather: Gather) -> None:
        self.gather = gather
        self.asked: tuple[Key, ...] = gather.keys
        """Of the peer, in the present request."""
        self.scope = trio.CancelScope()
        self._unwanted: set[Key] = set()

    def cancel(self, keys: tuple[Key, ...]) -> None:
        """Some keys are not wanted any more; maybe there is nothing left to wait for."""
        self._unwanted.update(keys)
        if self._unwanted.issuperset(self.asked):
            self.scope.cancel()

    def wanted(self, keys: frozenset[Key]) -> tuple[Key, ...]:
        """What is worth to be asked for again, in order."""
        return tuple([key for key in self.asked if key in keys and key not in self._unwanted])


async def gather(
    instructions: trio.MemoryReceiveChannel[list[GatherCommand]],
    stimuli: Stimuli,
    store: Store,
    fetch: Fetch,
) -> None:
    """Fetch values until the channel of instructions is closed; then nobody waits for the rest.

    Args:
        instructions: Batches of gathers and cancellations.
        stimuli: Takes one terminal stimulus for each gather.
        store: Where values and exceptions are put before the stimulus is sent.
        fetch: Asks a peer.
    """
    flights: dict[int, _Flight] = {}
    async with trio.open_nursery() as nursery:
        async for batch in instructions:
            for item in batch:
                if isinstance(item, Gather):
                    flights[item.attempt] = flight = _Flight(item)
                    nursery.start_soon(_fly, flight, flights, stimuli, store, fetch)
                elif item.attempt in flights:
                    flights[item.attempt].cancel(item.keys)
        nursery.cancel_scope.cancel()


async def _fly(
    flight: _Flight, flights: dict[int, _Flight], stimuli: Stimuli, store: Store, fetch: Fetch
) -> None:
    fetched = Fetched({}, {})
    cut_short = await _ask(flight, fetched, fetch)
    del flights[flight.gather.attempt]
    stimuli.send_nowait((cut_short or _stored(flight.gather, fetched, store),))


async def _ask(flight: _Flight, fetched: Fetched, fetch: Fetch) -> Terminal | None:
    """Collect all that the peer has; or say why there is nothing to be had of it."""
    peer, attempt = flight.gather.peer, flight.gather.attempt
    with flight.scope:
        while flight.asked:
            try:
                answer = await fetch(peer, flight.asked, ANSWER_NBYTES)
                if isinstance(answer, PeerBusy):
                    return GatherBusy(peer, attempt)
                if answer.left.issuperset(flight.asked):
                    raise PeerUnreachable(f"peer {peer} has left out all that it was asked for")
            except PeerUnreachable as error:
                logger.info("gather %d has failed: %s", attempt, error)
                return None if fetched.found else GatherNetworkFailure(peer, attempt)
            fetched.found.update(answer.found)
            fetched.unreadable.update(answer.unreadable)
            flight.asked = flight.wanted(answer.left)
    return None


def _stored(gather: Gather, fetched: Fetched, store: Store) -> Terminal:
    """Put what came into the store, and say what it is."""
    peer, attempt, keys = gather.peer, gather.attempt, gather.keys
    if fetched.unreadable.keys() == set(keys):
        for key in keys:
            store.values[key, attempt] = fetched.unreadable[key]
        return GatherFailure(peer, attempt, type(fetched.unreadable[keys[0]]).__qualname__)
    for key, error in fetched.unreadable.items():
        logger.warning("%r of peer %s is sought elsewhere: %s", key, peer, text_of(error))
    data: dict[Key, tuple[int, str]] = {}
    for key, found in fetched.found.items():
        store.values[key, attempt] = found.value
        data[key] = (found.nbytes, found.type_name)
    return GatherSuccess(peer, attempt, data)
