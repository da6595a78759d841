"""The embedded worker: a graph of tasks, run in this process.

`Worker` stands where a scheduler stands on a cluster: it turns what users submit into stimuli, and
the machine's reports into results that handles wait for (`results`). It decides nothing about when
or where a task runs. `open_worker` (in `opening`) puts the parts together and owns their lives.

Everything but the finalisers of handles happens in the thread of the event loop.
"""

import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextvars import Context, copy_context
from itertools import chain
from typing import Any, TypeVar, overload

import trio

from trouper.actors.execute import COROUTINE, THREAD
from trouper.actors.job import current_job
from trouper.actors.spec import ATOMS, Extractor, Spec, kind_of
from trouper.runtime.embedded.completion import AsCompleted
from trouper.runtime.embedded.failure import Failure
from trouper.runtime.embedded.handle import PENDING, Record, TaskHandle
from trouper.runtime.embedded.registry import Registry
from trouper.runtime.embedded.results import Results
from trouper.runtime.embedded.status import WorkerStatus, status_of
from trouper.runtime.errors import ForeignHandle, WorkerClosed, WorkerFailed
from trouper.runtime.ledger import Config
from trouper.runtime.machine import Machine
from trouper.wire.keys import UserKey, encode_key
from trouper.wire.stimuli import CancelTask, ComputeTask, FreeKeys, Secede, Stimulus
from trouper.wire.vocabulary import Key, Peer

T = TypeVar("T")

NO_HOLDERS: dict[Key, tuple[Peer, ...]] = {}
NO_SIZES: dict[Key, int] = {}
NO_RESOURCES: dict[str, float] = {}
NO_KWARGS: dict[str, Any] = {}
"""What most tasks have, or do not have; nobody writes to these."""


