"""Typed messages to CBOR and back, validated. The buffers of a message travel beside it.

`MessageDecoder.decode` raises nothing but `ProtocolError`, whatever it is given.
"""

from collections.abc import Sequence
from typing import cast, get_args

import cbor2
import msgspec

from trouper.wire.cbor import CborDecoder, Chunk
from trouper.wire.errors import Code, NotEncodable, ProtocolError
from trouper.wire.limits import BODY_NBYTES, HEAD_DEPTH
from trouper.wire.messages import MESSAGE_ITEMS, DataReply, Message, PeerMessage
from trouper.wire.vocabulary import kebab_case

_TYPES: dict[str, type[Message]] = {
    kebab_case(message.__name__): message for message in get_args(PeerMessage)
}


def encode_message(message: PeerMessage) -> bytes:
    """The body that says this.

    Raises:
        NotEncodable: It is none that the peer would read: a field is out of its range.
    """
    try:
        plain = msgspec.to_builtins(message)
        msgspec.convert(plain, type(message))
        return cbor2.dumps(plain)
    except (msgspec.ValidationError, UnicodeEncodeError) as error:
        name = type(message).__name__
        raise NotEncodable(f"a {name} that may not be sent: {error}") from error


class MessageDecoder:
    """Reads the messages of one session. Not for two threads at once."""

    def __init__(self) -> None:
        self._decoder = CborDecoder(max_depth=HEAD_DEPTH, max_items=MESSAGE_ITEMS)

    def decode(self, body: Chunk, buffers: Sequence[Chunk] = ()) -> PeerMessage:
        """What a body says.

        Raises:
            ProtocolError: It is no message, or its buffers are not those that it speaks of.
        """
        if len(body) > BODY_NBYTES:
            raise ProtocolError(
                Code.LIMIT, f"a body of {len(body):,} bytes; {BODY_NBYTES:,} are allowed"
            )
        plain: object = self._decoder.decode(body)
        if type(plain) is not dict:
            raise ProtocolError(Code.MALFORMED, "a message has to be a map")
        op = cast("dict[object, object]", plain).get("op")
        if type(op) is not str or op not in _TYPES:
            raise ProtocolError(Code.MALFORMED, f"unknown message {op!r:.80}")
        try:
            message = cast("PeerMessage", msgspec.convert(plain, _TYPES[op]))
        except msgspec.ValidationError as error:
            raise ProtocolError(Code.MALFORMED, f"bad message {op!r}: {error}") from error
        spoken_of = (
            sum(found.buffers for found in message.found) if isinstance(message, DataReply) else 0
        )
        if spoken_of != len(buffers):
            raise ProtocolError(
                Code.MALFORMED,
                f"message {op!r} speaks of {spoken_of} buffers and came with {len(buffers)}",
            )
        return message
