"""`WorkerExecutor`: a worker for threads and for asyncio, as a `concurrent.futures.Executor`.

Three ways in, to one worker:

- `submit` and `map` are the standard library's, to the letter: arguments are passed as they are.
- `submit_task` builds a graph: futures among the arguments are its edges.
- `get` runs a graph of Dask's.

Everything that can be wrong with a task is said in the thread that submits it, at once; the event
loop is told by a command and answers through the future.
"""

import os
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Executor, Future
from contextvars import copy_context
from functools import partial
from inspect import iscoroutine
from typing import Any, ParamSpec, TypeVar, Unpack, cast, overload
from weakref import WeakValueDictionary, finalize

from trouper.actors.errors import TaskCancelled
from trouper.actors.job import current_job
from trouper.actors.spec import ATOMS, Extractor, fill, kind_of
from trouper.runtime.embedded.background import PRIORITY_PER_LEVEL, Background, nesting
from trouper.runtime.embedded.future import WorkerFuture
from trouper.runtime.embedded.handle import TaskHandle
from trouper.runtime.embedded.opening import open_worker
from trouper.runtime.errors import ForeignHandle
from trouper.runtime.journal.options import JournalArguments
from trouper.wire.keys import UserKey, encode_key
from trouper.wire.vocabulary import Key

P = ParamSpec("P")
T = TypeVar("T")


