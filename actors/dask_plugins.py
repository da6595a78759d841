"""Worker plugins of Dask's: what every worker of a cluster is to do when it begins, and at its end.

All that is called here is users' code. It runs in threads, where it may take its time, and as
coroutines on the asyncio side; what it raises is for whoever has asked for the plugin. A stock
worker also tells plugins of each step of each task. The machine takes other steps, so a plugin that
wants to know them is refused.
"""

# pyright: reportUnknownMemberType=false

import inspect
import logging
import pickle
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import partial
from typing import Any, cast

import trio
from distributed import WorkerPlugin
from distributed.diagnostics.plugin import (
    _get_plugin_name as name_of,  # pyright: ignore[reportPrivateUsage]
)
from distributed.protocol.serialize import Serialize

from trouper.actors.dask_values import dump, opened
from trouper.actors.dask_worker import DaskWorker
from trouper.actors.errors import NotSupported
from trouper.actors.rpc import Handler, Request
from trouper.actors.serial import result_of

logger = logging.getLogger(__name__)


class Plugins:
    """The plugins of one node; `DaskWorker.plugins` has them by name. All methods block."""

    def __init__(self, worker: DaskWorker) -> None:
        self._worker = worker
        self._lock = threading.Lock()
        """One after the other, so that who replaces a plugin finds none that half runs."""

    def add(self, pickled: bytes, name: str | None = None) -> None:
        """Begin with a plugin, in place of one of the same name. Raises whatever it does.

        As on a stock worker, one whose setup fails is there all the same.

        Raises:
            NotSupported: It wants to be told of transitions.
            TypeError: It is none.
        """
        plugin: object = pickle.loads(pickled)
        if not isinstance(plugin, WorkerPlugin):
            raise TypeError(f"a {type(plugin).__qualname__} is no WorkerPlugin")
        name = name or str(name_of(plugin))
        if type(plugin).transition is not WorkerPlugin.transition:
            raise NotSupported(
                f"plugin {name!r} has a method `transition`, and a trouper node goes through other "
                "transitions than a stock worker; its journal (--journal) has them"
            )
        with self._lock:
            if name in self._worker.plugins:
                self._end(name)
            self._worker.plugins[name] = plugin
            self._wait(plugin.setup(worker=cast("Any", self._worker)))
        logger.info("plugin %s runs", name)

    def add_all(self, pickles: Mapping[str, bytes]) -> None:
        """Begin with what every worker is to have, by name.

        As on a stock worker, one that fails is logged, and does not keep the node from working.
        """
        for name, pickled in pickles.items():
            try:
                self.add(pickled, name)
            except BaseException:
                logger.exception("plugin %s, which every worker is to have, fails here", name)

    def remove(self, name: str) -> None:
        """End a plugin. Raises whatever it does.

        Raises:
            KeyError: There is none of this name.
        """
        with self._lock:
            self._end(name)
        logger.info("plugin %s has ended", name)

    def close(self) -> None:
        """End all of them, whatever they raise."""
        with self._lock:
            for name in list(self._worker.plugins):
                try:
                    self._end(name)
                except BaseException:
                    logger.exception("plugin %s does not end in order", name)

    def _end(self, name: str) -> None:
        plugin = self._worker.plugins.pop(name)
        self._wait(plugin.teardown(worker=cast("Any", self._worker)))

    def _wait(self, result: Awaitable[None] | None) -> None:
        if inspect.isawaitable(result):
            self._worker.run_on_loop(_awaited(result))


class PluginRequests(Mapping[str, Handler]):
    """The requests that plugins of a node answer, as they are whenever one comes."""

    def __init__(self, worker: DaskWorker) -> None:
        self._worker = worker

    def __getitem__(self, op: str) -> Handler:
        return partial(self._answer, self._worker.handlers[op])

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._worker.handlers))

    def __len__(self) -> int:
        return len(self._worker.handlers)

    async def _answer(
        self, handler: Callable[..., object], request: Request, **arguments: object
    ) -> object:
        named = await trio.to_thread.run_sync(_all_opened, arguments, abandon_on_cancel=True)
        reply = await result_of(self._worker.submit_to_loop(_called(handler, named)))
        if isinstance(reply, dict):
            said = cast("dict[str, object]", reply)
            return {name: _sendable(value) for name, value in said.items()}
        return reply


def _all_opened(arguments: dict[str, object]) -> dict[str, object]:
    return {name: opened(value) for name, value in arguments.items()}


async def _called(handler: Callable[..., object], named: dict[str, object]) -> object:
    try:
        reply = handler(**named)
        return await cast("Awaitable[object]", reply) if inspect.isawaitable(reply) else reply
    except Exception:
        raise
    except BaseException as error:
        raise RuntimeError(f"a plugin has raised {type(error).__qualname__}") from error


def _sendable(value: object) -> object:
    return dump(cast("Any", value).data) if isinstance(value, Serialize) else value


async def _awaited(result: Awaitable[None]) -> None:
    await result