class Worker(Results):
    """Runs tasks, and plain functions in threads; made by `open_worker`.

    All methods are for the event loop's own thread; `WorkerExecutor` is for others.
    """

    def __init__(self, name: str, config: Config) -> None:
        super().__init__(name, Registry(self._free))
        self.config = config
        self._closed = False
        self._thread = threading.get_ident()
        self._last_run_id = 0
        self._extractor = Extractor[TaskHandle[Any]](TaskHandle, self._key_of_input)
        self.immediate = 0
        """For `TaskHandle`."""
        self.drop = self._registry.drop
        """A handle is gone. Called by finalisers: in any thread, at any moment."""

    # Submitting

    @overload
    def submit(
        self,
        fn: Callable[..., Awaitable[T]],
        /,
        *args: Any,
        key: UserKey = None,
        priority: float = 0,
        resources: Mapping[str, float] | None = None,
        **kwargs: Any,
    ) -> TaskHandle[T]: ...
    @overload
    def submit(
        self,
        fn: Callable[..., T],
        /,
        *args: Any,
        key: UserKey = None,
        priority: float = 0,
        resources: Mapping[str, float] | None = None,
        **kwargs: Any,
    ) -> TaskHandle[T]: ...
    @trio.lowlevel.enable_ki_protection
    def submit(
        self,
        fn: Callable[..., Any],
        /,
        *args: Any,
        key: UserKey = None,
        priority: float = 0,
        resources: Mapping[str, float] | None = None,
        **kwargs: Any,
    ) -> TaskHandle[Any]:
        """Submit a task, and return at once.

        Args:
            fn: A plain function, which runs in a thread, or a coroutine function, which runs as
                a trio task.
            args: Its arguments. Handles among them, also inside lists, tuples, sets and dicts,
                are replaced by the results of their tasks, once those have ended.
            key: Its name, unique in the worker; made from the function's name if there is none.
                If there is such a task, a handle of that one is returned, unless it was
                cancelled.
            priority: Of tasks that are ready, the one with the higher priority starts first;
                among equals, the one submitted first.
            resources: What it takes of the worker's named resources while it runs.
            kwargs: Its keyword arguments.

        Raises:
            TypeError: The function cannot be called.
            InvalidKey: The key is not text, a number, bytes or a tuple of such.
            ResourceError: The worker has no such resource, or less of it.
            ForeignHandle: An argument is a handle of another worker.
            TaskReleased: An argument is a handle that was released.
            WorkerClosed: The worker takes no more tasks.
        """
        return self.submit_in(copy_context(), fn, args, kwargs, key, priority, resources)

    @trio.lowlevel.enable_ki_protection
    def submit_in(
        self,
        context: Context,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        key: UserKey,
        priority: float,
        resources: Mapping[str, float] | None,
    ) -> TaskHandle[Any]:
        """Like `submit`, with the context variables that the task shall see."""
        prefix, executor, rank = self._prepare(fn, priority, resources)
        return self._submit(context, fn, prefix, executor, args, kwargs, key, rank, resources)

    def _prepare(
        self, fn: Callable[..., Any], priority: float, resources: Mapping[str, float] | None
    ) -> tuple[str, str, float]:
        """What is the same for all tasks of a `map`: prefix, executor, and rank; checked."""
        if self._closed or threading.get_ident() != self._thread:
            self._check_open()
        if self._registry.freed:
            self._registry.flush()
        if not callable(fn):
            raise TypeError(f"a task is a function, and {fn!r} cannot be called")
        if resources:
            self.config.check_resources(resources)
        if priority != priority:
            raise ValueError("the priority is not a number")
        prefix, is_coroutine = kind_of(fn)
        return prefix, COROUTINE if is_coroutine else THREAD, -priority

    @trio.lowlevel.enable_ki_protection
    def _submit(
        self,
        context: Context,
        fn: Callable[..., Any],
        prefix: str,
        executor: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        key: UserKey,
        rank: float,
        resources: Mapping[str, float] | None,
    ) -> TaskHandle[Any]:
        registry = self._registry
        run_id = self._last_run_id + 1
        if key is None:
            text = self._new_key(prefix, run_id)
        else:
            text = encode_key(key)
            known = registry.get(text)
            if known is not None and not known.cancelled:
                known.handles += 1
                return TaskHandle(self, known)
        found: list[TaskHandle[Any]] = []
        plain = not kwargs
        for value in args:
            plain = plain and type(value) in ATOMS
        if not plain:
            args, kwargs = self._extractor.extract_all(args, kwargs, found)
        # All is checked; from here on nothing raises.
        self._last_run_id = run_id
        if text in registry.failed:
            self._replace(text, found)
        record = Record(text, run_id)
        handle: TaskHandle[Any] = TaskHandle(self, record)
        self.store.specs[run_id] = Spec(fn, args, kwargs, context)
        self._records[text] = record
        self.pending += 1
        local: tuple[Key, ...] = ()
        if found:
            record.inputs = tuple([input_.record for input_ in found])
            local = tuple([input_.key for input_ in record.inputs])
        self.supervisor.send(
            ComputeTask(
                text,
                run_id,
                run_id,
                (rank, run_id),
                local,
                NO_HOLDERS,
                NO_SIZES,
                executor,
                dict(resources) if resources else NO_RESOURCES,
                prefix,
            )
        )
        return handle

    def map(
        self,
        fn: Callable[..., Any],
        /,
        *iterables: Iterable[Any],
        priority: float = 0,
        resources: Mapping[str, float] | None = None,
    ) -> list[TaskHandle[Any]]:
        """Submit a task for each element, or for each tuple of elements of several iterables.

        The iterables are read to their end first.
        """
        if not iterables:
            raise TypeError("map() needs at least one iterable")
        prefix, executor, rank = self._prepare(fn, priority, resources)
        calls = list(zip(*iterables, strict=False))
        if ATOMS.issuperset(map(type, chain.from_iterable(calls))):
            return self._submit_all(fn, prefix, executor, calls, rank, resources)
        return [
            self._submit(
                copy_context(), fn, prefix, executor, args, NO_KWARGS, None, rank, resources
            )
            for args in calls
        ]

    @trio.lowlevel.enable_ki_protection
    def _submit_all(
        self,
        fn: Callable[..., Any],
        prefix: str,
        executor: str,
        calls: Iterable[tuple[Any, ...]],
        rank: float,
        resources: Mapping[str, float] | None,
    ) -> list[TaskHandle[Any]]:
        """What `_submit` does, for many calls without handles among their arguments."""
        records, failed, specs = self._records, self._registry.failed, self.store.specs
        taken = dict(resources) if resources else NO_RESOURCES
        marked = prefix.startswith("~")
        run_id = self._last_run_id
        handles: list[TaskHandle[Any]] = []
        stimuli: list[Stimulus] = []
        for args in calls:
            run_id += 1
            key = f"{prefix}-{run_id}"
            if marked or key in records or key in failed:
                key = self._new_key(prefix, run_id)
            record = records[key] = Record(key, run_id)
            handles.append(TaskHandle(self, record))
            specs[run_id] = Spec(fn, args, NO_KWARGS, copy_context())
            order = (rank, run_id)
            stimuli.append(
                ComputeTask(
                    key, run_id, run_id, order, (), NO_HOLDERS, NO_SIZES, executor, taken, prefix
                )
            )
        self._last_run_id = run_id
        self.pending += len(handles)
        if stimuli:
            self.supervisor.send_all(stimuli)
        return handles

    def _new_key(self, prefix: str, run_id: int) -> Key:
        """A key for a task that was given none."""
        key = f"{prefix}-{run_id}"
        while key in self._records or key in self._registry.failed or key[0] == "~":
            key = f"task {key}"  # somebody has given this very key
        return key

    async def run(
        self,
        fn: Callable[..., Any],
        /,
        *args: Any,
        key: UserKey = None,
        priority: float = 0,
        resources: Mapping[str, float] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Submit a task and wait for its result; see `submit`.

        If the wait is cancelled, so is the task, unless somebody else wants it.
        """
        handle = self.submit(fn, *args, key=key, priority=priority, resources=resources, **kwargs)
        try:
            return await handle
        finally:
            if not handle.done():
                self._withdraw(handle.record)

    def as_completed(self, handles: Iterable[TaskHandle[T]]) -> AsCompleted[T]:
        """Iterate, with ``async for``, over handles in the order in which their tasks end."""
        return AsCompleted(handles, self.give_slot_back)

    def status(self) -> WorkerStatus:
        """Counts by phase, slots, resources and bytes. The cost grows with the tasks held."""
        return status_of(self.supervisor, self.name, bool(self.failure), self._closed)

    def freeze(self) -> Machine:
        """A copy of the machine as it is now, between two stimuli; the worker goes on."""
        return Machine.from_snapshot(self.supervisor.machine.snapshot())

    def _key_of_input(self, handle: TaskHandle[Any]) -> Key:
        """The key under which the machine knows an argument; or say why it cannot be one."""
        if handle.owner is not self:
            raise ForeignHandle(
                f"{handle!r} belongs to another worker; await it, and pass its result on"
            )
        handle.check_usable()
        record = handle.record
        if not self._registry.has(record):  # submitted anew after a cancellation
            assert record.failure is not None
            record.failure.throw()
        return record.key

    def _replace(self, key: Key, inputs: list[TaskHandle[Any]]) -> None:
        """Another task is about to take over the key of a cancelled one, which it cannot use."""
        for handle in inputs:
            if handle.record.key == key:
                self.value_of(handle.record)
        del self._registry.failed[key]

    def _check_thread(self) -> None:
        if threading.get_ident() != self._thread:
            raise RuntimeError(
                "a Worker is used in the thread of its event loop; from other threads use "
                "trio.from_thread, or a WorkerExecutor"
            )

    def _check_open(self) -> None:
        self._check_thread()
        if self.failure is not None:
            raise WorkerFailed(f"worker {self.name!r} has failed") from self.failure
        if self._closed:
            raise WorkerClosed(f"worker {self.name!r} is closed and takes no more tasks")

    # Waiting and cancelling, for handles

    async def wait_for(self, handle: TaskHandle[Any]) -> Any:
        """The value of a task; or raise why there is none."""
        record = handle.record
        if record.outcome is PENDING:
            self.give_slot_back()
            await record.wait()
        else:
            await trio.lowlevel.checkpoint()
        return self.value_of(record)

    @trio.lowlevel.enable_ki_protection
    def give_slot_back(self) -> None:
        """A task of this worker is about to wait for another one: its slot is for others."""
        job = current_job.get(None)
        if job is None or job.owner is not self.supervisor or job.ended:
            return
        if job.in_thread:
            self.supervisor.threads.secede(job)
        elif not job.seceded:
            job.seceded = True
            self.supervisor.send(Secede(job.key, job.attempt))

    @trio.lowlevel.enable_ki_protection
    def cancel(self, record: Record) -> bool:
        """Cancel a task; whether it was still pending."""
        self._check_thread()
        if record.outcome is not PENDING or self.failure is not None:
            return False
        self._end(record, Failure(record.key, None, None))
        self.supervisor.send(CancelTask(record.key))
        return True

    @trio.lowlevel.enable_ki_protection
    def cancel_all(self) -> None:
        """Take no more tasks, and cancel those that have not ended."""
        self._closed = True
        for record in list(self._records.values()):
            self.cancel(record)

    @trio.lowlevel.enable_ki_protection
    def _withdraw(self, record: Record) -> None:
        """The only one who waits gives up; a task that others depend on goes on."""
        self._registry.sweep()  # handles that are gone do not count
        task = self.supervisor.machine.ledger.tasks.get(record.key)
        needed = task is not None and task.dependents
        if record.handles == 1 and self._registry.has(record) and not needed:
            self._end(record, Failure(record.key, None, None))
            self._registry.forget(record)
            self._registry.flush()

    def phase(self, record: Record) -> str:
        """The derived name of a task's state."""
        if record.outcome is PENDING:
            phase = self.supervisor.machine.phase(record.key)
            return "waiting" if phase == "released" else phase  # on its way to the machine
        if record.failure is None:
            return "memory"
        return "cancelled" if record.cancelled else "error"

    def _free(self, keys: tuple[Key, ...]) -> None:
        if not self.supervisor.closed:
            self.supervisor.send(FreeKeys(keys))
