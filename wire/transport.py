"""Bytes into a connection and out of it: a plain socket's, or those of any stream, say with TLS.

Sockets are read and written past trio's streams, each of whose calls lets other tasks run: that
takes longer than a small message does. Whoever has something to say may so write it at once,
`write_now`, and wait only if it is more than the connection takes.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress

import trio

from trouper.wire.cbor import Chunk
from trouper.wire.limits import PACKET_NBYTES

_MOST_CHUNKS = 512
"""Written at once; systems take 1,024."""

_UNSENT_NBYTES = 2 * PACKET_NBYTES
"""So much may be written to a socket before the kernel has sent it: the next packet while one is on
its way. With the 16 KiB that trio's streams begin with, a packet is written in ten parts, for each
of which the event loop goes round."""

_IN_A_ROW_NBYTES = PACKET_NBYTES
"""So much is read from a socket, where there is so much, before other tasks run: to ask each time
whether there is more costs as much as to read it."""


class Transport(ABC):
    """One connection. One task may read while another one writes.

    All methods raise `trio.BrokenResourceError` when it is lost.
    """

    @abstractmethod
    async def read(self, most_nbytes: int) -> bytes:
        """What has arrived; nothing when the other side has gone."""

    @abstractmethod
    async def read_into(self, buffer: memoryview) -> int:
        """The same, put there; how much it was."""

    @abstractmethod
    async def write(self, chunks: Sequence[Chunk]) -> None:
        """Write all of it, one after the other."""

    @abstractmethod
    def write_now(self, chunks: Sequence[Chunk]) -> Sequence[Chunk]:
        """Write what needs no waiting; what is left."""


def transport_of(stream: trio.abc.Stream) -> Transport:
    """The fastest there is. The stream is the caller's to close."""
    if isinstance(stream, trio.SocketStream):
        _let_flow(stream)
        return SocketTransport(stream.socket)
    below: object = getattr(stream, "transport_stream", None)  # of one with TLS
    if isinstance(below, trio.SocketStream):
        _let_flow(below)
    return StreamTransport(stream)


def _let_flow(stream: trio.SocketStream) -> None:
    """Have the kernel take more than is on its way."""
    option = getattr(trio.socket, "TCP_NOTSENT_LOWAT", None)
    if option is not None:
        with suppress(OSError):  # a socket of another kind has no such limit
            stream.setsockopt(trio.socket.IPPROTO_TCP, option, _UNSENT_NBYTES)


class SocketTransport(Transport):
    """A socket without anything in between."""

    def __init__(self, socket: trio.socket.SocketType) -> None:
        self._socket = socket
        self._credit = 0
        """So much may be read without waiting, as all that was asked for has come."""

    async def read(self, most_nbytes: int) -> bytes:
        """What has arrived, once something has."""
        while True:
            await self._wait_readable()
            try:
                data = os.read(self._socket.fileno(), most_nbytes)
            except BlockingIOError:
                self._credit = 0
                continue
            except OSError as error:
                raise trio.BrokenResourceError(str(error)) from error
            self._credit = self._credit - len(data) if len(data) == most_nbytes else 0
            return data

    async def read_into(self, buffer: memoryview) -> int:
        """As much as has come, up to the whole buffer."""
        filled = 0
        while not filled:
            await self._wait_readable()
            try:
                while filled < len(buffer):  # more may have come; to wait for it takes longer
                    nbytes = os.readv(self._socket.fileno(), (buffer[filled:],))
                    if not nbytes:
                        return filled
                    filled += nbytes
                self._credit -= filled
            except BlockingIOError:
                self._credit = 0
            except OSError as error:
                raise trio.BrokenResourceError(str(error)) from error
        return filled

    async def _wait_readable(self) -> None:
        """Until something has arrived, as it may have before; now and then others have a turn."""
        if self._credit <= 0:
            await trio.lowlevel.wait_readable(self._socket)
            self._credit = _IN_A_ROW_NBYTES

    async def write(self, chunks: Sequence[Chunk]) -> None:
        """Wait whenever the connection takes no more."""
        left = self.write_now(chunks)
        if not left:
            await trio.lowlevel.checkpoint()
        while left:
            await trio.lowlevel.wait_writable(self._socket)
            left = self.write_now(left)

    def write_now(self, chunks: Sequence[Chunk]) -> Sequence[Chunk]:
        """As much as the connection takes."""
        try:
            nbytes = os.writev(self._socket.fileno(), chunks[:_MOST_CHUNKS])
        except BlockingIOError:
            return chunks
        except OSError as error:
            raise trio.BrokenResourceError(str(error)) from error
        return _after(nbytes, chunks)


class StreamTransport(Transport):
    """Any stream; nothing can be written to it without waiting."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream

    async def read(self, most_nbytes: int) -> bytes:
        """As the stream gives it."""
        return bytes(await self._stream.receive_some(most_nbytes))

    async def read_into(self, buffer: memoryview) -> int:
        """As the stream gives it, copied."""
        data = await self._stream.receive_some(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    async def write(self, chunks: Sequence[Chunk]) -> None:
        """One chunk after the other."""
        for chunk in chunks:
            await self._stream.send_all(chunk)

    def write_now(self, chunks: Sequence[Chunk]) -> Sequence[Chunk]:
        """Nothing."""
        return chunks


def _after(nbytes: int, chunks: Sequence[Chunk]) -> Sequence[Chunk]:
    """What is left of them after so many bytes."""
    for i, chunk in enumerate(chunks):
        if nbytes < len(chunk):
            return [memoryview(chunk)[nbytes:], *chunks[i + 1 :]]
        nbytes -= len(chunk)
    return ()
