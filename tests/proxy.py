"""A TCP proxy that does what networks do: it cuts connections, refuses new ones, and falls silent.

It runs in a thread with a loop of its own, so that tests of any kind can use it.
"""

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress

_RESET = struct.pack("ii", 1, 0)
"""Linger for no time: what is closed is reset."""


class Proxy:
    """Stands between who dials and a listener on this machine. For use by other threads."""

    def __init__(self, target_port: int, loop: asyncio.AbstractEventLoop) -> None:
        self.port = 0
        """Where to dial."""
        self.refusing = False
        """Whether new connections are reset at once."""
        self.accepted = 0
        """How many connections have come."""
        self._target_port = target_port
        self._loop = loop
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._flows = asyncio.Event()

    def cut(self, *, refuse: bool = False) -> int:
        """Reset all connections; how many there were. Maybe refuse new ones from now on."""

        def cut() -> int:
            self.refusing = refuse
            ends = len(self._writers)
            for writer in self._writers:
                _reset(writer)
            return ends // 2

        return self._call(cut)

    def silence(self, *, silent: bool) -> None:
        """Pass on nothing in either direction, or go on; what comes is kept."""
        self._call(self._flows.clear if silent else self._flows.set)

    def _call(self, function: Callable[[], object]) -> int:
        async def call() -> int:
            result = function()
            return result if isinstance(result, int) else 0

        return asyncio.run_coroutine_threadsafe(call(), self._loop).result(timeout=10)

    async def serve(self, ready: threading.Event, stop: asyncio.Event) -> None:
        """Until told to stop."""
        self._flows.set()
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        await stop.wait()
        self.refusing = True
        self._loop.remove_reader(server.sockets[0].fileno())
        for writer in list(self._writers):
            _reset(writer)
        for task in self._tasks:
            task.cancel()
        async with asyncio.timeout(5):
            # The server's too: CPython 3.11 loses a connection that comes while its server closes.
            while others := asyncio.all_tasks() - {asyncio.current_task()}:
                await asyncio.wait(others)
        server.close()
        await asyncio.sleep(0)  # what was reset is closed

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        if self.refusing:
            _reset(writer)
            return
        beyond = await asyncio.open_connection("127.0.0.1", self._target_port)
        if self.refusing:
            _reset(writer)
            _reset(beyond[1])
            return
        self._writers |= {writer, beyond[1]}
        for source, sink in ((reader, beyond[1]), (beyond[0], writer)):
            task = asyncio.create_task(self._pump(source, sink))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(1 << 16):
                await self._flows.wait()
                sink.write(data)
                await sink.drain()
            sink.close()
            await sink.wait_closed()
        except OSError:
            _reset(sink)
        finally:
            self._writers.discard(sink)


def _reset(writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()


@contextmanager
def proxy(target_port: int) -> Generator[Proxy]:
    """A proxy for the length of a ``with`` block."""
    loop = asyncio.new_event_loop()
    ready, stop = threading.Event(), asyncio.Event()
    one = Proxy(target_port, loop)

    def run() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(one.serve(ready, stop))

    thread = threading.Thread(target=run, name="proxy", daemon=True)
    thread.start()
    try:
        assert ready.wait(10)
        yield one
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        assert not thread.is_alive()
