"""A WebSocket over an asyncio transport: the upgrade, reading and writing, as callbacks.

`trouper.wire.websocket` is the same for trio. Frames are `trouper.wire.framing`'s.
"""

import asyncio
import secrets
import ssl
import threading
from collections.abc import Sequence
from functools import partial
from typing import Protocol, cast

from trouper.wire.cbor import Chunk
from trouper.wire.errors import CannotConnect, ProtocolError
from trouper.wire.framing import BINARY, BROKEN_RULES, NORMAL, Framer
from trouper.wire.upgrade import GONE_TOO_SOON, Upgrade

READ_NBYTES = 1 << 14
"""Asked of a socket at once, where a frame's head is expected: many small messages, but not much of
a buffer, as that is read to where it belongs."""

_NO_WORD = "the peer has gone without a word"


class Owner(Protocol):
    """Who is told what happens on a WebSocket."""

    def upgraded(self, socket: "AsyncioWebSocket") -> None:
        """It is one now."""

    def received(self, socket: "AsyncioWebSocket", data: Chunk | str) -> None:
        """Some bytes of messages, to be copied, cut anywhere. Text stands for a text message."""

    def writable(self, socket: "AsyncioWebSocket") -> None:
        """`send` may be called again."""

    def broken(self, socket: "AsyncioWebSocket", reason: str) -> None:
        """There will be no more. Told once."""


class Assembly(Protocol):
    """Where the bytes of long messages are put together."""

    def get_buffer(self, socket: "AsyncioWebSocket") -> memoryview | None:
        """Where the next bytes of messages belong; None if they are to be `Owner.received`."""

    def buffer_updated(self, socket: "AsyncioWebSocket", nbytes: int) -> None:
        """So many of them were put there."""


class _Room(threading.local):
    """What the connections of a thread read into: each looks at all of it before the next does."""

    def __init__(self) -> None:
        self.view = memoryview(bytearray(READ_NBYTES))


_room = _Room()


