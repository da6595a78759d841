"""The supervisor: one nursery that owns the machine's task and the actors.

Stimuli come into one inbox, in batches; one task takes them, has the machine handle them, some
hundreds at a time, and carries out the instructions in their order: it resolves references and
drops payloads at once, before anything reaches an actor, so that no drop can overtake a use.

The machine's task waits for nothing but stimuli. The inbox and the actors' channels have no bound,
and need none: what is in them is bounded by what is under way, since an actor is only told of an
attempt that holds a slot, and owes one stimulus for it. What a user submits is bounded by the user.

A crash of an actor is contained by its keeper (`keeper`): what it owed ends with a failure, and it
is started again, within limits. Past the limits, or if the machine itself finds a fault, the worker
fails: everybody who waits is told why, and nobody waits for ever.
"""

import logging
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any, NoReturn, Protocol, TypeAlias

import trio

from trouper.actors.actor import Actor, Terminal
from trouper.actors.errors import ActorCrashed
from trouper.actors.execute import THREAD, ExecuteCommand
from trouper.actors.fetched import Found
from trouper.actors.gather import GatherCommand
from trouper.actors.job import NO_INPUTS, Job, terminal_stimulus
from trouper.actors.store import Store
from trouper.actors.threads import ThreadPool
from trouper.actors.timers import Timer, over
from trouper.runtime.bulk import Answers
from trouper.runtime.errors import StimulusError, WorkerFailed
from trouper.runtime.journal.recorder import Recorder
from trouper.runtime.keeper import Keeper, RestartPolicy
from trouper.runtime.machine import Machine
from trouper.runtime.stepping import Stepper
from trouper.runtime.task import IN_MEMORY
from trouper.wire.instructions import (
    CancelExecute,
    CancelGather,
    DropData,
    DropSpec,
    Execute,
    FindMissingLater,
    Gather,
    Instruction,
    Report,
    RetryBusyWorkerLater,
)
from trouper.wire.stimuli import GatherNetworkFailure, Stimulus
from trouper.wire.vocabulary import Key

logger = logging.getLogger(__name__)


ExecuteActor: TypeAlias = Actor[ExecuteCommand]
"""What runs jobs: `trouper.actors.execute.execute`, or a fake."""


class Listener(Protocol):
    """Who gave the work: the embedded worker. Called in the machine's task; must not block."""

    heeded: frozenset[type[Report]]
    """The reports that it wants to hear of."""

    def on_reports(self, reports: Sequence[Report]) -> None:
        """What has become of the work, in the order of events."""
        ...

    def on_batch_end(self) -> None:
        """All stimuli that had come so far are handled."""
        ...

    def on_stimulus_refused(self, stimulus: Stimulus, error: StimulusError) -> None:
        """The machine takes no such stimulus, and is as it was. Raises if that cannot be."""
        ...

    def on_failure(self, reason: BaseException) -> None:
        """The supervisor has given up."""
        ...


AT_ONCE = 250
"""Stimuli handled before what they lead to is carried out."""

BATCH_LIMIT = 1000
"""Stimuli handled in one go before other tasks get their turn."""


