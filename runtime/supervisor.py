"""The supervisor: one nursery that owns the machine's task and the actors.

Stimuli come in through one channel, in batches; one task takes them, has the machine handle each,
and carries out the instructions in their order: it resolves references and drops payloads at
once, before anything reaches an actor, so that no drop can overtake a use.

The machine's task waits for nothing but stimuli. The channels have no bound, and need none: what
is in them is bounded by what is under way, since an actor is only told of an attempt that holds
a slot, and owes one stimulus for it. What a user submits is bounded by the user.

A crash of an actor is contained: the attempts that it owed end with a failure, and it is started
again, within limits. Past the limits, or if the machine itself finds a fault, the worker fails:
everybody who waits is told why, and nobody waits for ever.
"""

import logging
import math
from collections import deque
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import trio

from trouper.actors.errors import ActorCrashed
from trouper.actors.execute import THREAD, ExecuteCommand, Stimuli
from trouper.actors.job import NO_INPUTS, Job, terminal_stimulus
from trouper.actors.store import Store
from trouper.actors.threads import ThreadPool
from trouper.runtime.errors import WorkerFailed
from trouper.runtime.journal.recorder import Recorder
from trouper.runtime.machine import Machine
from trouper.runtime.stepping import Stepper
from trouper.wire.instructions import (
    CancelExecute,
    CancelGather,
    DropData,
    DropSpec,
    Execute,
    FindMissingLater,
    Gather,
    Report,
    RetryBusyWorkerLater,
)
from trouper.wire.stimuli import (
    ExecuteCancelled,
    ExecuteFailure,
    ExecuteReschedule,
    ExecuteSuccess,
    Secede,
    Stimulus,
)

logger = logging.getLogger(__name__)


class ExecuteActor(Protocol):
    """What runs jobs: `trouper.actors.execute.execute`, or a fake."""

    async def __call__(
        self,
        instructions: trio.MemoryReceiveChannel[list[ExecuteCommand]],
        stimuli: Stimuli,
        store: Store,
    ) -> None:
        """Run jobs until the channel of instructions is closed."""
        ...


@dataclass(frozen=True)
class RestartPolicy:
    """How often an actor may crash: `limit` times within `period_s` seconds."""

    limit: int = 3
    period_s: float = 5.0
    backoff_s: float = 0.05
    """Wait before the first restart; doubled with each further one in the period."""


class Listener(Protocol):
    """Who gave the work: the embedded worker. Called in the machine's task; must not block."""

    heeded: frozenset[type[Report]]
    """The reports that it wants to hear of."""

    def on_report(self, report: Report) -> None:
        """What has become of the work, in the order of events."""
        ...

    def on_batch_end(self) -> None:
        """All stimuli that had come so far are handled."""
        ...

    def on_failure(self, reason: BaseException) -> None:
        """The supervisor has given up."""
        ...


TERMINAL = frozenset({ExecuteSuccess, ExecuteFailure, ExecuteReschedule, ExecuteCancelled})
UNSUPPORTED = frozenset({Gather, CancelGather, RetryBusyWorkerLater, FindMissingLater})

BATCH_LIMIT = 1000
"""Stimuli handled in one go before other tasks get their turn."""


