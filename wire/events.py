"""What a session tells its owner."""

from typing import TypeAlias

import msgspec

from trouper.wire.cbor import Chunk
from trouper.wire.errors import Code


class Peer(msgspec.Struct, frozen=True, gc=False):
    """Who is on the other side, as agreed in the handshake."""

    role: str
    name: str
    version: int
    """Of the protocol, spoken from now on."""
    capabilities: tuple[str, ...]
    """What both sides can do."""


class Established(msgspec.Struct, frozen=True):
    """The session is open for the first time."""

    link: int
    peer: Peer


class Resumed(msgspec.Struct, frozen=True, gc=False):
    """The session goes on over a new connection."""

    link: int


class MessageReceived(msgspec.Struct, frozen=True, gc=False):
    """A message has arrived, once and in order."""

    sequence: int
    body: Chunk
    buffers: tuple[Chunk, ...]
    """Out of band, in the order in which they were given to `send`; they may be written to."""


class IncomingLost(msgspec.Struct, frozen=True, gc=False):
    """A message of the peer's, not kept for resending, was cut and will not come."""

    sequence: int


class OutgoingLost(msgspec.Struct, frozen=True, gc=False):
    """A message of ours, not kept for resending, was cut; the peer learns it too."""

    sequence: int


class LinkLost(msgspec.Struct, frozen=True, gc=False):
    """A connection is over; its owner closes it. The session waits for another.

    The dialling side is to connect again until `until`, on the clock of `now`; None if the session
    was never open and nobody waits for it.
    """

    link: int
    code: Code
    reason: str
    until: float | None


class Ended(msgspec.Struct, frozen=True, gc=False):
    """The session is over, and this is its last event.

    What `data_to_send` still gives is to be written before the connection is closed.
    """

    code: Code
    reason: str
    by_peer: bool
    """Whether the peer said so."""
    unconfirmed: int
    """How many messages were sent of which it is not known that they arrived."""


SessionEvent: TypeAlias = (
    Established | Resumed | MessageReceived | IncomingLost | OutgoingLost | LinkLost | Ended
)
