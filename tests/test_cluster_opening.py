"""Opening a node, and all that can be wrong with that."""

import threading
from pathlib import Path
from typing import Any

import pytest
import trio
from fake_scheduler import LIMITS, US, FakeScheduler, comm_with, compute, fake_scheduler, node_of
from gates import PATIENCE_S, worker_threads

from trouper.runtime.cluster.opening import open_node
from trouper.runtime.errors import NodeRefused
from trouper.wire.connect import connect
from trouper.wire.connection import Connection
from trouper.wire.errors import CannotConnect, SessionRefused
from trouper.wire.listener import open_listener


async def opened(scheduler: str, **options: Any) -> None:
    """Open a node, and leave it at once."""
    with trio.fail_after(PATIENCE_S):
        given: dict[str, Any] = {"threads": 1, "limits": LIMITS, **options}
        async with open_node(scheduler, **given):
            pass


@pytest.mark.parametrize(
    ("scheduler", "options", "reason"),
    [
        ("tcp://127.0.0.1:1", {}, "is no address"),
        ("127.0.0.1", {}, "is no address"),
        ("cws://127.0.0.1", {}, "no host or no port"),
        ("cws://127.0.0.1:1", {"threads": 0}, "at least one thread"),
        ("cws://127.0.0.1:1", {"listen": "tcp://:0"}, "is no address"),
        ("cws://127.0.0.1:1", {"listen": "cwss://127.0.0.1"}, "takes a certificate"),
        ("cws://127.0.0.1:1", {"contact_address": "here"}, "is no address"),
        ("cws://127.0.0.1:1", {"journal": "x", "journal_max_bytes": 5}, "at least 65536"),
    ],
)
async def test_what_makes_no_sense(scheduler: str, options: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        await opened(scheduler, **options)
    assert not worker_threads()


async def test_nobody_is_there() -> None:
    with pytest.raises(CannotConnect):
        await opened("cws://127.0.0.1:1", connect_timeout_s=0.3)
    assert not worker_threads()


async def test_who_comes_later_is_waited_for() -> None:
    async with open_listener(US, FakeScheduler().serve, token=None) as listener:
        port = listener.port
    with pytest.raises(CannotConnect):
        await opened(f"cws://127.0.0.1:{port}", connect_timeout_s=0.1)
    scheduler = FakeScheduler()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(opened, f"cws://127.0.0.1:{port}")
        await trio.sleep(0.2)
        async with open_listener(US, scheduler.serve, token=None, port=port) as listener:
            await scheduler.wait_for_node()
            await listener.end_sessions(failed=True)


async def test_a_token_that_is_wrong() -> None:
    async with open_listener(US, FakeScheduler().serve, token="secret") as listener:
        with pytest.raises(SessionRefused, match="unauthorized"):
            await opened(f"cws://127.0.0.1:{listener.port}", token="other")


async def test_who_is_no_scheduler() -> None:
    async def greet(connection: Connection) -> None:
        await connection.send(b"\x01", ())
        await connection.receive()

    async with open_listener(US, greet, token=None) as listener:
        with pytest.raises(NodeRefused, match="no scheduler of Dask's"):
            await opened(f"cws://127.0.0.1:{listener.port}")


async def test_somebody_else_listens_there() -> None:
    async with fake_scheduler() as scheduler:
        with pytest.raises(OSError, match="in use"):
            await opened(scheduler.address, listen=scheduler.address)


async def test_addresses_and_directories(tmp_path: Path) -> None:
    async with fake_scheduler() as scheduler:
        async with node_of(scheduler) as node:
            assert node.address.startswith("cws://127.0.0.1:")
            directory = Path(scheduler.registered["local_directory"])
            assert directory.is_dir()  # noqa: ASYNC240 - it takes no time
        assert not directory.exists()  # noqa: ASYNC240
        options = {"contact_address": "cws://elsewhere:5", "local_directory": tmp_path}
        async with node_of(scheduler, listen="cws://0.0.0.0:0", **options) as node:
            assert scheduler.registered["address"] == "cws://elsewhere:5"
            assert scheduler.registered["local_directory"] == str(tmp_path)
        assert tmp_path.exists()  # noqa: ASYNC240


async def test_without_a_name_it_goes_by_its_address() -> None:
    async with fake_scheduler() as scheduler, node_of(scheduler, name=None) as node:
        assert node.name == node.address == scheduler.registered["name"]


async def test_an_error_of_its_owner_passes_as_it_is() -> None:
    async with fake_scheduler() as scheduler:
        with pytest.raises(KeyError, match="mine"):
            async with node_of(scheduler):
                raise KeyError("mine")
        await scheduler.hear("close-stream")
    assert not worker_threads()


async def test_strangers_at_its_door_do_not_hurt(caplog: pytest.LogCaptureFixture) -> None:
    async with fake_scheduler() as scheduler, node_of(scheduler) as node:
        port = int(node.address.rpartition(":")[2])
        for noise in (b"", b"\0" * 100, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01"):
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            await stream.send_all(noise)
            await stream.aclose()
        async with connect(f"ws://127.0.0.1:{port}", US) as connection:
            await connection.send(b"\xff\xff", ())
            await connection.wait_ended()
        async with comm_with(node) as link:
            assert await link.call("ping") == b"pong"
        assert node.ending is None
    assert "refused" in caplog.text or "closed" in caplog.text


async def test_a_function_that_hangs_is_left_behind_after_a_while(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("trouper.runtime.cluster.opening.CLOSING_S", 0.2)
    async with fake_scheduler() as scheduler, node_of(scheduler) as node:
        await scheduler.say(compute("hangs", HANGS.wait))
        while not node.site.running:  # noqa: ASYNC110 - nobody would set an event
            await trio.sleep(0.01)
    assert "leaves 1 task(s): ['hangs']" in caplog.text
    HANGS.set()


class Hangs:
    def __init__(self) -> None:
        self._go = threading.Event()

    def set(self) -> None:
        self._go.set()

    def wait(self) -> None:
        self._go.wait(PATIENCE_S)

    def __reduce__(self) -> Any:
        return the_one, ()


HANGS = Hangs()


def the_one() -> Hangs:
    return HANGS
