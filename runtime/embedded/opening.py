"""`open_worker`: the parts of an embedded worker put together, and taken apart again."""

import itertools
import logging
import os
import signal
import threading
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from types import TracebackType

import trio

from trouper.actors.execute import COROUTINE, THREAD, execute
from trouper.runtime.embedded.worker import Worker
from trouper.runtime.errors import ResourceError, WorkerFailed
from trouper.runtime.journal.options import JournalOptions, journal_options
from trouper.runtime.journal.recorder import Recorder
from trouper.runtime.journal.writer import Flush
from trouper.runtime.keeper import RestartPolicy
from trouper.runtime.ledger import Config
from trouper.runtime.machine import Machine
from trouper.runtime.supervisor import ExecuteActor, Supervisor
from trouper.wire.keys import decode_key

logger = logging.getLogger(__name__)

PATIENCE_S = 1.0
"""How long to wait for threads before saying so."""

RUN_AHEAD = 256
"""How many brief functions may wait in the threads' queue, so that no thread has to wait."""

SHOWN = 10
"""Of the tasks that closing waits for, so many are named."""

_names = itertools.count(1)


def open_worker(
    threads: int | None = None,
    *,
    name: str | None = None,
    resources: Mapping[str, float] | None = None,
    coroutines: int = 100,
    restart_policy: RestartPolicy | None = None,
    execute_actor: ExecuteActor = execute,
    journal: str | Path | None = None,
    journal_max_bytes: int = 1 << 26,
    journal_flush: Flush = 0.1,
    journal_hash_keys: bool | bytes = False,
) -> AbstractAsyncContextManager[Worker]:
    """Open a worker for the length of an ``async with`` block.

    Leaving the block waits for all that was submitted, as a nursery does. If the block is left by
    an exception or a cancellation, what has not ended is cancelled, and the exception goes on as
    it is. Functions that run in threads cannot be stopped: leaving waits for them and logs for
    which; Ctrl-C then leaves without them.

    Args:
        threads: How many plain functions may run at once; as many as there are CPUs if None.
        name: Of the worker, for logs and thread names.
        resources: Named capacities, say ``{"gpu": 1}``, that tasks may take a part of.
        coroutines: How many coroutine functions may run at once.
        restart_policy: How often the actor that runs tasks may crash before the worker fails.
        execute_actor: The actor that runs tasks; another one than the default is for tests.
        journal: A file in which every decision is recorded, to be replayed with `Journal.open`; no
            journal if None. What an earlier run has left there is kept beside it. If the file
            system fails, the worker goes on without: the log and `Worker.status` say why.
        journal_max_bytes: The oldest part of the journal is removed so that the rest is no larger,
            as long as a snapshot of the worker's state is smaller than an eighth of this.
        journal_flush: When to write what was recorded: within so many seconds; "buffered", when
            there is a lot of it; or "fsync", every batch at once, down to the disk.
        journal_hash_keys: Record a hash in place of each key, with a random secret, or with the
            bytes that are given.

    Raises:
        JournalError: On entering the block: where the journal should be, there is something else.
        ValueError: A number of threads, coroutines, or an amount of a resource is not positive; or
            an option of the journal makes no sense.
        WorkerFailed: On leaving the block, if the worker had to give up.
    """
    threads = (os.cpu_count() or 1) if threads is None else threads
    if threads < 1 or coroutines < 1:
        raise ValueError(
            f"a worker needs at least one thread and one coroutine, not {threads} and {coroutines}"
        )
    for resource, amount in (resources or {}).items():
        if not 0 < amount < float("inf"):
            raise ResourceError(f"the resource {resource!r} has the amount {amount!r}")
    config = Config(
        slots={THREAD: threads, COROUTINE: coroutines},
        resources=dict(resources or {}),
        run_ahead={THREAD: RUN_AHEAD},
    )
    name = f"worker-{next(_names)}" if name is None else name
    options = journal_options(journal, journal_max_bytes, journal_flush, journal_hash_keys)
    return _Opening(name, config, execute_actor, restart_policy or RestartPolicy(), options)