class WorkerExecutor(Executor):
    """Runs functions and graphs of tasks on a trouper worker that lives in a thread of its own.

    To be used from any thread but the worker's own. It has to be shut down, best by ``with``; if
    that is forgotten, it ends as a `ThreadPoolExecutor` does: when it is garbage or the
    interpreter exits, after what was submitted.

    Args:
        threads: How many plain functions may run at once; as many as there are CPUs if None.
        name: Of the worker, for logs and thread names.
        resources: Named capacities, say ``{"gpu": 1}``, that tasks may take a part of.
        coroutines: How many coroutine functions may run at once.
        journal: ``journal=PATH`` records every decision, to be replayed with `Journal.open`. The
            options ``journal_max_bytes``, ``journal_flush`` and ``journal_hash_keys`` are those of
            `open_worker`.

    Raises:
        JournalError: Where the journal should be, there is something else.
        ValueError: A number of threads, coroutines, or an amount of a resource is not positive; or
            an option of the journal makes no sense.
    """

    def __init__(
        self,
        threads: int | None = None,
        *,
        name: str | None = None,
        resources: Mapping[str, float] | None = None,
        coroutines: int = 100,
        **journal: Unpack[JournalArguments],
    ) -> None:
        threads = (os.cpu_count() or 1) if threads is None else threads
        self._background = Background(
            partial(
                open_worker,
                threads,
                name=name,
                resources=resources,
                coroutines=coroutines,
                **journal,
            )
        )
        # It knows nothing of this object, so this one can become garbage while it runs.
        finalize(self, self._background.forsake).atexit = False
        self._keyed: WeakValueDictionary[Key, WorkerFuture[Any]] = WeakValueDictionary()
        self._extractor = _FutureExtractor(self._background)
        self._max_workers = threads
        """Where Dask and joblib look for it, as the standard library's executors have it."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> WorkerFuture[T]:
        """Run ``fn(*args, **kwargs)``, as the standard library has it.

        In addition, the task sees the caller's context variables, and a coroutine function runs
        on the worker's trio loop.

        Raises:
            RuntimeError: The executor is shut down.
            WorkerFailed: The worker has given up.
        """
        background = self._background
        future: WorkerFuture[T] = WorkerFuture(background, in_graph=False)
        depth = background.depth()
        call = _call_of(future, fn, args, kwargs, (), depth + 1)
        context = copy_context()
        priority = depth * PRIORITY_PER_LEVEL
        background.admit(
            future, partial(_enter, future, call, (), None, priority, None, context, None)
        )
        return future

    @overload
    def submit_task(
        self,
        fn: Callable[..., Coroutine[Any, Any, T]],
        /,
        *args: Any,
        key: UserKey = None,
        priority: float = 0,
        resources: Mapping[str, float] | None = None,
        **kwargs: Any,
    ) -> WorkerFuture[T]: ...
    @overload
    def submit_task(
        self,
        fn: Callable[..., T],
        /,
        *args: Any,
        key: UserKey = None,
        priority: float = 0,
        resources: Mapping[str, float] | None = None,
        **kwargs: Any,
    ) -> WorkerFuture[T]: ...
    def submit_task(
        self,
        fn: Callable[..., Any],
        /,
        *args: Any,
        key: UserKey = None,
        priority: float = 0,
        resources: Mapping[str, float] | None = None,
        **kwargs: Any,
    ) -> WorkerFuture[Any]:
        """Submit a task of a graph, and return at once.

        Args:
            fn: A plain function, which runs in a thread, or a coroutine function, which runs as
                a trio task.
            args: Its arguments. Futures of this executor among them, also inside lists, tuples,
                sets and dicts, are replaced by their results, once they are done; no thread
                waits for them.
            key: Its name, unique in the executor. If there is such a task, its future is
                returned, unless it was cancelled.
            priority: Of tasks that are ready, the one with the higher priority starts first;
                among equals, one that a task has submitted, then the one submitted first.
            resources: What it takes of the worker's named resources while it runs.
            kwargs: Its keyword arguments.

        Returns:
            A future. If an input fails, it raises that input's exception, with a note that names
            the path of keys; if one is cancelled, `TaskCancelled`.

        Raises:
            TypeError: The function cannot be called.
            InvalidKey: The key is not text, a number, bytes or a tuple of such.
            ResourceError: The worker has no such resource, or less of it.
            ForeignHandle: An argument is a future of somebody else.
            RuntimeError: The executor is shut down.
            WorkerFailed: The worker has given up.
        """
        background = self._background
        if not callable(fn):
            raise TypeError(f"a task is a function, and {fn!r} cannot be called")
        text = None if key is None else encode_key(key)
        if resources:
            resources = dict(resources)
            background.worker.config.check_resources(resources)
        if priority != priority:
            raise ValueError("the priority is not a number")
        replaced: WorkerFuture[Any] | None = None
        if text is not None:
            known = self._keyed.get(text)
            if known is not None and not known.is_task_cancelled:
                return known
            replaced = known
        inputs: list[WorkerFuture[Any]] = []
        extract = self._extractor.extract
        args = tuple([v if type(v) in ATOMS else extract(v, inputs) for v in args])
        if kwargs:
            kwargs = {name: extract(value, inputs) for name, value in kwargs.items()}
        future: WorkerFuture[Any] = WorkerFuture(background, in_graph=True)
        depth = background.depth()
        call = _call_of(future, fn, args, kwargs, inputs, depth + 1)
        priority += depth * PRIORITY_PER_LEVEL
        background.admit(
            future,
            partial(
                _enter, future, call, inputs, key, priority, resources, copy_context(), replaced
            ),
        )
        if text is not None:
            self._keyed[text] = future
        return future

    def get(self, dsk: Any, keys: Any, **kwargs: Any) -> Any:
        """Compute keys of a Dask graph: a scheduler for ``dask.compute(x, scheduler=ex.get)``.

        Args:
            dsk: The graph, of `dask._task_spec` nodes or of tuples.
            keys: A key, or a list of keys, or of such lists.
            kwargs: What Dask gives its schedulers; of these, ``callbacks`` counts.

        Returns:
            The value of the key, or a tuple of values for a list, nested as the keys are.

        Raises:
            GraphError: There is a cycle, or a key is nowhere defined.
            ImportError: Dask is not installed.
            BaseException: What the first task to fail has raised; the rest is cancelled then.
            TaskCancelled: The executor was shut down with ``cancel_futures=True``.
        """
        try:
            from trouper.runtime.embedded.dask_get import compute
        except ImportError as error:
            raise ImportError(
                "WorkerExecutor.get runs graphs of Dask's, and Dask cannot be imported: "
                "pip install dask"
            ) from error
        return compute(self._background, dsk, keys, callbacks=kwargs.get("callbacks"))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more tasks, and end the worker when all have ended. Idempotent.

        Args:
            wait: Whether to wait for that.
            cancel_futures: Whether to cancel what has not begun.

        Raises:
            RuntimeError: A task of this executor wants to wait for its end.
        """
        self._background.close()
        if cancel_futures:
            futures: list[WorkerFuture[Any]] = []
            for item in list(self._background.unfinished):
                if isinstance(item, WorkerFuture):
                    futures.append(item)  # pyright: ignore[reportUnknownArgumentType]
                else:  # a computation of Dask's
                    item.cancel()
            WorkerFuture.cancel_all(futures)
        if wait:
            self._background.join()


