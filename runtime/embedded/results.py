"""The half of a worker that listens: what has become of what was submitted.

`Results` is what the supervisor reports to. It turns reports into results and failures of the
records that handles wait for, and knows when nothing is left to wait for.
"""

from collections.abc import Callable, Iterable
from typing import Any, cast

import trio

from trouper.actors.execute import is_interrupt
from trouper.actors.store import Store
from trouper.runtime.embedded.failure import Failure
from trouper.runtime.embedded.handle import PENDING, Record
from trouper.runtime.embedded.registry import Registry
from trouper.runtime.embedded.unobserved import Unobserved
from trouper.runtime.errors import StimulusError, WorkerFailed
from trouper.runtime.supervisor import Supervisor
from trouper.wire.instructions import Report, TaskErred, TaskFinished
from trouper.wire.stimuli import Stimulus
from trouper.wire.vocabulary import Key


class Results:
    """See the module's text.

    Args:
        name: Of the worker.
        registry: Which task has which key.
    """

    def __init__(self, name: str, registry: Registry) -> None:
        self.name = name
        self.supervisor: Supervisor
        """Set by `open_worker` before anybody else sees the worker."""
        self.store = Store()
        self.values = self.store.values
        """For `TaskHandle`."""
        self.pending = 0
        """Submitted tasks that have not ended."""
        self.unobserved = Unobserved()
        self.failure: BaseException | None = None
        """Why the worker has failed, if it has."""
        self.interrupted: Callable[[BaseException], None] | None = None
        """Called with a KeyboardInterrupt that hit a task which nobody awaits."""
        self._registry = registry
        self._records = registry.records
        self._failures: dict[Key, Failure] = {}
        """Of the present batch, for those that follow from them."""
        self._idle: trio.Event | None = None
        self._gave_up = False

    def value_of(self, record: Record) -> Any:
        """The value of a task that has ended; or raise why there is none."""
        if record.failure is not None:
            self.unobserved.discard(record.failure.origin)
            record.failure.throw()
        return self.values[record.key, record.attempt]

    # What the supervisor tells

    heeded: frozenset[type[Report]] = frozenset({TaskFinished, TaskErred})
    """The other reports are of data and slots, which nobody here has asked about."""

    def on_stimulus_refused(self, stimulus: Stimulus, error: StimulusError) -> None:
        """What is submitted is checked before: this is a fault of ours."""
        raise error

    def on_reports(self, reports: Iterable[Report]) -> None:
        """Tasks have ended."""
        records = self._records
        for report in reports:
            if type(report) is TaskFinished:
                record = records.get(report.key)
                if record is None:
                    self._registry.freed.append(report.key)
                elif record.outcome is PENDING and record.run_id == report.run_id:
                    self.pending -= 1
                    record.finish(report.attempt)
                    if not record.handles:
                        self._registry.forget(record)
            elif type(report) is TaskErred:
                self._on_erred(report)

    def _on_erred(self, report: TaskErred) -> None:
        key = report.key
        record = self._registry.get(key)
        exception = None
        if report.attempt:
            exception = cast("BaseException", self.store.take(key, report.attempt))
        if record is None or record.run_id != report.run_id or record.failure is not None:
            # It was cancelled: its handles were told at the time, and those that depend on it are
            # told the same, even if it has failed before the machine could hear of that.
            self._failures[key] = Failure(key, None, None)
            if record is None:
                self._registry.freed.append(key)
            if exception is not None and is_interrupt(exception):
                self._interrupt(exception)
            return
        via: Failure | None = None
        if report.via is not None:
            via = self._failures.get(report.via) or record.cause(report.via)
        failure = self._failures[key] = Failure(key, exception, via)
        if exception is not None:
            self.unobserved.add(failure)
            if record.event is None and is_interrupt(exception):
                self._interrupt(exception)
                failure.observed = True
        self._end(record, failure)

    def _interrupt(self, exception: BaseException) -> None:
        """Ctrl-C has hit a task that nobody awaits."""
        assert self.interrupted is not None
        self.interrupted(exception)

    def on_batch_end(self) -> None:
        """All that had come is handled."""
        self._failures.clear()
        self._registry.flush()
        if self._idle is not None and self.is_idle():
            self._idle.set()

    def on_failure(self, reason: BaseException) -> None:
        """The supervisor has given up: tell everybody who waits."""
        self.failure = reason
        self._closed = True
        for record in list(self._records.values()):
            if record.outcome is PENDING:
                error = WorkerFailed(f"worker {self.name!r} has failed before {record.key!r} ended")
                error.__cause__ = reason
                self._end(record, Failure(record.key, error, None))
        if self._idle is not None:
            self._idle.set()

    def _end(self, record: Record, failure: Failure) -> None:
        record.fail(failure)
        self.pending -= 1
        self._registry.fail(record)

    # For the end of it

    def is_idle(self) -> bool:
        """Whether every task has ended, and every attempt too."""
        if self.failure is not None:
            return not self.supervisor.threads.owed
        return not self.pending and self.supervisor.is_idle()

    async def wait_idle(self) -> None:
        """Wait until every task and every attempt has ended."""
        while not self.is_idle() and not self._gave_up:
            self._idle = trio.Event()
            await self._idle.wait()

    def give_up_waiting(self) -> None:
        """End `wait_idle`, whatever still runs."""
        self._gave_up = True
        if self._idle is not None:
            self._idle.set()
