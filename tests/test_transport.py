"""Bytes through plain sockets, as many at once as they take, and through other streams."""

import socket
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from trouper.wire.cbor import Chunk
from trouper.wire.limits import PACKET_NBYTES
from trouper.wire.transport import SocketTransport, StreamTransport, Transport, transport_of

BULK = bytes(range(256)) * (1 << 16)


@asynccontextmanager
async def pair(kind: str) -> AsyncGenerator[tuple[Transport, Transport, trio.abc.Stream]]:
    """Both ends, and the stream of the second."""
    streams: tuple[trio.abc.Stream, trio.abc.Stream]
    if kind == "socket":
        one, other = trio.socket.socketpair()
        streams = trio.SocketStream(one), trio.SocketStream(other)
    else:
        streams = trio.testing.memory_stream_pair()
    with trio.fail_after(60):
        async with streams[0], streams[1]:
            yield transport_of(streams[0]), transport_of(streams[1]), streams[1]


async def read_all(transport: Transport, nbytes: int) -> bytes:
    """By turns in both ways that there are."""
    data = b""
    while len(data) < nbytes:
        data += await transport.read(1000)
        buffer = bytearray(min(100_000, nbytes - len(data)))
        if buffer:
            data += buffer[: await transport.read_into(memoryview(buffer))]
    return data


@pytest.mark.parametrize("kind", ["socket", "memory"])
async def test_what_is_written_is_read_however_much_it_is(kind: str) -> None:
    async with pair(kind) as (ours, theirs, _):
        chunks: list[Chunk] = [
            BULK[:10],
            memoryview(BULK),
            b"",
            bytearray(BULK[:70_000]),
            *[b"x"] * 3000,
        ]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ours.write, chunks)
            read = await read_all(theirs, sum(map(len, chunks)))
        assert read == b"".join(chunks)


@pytest.mark.parametrize("kind", ["socket", "memory"])
async def test_end_is_nothing_read(kind: str) -> None:
    async with pair(kind) as (ours, _, stream):
        await stream.aclose()
        assert await ours.read(10) == b""
        assert await ours.read_into(memoryview(bytearray(10))) == 0


async def test_socket_takes_at_once_what_it_can_and_the_rest_is_left() -> None:
    async with pair("socket") as (ours, theirs, _):
        assert not ours.write_now([b"a", b"bc"])
        left = ours.write_now([BULK, b"end"])
        assert 3 < sum(map(len, left)) < len(BULK)
        assert b"".join(left) == (BULK + b"end")[-sum(map(len, left)) :]
        assert ours.write_now(left) == left
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ours.write, left)
            assert await read_all(theirs, len(BULK) + 6) == b"abc" + BULK + b"end"


async def test_stream_takes_nothing_at_once() -> None:
    async with pair("memory") as (ours, _, _):
        assert isinstance(ours, StreamTransport)
        assert ours.write_now([b"a"]) == [b"a"]


async def test_read_into_takes_all_that_has_come() -> None:
    async with pair("socket") as (ours, theirs, _):
        for _ in range(3):
            await ours.write([b"12345"])
        buffer = bytearray(20)
        assert await theirs.read_into(memoryview(buffer)) == 15
        assert buffer[:15] == b"12345" * 3


async def test_every_call_that_waits_can_be_cancelled() -> None:
    async with pair("socket") as (ours, theirs, _):
        with trio.CancelScope() as scope:
            scope.cancel()
            await theirs.read(1)
        assert scope.cancelled_caught
        with trio.CancelScope() as scope:
            scope.cancel()
            await ours.write([b"a"])
        assert scope.cancelled_caught


async def test_reset_connection_is_broken_whatever_is_done() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    with listener:
        async with await trio.open_tcp_stream(*listener.getsockname()) as stream:
            ours = transport_of(stream)
            assert isinstance(ours, SocketTransport)
            theirs, _ = listener.accept()
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            theirs.close()
            with pytest.raises(trio.BrokenResourceError, match="reset"):
                await ours.read(1)
            with pytest.raises(trio.BrokenResourceError):
                await ours.write([b"a"])
        with pytest.raises(trio.BrokenResourceError, match="file descriptor"):
            ours.write_now([b"a"])


async def test_reset_connection_is_broken_for_a_buffer_too() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    with listener:
        async with await trio.open_tcp_stream(*listener.getsockname()) as stream:
            theirs, _ = listener.accept()
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            theirs.close()
            with pytest.raises(trio.BrokenResourceError, match="reset"):
                await transport_of(stream).read_into(memoryview(bytearray(1)))


async def test_kernel_takes_a_packet_though_the_one_before_is_not_sent() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    with listener:
        for secure in (False, True):
            plain = await trio.open_tcp_stream(*listener.getsockname())
            tls = trio.SSLStream(plain, ssl.create_default_context())
            async with plain:
                transport_of(tls if secure else plain)
                option = trio.socket.TCP_NOTSENT_LOWAT
                assert plain.getsockopt(trio.socket.IPPROTO_TCP, option) == 2 * PACKET_NBYTES
            listener.accept()[0].close()


async def test_who_reads_a_lot_leaves_others_their_turn() -> None:
    async with pair("socket") as (ours, theirs, _):
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                await trio.lowlevel.checkpoint()
                turns += 1

        async with trio.open_nursery() as nursery:
            nursery.start_soon(count)
            nursery.start_soon(ours.write, [BULK])
            read = 0
            while read < len(BULK):
                read += len(await theirs.read(1 << 14))
            nursery.cancel_scope.cancel()
        assert turns >= len(BULK) // PACKET_NBYTES
