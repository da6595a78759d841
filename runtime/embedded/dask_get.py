"""Graphs of Dask's on a worker: what `WorkerExecutor.get` does. Imported only by it.

Each node of the graph becomes a task of the worker, with its edges, so the worker and not a loop
in the calling thread decides what runs. Nodes that are plain data become values in the calls of
those that depend on them. All tasks are submitted at once, in the order of `dask.order`: it goes
into the depth, so that few results are in memory at a time, and the worker starts tasks of the
same priority in the order of their submission. (Ordering costs about 15 us a node, as much as
running one that does nothing.) Nobody keeps a handle of an intermediate task that has ended, so
its result is dropped as soon as its dependents have run.

Dask's callbacks (a progress bar, the profilers) are called in the thread that waits, as Dask does,
and find the state that they expect. Without them none of that is done.
"""

# Dask says hardly anything about its types.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

import itertools
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import copy_context
from functools import partial
from queue import SimpleQueue
from typing import Any, TypeAlias

from dask._task_spec import DataNode, GraphNode, convert_legacy_graph
from dask.callbacks import local_callbacks
from dask.core import flatten
from dask.local import finish_task, nested_get, start_state_from_dask
from dask.order import order
from dask.utils import key_split

from trouper.runtime.embedded.background import PRIORITY_PER_LEVEL, Background, nesting
from trouper.runtime.embedded.failure import Failure
from trouper.runtime.embedded.handle import Record, TaskHandle
from trouper.runtime.errors import GraphError

DaskKey: TypeAlias = Any
"""Text, a number, bytes or a tuple of such."""

Graph: TypeAlias = dict[DaskKey, Any]
"""Of Dask's `GraphNode`s."""

SHOWN = 20
"""Of a longer cycle, so many keys are named."""

_numbers = itertools.count(1)
_NO_MORE = object()


def compute(background: Background, dsk: Any, keys: Any, *, callbacks: Any = None) -> Any:
    """Compute keys of a graph; see `WorkerExecutor.get`."""
    wanted = list(dict.fromkeys(flatten(keys))) if isinstance(keys, list) else [keys]
    graph = _cull(_convert(dsk), wanted)
    with local_callbacks(callbacks) as active:
        if not active:
            return nested_get(keys, _Run(background, graph, wanted, order(graph), None).wait())
        observer = _Observer(active, wanted)
        values = None
        try:
            graph, rank = observer.start(graph)
            values = _Run(background, graph, wanted, rank, observer).wait()
        finally:
            observer.finish(failed=values is None)
    return nested_get(keys, values)


def _convert(dsk: Any) -> Graph:
    """The graph in Dask's present form."""
    if not isinstance(dsk, Mapping):
        dsk = dsk.__dask_graph__()
    graph: Graph = convert_legacy_graph(dsk)
    for key in dsk:
        if key not in graph:  # Dask leaves out a key that stands for itself
            raise GraphError(f"the graph has a cycle: {key!r} -> {key!r}")
    return graph


def _cull(graph: Graph, wanted: Iterable[DaskKey]) -> Graph:
    """What of a graph is needed for some keys.

    Raises:
        GraphError: There is a cycle, or a key is nowhere defined.
    """
    needed: Graph = {}
    # From a wanted key down: each key with those of its inputs that have not been looked at.
    path: list[tuple[DaskKey, Iterator[DaskKey]]] = [(None, iter(wanted))]
    on_path: set[DaskKey] = set()
    while path:
        user, inputs = path[-1]
        key = next(inputs, _NO_MORE)
        if key is _NO_MORE:
            path.pop()
            if path:
                on_path.remove(user)
                needed[user] = graph[user]
        elif key in on_path:
            raise GraphError(f"the graph has a cycle: {_cycle([name for name, _ in path], key)}")
        elif key not in graph:
            of = f", an input of {user!r}," if on_path else ""
            raise GraphError(f"the key {key!r}{of} is not in the graph")
        elif key not in needed:
            on_path.add(key)
            path.append((key, iter(graph[key].dependencies)))
    return needed


def _cycle(path: list[DaskKey], key: DaskKey) -> str:
    """``'a' -> 'b' -> 'a'``: each is an input of the next one."""
    names = [repr(name) for name in (key, *reversed(path[path.index(key, 1) :]))]
    if len(names) > SHOWN:
        names[SHOWN - 1 : -1] = [f"... ({len(names) - SHOWN} more) ..."]
    return " -> ".join(names)


class _Observer:
    """Dask's callbacks, and the state that they look at. Lives in the thread that waits."""

    def __init__(self, callbacks: Iterable[Any], wanted: list[DaskKey]) -> None:
        self._callbacks = list(callbacks)
        self._started: list[Any] = []
        self._wanted = wanted
        self._graph: Graph = {}
        self._rank: dict[DaskKey, int] = {}
        self._state: dict[str, Any] = {}

    def start(self, graph: Graph) -> tuple[Graph, dict[DaskKey, int]]:
        """The graph as the callbacks leave it, for a cache may put results in; and its order."""
        for callback in self._callbacks:
            if callback[0]:
                callback[0](graph)
            self._started.append(callback)
        self._graph = graph = _cull(_convert(graph), self._wanted)
        self._rank = rank = order(graph)
        self._state = start_state_from_dask(graph, cache={}, sortkey=rank.get, keys=self._wanted)
        for callback in self._callbacks:
            if callback[1]:
                callback[1](graph, self._state)
        return graph, rank

    def on_begin(self, key: DaskKey) -> None:
        """A task runs."""
        ready = self._state["ready"]  # the next ones stand at its end
        place = next(place for place in reversed(range(len(ready))) if ready[place] == key)
        del ready[place]
        self._state["running"].add(key)
        for callback in self._callbacks:
            if callback[2]:
                callback[2](key, self._graph, self._state)

    def on_end(self, key: DaskKey, value: Any, thread: int) -> None:
        """A task has returned."""
        self._state["cache"][key] = value
        finish_task(self._graph, key, self._state, set(self._wanted), self._rank.get)
        for callback in self._callbacks:
            if callback[3]:
                callback[3](key, value, self._graph, self._state, thread)

    def finish(self, failed: bool) -> None:
        """It is over."""
        for callback in self._started:
            if callback[4]:
                callback[4](self._graph, self._state, failed)


