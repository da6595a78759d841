"""Comms of Dask's own schemes ``tcp://`` and ``tls://``, dialled to fetch from stock workers.

Imports Dask: for nodes of a cluster only.

A message is a list of frames, which begins with all their lengths; integers have 64 bits, in the
byte order of the machine::

    length of the block | the block: count, lengths, frames as they fit | the other frames

A frame that is not in the block, however long, follows on the connection by itself.
"""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false
# pyright: reportUnknownVariableType=false
# What distributed does not say about its types is not known here either.

import ssl
import struct
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import urlsplit

import trio
from distributed.comm.tcp import set_tcp_timeout
from distributed.protocol.core import dumps, loads
from distributed.protocol.utils import pack_frames_prelude

from trouper.actors.dask_link import HANDSHAKE
from trouper.actors.errors import PeerUnreachable
from trouper.wire.limits import Limits

SCHEMES = ("tcp://", "tls://")

MAX_FRAMES = 1 << 20
"""Most frames in a message."""

READ_NBYTES = 1 << 20
"""Received at once: memory is taken only for what has arrived."""

_LENGTH = struct.Struct("=Q")


class TcpLink:
    """Messages on a connection. One task at a time."""

    def __init__(self, stream: trio.abc.Stream, max_nbytes: int) -> None:
        self._stream = stream
        self._max_nbytes = max_nbytes

    async def shake_hands(self) -> None:
        """Tell the other side what this one can do, and hear what it can."""
        await self.send(HANDSHAKE)
        theirs = await self.receive()
        said = cast("Mapping[str, object]", theirs) if type(theirs) is dict else {}
        if type(said.get("pickle-protocol")) is not int:
            raise PeerUnreachable(f"no handshake of a Dask comm: {theirs!r:.200}")

    async def send(self, message: object) -> None:
        """Send a message."""
        frames = cast("list[bytes]", dumps(message))
        block = b"".join([pack_frames_prelude(frames), *frames])
        await self._stream.send_all(_LENGTH.pack(len(block)) + block)

    async def receive(self) -> object:
        """The next message; serialised values in it stay so.

        Raises:
            PeerUnreachable: It is none, or is longer than it may be.
            BrokenResourceError: The connection is lost.
        """
        frames = await self._receive_frames()
        try:
            return cast("object", loads(frames, deserialize=False))
        except Exception as error:
            raise PeerUnreachable(f"no message of Dask's: {error!r:.200}") from error

    async def call(self, op: str, **arguments: Any) -> Any:
        """Ask for something, and wait for the answer."""
        await self.send({"op": op, "reply": True, **arguments})
        return await self.receive()

    async def _receive_frames(self) -> list[memoryview]:
        (nbytes,) = _LENGTH.unpack(await self._receive_exactly(_LENGTH.size))
        self._check(nbytes)
        block = memoryview(await self._receive_exactly(nbytes))
        if nbytes < _LENGTH.size:
            raise PeerUnreachable("a block without a number of frames")
        (count,) = _LENGTH.unpack_from(block)
        begin = _LENGTH.size * (1 + count)
        if count > MAX_FRAMES or begin > nbytes:
            raise PeerUnreachable(f"a block of {nbytes} bytes without the lengths of its frames")
        lengths = struct.unpack_from(f"={count}Q", block, _LENGTH.size)
        self._check(sum(lengths))
        frames: list[memoryview] = []
        for length in lengths:
            if begin + length <= nbytes:
                frames.append(block[begin : begin + length])
                begin += length
            elif begin == nbytes:
                frames.append(memoryview(await self._receive_exactly(length)))
            else:
                raise PeerUnreachable("a frame that is partly in the block")
        return frames

    def _check(self, nbytes: int) -> None:
        if nbytes > self._max_nbytes:
            raise PeerUnreachable(f"a message of {nbytes} bytes, more than {self._max_nbytes}")

    async def _receive_exactly(self, nbytes: int) -> bytearray:
        received = bytearray()
        while left := nbytes - len(received):
            data = await self._stream.receive_some(min(left, READ_NBYTES))
            if not data:
                raise PeerUnreachable("the connection was closed in the middle of a message")
            received += data
        return received


@asynccontextmanager
async def dial_tcp(
    address: str, tls: ssl.SSLContext | None, limits: Limits
) -> AsyncGenerator[TcpLink]:
    """A comm for the length of an ``async with`` block.

    Args:
        address: ``tcp://host:port``, or ``tls://``.
        tls: Whom to trust with ``tls``, and what to show.
        limits: How long a handshake may take, and how long a message may be.

    Raises:
        PeerUnreachable: Nobody answers there, or not as Dask does; or the connection is lost, also
            in the block.
    """
    try:
        with trio.fail_after(limits.handshake_s) as patience:
            stream = await _connect(address, tls)
            async with stream:
                link = TcpLink(stream, limits.max_message_nbytes)
                await link.shake_hands()
                patience.deadline = float("inf")
                yield link
    except (OSError, ValueError, trio.BrokenResourceError, trio.TooSlowError) as error:
        raise PeerUnreachable(f"{address}: {error or 'no handshake in time'}") from error


async def _connect(address: str, tls: ssl.SSLContext | None) -> trio.abc.Stream:
    """A connection. The kernel finds out if the host is gone, as Dask has it do.

    Raises:
        ValueError: The address is none, or there is no certificate for it.
    """
    parts = urlsplit(address)
    if not parts.hostname or not parts.port:
        raise ValueError("an address has a host and a port")
    if parts.scheme == "tls" and tls is None:
        raise ValueError("this node has no certificates to connect with TLS")
    stream = await trio.open_tcp_stream(parts.hostname, parts.port)
    plain = SimpleNamespace(socket=stream.socket, closed=lambda: False)
    set_tcp_timeout(plain)  # what it looks at of a stream of tornado's
    if parts.scheme != "tls":
        return stream
    assert tls is not None
    return trio.SSLStream(stream, tls, server_hostname=parts.hostname)
