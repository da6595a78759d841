"""A WebSocket over a trio stream: the HTTP upgrade that makes it one, and reading and writing.

The upgrade is `trouper.wire.upgrade`'s, frames are `trouper.wire.framing`'s.
"""

import secrets
import ssl
from collections.abc import Sequence
from functools import partial
from urllib.parse import urlsplit

import trio

from trouper.wire.cbor import Chunk
from trouper.wire.errors import CannotConnect, ConnectionBroken, ProtocolError
from trouper.wire.framing import BINARY, BROKEN_RULES, NORMAL, Framer
from trouper.wire.transport import transport_of
from trouper.wire.upgrade import GONE_TOO_SOON, HEADER_NBYTES, Upgrade

READ_NBYTES = 1 << 14
"""Asked of a socket at once, where a frame's head is expected: many small messages, but not much of
a buffer, as that is read to where it belongs."""

_PORTS = {"ws": 80, "wss": 443}


class WebSocket:
    """One connection, after its upgrade. One task may read while another one writes."""

    def __init__(self, stream: trio.abc.Stream, framer: Framer, begun: Chunk) -> None:
        self.stream = stream
        self._transport = transport_of(stream)
        self._framer = framer
        self._begun = begun
        """What came together with the upgrade."""
        self._unwritten: Sequence[Chunk] = ()
        """Of frames that have begun to be written."""

    @property
    def waiting(self) -> bool:
        """Whether `send` should be called, if with nothing: a frame has begun, or a ping came."""
        return bool(self._unwritten or self._framer.reply)

    @property
    def payload_left(self) -> int:
        """How many bytes of a message are sure to come next, and so `receive_into` takes."""
        return 0 if self._begun else self._framer.payload_left

    async def receive(self) -> list[Chunk | str]:
        """Some bytes of messages, cut anywhere; maybe none. Text stands for a text message.

        Raises:
            ConnectionBroken: There will be no more.
        """
        if self._framer.closed is not None:
            raise ConnectionBroken(self._framer.closed)
        begun, self._begun = self._begun, b""
        try:
            data = begun or await self._transport.read(READ_NBYTES)
            if not data:
                raise ConnectionBroken("the peer has gone without a word")
            return list(self._framer.read(data))
        except trio.BrokenResourceError as error:
            raise ConnectionBroken(_told(error)) from error
        except ProtocolError as error:
            self._framer.reply = b"".join(self._framer.close_frame(BROKEN_RULES, error.reason))
            raise ConnectionBroken(error.reason) from error

    async def receive_into(self, buffer: memoryview) -> int:
        """Put some of the `payload_left` there; how many bytes it was.

        Raises:
            ConnectionBroken: There will be no more.
        """
        try:
            nbytes = await self._transport.read_into(buffer[: self.payload_left])
        except trio.BrokenResourceError as error:
            raise ConnectionBroken(_told(error)) from error
        if not nbytes:
            raise ConnectionBroken("the peer has gone without a word")
        self._framer.took(buffer[:nbytes])
        return nbytes

    async def send(self, chunks: Sequence[Chunk]) -> None:
        """Write what is owed, and then a message, if there is one.

        Raises:
            ConnectionBroken: It cannot be written.
        """
        frames = self._to_write(chunks)
        try:
            await self._transport.write(frames)
        except trio.BrokenResourceError as error:
            raise ConnectionBroken(_told(error)) from error

    def send_now(self, chunks: Sequence[Chunk]) -> None:
        """The same without waiting; what could not be written is left to the next `send`.

        Raises:
            ConnectionBroken: It cannot be written.
        """
        frames = self._to_write(chunks)
        try:
            self._unwritten = self._transport.write_now(frames)
        except trio.BrokenResourceError as error:
            raise ConnectionBroken(_told(error)) from error

    def _to_write(self, chunks: Sequence[Chunk]) -> Sequence[Chunk]:
        """All that is owed, and a frame."""
        frame = self._framer.frame(BINARY, chunks) if chunks else ()
        if not self.waiting:
            return frame
        unwritten, self._unwritten = self._unwritten, ()
        reply, self._framer.reply = self._framer.reply, b""
        return [*unwritten, reply, *frame] if reply else [*unwritten, *frame]

    async def aclose(self) -> None:
        """Say so, wait until the peer has closed it too, and let go of it.

        Let go of at once, a connection is reset if something has come that was not read, and the
        last words may be lost. The caller sets the deadline; a cancellation ends it at once.
        """
        try:
            self._framer.reply = self._framer.reply or b"".join(
                self._framer.close_frame(NORMAL, "")
            )
            await self.send(())
            while True:
                await self.receive()
        except ConnectionBroken:
            return
        finally:
            await trio.aclose_forcefully(self.stream)