class _FutureExtractor(Extractor[WorkerFuture[Any]]):
    """Takes futures out of arguments; those of others are an error."""

    def __init__(self, background: Background) -> None:
        super().__init__(WorkerFuture, _name_of)
        self._background = background

    def _extract(self, value: Any, found: list[WorkerFuture[Any]]) -> Any:
        if isinstance(value, WorkerFuture):
            if value.background is not self._background:
                raise ForeignHandle(f"{value!r} belongs to another executor; pass its result")
        elif isinstance(value, (Future, TaskHandle)) or hasattr(
            cast("type[object]", type(value)), "_asyncio_future_blocking"
        ):
            raise ForeignHandle(
                f"{value!r} is not a future of this executor; wait for it, and pass its result"
            )
        return super()._extract(value, found)


def _name_of(future: WorkerFuture[Any]) -> Key:
    """What stands for a future in the arguments of one task."""
    return str(id(future))


def _call_of(
    future: WorkerFuture[Any],
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    inputs: Sequence[WorkerFuture[Any]],
    depth: int,
) -> Callable[..., Any]:
    """What the worker runs: a function of the inputs' values, in their order.

    A function and not an object, for the worker looks at each whether it is a coroutine function,
    and that is quick for functions only.
    """
    names = tuple([_name_of(input_) for input_ in inputs])
    # The worker does not have the values of these (see `_finish`).
    plain = {_name_of(input_): input_ for input_ in inputs if not input_.in_graph}

    def fill_in(values: tuple[Any, ...]) -> tuple[list[Any], dict[str, Any]]:
        by_name = dict(zip(names, values, strict=True))
        for name, input_ in plain.items():
            by_name[name] = input_.result()
        return (
            [fill(arg, by_name) for arg in args],
            {name: fill(arg, by_name) for name, arg in kwargs.items()},
        )

    made: Callable[..., Any]
    if kind_of(fn)[1]:

        async def call_coroutine(*values: Any) -> Any:
            _begin(future, depth)
            filled, keywords = fill_in(values)
            value = await fn(*filled, **keywords)
            return _finish(future, value)

        made = call_coroutine
    elif names:

        def call_with_inputs(*values: Any) -> Any:
            _begin(future, depth)
            filled, keywords = fill_in(values)
            value = fn(*filled, **keywords)
            return _finish(future, value)

        made = call_with_inputs
    else:

        def call() -> Any:
            _begin(future, depth)
            value = fn(*args, **kwargs)
            return _finish(future, value)

        made = call
    name = getattr(fn, "__qualname__", None)
    made.__qualname__ = name if type(name) is str else type(fn).__qualname__
    return made


def _begin(future: WorkerFuture[Any], depth: int) -> None:
    """First of all in a task.

    Raises:
        TaskCancelled: Its future was cancelled, and the event loop has not heard of it yet.
    """
    if not future.begin():
        # Said to the loop once more, lest the attempt be repeated until it hears of it.
        future.background.post(future.withdraw)
        current_job.get().cancelled = True
        raise TaskCancelled
    nesting.set(depth)


def _finish(future: WorkerFuture[Any], value: object) -> object:
    """Last of all in a task: what it returns to the worker."""
    if not future.in_graph:
        future.succeed(value)
        return None  # the future alone keeps it, and it is gone with the future at once
    if not iscoroutine(value):  # that the worker closes, and fails with an advice
        future.succeed(value)
    return value


def _enter(
    future: WorkerFuture[Any],
    call: Callable[..., Any],
    inputs: Sequence[WorkerFuture[Any]],
    key: UserKey,
    priority: float,
    resources: Mapping[str, float] | None,
    context: Any,
    replaced: WorkerFuture[Any] | None,
) -> None:
    """In the event loop: give the task to the worker."""
    if replaced is not None:
        replaced.withdraw()  # its own command may be on the way
    try:
        handles: list[TaskHandle[Any]] = []
        for input_ in inputs:
            if input_.handle is None:  # the worker has refused it
                error = input_.exception()
                assert error is not None
                raise error
            handles.append(input_.handle)
        handle = future.background.worker.submit_in(
            context, call, tuple(handles), {}, key, priority, resources
        )
    except BaseException as error:  # noqa: BLE001 - whoever waits for the future gets it
        future.refused(error)
    else:
        future.submitted(handle)