class _Run:
    """A graph that is being run.

    Args:
        background: Where.
        graph: All of it is needed.
        wanted: The keys whose values are asked for.
        rank: The order in which to run, by key; inputs come first.
        observer: Of what happens, if somebody is interested.
    """

    def __init__(
        self,
        background: Background,
        graph: Graph,
        wanted: list[DaskKey],
        rank: dict[DaskKey, int],
        observer: _Observer | None,
    ) -> None:
        self._background = background
        self._graph = graph
        self._data = {key: node.value for key, node in graph.items() if isinstance(node, DataNode)}
        self._rank = rank
        self._observer = observer
        self._values = {key: self._data[key] for key in wanted if key in self._data}
        self._missing = {key for key in wanted if key not in self._data}
        self._number = next(_numbers)
        self._depth = background.depth()
        self._context = copy_context()
        self._records: list[Record] = []
        """All tasks, to cancel them; a record does not keep a result alive as a handle does."""
        self._news: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        """For the thread that waits: what to call; None when it is over."""
        self._is_over = False
        self._failure: Failure | None = None
        self._error: BaseException | None = None

    # In the thread that waits

    def wait(self) -> dict[DaskKey, Any]:
        """Run it, and wait for the values of the wanted keys."""
        if not self._missing:
            return self._values
        self._background.about_to_wait()
        try:
            self._background.admit(self, self._enter)
            while (call := self._news.get()) is not None:
                call()
        except BaseException:  # Ctrl-C, or a callback has raised
            self._background.post(self._cancel_all)
            raise
        if self._failure is not None:
            self._failure.throw()
        if self._error is not None:
            raise self._error
        return self._values

    # For the executor

    def cancel(self) -> bool:
        """Cancel it: its executor is shut down with ``cancel_futures=True``."""
        self._background.post(self._cancel_all)
        return True

    def abandon(self, error: BaseException) -> None:
        """The worker has ended before it."""
        self._error = error
        self._news.put(None)

    # In the event loop

    def _enter(self) -> None:
        try:
            self._submit_all()
        except BaseException as error:  # noqa: BLE001 - whoever waits gets it
            self._error = error
            self._end()
            self._cancel_all()

    def _submit_all(self) -> None:
        submit_in = self._background.worker.submit_in
        priority = self._depth * PRIORITY_PER_LEVEL
        handles: dict[DaskKey, TaskHandle[Any]] = {}
        rank = self._rank.__getitem__
        for place, key in enumerate(sorted(self._graph, key=rank)):
            if key in self._data:
                continue
            node = self._graph[key]
            inputs = sorted(node.dependencies, key=rank)
            names = [name for name in inputs if name not in self._data]
            data = {name: self._data[name] for name in inputs if name in self._data}
            handles[key] = handle = submit_in(
                self._context.copy(),
                self._call_of(key, node, names, data),
                tuple([handles[name] for name in names]),
                {},
                f"get-{self._number}.{place} {key!r}",
                priority,
                None,
            )
            self._records.append(handle.record)
        self._graph = {}
        for key, handle in handles.items():
            handle.when_done(partial(self._on_end, key))

    def _call_of(
        self, key: DaskKey, node: GraphNode, names: list[DaskKey], data: dict[DaskKey, Any]
    ) -> Callable[..., Any]:
        depth = self._depth + 1
        observer = self._observer

        def call(*values: Any) -> Any:
            nesting.set(depth)
            if observer is None:
                return node({**data, **dict(zip(names, values, strict=True))})
            # Told from here and not by the loop, so that a task is seen to end before those begin
            # that have waited for it.
            self._news.put(partial(observer.on_begin, key))
            value = node({**data, **dict(zip(names, values, strict=True))})
            self._news.put(partial(observer.on_end, key, value, threading.get_ident()))
            return value

        call.__qualname__ = key_split(key)
        return call

    def _on_end(self, key: DaskKey, handle: TaskHandle[Any]) -> None:
        failure = handle.record.failure
        if failure is not None:
            failure.origin.observed = True
            if not self._is_over:
                self._failure = failure
                self._end()
                self._background.post(self._cancel_all)
        elif key in self._missing:
            self._missing.remove(key)
            self._values[key] = self._background.worker.value_of(handle.record)
            if not self._missing:
                self._end()

    def _end(self) -> None:
        self._is_over = True
        self._background.unfinished.pop(self, None)
        self._news.put(None)

    def _cancel_all(self) -> None:
        for record in self._records:
            self._background.worker.cancel(record)