async def dial(url: str, tls: ssl.SSLContext | None) -> WebSocket:
    """Connect to ``ws://host:port/`` or ``wss://host:port/``. The caller sets the deadline.

    Args:
        url: Where to.
        tls: Whom to trust with ``wss``, and what to show; those whom the system trusts if None.

    Raises:
        CannotConnect: It did not come to a WebSocket.
        ValueError: The URL is none, or none of these.
    """
    scheme, host, port, place, target = _parts_of(url)
    if tls is not None and scheme == "ws":
        raise ValueError(f"TLS is given for {url}, which has none: wss:// is wanted")
    try:
        plain = await trio.open_tcp_stream(host, port)
    except OSError as error:
        raise CannotConnect(f"cannot connect to {url}: {error}") from error
    stream: trio.abc.Stream = plain
    try:
        if scheme == "wss":
            context = tls or ssl.create_default_context()
            stream = trio.SSLStream(plain, context, server_hostname=host, https_compatible=True)
        framer = Framer(partial(secrets.token_bytes, 4))
        upgrade = Upgrade(client=True, host=place, target=target)
        return WebSocket(stream, framer, await _upgraded(stream, upgrade))
    except (trio.BrokenResourceError, CannotConnect) as error:
        await trio.aclose_forcefully(stream)
        raise CannotConnect(f"cannot connect to {url}: {_told(error)}") from error
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise


async def answer(stream: trio.SocketStream, tls: ssl.SSLContext | None) -> WebSocket:
    """Take an upgrade from whoever has connected. The caller sets the deadline.

    The stream is the caller's to close.

    Raises:
        CannotConnect: It did not come to a WebSocket.
    """
    secured: trio.abc.Stream = stream
    if tls is not None:
        secured = trio.SSLStream(stream, tls, server_side=True, https_compatible=True)
    try:
        return WebSocket(secured, Framer(None), await _upgraded(secured, Upgrade(client=False)))
    except trio.BrokenResourceError as error:
        raise CannotConnect(_told(error)) from error


async def _upgraded(stream: trio.abc.Stream, upgrade: Upgrade) -> bytes:
    """Go through the upgrade; what has come after it."""
    rest: bytes | None = None
    while rest is None:
        await _send(stream, upgrade)
        received = await stream.receive_some(HEADER_NBYTES)
        if not received:
            raise CannotConnect(GONE_TOO_SOON)
        try:
            rest = upgrade.receive_data(received)
        except CannotConnect:
            await _send(stream, upgrade)
            raise
    await _send(stream, upgrade)
    return rest


async def _send(stream: trio.abc.Stream, upgrade: Upgrade) -> None:
    to_send, upgrade.to_send = upgrade.to_send, b""
    if to_send:
        await stream.send_all(to_send)


def _parts_of(url: str) -> tuple[str, str, int, str, str]:
    """Scheme, host, port; both as a header names them; and the target of a request."""
    parts = urlsplit(url)
    if parts.scheme not in ("ws", "wss") or not parts.hostname:
        raise ValueError(f"{url!r} is not of the form ws://host:port or wss://host:port")
    target = parts.path or "/"
    if parts.query:
        target += f"?{parts.query}"
    place = parts.netloc.rpartition("@")[2]
    return parts.scheme, parts.hostname, parts.port or _PORTS[parts.scheme], place, target


def _told(error: BaseException) -> str:
    """What lies behind a broken stream, for people."""
    cause = error.__cause__ if isinstance(error, trio.BrokenResourceError) else None
    return str(cause or error)
