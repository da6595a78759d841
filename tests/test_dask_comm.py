"""Sessions as comms of Dask's, in one process: how a comm ends, and who comes in."""

# pyright: reportUnknownMemberType=false

import asyncio
import gc
import ssl
import threading
from collections.abc import Awaitable, Generator
from pathlib import Path
from typing import Any

import dask.config
import numpy as np
import pytest
import trustme
from dask_comms import CommClosedError, Serialize, ToPickle, comms, core, run
from distributed.comm.utils import OFFLOAD_THRESHOLD

from trouper.wire import dask_comm
from trouper.wire.errors import NotEncodable


class Unpicklable:
    def __reduce__(self) -> Any:
        raise RuntimeError("not me")


def test_200_megabytes_arrive() -> None:
    async def story() -> None:
        sent = np.arange(25_000_000, dtype=np.int64)
        async with comms() as (dialled, listening):
            assert await listening.write({"data": Serialize(sent)}) > sent.nbytes
            arrived = await dialled.read()
            assert np.array_equal(arrived["data"], sent)
            assert arrived["data"].flags.writeable

    run(story)


class Waiting:
    """Awaits something else, and counts how often that had to wait."""

    def __init__(self, awaitable: Awaitable[Any]) -> None:
        self.times = 0
        self._awaitable = awaitable

    def __await__(self) -> Generator[Any, Any, Any]:
        waits = self._awaitable.__await__()
        while True:
            try:
                future = next(waits)
            except StopIteration as done:
                return done.value
            self.times += 1
            yield future


def test_who_reads_is_woken_once_whatever_the_message_comes_in() -> None:
    async def story() -> None:
        async with comms() as (dialled, listening):
            dialled.allow_offload = False
            reading = Waiting(dialled.read())
            sent = bytes(1 << 25)
            await asyncio.gather(reading, listening.write({"data": Serialize(sent)}))
            assert reading.times == 1

    run(story)


def test_large_messages_are_serialised_and_opened_in_a_thread() -> None:
    threads: list[int] = []

    async def story() -> None:
        sent = Tattler(threads, bytes(OFFLOAD_THRESHOLD + 1))
        async with comms() as (dialled, listening):
            await listening.write({"data": Serialize(sent)})
            await dialled.read()
            assert threading.get_ident() not in threads
            del threads[:]
            dialled.allow_offload = False
            await listening.write({"data": Serialize(Tattler(threads, b""))})
            await dialled.read()
            assert set(threads) == {threading.get_ident()}

    run(story)


class Tattler:
    """Says in which threads it was pickled."""

    def __init__(self, threads: list[int], data: bytes) -> None:
        self.threads = threads
        self.data = data

    def __sizeof__(self) -> int:
        return len(self.data)

    def __reduce__(self) -> Any:
        self.threads.append(threading.get_ident())
        return bytes, (self.data,)


def test_what_cannot_be_sent_is_an_error_here_and_leaves_the_comm_as_it_is() -> None:
    async def story() -> None:
        async with comms() as (dialled, listening):
            with pytest.raises(NotEncodable, match="an integer of 65 bits"):
                await dialled.write({"n": 2**64})
            with pytest.raises(NotEncodable, match="not Unicode"):
                await dialled.write(["\ud800"])
            with pytest.raises(TypeError, match="Could not serialize object of type Unpicklable"):
                await dialled.write(Serialize(Unpicklable()), on_error="raise")
            with pytest.raises(RuntimeError, match="not me"):
                await dialled.write(Unpicklable())
            await dialled.write("still there")
            assert await listening.read() == "still there"

    run(story)


def test_what_cannot_be_serialised_is_an_error_there_if_so_wanted() -> None:
    async def story() -> None:
        async with comms() as (dialled, listening):
            await dialled.write([Serialize(Unpicklable())], on_error="message")
            with pytest.raises(TypeError, match="Could not serialize object of type Unpicklable"):
                await listening.read()
            await dialled.write("still there")
            assert await listening.read() == "still there"

    run(story)


def test_serializers_and_deserializers_are_those_that_are_asked_for() -> None:
    async def story() -> None:
        async with comms() as (dialled, listening):
            listening.deserialize = False
            await dialled.write(Serialize("x"), serializers=["msgpack"])
            assert (await listening.read()).header["serializer"] == "msgpack"
            listening.deserialize = True
            await dialled.write(Serialize({1, 2}))
            with pytest.raises(TypeError, match="serialized with pickle but only able to"):
                await listening.read(deserializers=["msgpack"])

    run(story)


