"""The execute actor: runs coroutines as trio tasks, in a nursery of its own.

Nothing is decided here: which job, when, and in which kind of slot, is the machine's. Plain
functions run in threads (`threads`), which belong to the supervisor and not to this actor, so
that they survive its restart and keep their slots.
"""

import math
import signal
import sys
import threading
from typing import TypeAlias, cast

import trio

from trouper.actors.actor import Stimuli
from trouper.actors.job import Job, current_job, terminal_stimulus
from trouper.actors.store import Store
from trouper.wire.instructions import CancelExecute

THREAD = "thread"
COROUTINE = "coroutine"

ExecuteCommand: TypeAlias = Job | CancelExecute


@trio.lowlevel.enable_ki_protection
async def execute(
    instructions: trio.MemoryReceiveChannel[list[ExecuteCommand]],
    stimuli: Stimuli,
    store: Store,
) -> None:
    """Run coroutines until the channel of instructions is closed and all of them have ended.

    Args:
        instructions: Batches of jobs and cancellations.
        stimuli: Takes one terminal stimulus for each job.
        store: Where values and exceptions are put before the stimulus is sent.
    """
    running: dict[int, Job] = {}
    async with trio.open_nursery() as nursery:
        async for batch in instructions:
            for item in batch:
                if type(item) is Job:
                    running[item.attempt] = item
                    assert item.spec is not None
                    # A task takes over the context variables of whoever starts it.
                    item.spec.context.run(
                        nursery.start_soon, _run_coroutine, item, running, stimuli, store
                    )
                elif item.attempt in running:
                    _cancel(running[item.attempt])


def _cancel(job: Job) -> None:
    job.cancelled = True
    if job.scope is not None:
        job.scope.cancel()


@trio.lowlevel.enable_ki_protection
async def _run_coroutine(job: Job, running: dict[int, Job], stimuli: Stimuli, store: Store) -> None:
    current_job.set(job)
    with trio.CancelScope() as scope:
        job.scope = scope
        if job.cancelled:
            scope.cancel()
        try:
            value = await _call(job)
        except BaseException as error:  # whoever awaits the task gets it
            if isinstance(error, trio.Cancelled) and trio.current_effective_deadline() == -math.inf:
                raise  # it is one of those around this that is cancelled
            if job.cancelled and is_interrupt(error):
                _pass_interrupt_on()
            job.fail(error, sys.exc_info()[2])
        else:
            job.succeed(value)
    if scope.cancelled_caught:
        job.cancel_outcome()
    job.scope = None
    del running[job.attempt]
    stimuli.send_nowait((terminal_stimulus(job, store),))


def is_interrupt(error: BaseException) -> bool:
    """Whether this is Ctrl-C, itself or in the group that a nursery makes of it."""
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        return group.subgroup(KeyboardInterrupt) is not None
    return isinstance(error, KeyboardInterrupt)


def _pass_interrupt_on() -> None:
    """Ctrl-C has hit a task that was cancelled, so nobody awaits it: let it hit somewhere else."""
    in_main_thread = threading.current_thread() is threading.main_thread()
    if in_main_thread and callable(signal.getsignal(signal.SIGINT)):
        signal.raise_signal(signal.SIGINT)


@trio.lowlevel.disable_ki_protection
async def _call(job: Job) -> object:
    """Run the user's coroutine, which Ctrl-C may interrupt anywhere."""
    assert job.spec is not None
    return await job.spec.call(job.inputs)
