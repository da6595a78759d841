"""A Dask comm on a session of ours: messages both ways, after a handshake of Dask's own.

Both sides say first which Python and which pickle protocol they have, and whether they compress.
"""

import pickle
import sys
from typing import Any, cast

from trouper.wire.connection import Connection
from trouper.wire.dask_message import DaskMessageDecoder, Pickled, encode_dask_message
from trouper.wire.errors import Code, NotEncodable, ProtocolError
from trouper.wire.events import MessageReceived

PICKLE_PROTOCOL = 5

HANDSHAKE = {
    "compression": None,
    "python": tuple(sys.version_info)[:3],
    "pickle-protocol": PICKLE_PROTOCOL,
}


class DaskLink:
    """Messages on a connection. One task may send and one receive at a time."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.pickle_protocol = PICKLE_PROTOCOL
        """The highest that both sides know."""
        self._decoder = DaskMessageDecoder()

    async def shake_hands(self) -> None:
        """Tell the other side what this one can do, and hear what it can.

        Raises:
            ProtocolError: It has said something else.
            SessionClosed: It has said nothing, and gone.
        """
        await self.send(HANDSHAKE)
        theirs = await self.receive()
        protocol = cast("Any", theirs).get("pickle-protocol") if type(theirs) is dict else None
        if type(protocol) is not int:
            raise ProtocolError(Code.UNEXPECTED, f"no handshake of a Dask comm: {theirs!r:.200}")
        self.pickle_protocol = min(protocol, PICKLE_PROTOCOL)

    async def send(self, message: object, *, resend: bool = True) -> None:
        """Send a message, as soon as there is room for it.

        What is neither plain data nor a marker is pickled, as every receiver of Dask's expects.

        Raises:
            NotEncodable: Something in it cannot be pickled, or it is too long.
            SessionClosed: The session is over.
        """
        body, buffers = encode_dask_message(message, _pickled)
        await self.connection.send(body, buffers, resend=resend)

    async def receive(self) -> Any:
        """The next message.

        Raises:
            ProtocolError: It is none, or one was lost that is not sent again.
            SessionClosed: The session is over.
        """
        delivery = await self.connection.receive()
        if not isinstance(delivery, MessageReceived):
            raise ProtocolError(Code.DISCONNECTED, "a message was cut by the loss of a connection")
        return self._decoder.decode(delivery.body, delivery.buffers)

    async def call(self, op: str, **arguments: Any) -> Any:
        """Ask for something, and wait for the answer."""
        await self.send({"op": op, "reply": True, **arguments})
        return await self.receive()


def _pickled(value: object) -> Pickled:
    try:
        return Pickled(pickle.dumps(value, PICKLE_PROTOCOL))
    except Exception as error:
        kind = type(value).__qualname__
        raise NotEncodable(f"a {kind} cannot be part of a message: {error!r:.200}") from error
