"""How values come from a peer: what the gather actor asks for, and the answers that there are.

How a peer is spoken to is not its concern: `trouper.actors.fetch` does it in sessions of ours, and
a node of another cluster brings its own.
"""

from collections.abc import Sequence
from typing import Protocol, TypeAlias

import msgspec

from trouper.wire.vocabulary import Key, Peer


class Found(msgspec.Struct, frozen=True, gc=False):
    """A value, and what is known of it."""

    value: object
    nbytes: int
    """What it takes in memory."""
    type_name: str


class Fetched(msgspec.Struct, frozen=True):
    """What a peer has of what it was asked for. A key that is in none of these it does not hold."""

    found: dict[Key, Found] = {}
    unreadable: dict[Key, Exception] = {}
    """Held there; but it could not be serialised, or what came could not be read."""
    left: frozenset[Key] = frozenset()
    """Held there, and left out as the answer would be too long: to be asked for again."""


class PeerBusy(msgspec.Struct, frozen=True):
    """The peer asks to be left alone for a while."""


Answer: TypeAlias = Fetched | PeerBusy


class Fetch(Protocol):
    """The link of the gather actor."""

    async def __call__(self, peer: Peer, keys: Sequence[Key], max_nbytes: int) -> Answer:
        """Ask a peer for values, once.

        A cancellation ends it promptly, and leaves nothing behind.

        Args:
            peer: Its address.
            keys: What is wanted.
            max_nbytes: No more than that in the answer, if it can be; but at least one value.

        Raises:
            PeerUnreachable: There is no answer, nor will there be one.
        """
        ...