class Supervisor:
    """See the module's text.

    Args:
        machine: Whose decisions are carried out.
        store: The payloads.
        listener: Gets the reports.
        name: Of the worker.
        execute: Runs jobs.
        gather: Fetches values from peers; None if there are none.
        timers: Says when a wait is over; None if there are no peers.
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
        execute: ExecuteActor,
        gather: Actor[GatherCommand] | None = None,
        timers: Actor[Timer] | None = None,
        restart_policy: RestartPolicy,
        recorder: Recorder | None = None,
    ) -> None:
        self.machine = machine
        self.recorder = recorder
        self.store = store
        self._listener = listener
        self._inbox: deque[Sequence[Stimulus]] = deque()
        """Batches, from wherever, that the machine's task has not taken yet. A deque and an event,
        for a channel takes thrice the time, and a task that is awaited by itself waits for it."""
        self._filled = trio.Event()
        """The inbox is not empty, or there will be nothing more in it."""
        self._ended = False
        """Nothing more comes."""
        to_actors = (store, self._queue, restart_policy)
        self._jobs = Keeper("execute", execute, *to_actors, self._end_job)
        self._keepers: list[Keeper[Any]] = [self._jobs]
        self._followers: dict[type[Instruction], Callable[[Any], None]] = dict.fromkeys(
            (Gather, CancelGather, RetryBusyWorkerLater, FindMissingLater), _refuse
        )
        """Who follows the instructions that are rare, or that not every worker can be given."""
        self._followers[CancelExecute] = self._cancel
        if gather is not None:
            gathers = Keeper("gather", gather, *to_actors, _end_gather)
            self._keepers.append(gathers)
            self._followers |= {Gather: gathers.begin, CancelGather: gathers.tell}
        if timers is not None:
            waits = Keeper("timers", timers, *to_actors, _end_timer)
            self._keepers.append(waits)
            self._followers |= {RetryBusyWorkerLater: waits.begin, FindMissingLater: waits.begin}
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
            store,
            self._deliver,
            trio.lowlevel.current_trio_token(),
        )

    @trio.lowlevel.enable_ki_protection  # a batch that is noted and not sent would be the last
    def send(self, stimulus: Stimulus) -> None:
        """Queue a stimulus. Those sent before the machine gets its turn travel together."""
        if self._batch is None:
            self._batch = [stimulus]
            self._queue(self._batch)
        else:
            self._batch.append(stimulus)

    @trio.lowlevel.enable_ki_protection
    def send_all(self, stimuli: list[Stimulus]) -> None:
        """Queue stimuli, as `send` does with each. The list does not change any more."""
        if self._batch is None:
            self._queue(stimuli)
        else:
            self._batch += stimuli

    @trio.lowlevel.enable_ki_protection
    def _queue(self, batch: Sequence[Stimulus]) -> None:
        if self._ended:
            raise trio.ClosedResourceError
        self._inbox.append(batch)
        self._filled.set()

    @property
    def owed(self) -> list[Job]:
        """The attempts at tasks that have begun and have not ended, wherever they run."""
        jobs = [job for job in self._jobs.owed.values() if isinstance(job, Job)]
        return [*self.threads.owed.values(), *jobs]

    def value_of(self, key: Key) -> Found | None:
        """The value of a key that is in memory here, for whoever asks; None if it is not."""
        task = self.machine.ledger.tasks.get(key)
        if task is None or task.result is not IN_MEMORY:
            return None
        return Found(self.store.values[key, task.entry], task.nbytes, task.type_name)

    def is_idle(self) -> bool:
        """Whether all stimuli are handled, and no attempt and no timer is owed."""
        if self._inbox or self.threads.owed:
            return False
        if self._stepper is not None and self._stepper.waiting:
            return False
        return not any(keeper.owed for keeper in self._keepers)

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
        self._expect_end()
        self._ended = True
        self._filled.set()

    def abandon(self) -> None:
        """End `run` without waiting for the attempts that run. Idempotent."""
        self._expect_end()
        self._scope.cancel()

    def _expect_end(self) -> None:
        self.closed = True
        for keeper in self._keepers:
            keeper.expect_end()

    @trio.lowlevel.enable_ki_protection
    async def run(self) -> None:
        """Run the machine and its actors until `close`. Faults go to the listener."""
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    for keeper in self._keepers:
                        nursery.start_soon(self._run_actor, keeper)
                    try:
                        await self._run_machine()
                    except Exception as error:  # noqa: BLE001 - a fault of ours, whatever it is
                        self._fail(error)
                    for keeper in self._keepers:
                        keeper.close()
        finally:
            self.close()
            self.threads.close()

    @trio.lowlevel.enable_ki_protection
    async def _run_actor(self, keeper: Keeper[Any]) -> None:
        try:
            await keeper.run()
        except Exception as error:  # noqa: BLE001 - of what it has crashed too often
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        """Give up: nobody shall wait for ever."""
        logger.critical("the worker fails: %s", error, exc_info=error)
        self.abandon()
        self._listener.on_failure(error)

    # The machine's task

    @trio.lowlevel.enable_ki_protection
    async def _run_machine(self) -> None:
        inbox = self._inbox
        while inbox or not self._ended:
            await self._filled.wait()
            handled = 0
            while inbox and handled < BATCH_LIMIT:
                self._batch = None  # whoever sends from now on begins another
                batch = inbox.popleft()
                if self._stepper is None:
                    self._handle(batch)
                else:
                    await self._stepper.lead(batch, self._handle_alone)
                handled += len(batch)
            if not inbox and not self._ended:
                self._filled = trio.Event()
            self._end_batch()

    def _end_batch(self) -> None:
        if self.recorder is not None:
            self.recorder.commit()
        for keeper in self._keepers:
            if keeper.outbox:
                keeper.flush()
        self._listener.on_batch_end()

    def _handle_alone(self, stimulus: Stimulus) -> None:
        self._handle((stimulus,))
        self._end_batch()

    def _handle(self, batch: Sequence[Stimulus]) -> None:
        if len(batch) > AT_ONCE:
            for first in range(0, len(batch), AT_ONCE):
                self._handle(batch[first : first + AT_ONCE])
            return
        recorder = self.recorder
        answers: Answers = [] if recorder is None else recorder.begin(batch)
        done = 0
        while True:
            try:
                self.machine.handle_all(batch, answers)
            except Exception as error:
                self._carry_out(answers[done:])
                refused = batch[len(answers)]
                if recorder is None:
                    answers.append(())
                else:
                    recorder.raised(error)
                if not isinstance(error, StimulusError):
                    raise
                self._listener.on_stimulus_refused(refused, error)
                done = len(answers)
            else:
                self._carry_out(answers[done:])
                return

    def _carry_out(self, answers: Answers) -> None:
        store, submit = self.store, self.threads.submit
        specs, values, heeded = store.specs, store.values, self._listener.heeded
        reports: list[Report] = []
        told: Any  # by its type and not by `match`: nearly all are on the way of every task
        for told in chain.from_iterable(answers):
            kind = type(told)  # pyright: ignore[reportUnknownVariableType]
            if kind is Execute:
                if told.executor == THREAD and not told.inputs:  # `_execute`, in plain
                    spec = specs[told.spec_id]
                    submit(Job(told.key, told.attempt, spec, NO_INPUTS, self, True))
                else:
                    self._execute(told)
            elif kind is DropSpec:
                del specs[told.spec_id]
            elif kind in heeded:
                reports.append(told)
            elif kind is DropData:
                if reports:  # which may be of this very value
                    self._listener.on_reports(reports)
                    reports = []
                del values[told.key, told.attempt]
            elif kind in self._followers:
                self._followers[kind](told)
        if reports:
            self._listener.on_reports(reports)

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
            self._jobs.begin(Job(execute.key, attempt, spec, inputs, self))

    def _cancel(self, cancel: CancelExecute) -> None:
        job = self.threads.owed.get(cancel.attempt)
        if job is not None:
            job.cancelled = True  # which is all that can be done to a thread
        else:
            self._jobs.tell(cancel)

    def _deliver(self, batch: Sequence[Stimulus]) -> None:
        """What threads bring, in the event loop."""
        if self.closed:  # left without waiting for them, or failed
            self._listener.on_batch_end()
        else:
            self._queue(batch)

    # What becomes of what a crashed actor owed

    def _end_job(self, job: ExecuteCommand, error: Exception) -> Terminal:
        assert isinstance(job, Job)
        crash = ActorCrashed(f"the actor that ran {job.key!r} has crashed: {error!r}")
        crash.__cause__ = error
        job.fail(crash, None)
        return terminal_stimulus(job, self.store)


def _end_gather(gather: GatherCommand, error: Exception) -> Terminal:
    return GatherNetworkFailure(gather.peer, gather.attempt)


def _end_timer(timer: Timer, error: Exception) -> Terminal:
    """The wait is over too early: who is asked in vain is waited for again."""
    return over(timer)


def _refuse(instruction: Instruction) -> NoReturn:
    raise WorkerFailed(f"this worker has no actor for {instruction}")
