"""What peers say to each other about data: typed, and strict like frames.

A message is a CBOR map with its tag under ``op``. Which messages a session carries is agreed in its
handshake: `PEER_EXCHANGE` are the ones below, in the roles of a *fetcher*, which dials, and a
*holder*, which listens. A fetcher asks one thing at a time and waits for its answer.

A version of its own: what changes here gets a new name of the capability, and leaves the protocol
of sessions as it is.
"""

from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

from trouper.wire.limits import MAX_SEQUENCE, REASON_LENGTH
from trouper.wire.vocabulary import kebab_case

PEER_EXCHANGE = "peer-exchange/1"
"""The capability of who speaks these messages."""

MAX_KEYS = 10_000
"""Most keys in one message."""

KEY_LENGTH = 4096
"""Longest key, in characters."""

MESSAGE_ITEMS = 250_000
"""Most CBOR items in a message; the longest answer has fewer."""

KeyText: TypeAlias = Annotated[str, Meta(max_length=KEY_LENGTH)]
Keys: TypeAlias = Annotated[tuple[KeyText, ...], Meta(max_length=MAX_KEYS)]
Text: TypeAlias = Annotated[str, Meta(max_length=REASON_LENGTH)]
Nbytes: TypeAlias = Annotated[int, Meta(ge=0, le=MAX_SEQUENCE)]


class Message(
    msgspec.Struct,
    frozen=True,
    gc=False,
    tag_field="op",
    tag=kebab_case,
    forbid_unknown_fields=True,
):
    """A message between peers."""


class GetData(Message, frozen=True, gc=False):
    """Give me these values. From a fetcher; answered with `DataReply`, `Busy` or `Failed`."""

    keys: Annotated[Keys, Meta(min_length=1)]
    max_nbytes: Nbytes
    """The answer stops before the value with which it would become longer, but for the first."""


class Found(Message, frozen=True, gc=False):
    """One value of a `DataReply`; its buffers come after those of the one before."""

    key: KeyText
    type_name: Text
    nbytes: Nbytes
    """What it takes in memory, as far as its holder knows."""
    buffers: Annotated[int, Meta(ge=1, le=MAX_KEYS)]
    """How many buffers it has: a pickle, and what the pickle left out of band."""


class Unreadable(Message, frozen=True, gc=False):
    """One value of a `DataReply` that its holder has, and cannot serialise."""

    key: KeyText
    reason: Text


class DataReply(Message, frozen=True, gc=False):
    """What a holder has of what was asked for; the values are in the buffers of the message.

    A key that was asked for is in one of the four. Not kept for resending.
    """

    found: Annotated[tuple[Found, ...], Meta(max_length=MAX_KEYS)] = ()
    missing: Keys = ()
    """Not held here."""
    unreadable: Annotated[tuple[Unreadable, ...], Meta(max_length=MAX_KEYS)] = ()
    left: Keys = ()
    """Held here, and left out as the answer would be too long: to be asked for again."""


class Busy(Message, frozen=True, gc=False):
    """A holder serves as many fetchers as it may: ask again later."""


class Failed(Message, frozen=True, gc=False):
    """A holder could not answer, for a reason of its own."""

    reason: Text


PeerMessage: TypeAlias = GetData | DataReply | Busy | Failed
