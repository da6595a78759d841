"""What a node answers to the requests of schedulers, clients and other workers.

One method for each request that is answered, under Dask's name for it, with Dask's arguments and
in Dask's words. What is not here is refused by name (`trouper.actors.rpc`).
"""

import inspect
import pickle
import sys
from collections import ChainMap
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, cast

import msgspec
import trio
from distributed import profile
from distributed.versions import get_versions

from trouper.actors.dask_actors import Actors, HeldActor
from trouper.actors.dask_plugins import PluginRequests, Plugins
from trouper.actors.dask_values import FAMILIES, dump, error_message, opened
from trouper.actors.errors import NotSupported
from trouper.actors.fetched import Found
from trouper.actors.logtail import LogTail
from trouper.actors.rpc import Handler, Request
from trouper.actors.sizeof import sizeof
from trouper.runtime.cluster.node import ExitCode, Node
from trouper.runtime.cluster.registration import Facts
from trouper.wire.dask_message import Serialized
from trouper.wire.keys import decode_key, encode_key
from trouper.wire.vocabulary import Key

SERVED = 50
"""So many requests for data are answered at once; others are told to come back."""

SERVED_WHILE_PAUSED = 1

SMALL = frozenset({int, float, bool, str, bytes, type(None)})
SMALL_NBYTES = 1 << 16
"""Such values are serialised at once: a hop into a thread takes longer."""

NOT_SUPPORTED = {
    "profile": "the statistical profiler",
    "profile_metadata": "the statistical profiler",
    "benchmark_disk": "benchmarks of its hardware",
    "benchmark_memory": "benchmarks of its hardware",
    "benchmark_network": "benchmarks of its hardware",
}
"""What a stock worker has and a node has not."""