class AsyncioWebSocket(asyncio.BufferedProtocol):
    """One connection.

    Args:
        owner: Who is told. May be another one later.
        upgrade: Says which side this is.
        client: The same.
    """

    def __init__(self, owner: Owner, upgrade: Upgrade, *, client: bool) -> None:
        self.owner = owner
        self.assembly: Assembly | None = None
        """Of the session that is carried, when there is one."""
        self.writable = False
        """Whether `send` should be called: what was written before is on its way."""
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when nothing is left of the connection."""
        self._upgrade: Upgrade | None = upgrade
        self._framer = Framer(partial(secrets.token_bytes, 4) if client else None)
        self._transport: asyncio.Transport | None = None
        self._place: memoryview | None = None
        """Where the transport was told to read to, if that is where it belongs."""
        self._patience: asyncio.TimerHandle | None = None
        """Ends the wait for the other side to close the connection, if that is all that is left."""
        self._broken = False
        """Whether the owner is told no more."""

    # what its owner says

    def address(self, which: str) -> tuple[str, int]:
        """Host and port of this side (``sockname``) or the other one (``peername``)."""
        assert self._transport is not None, "there is a connection, as it is upgraded"
        host, port, *_ = self._transport.get_extra_info(which) or ("an unknown address", 0)
        return host, port

    def extra_info(self, name: str) -> object:
        """What the transport knows, see `asyncio.BaseTransport.get_extra_info`."""
        return None if self._transport is None else self._transport.get_extra_info(name)

    def send(self, chunks: Sequence[Chunk]) -> None:
        """Write a message."""
        if self._transport is not None and not self._transport.is_closing():
            for chunk in self._framer.frame(BINARY, chunks):
                self._transport.write(chunk)

    def hold(self, paused: bool) -> None:
        """Read nothing, or go on to read."""
        if self._transport is not None and not self._transport.is_closing():
            if paused:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    def finish(self, patience_s: float) -> None:
        """Close it after what was written, as soon as the other side has closed it too.

        Closed at once, a connection is reset if something has come that was not read, and the last
        words may be lost. The owner is told no more.
        """
        if not self._broken:
            self._broken = True
            self.hold(paused=False)
            self._close_with(NORMAL, "")
            self._patience = asyncio.get_running_loop().call_later(patience_s, self.abort)

    def abort(self) -> None:
        """Let go of it without a word. The owner is told no more."""
        self._broken = True
        if self._transport is not None:
            self._transport.abort()

    # what asyncio says

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """There is a connection, and its TLS if it has any."""
        self._transport = cast("asyncio.Transport", transport)
        if self._broken:
            self._transport.abort()
        else:
            self.writable = True
            self._write_upgrade()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where to read to: payload to where it belongs, if there is so much that this pays."""
        self._release_place()
        if self.assembly is not None and self._framer.payload_left and not self._broken:
            place = self.assembly.get_buffer(self)
            if place is not None:
                with place:
                    self._place = place[: self._framer.payload_left]
                return self._place
        return _room.view

    def buffer_updated(self, nbytes: int) -> None:
        """So much was read."""
        if self._place is not None:
            assert self.assembly is not None
            self._framer.took(self._place[:nbytes])
            self._release_place()
            self.assembly.buffer_updated(self, nbytes)
            return
        data = _room.view[:nbytes]
        if self._upgrade is None:
            self._read(data)
            return
        try:
            rest = self._upgrade.receive_data(data)
        except CannotConnect as error:
            self._write_upgrade()
            self._break(str(error))
            self._close()
            return
        if rest is not None:
            self._write_upgrade()
            self._upgrade = None
            self.owner.upgraded(self)
            self._read(rest)

    def pause_writing(self) -> None:
        """What was written is more than the kernel takes."""
        self.writable = False

    def resume_writing(self) -> None:
        """The kernel has taken most of it."""
        self.writable = True
        if not self._broken:
            self.owner.writable(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """There is no connection any more."""
        self.writable = False
        if self._patience is not None:
            self._patience.cancel()
        nothing = GONE_TOO_SOON if self._upgrade else _NO_WORD
        self._break(str(exc) if exc is not None and str(exc) else nothing)
        if not self.gone.done():
            self.gone.set_result(None)

    # how it goes on inside

    def _release_place(self) -> None:
        """What is read to must not be in use when it grows."""
        if self._place is not None:
            self._place.release()
            self._place = None

    def _write_upgrade(self) -> None:
        if self._upgrade is not None and self._transport is not None:
            self._transport.write(self._upgrade.to_send)
            self._upgrade.to_send = b""

    def _read(self, data: Chunk) -> None:
        try:
            for part in self._framer.read(data):
                if not self._broken:
                    self.owner.received(self, part)
        except ProtocolError as error:
            self._close_with(BROKEN_RULES, error.reason)
            self._break(error.reason)
            self._close()
            return
        reply, self._framer.reply = self._framer.reply, b""
        if reply and self._transport is not None and self._patience is None:
            self._transport.write(reply)
        if self._framer.closed is not None:
            self._break(self._framer.closed)
            self._close()

    def _close_with(self, code: int, reason: str) -> None:
        if self._transport is not None and not self._transport.is_closing():
            for chunk in self._framer.close_frame(code, reason):
                self._transport.write(chunk)

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def _break(self, reason: str) -> None:
        if not self._broken:
            self._broken = True
            self.owner.broken(self, reason)


class _Dialling:
    """Waits for the upgrade of a connection that this side has made."""

    def __init__(self) -> None:
        self.answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.refusal: str | None = None

    def upgraded(self, socket: AsyncioWebSocket) -> None:
        self._wake()

    def received(self, socket: AsyncioWebSocket, data: Chunk | str) -> None:
        raise AssertionError("a listener does not speak before it was spoken to")

    def writable(self, socket: AsyncioWebSocket) -> None:
        """It has nothing to write."""

    def broken(self, socket: AsyncioWebSocket, reason: str) -> None:
        self.refusal = reason
        self._wake()

    def _wake(self) -> None:
        if not self.answered.done():  # it may be cancelled
            self.answered.set_result(None)


async def dial(
    host: str, port: int, tls: ssl.SSLContext | None, server_hostname: str | None = None
) -> AsyncioWebSocket:
    """Connect, and ask for the upgrade. The caller sets the deadline.

    Args:
        host: Where to.
        port: Where to.
        tls: Whom to trust, and what to show; None for a connection without TLS.
        server_hostname: Whose certificate is expected, if it is not that of `host`.

    Raises:
        CannotConnect: It did not come to a WebSocket. Its cause is an `ssl.SSLError` if the other
            side's certificate is not trusted.
    """
    loop = asyncio.get_running_loop()
    dialling = _Dialling()
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    socket = AsyncioWebSocket(dialling, Upgrade(client=True, host=place), client=True)
    try:
        await loop.create_connection(
            lambda: socket,
            host,
            port,
            ssl=tls,
            server_hostname=(server_hostname or host) if tls is not None else None,
        )
        await dialling.answered
        if dialling.refusal is not None:
            raise CannotConnect(dialling.refusal)
    except (OSError, CannotConnect) as error:
        socket.abort()
        raise CannotConnect(f"cannot connect to {place}: {error}") from error
    except BaseException:
        socket.abort()
        raise
    return socket