def test_compression_that_both_want_is_done_and_undone() -> None:
    async def story() -> None:
        sent = {"a": Serialize(b"x" * 100_000), "b": ToPickle(np.zeros(10_000))}
        async with comms() as (dialled, listening):
            for comm in (dialled, listening):
                comm.handshake_options = {**comm.handshake_options, "compression": "zlib"}
            assert await dialled.write(sent) < 100_000
            arrived = await listening.read()
            assert arrived["a"] == b"x" * 100_000
            assert np.array_equal(arrived["b"], np.zeros(10_000))

    run(story)


def test_reading_and_writing_at_once() -> None:
    async def story() -> None:
        async with comms() as (dialled, listening):
            reading = [asyncio.create_task(comm.read()) for comm in (dialled, listening)]
            await asyncio.sleep(0)
            await asyncio.gather(dialled.write("from me"), listening.write("from you"))
            assert await asyncio.gather(*reading) == ["from you", "from me"]

    run(story)


def test_a_read_that_is_cancelled_loses_nothing() -> None:
    async def story() -> None:
        async with comms() as (dialled, listening):
            reading = asyncio.create_task(listening.read())
            await asyncio.sleep(0)
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
            await dialled.write("here")
            assert await listening.read() == "here"

    run(story)


def test_who_writes_more_than_is_read_waits() -> None:
    async def story() -> None:
        async with comms() as (dialled, listening):
            chunk, written = bytes(1 << 20), 0

            async def write() -> None:
                nonlocal written
                for _ in range(64):
                    await dialled.write(chunk)
                    written += 1

            writing = asyncio.create_task(write())
            for _ in range(3):
                await asyncio.wait([writing], timeout=0.1)
            assert written < 40
            for _ in range(64):
                assert await listening.read() == chunk
            await writing

    run(story)


def test_closing_lets_what_was_written_arrive() -> None:
    async def story() -> None:
        async with comms() as (dialled, listening):
            await dialled.write("last words")
            closing = asyncio.create_task(dialled.close())
            await asyncio.sleep(0.1)
            assert not listening.closed()
            assert await listening.read() == "last words"
            assert listening.closed()
            await closing
            assert dialled.closed()
            with pytest.raises(CommClosedError, match="the comm is closed"):
                await listening.read()
            with pytest.raises(CommClosedError):
                await listening.write("too late")
            for use in (dialled.read, lambda: dialled.write("too late")):
                with pytest.raises(CommClosedError):
                    await use()
            await dialled.close()

    run(story)


def test_abort_is_told_to_whoever_reads() -> None:
    async def story() -> None:
        async with comms() as (dialled, listening):
            reading = asyncio.create_task(listening.read())
            await asyncio.sleep(0)
            dialled.abort()
            dialled.abort()
            assert dialled.closed()
            with pytest.raises(CommClosedError, match="the comm is aborted"):
                await reading
            assert listening.closed()

    run(story)


def test_abort_wakes_who_reads_and_writes_here() -> None:
    async def story() -> None:
        async with comms() as (dialled, _):

            async def write() -> None:
                while True:  # there is nobody who reads
                    await dialled.write(bytes(1 << 20))

            reading, writing = Waiting(dialled.read()), Waiting(write())
            both = asyncio.gather(reading, writing, return_exceptions=True)
            while not (reading.times and writing.times):  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0)
            dialled.abort()
            assert [*map(type, await both)] == [CommClosedError, CommClosedError]

    run(story)


