"""Comms with stock workers over tcp:// and tls://, from the side of a node: data, and nonsense."""

import importlib
import ssl
import struct
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
import trio
import trustme
from gates import PATIENCE_S

from trouper.actors.dask_fetch import ask_for_data, load_data
from trouper.actors.dask_tcp import dial_tcp
from trouper.actors.errors import PeerUnreachable
from trouper.actors.fetched import Fetched, PeerBusy
from trouper.wire.limits import Limits

protocol: Any = importlib.import_module("distributed.protocol")
prelude_of: Any = importlib.import_module("distributed.protocol.utils").pack_frames_prelude

HANDSHAKE = {"compression": None, "python": (3, 11, 7), "pickle-protocol": 5}
LIMITS = Limits(max_message_nbytes=1 << 24, handshake_s=PATIENCE_S)
ARRAY = np.arange(300_000.0)


def framed(message: Any, *, apart: bool = False) -> bytes:
    """A message as a stock worker sends it: all frames in the block, or none of them."""
    frames = protocol.dumps(message, frame_split_size=1 << 20)
    prelude: bytes = prelude_of(frames)
    rest = b"".join(map(bytes, frames))
    nbytes = len(prelude) if apart else len(prelude) + len(rest)
    return struct.pack("=Q", nbytes) + prelude + rest


@asynccontextmanager
async def peer(*said: bytes, hold: bool = False) -> AsyncGenerator[str]:
    """A listener that says this to whoever connects, and closes; its address."""

    async def serve(stream: trio.SocketStream) -> None:
        for data in said:
            await stream.send_all(data)
        if hold:
            await trio.sleep_forever()
        await stream.send_eof()
        while await stream.receive_some(1 << 16):
            pass

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, serve, 0)
        yield f"tcp://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        nursery.cancel_scope.cancel()


async def asked(*said: bytes, limits: Limits = LIMITS) -> Any:
    """What comes of asking a peer that says this; the error, if it cannot be reached."""
    async with peer(*said) as address:
        try:
            async with dial_tcp(address, None, limits) as link:
                return await load_data(await ask_for_data(link, ["x", "~('y', 1)"], "cws://us"))
        except PeerUnreachable as error:
            return error


@pytest.mark.parametrize("apart", [False, True])
async def test_values_come_in_the_block_or_behind_it(apart: bool) -> None:
    data = {"x": protocol.to_serialize(ARRAY), ("y", 1): protocol.to_serialize({"a": b""})}
    answer = framed({"status": "OK", "data": data}, apart=apart)
    fetched = await asked(framed(HANDSHAKE), answer)
    assert np.array_equal(fetched.found["x"].value, ARRAY)
    assert fetched.found["x"].value.flags.writeable
    assert fetched.found["~('y', 1)"].value == {"a": b""}
    assert not fetched.unreadable


async def test_a_peer_that_is_busy_or_has_nothing() -> None:
    assert await asked(framed(HANDSHAKE), framed({"status": "busy"})) == PeerBusy()
    assert await asked(framed(HANDSHAKE), framed({"status": "OK", "data": {}})) == Fetched()


async def test_what_cannot_be_opened_is_said_of_that_value_alone() -> None:
    bad = protocol.Serialized({"serializer": "pickle", "writeable": ()}, [b"no pickle"])
    data = {"x": bad, ("y", 1): protocol.to_serialize(1)}
    fetched = await asked(framed(HANDSHAKE), framed({"status": "OK", "data": data}))
    assert list(fetched.unreadable) == ["x"]
    assert fetched.found["~('y', 1)"].value == 1


def packed(*numbers: int) -> bytes:
    return struct.pack(f"={len(numbers)}Q", *numbers)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ((), "closed in the middle"),
        ((b"GET / HTTP/1.1\r\n\r\n",), "more than"),
        ((framed("hello"),), "no handshake"),
        ((framed({"pickle-protocol": "high"}),), "no handshake"),
        ((framed(HANDSHAKE), framed(17)), "has failed: 17"),
        ((framed(HANDSHAKE), framed({"status": "error", "exception_text": "no"})), "'no'"),
        ((framed(HANDSHAKE), framed({"status": "OK", "data": 5})), "has failed"),
        ((framed(HANDSHAKE), packed(1 << 40)), "more than"),
        ((framed(HANDSHAKE), packed(4) + b"abcd"), "without a number"),
        ((framed(HANDSHAKE), packed(8, 1 << 30)), "without the lengths"),
        ((framed(HANDSHAKE), packed(16, 7, 1)), "without the lengths"),
        ((framed(HANDSHAKE), packed(16, 1, 1 << 50)), "more than"),
        ((framed(HANDSHAKE), packed(17, 1, 8) + b"x"), "partly in the block"),
        ((framed(HANDSHAKE), packed(20, 1, 4) + b"\xc1abc"), "no message of Dask's"),
        ((framed(HANDSHAKE), packed(8, 0)), "no message of Dask's"),
        ((framed(HANDSHAKE), packed(100)), "closed in the middle"),
    ],
    ids=str,
)
async def test_a_peer_that_sends_nonsense_cannot_be_reached(
    said: tuple[bytes, ...], reason: str
) -> None:
    with trio.fail_after(PATIENCE_S):
        error = await asked(*said)
    assert isinstance(error, PeerUnreachable)
    assert reason in str(error)


async def test_a_peer_that_says_nothing_is_not_waited_for() -> None:
    async with peer(hold=True) as address:
        with pytest.raises(PeerUnreachable, match=address):
            async with dial_tcp(address, None, Limits(handshake_s=0.1)):
                pass


@pytest.mark.parametrize(
    "address", ["tcp://127.0.0.1:1", "tcp://127.0.0.1", "tcp://:1", "tcp://a:b", "tls://x:1"]
)
async def test_where_nobody_can_be(address: str) -> None:
    with pytest.raises(PeerUnreachable, match=address):
        async with dial_tcp(address, None, LIMITS):
            pass


async def test_with_tls() -> None:
    authority: Any = trustme.CA()
    ours, theirs = ssl.create_default_context(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.configure_trust(ours)
    authority.issue_cert("127.0.0.1").configure_cert(theirs)

    async def serve(stream: trio.SSLStream[trio.SocketStream]) -> None:
        await stream.send_all(framed(HANDSHAKE) + framed({"status": "busy"}))
        while await stream.receive_some():
            pass

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_ssl_over_tcp, serve, 0, theirs)
        port = listeners[0].transport_listener.socket.getsockname()[1]
        async with dial_tcp(f"tls://127.0.0.1:{port}", ours, LIMITS) as link:
            assert await ask_for_data(link, ["x"], "cws://us") == PeerBusy()
        nursery.cancel_scope.cancel()