class Supervisor:
    """See the module's text.

    Args:
        machine: Whose decisions are carried out.
        store: The payloads.
        listener: Gets the reports.
        name: Of the worker.
        actor: Runs jobs.
        restart_policy: What an actor may do before the worker fails.
        recorder: Keeps the journal, if there is one. Who opened it closes it.
    """

    def __init__(
        self,
        machine: Machine,
        store: Store,
        listener: Listener,
        *,
        name: str,
        actor: ExecuteActor,
        restart_policy: RestartPolicy,
        recorder: Recorder | None = None,
    ) -> None:
        self.machine = machine
        self.recorder = recorder
        self.store = store
        self._running: dict[int, Job] = {}
        """The attempts that the actor owes."""
        self._listener = listener
        self._actor = actor
        self._restart_policy = restart_policy
        self._outbox: list[ExecuteCommand] = []
        self._stimuli_out, self._stimuli_in = trio.open_memory_channel[Sequence[Stimulus]](math.inf)
        self._jobs_out, self._jobs_in = trio.open_memory_channel[list[ExecuteCommand]](math.inf)
        self.closed = False
        self._batch: list[Stimulus] | None = None
        """Sent, and not taken by the machine's task yet."""
        self._stepper: Stepper | None = None
        # A cancellation from outside ends the block that the worker is for, and the block then ends
        # what runs, in order: until it has, the machine goes on.
        self._scope = trio.CancelScope(shield=True)
        self.threads = ThreadPool(
            machine.ledger.config.slots["thread"],
            name,
            self._deliver,
            trio.lowlevel.current_trio_token(),
        )

    @trio.lowlevel.enable_ki_protection  # a batch that is noted and not sent would be the last
    def send(self, stimulus: Stimulus) -> None:
        """Queue a stimulus. Those sent before the machine gets its turn travel together."""
        if self._batch is None:
            self._batch = [stimulus]
            self._stimuli_out.send_nowait(self._batch)
        else:
            self._batch.append(stimulus)

    @property
    def owed(self) -> list[Job]:
        """The attempts that have begun and have not ended, wherever they run."""
        return [*self.threads.owed.values(), *self._running.values()]

    def is_idle(self) -> bool:
        """Whether all stimuli are handled, and no attempt is owed."""
        if self._batch is not None or self._running or self.threads.owed:
            return False
        if self._stepper is not None and self._stepper.waiting:
            return False
        return not self._stimuli_in.statistics().current_buffer_used

    @contextmanager
    def stepping(self) -> Generator[Stepper]:
        """For the length of a ``with`` block, the machine handles a stimulus only when it is told.

        For tests: between two steps nothing changes. What the block has not let through, the
        machine handles behind it.
        """
        self._stepper = stepper = Stepper()
        try:
            yield stepper
        finally:
            self._stepper = None
            stepper.release()

    def close(self) -> None:
        """End `run` when the stimuli that are queued have been handled. Idempotent."""
        self.closed = True
        self._stimuli_out.close()

    def abandon(self) -> None:
        """End `run` without waiting for the attempts that run. Idempotent."""
        self.closed = True
        self._scope.cancel()

    @trio.lowlevel.enable_ki_protection
    async def run(self) -> None:
        """Run the machine and its actors until `close`. Faults go to the listener."""
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._run_actor)
                    try:
                        await self._run_machine()
                    except Exception as error:  # noqa: BLE001 - a fault of ours, whatever it is
                        self._fail(error)
                    self._jobs_out.close()
        finally:
            self.close()
            self.threads.close()

    def _fail(self, error: Exception) -> None:
        """Give up: nobody shall wait for ever."""
        logger.critical("the worker fails: %s", error, exc_info=error)
        self.abandon()
        self._listener.on_failure(error)

    # The machine's task

    @trio.lowlevel.enable_ki_protection
    async def _run_machine(self) -> None:
        stimuli = self._stimuli_in
        async for first in stimuli:
            batch: Sequence[Stimulus] = first
            handled = 0
            while True:
                self._batch = None  # whoever sends from now on begins another
                if self._stepper is None:
                    self._handle(batch)
                else:
                    await self._stepper.lead(batch, self._handle_alone)
                handled += len(batch)
                if handled >= BATCH_LIMIT:
                    break
                try:
                    batch = stimuli.receive_nowait()
                except (trio.WouldBlock, trio.EndOfChannel):
                    break
            self._end_batch()

    def _end_batch(self) -> None:
        if self.recorder is not None:
            self.recorder.commit()
        if self._outbox:
            self._jobs_out.send_nowait(self._outbox)
            self._outbox = []
        self._listener.on_batch_end()

    def _handle_alone(self, stimulus: Stimulus) -> None:
        self._handle((stimulus,))
        self._end_batch()

    def _handle(self, batch: Sequence[Stimulus]) -> None:
        specs, values, running = self.store.specs, self.store.values, self._running
        handle, recorder = self.machine.handle, self.recorder
        answers = None if recorder is None else recorder.begin(batch)
        on_report, heeded = self._listener.on_report, self._listener.heeded
        for stimulus in batch:
            if running and type(stimulus) in TERMINAL:
                running.pop(stimulus.attempt, None)  # type: ignore[union-attr]
            try:
                instructions = handle(stimulus)
            except Exception as error:
                if recorder is not None:
                    recorder.raised(error)
                raise
            if answers is not None:
                answers.append(instructions)
            for instruction in instructions:
                # By type and not `match`: each is on the way of every task.
                kind = type(instruction)
                if kind is Execute:
                    self._execute(instruction)  # type: ignore[arg-type]
                elif kind is DropSpec:
                    del specs[instruction.spec_id]  # type: ignore[union-attr]
                elif kind is DropData:
                    del values[instruction.key, instruction.attempt]  # type: ignore[union-attr]
                elif kind in heeded:
                    on_report(instruction)  # type: ignore[arg-type]
                elif kind is CancelExecute:
                    self._cancel(instruction)  # type: ignore[arg-type]
                elif kind in UNSUPPORTED:
                    raise WorkerFailed(f"this worker has no actor for {instruction}")

    def _execute(self, execute: Execute) -> None:
        attempt = execute.attempt
        spec = self.store.specs[execute.spec_id]
        inputs = NO_INPUTS
        if execute.inputs:
            inputs = {key: self.store.values[key, entry] for key, entry in execute.inputs}
        # Plain functions go to the threads without a detour through the actor's task, which
        # would cost as much as the function.
        if execute.executor == THREAD:
            self.threads.submit(Job(execute.key, attempt, spec, inputs, self, True))
        else:
            self._running[attempt] = job = Job(execute.key, attempt, spec, inputs, self)
            self._outbox.append(job)

    def _cancel(self, cancel: CancelExecute) -> None:
        job = self.threads.owed.get(cancel.attempt)
        if job is not None:
            job.cancelled = True  # which is all that can be done to a thread
        else:
            self._outbox.append(cancel)

    def _deliver(self, batch: list[Job | Secede]) -> None:
        """What threads bring, in the event loop."""
        if self.closed:  # left without waiting for them, or failed
            self._listener.on_batch_end()
            return
        store = self.store
        self._stimuli_out.send_nowait(
            [terminal_stimulus(item, store) if isinstance(item, Job) else item for item in batch]
        )

    # The actor's task

    @trio.lowlevel.enable_ki_protection
    async def _run_actor(self) -> None:
        crashes: deque[float] = deque()
        policy = self._restart_policy
        while True:
            try:
                await self._actor(self._jobs_in, self._stimuli_out, self.store)
                if self.closed:
                    return
                raise ActorCrashed("it has returned, and was not told to")
            except Exception as error:  # whatever it is, the worker goes on
                logger.error("the execute actor has crashed", exc_info=error)
                if self.closed:
                    return
                self._fail_attempts(error)
                now = trio.current_time()
                crashes.append(now)
                while crashes[0] < now - policy.period_s:
                    crashes.popleft()
                if len(crashes) > policy.limit:
                    self._fail(error)
                    return
            await trio.sleep(policy.backoff_s * 2 ** (len(crashes) - 1))

    def _fail_attempts(self, error: Exception) -> None:
        """End what the crashed actor owes; what it has not taken yet is for the next one."""
        untaken: list[ExecuteCommand] = []
        while True:
            try:
                untaken += self._jobs_in.receive_nowait()
            except (trio.WouldBlock, trio.EndOfChannel):
                break
        if untaken:
            self._jobs_out.send_nowait(untaken)
        kept = {item.attempt for item in untaken if type(item) is Job}
        for job in list(self._running.values()):
            if not job.ended and job.attempt not in kept:
                crash = ActorCrashed(f"the actor that ran {job.key!r} has crashed: {error!r}")
                crash.__cause__ = error
                job.fail(crash, None)
                self._stimuli_out.send_nowait((terminal_stimulus(job, self.store),))
