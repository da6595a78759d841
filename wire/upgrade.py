"""The HTTP upgrade that makes a connection a WebSocket (RFC 6455), sans-IO, by way of wsproto.

No extension is offered or taken. The request has no token in it, as headers end up in the logs of
proxies: it is in the hello.
"""

from wsproto import ConnectionType
from wsproto.events import AcceptConnection, RejectConnection, Request
from wsproto.handshake import H11Handshake
from wsproto.utilities import RemoteProtocolError

from trouper.wire.cbor import Chunk
from trouper.wire.errors import CannotConnect

HEADER_NBYTES = 1 << 13
"""Longest request or answer of an upgrade."""

GONE_TOO_SOON = (
    "it has gone before the upgrade was done, maybe for want of TLS, or of a certificate that it "
    "trusts"
)

_TLS_ALERT, _TLS_HELLO = b"\x15\x03", b"\x16\x03"
"""How a server begins that speaks TLS and was spoken to without; and a client."""


class Upgrade:
    """The upgrade of one connection, from one side.

    Args:
        client: Whether this side asks for it.
        host: The other side as a header names it, if this side asks.
        target: What is asked for.
    """

    def __init__(self, *, client: bool, host: str = "", target: str = "/") -> None:
        self._handshake = H11Handshake(ConnectionType.CLIENT if client else ConnectionType.SERVER)
        self._client = client
        self._head = bytearray()
        self.to_send: bytes = b""
        """To be written, also if `receive_data` has raised."""
        if client:
            self.to_send = self._handshake.send(Request(host=host, target=target))

    def receive_data(self, data: Chunk) -> bytes | None:
        """What has come after the upgrade, as soon as it is done.

        Raises:
            CannotConnect: The other side speaks something else, or does not want to.
        """
        self._head += data
        head, blank, rest = bytes(self._head).partition(b"\r\n\r\n")
        if not blank:
            self._refuse_what_is_no_head()
            return None
        try:
            self._handshake.receive_data(head + blank)
        except RemoteProtocolError as error:
            if not self._client and isinstance(error.event_hint, RejectConnection):
                self.to_send = self._handshake.send(error.event_hint)
            said = "answer" if self._client else "request"
            raise CannotConnect(f"its {said} is no WebSocket's: {error}") from error
        if self._client:
            self._look_at_answer()
        else:
            self.to_send = self._handshake.send(AcceptConnection())
        return rest

    def _refuse_what_is_no_head(self) -> None:
        if self._head.startswith(_TLS_ALERT):
            raise CannotConnect("it speaks TLS: wss is wanted, not ws")
        if self._head.startswith(_TLS_HELLO):
            raise CannotConnect("it speaks TLS, where none is spoken: ws is wanted, not wss")
        if len(self._head) > HEADER_NBYTES:
            raise CannotConnect(f"its headers are longer than {HEADER_NBYTES:,} bytes")

    def _look_at_answer(self) -> None:
        for event in self._handshake.events():
            if isinstance(event, AcceptConnection):
                return
            if isinstance(event, RejectConnection):
                raise CannotConnect(f"it answered with HTTP status {event.status_code}")
        raise CannotConnect("its answer is no WebSocket's")