def test_a_comm_that_is_forgotten_is_let_go_of(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        async with comms() as (_, listening):
            dialled = await core.connect(listening.local_address)
            del dialled
            gc.collect()
            await asyncio.sleep(0.1)

    run(story)
    assert "was neither closed nor aborted" in caplog.text


def test_addresses_are_those_of_both_sides() -> None:
    async def story() -> None:
        async with comms() as (dialled, listening):
            assert dialled.peer_address == listening.local_address
            assert dialled.local_address == listening.peer_address
            assert dialled.same_host
            assert listening.same_host
            assert dialled.peer_address.startswith("cws://127.0.0.1:")

    run(story)


def test_nobody_listens() -> None:
    async def story() -> None:
        with pytest.raises(OSError, match="Timed out trying to connect to cws"):
            await core.connect("cws://127.0.0.1:1", timeout=0.2)

    run(story)


def test_another_scheme_is_told_from_ours() -> None:
    async def handle(comm: Any) -> None:
        raise AssertionError("nothing of this comes to a handler")

    async def story() -> None:
        async with core.listen("cws://127.0.0.1:0", handle) as listener:
            _, _, place = listener.contact_address.rpartition("/")
            reader, writer = await asyncio.open_connection(*place.split(":"))
            writer.write(b"GET / HTTP/1.1\r\nHost: me\r\n\r\n")
            assert (await reader.readline()).startswith(b"HTTP/1.1 400")
            writer.close()
            await writer.wait_closed()

    run(story)


# who comes in


def token_file(directory: Path, token: str) -> str:
    path = directory / f"token of {token}"
    path.write_text(token + "\n")
    return str(path)


def test_the_right_token_lets_in_and_another_is_refused_for_good(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dask_comm, "_REFUSED_S", 0.0)

    async def story() -> None:
        with dask.config.set({"trouper.token-file": token_file(tmp_path, "sesame")}):
            listener = await core.listen("cws://127.0.0.1:0", hold)
            comm = await core.connect(listener.contact_address)
            await comm.close()
        for configuration, said in (
            ({"trouper.token-file": token_file(tmp_path, "mellon")}, "the wrong token was given"),
            ({}, "no token was given"),
        ):
            with (
                dask.config.set(configuration),
                pytest.raises(core.FatalCommClosedError, match=said),
            ):
                await core.connect(listener.contact_address)
            assert f"was refused: {said} (unauthorized)" in caplog.text
            assert f"the session was refused (unauthorized): {said}" in caplog.text
        listener.stop()

    run(story)


async def hold(comm: Any) -> None:
    """Until the other side ends it."""
    with pytest.raises(CommClosedError):
        await comm.read()


def test_the_token_may_be_named_in_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dask_comm, "_REFUSED_S", 0.0)
    monkeypatch.setenv("TROUPER_TOKEN_FILE", token_file(tmp_path, "sesame"))

    async def story() -> None:
        async with comms() as (dialled, _):
            monkeypatch.delenv("TROUPER_TOKEN_FILE")
            with pytest.raises(core.FatalCommClosedError, match="no token was given"):
                await core.connect(dialled.peer_address)

    run(story)


@pytest.mark.parametrize("content", ["", "x" * 257])
def test_a_file_without_a_token_is_an_error(tmp_path: Path, content: str) -> None:
    async def story() -> None:
        with (
            dask.config.set({"trouper.token-file": token_file(tmp_path, content[:9])}),
            pytest.raises(ValueError, match="has to contain a token of 1 to 256 characters"),
        ):
            (tmp_path / f"token of {content[:9]}").write_text(content)
            await core.listen("cws://127.0.0.1:0", hold)

    run(story)


# TLS


def certificates(authority: trustme.CA) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """For who listens and for who dials, as Dask's `Security` makes them."""
    shown = authority.issue_cert("127.0.0.1")
    contexts: list[ssl.SSLContext] = []
    for purpose in (ssl.Purpose.CLIENT_AUTH, ssl.Purpose.SERVER_AUTH):
        context = ssl.create_default_context(purpose)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED
        authority.configure_trust(context)
        shown.configure_cert(context)
        contexts.append(context)
    return contexts[0], contexts[1]


def test_a_comm_over_tls() -> None:
    listening_tls, dialling_tls = certificates(trustme.CA())

    async def echo(comm: Any) -> None:
        await comm.write(await comm.read())
        await hold(comm)

    async def story() -> None:
        listener = await core.listen("cwss://127.0.0.1:0", echo, ssl_context=listening_tls)
        assert listener.contact_address.startswith("cwss://127.0.0.1:")
        comm = await core.connect(
            listener.contact_address, ssl_context=dialling_tls, require_encryption=True
        )
        await comm.write({"data": Serialize(np.ones(1_000_000))})
        assert np.array_equal((await comm.read())["data"], np.ones(1_000_000))
        assert comm.extra_info["peercert"]
        await comm.close()
        listener.stop()

    run(story)


def test_a_certificate_of_somebody_else_is_refused_for_good() -> None:
    listening_tls, _ = certificates(trustme.CA())
    _, dialling_tls = certificates(trustme.CA())

    async def story() -> None:
        async with core.listen("cwss://127.0.0.1:0", hold, ssl_context=listening_tls) as listener:
            with pytest.raises(core.FatalCommClosedError, match="certificate verify failed"):
                await core.connect(listener.contact_address, ssl_context=dialling_tls)

    run(story)


def test_encryption_that_is_required_or_lacks_certificates_is_refused() -> None:
    async def story() -> None:
        with pytest.raises(RuntimeError, match="requires encryption"):
            await core.listen("cws://127.0.0.1:0", hold, require_encryption=True)
        with pytest.raises(RuntimeError, match="requires encryption"):
            await core.connect("cws://127.0.0.1:1", require_encryption=True)
        with pytest.raises(TypeError, match="needs certificates"):
            await core.listen("cwss://127.0.0.1:0", hold)
        with pytest.raises(TypeError, match="needs certificates"):
            await core.connect("cwss://127.0.0.1:1")

    run(story)
