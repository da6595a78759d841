"""Dask's tasks, as the execute actor runs them. Imports Dask: for nodes of a cluster only.

A task arrives as a pickle of a `dask._task_spec.GraphNode`, and is opened in the thread that runs
it: what cannot be unpickled is a task that fails, and no harm to the node.
"""

import inspect
import pickle
import threading
from collections.abc import Callable
from contextvars import Context
from hashlib import blake2b
from time import perf_counter
from typing import Any

import msgspec
from distributed import Reschedule

from trouper.actors.dask_actors import HeldActor
from trouper.actors.dask_worker import DaskWorker
from trouper.actors.errors import TaskRescheduled
from trouper.actors.job import current_job
from trouper.actors.spec import Runnable
from trouper.wire.dask_message import Pickled
from trouper.wire.keys import decode_key
from trouper.wire.vocabulary import Entry, Key


class Timing(msgspec.Struct, frozen=True, gc=False):
    """When and where an attempt ran; times in seconds since 1970, by the scheduler's clock."""

    thread: int
    start: float
    stop: float


class Run(msgspec.Struct, frozen=True, gc=False):
    """A task that runs now: in which thread, since when by the scheduler's clock."""

    key: Key
    thread: int
    start: float


class Site:
    """What the tasks of one node have in common.

    Args:
        worker: What a task gets from `distributed.get_worker`.
        clock: Seconds since 1970, as the scheduler counts them.
    """

    def __init__(self, worker: DaskWorker, clock: Callable[[], float]) -> None:
        self.worker = worker
        self.clock = clock
        self.timings: dict[int, Timing] = {}
        """By attempt, of those whose outcome is in the store."""
        self.running: dict[int, Run] = {}
        """By attempt."""


class DaskTask(msgspec.Struct, eq=False, gc=False):
    """What to run: a function, its arguments and the keys of its inputs, all in one pickle."""

    run_spec: Pickled
    context: Context
    site: Site
    actor: bool = False
    """Whether what it brings is an actor, which stays here."""

    def call(self, inputs: dict[Key, object]) -> Any:
        """Unpickle the task and run it, in this thread; a coroutine beside those of other tasks.

        Raises:
            TaskRescheduled: The task has raised `distributed.Reschedule`.
        """
        site, job = self.site, current_job.get()
        thread, start, began = threading.get_ident(), site.clock(), perf_counter()
        site.running[job.attempt] = Run(job.key, thread, start)
        has_outcome = True
        try:
            site.worker.enter(job, start)
            task = pickle.loads(self.run_spec.pickle, buffers=self.run_spec.buffers)
            value = task({decode_key(key): self._seen(value) for key, value in inputs.items()})
            if inspect.iscoroutine(value):
                value = site.worker.run_on_loop(value)
            if self.actor:
                return HeldActor(value, site.worker.address, decode_key(job.key))
            return value
        except Reschedule as wish:
            has_outcome = False
            raise TaskRescheduled from wish
        finally:
            del site.running[job.attempt]
            if has_outcome and not job.cancelled:
                # The scheduler's clock may be set meanwhile, and tasks that take no time upset it.
                stop = start + (perf_counter() - began)
                site.timings[job.attempt] = Timing(thread, start, stop)

    def _seen(self, value: object) -> object:
        """An input, as the task sees it."""
        return value.proxy(self.site.worker) if type(value) is HeldActor else value


class Values(dict[Entry, object]):
    """The values of a node; with each, what is known of the attempt that brought it."""

    def __init__(self, timings: dict[int, Timing]) -> None:
        super().__init__()
        self._timings = timings

    def __delitem__(self, entry: Entry) -> None:
        super().__delitem__(entry)
        self._timings.pop(entry[1], None)


class Specs(dict[int, Runnable]):
    """The specs of a node; the scheduler may send one again that is here already."""

    def __init__(self) -> None:
        super().__init__()
        self._more: dict[int, int] = {}
        """How often a spec has come, beyond the first time."""

    def __setitem__(self, spec_id: int, spec: Runnable) -> None:
        if spec_id in self:
            self._more[spec_id] = self._more.get(spec_id, 0) + 1
        else:
            super().__setitem__(spec_id, spec)

    def __delitem__(self, spec_id: int) -> None:
        more = self._more.pop(spec_id, 0)
        if more > 1:
            self._more[spec_id] = more - 1
        elif not more:
            super().__delitem__(spec_id)


def spec_id_of(key: Key, run_spec: Pickled) -> int:
    """The number of a spec: the same whenever the same is sent for the same task."""
    digest = blake2b(key.encode(), digest_size=7)
    for frame in (run_spec.pickle, *run_spec.buffers):
        digest.update(len(frame).to_bytes(8, "big"))
        digest.update(frame)
    return int.from_bytes(digest.digest(), "big") + 1