class _Opening(AbstractAsyncContextManager[Worker]):
    """The life of a worker: everything that it starts ends in `__aexit__`."""

    def __init__(
        self,
        name: str,
        config: Config,
        actor: ExecuteActor,
        restart_policy: RestartPolicy,
        journal: JournalOptions | None,
    ) -> None:
        self._name = name
        self._config = config
        self._actor = actor
        self._restart_policy = restart_policy
        self._journal = journal
        self._recorder: Recorder | None = None
        self._nursery_manager = trio.open_nursery()
        self._body_scope = trio.CancelScope()
        self._interrupt: BaseException | None = None
        self._waiting = trio.CancelScope()

    @trio.lowlevel.enable_ki_protection
    async def __aenter__(self) -> Worker:
        self._nursery = await self._nursery_manager.__aenter__()
        try:
            self._worker = worker = Worker(self._name, self._config)
            machine = Machine(self._config)
            if self._journal is not None:
                self._recorder = Recorder(machine, self._name, self._journal)
            worker.supervisor = Supervisor(
                machine,
                worker.store,
                worker,
                name=self._name,
                execute=self._actor,
                restart_policy=self._restart_policy,
                recorder=self._recorder,
            )
        except BaseException:
            if self._recorder is not None:
                self._recorder.close()
            await self._nursery_manager.__aexit__(None, None, None)
            raise
        worker.interrupted = self._on_interrupt
        self._nursery.start_soon(worker.supervisor.run)
        self._body_scope.__enter__()
        return worker

    def _on_interrupt(self, interrupt: BaseException) -> None:
        """Ctrl-C has hit a task that nobody awaits: it is meant for the block."""
        if not isinstance(interrupt, KeyboardInterrupt):
            group, interrupt = interrupt, KeyboardInterrupt()
            interrupt.__cause__ = group
        self._interrupt = interrupt
        self._body_scope.cancel()

    @trio.lowlevel.enable_ki_protection
    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        error = exc
        if error is None:
            try:
                await self._worker.wait_idle()
            except BaseException as reason:  # noqa: BLE001 - raised below, after the cleaning up
                error = reason
        try:
            absorbed = self._body_scope.__exit__(type(error) if error else None, error, None)
        except BaseException as rest:  # noqa: BLE001 - of a group that had the cancellation in it
            error, absorbed = rest, False
        await self._close()
        self._worker.unobserved.log_all()
        if self._interrupt is not None:
            raise self._interrupt
        if error is None or absorbed:
            if self._worker.failure is not None:
                raise WorkerFailed(f"worker {self._name!r} has failed") from self._worker.failure
            return bool(absorbed)
        if error is not exc:
            raise error
        return False

    async def _close(self) -> None:
        """Cancel what has not ended, wait until all attempts have, and end tasks and threads."""
        worker = self._worker
        # From here on nothing from outside but Ctrl-C ends the wait.
        self._nursery.cancel_scope.shield = True
        worker.cancel_all()
        if not worker.is_idle():
            self._nursery.start_soon(self._watch_closing)
            try:
                await worker.wait_idle()
            except KeyboardInterrupt as interrupt:
                self._interrupt = interrupt
        self._waiting.cancel()
        if worker.is_idle() and worker.failure is None:
            worker.supervisor.close()
        else:
            worker.supervisor.abandon()
        try:
            await self._nursery_manager.__aexit__(None, None, None)
        except* KeyboardInterrupt as interrupts:  # at the very last moment
            self._interrupt = interrupts.exceptions[0]
        finally:
            if self._recorder is not None:
                self._recorder.close()
        worker.supervisor.threads.close()

    @trio.lowlevel.enable_ki_protection
    async def _watch_closing(self) -> None:
        with self._waiting:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._announce)
                in_main_thread = threading.current_thread() is threading.main_thread()
                if in_main_thread and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
                    nursery.start_soon(self._listen_for_interrupt)

    @trio.lowlevel.enable_ki_protection
    async def _announce(self) -> None:
        """Say for which tasks the closing waits, if it has to."""
        await trio.sleep(PATIENCE_S)
        keys = [decode_key(job.key) for job in self._worker.supervisor.owed]
        logger.warning(
            "worker %s is closing and waits for %d task(s) that do not stop: %s%s; "
            "Ctrl-C leaves without waiting",
            self._name,
            len(keys),
            ", ".join(map(repr, keys[:SHOWN])),
            ", ..." if len(keys) > SHOWN else "",
        )

    @trio.lowlevel.enable_ki_protection
    async def _listen_for_interrupt(self) -> None:
        """Ctrl-C while closing: do not wait for threads.

        The signal itself and not KeyboardInterrupt, which trio delivers to its main task only:
        the worker may have been opened in another.
        """
        with trio.open_signal_receiver(signal.SIGINT) as signals:
            async for _ in signals:
                self._interrupt = KeyboardInterrupt()
                self._worker.give_up_waiting()