class Handlers:
    """See the module's text."""

    def __init__(
        self, node: Node, log: LogTail, facts: Facts, plugins: Plugins, actors: Actors
    ) -> None:
        self._node = node
        self._log = log
        self._facts = facts
        self._plugins = plugins
        self._actors = actors

    def table(self) -> Mapping[str, Handler]:
        """The handlers by request, those of plugins last."""
        return ChainMap(self._own(), cast("Any", PluginRequests(self._node.site.worker)))

    def _own(self) -> dict[str, Handler]:
        refusals: dict[str, Handler] = {
            op: partial(_refuse, what) for op, what in NOT_SUPPORTED.items()
        }
        return refusals | {
            "get_data": self.get_data,
            "update_data": self.update_data,
            "gather": self.gather,
            "free_keys": self.free_keys,
            "run": self.run,
            "run_coroutine": self.run,
            "actor_execute": self.actor_execute,
            "actor_attribute": self.actor_attribute,
            "plugin-add": self.add_plugin,
            "plugin-remove": self.remove_plugin,
            "upload_file": self.upload_file,
            "terminate": self.terminate,
            "identity": self.identity,
            "ping": self.ping,
            "echo": self.echo,
            "keys": self.keys,
            "versions": self.versions,
            "get_logs": self.get_logs,
            "call_stack": self.call_stack,
            "get_story": self.get_story,
            "dump_state": self.dump_state,
        }

    # Data

    async def get_data(self, request: Request, keys: Iterable[Any], who: str | None = None) -> Any:
        """Values, as far as they are here."""
        node = self._node
        if node.serving >= (SERVED_WHILE_PAUSED if node.status == "paused" else SERVED):
            return {"status": "busy"}
        node.serving += 1
        node.served_total += 1
        try:
            here: dict[Any, object] = {}
            for key in keys:
                found = node.supervisor.value_of(encode_key(key))
                if found is not None:
                    here[key] = found.value
            return {"status": "OK", "data": await _dump_all(here, request)}
        finally:
            node.serving -= 1

    async def update_data(
        self, request: Request, data: Mapping[Any, Any], stimulus_id: str = "", **_: Any
    ) -> Any:
        """Keep values that a client or the scheduler brings."""
        nbytes = await self._node.put(await trio.to_thread.run_sync(_load_all, data))
        return {
            "status": "OK",
            "nbytes": {decode_key(key): size for key, size in nbytes.items()},
        }

    async def gather(self, request: Request, who_has: Mapping[Any, Iterable[str]]) -> Any:
        """Fetch copies from other workers, now."""
        checked = msgspec.convert(who_has, dict[Any, tuple[str, ...]])  # the machine trusts us
        wanted = {encode_key(key): holders for key, holders in checked.items()}
        failed = await self._node.acquire(wanted)
        if not failed:
            return {"status": "OK"}
        return {"status": "partial-fail", "keys": list(map(decode_key, failed))}

    async def free_keys(self, request: Request, keys: Iterable[Any], stimulus_id: str = "") -> None:
        """Let copies go."""
        self._node.remove(map(encode_key, keys))

    # Users' code

    async def actor_execute(
        self,
        request: Request,
        actor: Any,
        function: str,
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call a method of an actor."""
        return await self._actors.call(self._actor(actor), function, tuple(args), kwargs or {})

    async def actor_attribute(self, request: Request, actor: Any, attribute: str) -> Any:
        """Look at an attribute of an actor."""
        return await self._actors.look_up(self._actor(actor), attribute)

    def _actor(self, key: Any) -> HeldActor:
        found = self._node.supervisor.value_of(encode_key(key))
        if found is None or not isinstance(found.value, HeldActor):
            raise LookupError(f"there is no actor {key!r} on this node")
        return found.value

    async def run(
        self,
        request: Request,
        function: Any,
        args: Any = (),
        kwargs: Any = None,
        wait: bool = True,
    ) -> Any:
        """Run a function that is no task, in a thread; a coroutine beside those of tasks."""
        if not wait:
            raise NotSupported("a trouper node does not run a function that nobody waits for")
        families = request.families or FAMILIES

        def run() -> Mapping[str, object]:
            result = self._call(function, args, kwargs)
            return {"result": dump(result, families, request.pickle_protocol)}

        return await _in_thread(run)

    def _call(self, function: Any, args: Any, kwargs: Any) -> object:
        called = cast("Callable[..., object]", _unpickled(function))
        named = dict(cast("Mapping[str, object]", _unpickled(kwargs) or {}))
        if _takes(called, "dask_worker"):
            named["dask_worker"] = self._node.site.worker
        result = called(*cast("tuple[object, ...]", _unpickled(args) or ()), **named)
        return self._node.site.worker.run_on_loop(result) if inspect.iscoroutine(result) else result

    async def add_plugin(
        self, request: Request, plugin: bytes, name: str | None = None, **_: Any
    ) -> Any:
        """Begin with a plugin."""
        return await _in_thread(partial(self._plugins.add, plugin, name))

    async def remove_plugin(self, request: Request, name: str) -> Any:
        """End a plugin."""
        return await _in_thread(partial(self._plugins.remove, name))

    async def upload_file(
        self, request: Request, filename: str, data: bytes | str, load: bool = True
    ) -> Any:
        """Keep a file, and import it if it can be."""
        worker = self._node.site.worker
        return await _in_thread(
            lambda: worker.run_on_loop(worker.upload_file(filename, data, load))
        )

    # The node itself

    async def terminate(self, request: Request, reason: str = "", **_: Any) -> str:
        """End the node."""
        self._node.end(ExitCode.CLOSED, reason or "it was asked to terminate")
        return "OK"

    async def identity(self, request: Request) -> Any:
        """Who this is."""
        return {
            "type": "Worker",
            "id": self._node.address,
            "scheduler": self._node.site.worker.scheduler.address,
            "nthreads": self._facts.nthreads,
            "memory_limit": self._facts.memory_limit,
        }

    async def ping(self, request: Request) -> bytes:
        """Whether anybody is there."""
        return b"pong"

    async def echo(self, request: Request, data: Any = None) -> Any:
        """The same again."""
        return {"status": "OK", "data": data}

    async def keys(self, request: Request) -> Any:
        """What is in memory."""
        return self._node.keys()

    async def versions(self, request: Request, packages: Any = None) -> Any:
        """Of Python and of the packages that matter."""
        return await trio.to_thread.run_sync(get_versions, packages)

    async def get_logs(self, request: Request, n: int | None = None) -> Any:
        """The last lines of the log."""
        return self._log.last(n)

    async def call_stack(self, request: Request, keys: Iterable[Any] | None = None) -> Any:
        """Where the tasks stand that run now."""
        wanted = None if keys is None else set(map(encode_key, keys))
        frames = sys._current_frames()  # pyright: ignore[reportPrivateUsage]
        return {
            decode_key(run.key): tuple(profile.call_stack(frames[run.thread]))
            for run in list(self._node.site.running.values())
            if run.thread in frames and (wanted is None or run.key in wanted)
        }

    async def get_story(self, request: Request, keys_or_stimuli: Iterable[Any]) -> Any:
        """What the machine knows of these keys. All that happened to them stands in the journal."""
        return [
            (decode_key(key), task.phase, f"attempt {task.entry}", self._node.now())
            for key in map(encode_key, keys_or_stimuli)
            if (task := self._node.supervisor.machine.ledger.tasks.get(key)) is not None
        ]

    async def dump_state(self, request: Request, exclude: Any = ()) -> Any:
        """The machine as plain data, and the log."""
        return {
            **await self.identity(request),
            "address": self._node.address,
            "status": self._node.status,
            "logs": self._log.last(),
            "machine": self._node.supervisor.machine.snapshot(),
        }


async def _refuse(what: str, request: Request, **_: Any) -> object:
    raise NotSupported(f"a trouper node does not support {what} (request {request.op!r})")


async def _in_thread(work: Callable[[], Mapping[str, object] | None]) -> Any:
    """What comes of users' code, which may well raise `SystemExit`."""

    def attempt() -> dict[str, object]:
        try:
            return {"status": "OK", **(work() or {})}
        except BaseException as error:  # noqa: BLE001 - the one who asked gets it
            return error_message(error)

    return await trio.to_thread.run_sync(attempt, abandon_on_cancel=True)


async def _dump_all(values: Mapping[Any, object], request: Request) -> dict[Any, Serialized]:
    """Values, serialised: small ones here, others in a thread."""
    families = request.families or FAMILIES
    small = all(type(value) in SMALL and sizeof(value) <= SMALL_NBYTES for value in values.values())

    def dump_all() -> dict[Any, Serialized]:
        protocol = request.pickle_protocol
        return {key: dump(value, families, protocol) for key, value in values.items()}

    return dump_all() if small else await trio.to_thread.run_sync(dump_all)


def _load_all(data: Mapping[Any, object]) -> dict[Key, Found]:
    found: dict[Key, Found] = {}
    for key, sent in data.items():
        value = opened(sent)
        found[encode_key(key)] = Found(value, sizeof(value), type(value).__qualname__)
    return found


def _unpickled(pickled: object) -> object:
    """An argument of `run`, which is pickled unless it is empty."""
    if isinstance(pickled, (bytes, bytearray, memoryview)):
        return pickle.loads(cast("bytes", pickled))
    return pickled


def _takes(function: Callable[..., object], name: str) -> bool:
    try:
        return name in inspect.signature(function).parameters
    except (TypeError, ValueError):  # written in C
        return False
