"""Shortcuts for what comes in bulk: a wave of small tasks of a kind, and how they end.

`Machine.handle_all` gives the answers that `Machine.handle` gives, in the same order, and leaves
the same state; but what is the same for a whole wave is looked up and decided once, and with tasks
that take a microsecond this is most of the work. A function here takes one stimulus after the
other for as long as they are plain. The first that is not goes the long way, and so does a whole
wave that meets something else that is going on.

Both rest on an invariant: between two stimuli, whatever could start has started, and so has every
fetch. So a task behind others waits, and one that ends makes room for one.
"""

from collections.abc import Sequence
from itertools import islice
from typing import TypeAlias

from trouper.runtime.ledger import ALWAYS_BRIEF, BRIEF, BRIEF_S, Ledger
from trouper.runtime.ready import ReadyQueue
from trouper.runtime.task import COMPUTE, IN_MEMORY, NONE, NOWHERE, READY, Executing, Task
from trouper.wire.instructions import DropSpec, Execute, Instruction, TaskFinished
from trouper.wire.stimuli import ComputeTask, ExecuteSuccess, Stimulus

Answers: TypeAlias = list[Sequence[Instruction]]
"""Of the machine, to as many of the stimuli as it has handled."""


def lone_queue(ledger: Ledger, executor: str) -> ReadyQueue | None:
    """The queue for an executor, if nothing but its order decides what starts next."""
    if ledger.paused or ledger.constrained_count:
        return None
    queue = ledger.plain_queues.get(executor)
    return queue if queue is not None and queue.in_order else None


def compute_tasks(ledger: Ledger, stimuli: Sequence[Stimulus], answers: Answers) -> None:
    """Tasks that are new and take neither inputs nor resources: start them, or queue them."""
    first = stimuli[len(answers)]
    assert isinstance(first, ComputeTask)
    executor, prefix = first.executor, first.prefix
    queue = lone_queue(ledger, executor)
    if queue is None:
        return
    tasks, run, slots, add = ledger.tasks, queue.run, queue.slots, answers.append
    brief = slots.run_ahead > 0 and ledger.brevity.get(prefix) in BRIEF
    last = run[-1] if run else None
    startable = 0
    if last is None:
        startable = slots.free + (slots.run_ahead if brief and not slots.lengthy else 0)
    age, attempt = ledger.last_age, ledger.last_attempt
    try:
        for ev in islice(stimuli, len(answers), None):
            if type(ev) is not ComputeTask or ev.local or ev.who_has or ev.resources:
                return
            key, spec_id, priority = ev.key, ev.spec_id, ev.priority
            if key in tasks or spec_id <= 0 or ev.prefix != prefix or ev.executor != executor:
                return
            for number in priority:
                if number != number:
                    return
            task = Task(key, age + 1, COMPUTE, ev.run_id, spec_id, priority, executor, prefix)
            if startable > 0:
                startable -= 1
                slots.free -= 1
                slots.lengthy += not brief
                attempt += 1
                task.activity = Executing(attempt, spec_id, executor, (), (), brief)
                add((Execute(key, attempt, ev.run_id, spec_id, executor, ()),))
            else:
                entry = (priority, -age - 1, task)
                if last is not None and entry < last:
                    return
                task.place = READY
                run.append(entry)
                last = entry
                add(())
            tasks[key] = task
            age += 1
    finally:
        ledger.last_age, ledger.last_attempt = age, attempt
        queue.live = len(run)


def execute_successes(ledger: Ledger, stimuli: Sequence[Stimulus], answers: Answers) -> None:
    """Values of brief tasks without inputs and dependents: each makes room for the next task."""
    first = stimuli[len(answers)]
    assert isinstance(first, ExecuteSuccess)
    task = ledger.tasks.get(first.key)
    if task is None or ledger.brevity.get(task.prefix) != ALWAYS_BRIEF:
        return
    executor, prefix = task.executor, task.prefix
    queue = lone_queue(ledger, executor)
    if queue is None:
        return
    tasks, run, slots, add = ledger.tasks, queue.run, queue.slots, answers.append
    kept_nbytes, attempt = ledger.nbytes, ledger.last_attempt
    try:
        for ev in islice(stimuli, len(answers), None):
            if type(ev) is not ExecuteSuccess or ev.duration_s > BRIEF_S:
                return
            key = ev.key
            task = tasks.get(key)
            if task is None or task.prefix != prefix or task.dependents:
                return
            activity, spec_id, entry = task.activity, task.spec_id, ev.attempt
            if (
                type(activity) is not Executing
                or activity.attempt != entry
                or activity.spec_id != spec_id
                or activity.inputs
                or activity.resources
                or activity.seceded
                or not activity.brief
                or activity.executor != executor
            ):  # otherwise it is wanted as it was when it began: it has kept its spec
                return
            following = run[0][2] if run else None
            if following is not None and (
                following.prefix != prefix or following.local or following.remote
            ):
                return
            nbytes, type_name = ev.nbytes, ev.type_name
            # `transitions.keep`
            task.activity = None
            task.spec_id = 0
            task.priority = ()
            task.executor = task.prefix = ""
            task.claim = NONE
            task.result = IN_MEMORY
            task.entry = entry
            task.nbytes = nbytes
            task.type_name = type_name
            task.hold = True
            kept_nbytes += nbytes
            drop = DropSpec(key, spec_id)
            report = TaskFinished(key, task.run_id, entry, nbytes, type_name)
            if following is None:
                slots.free += 1
                add((drop, report))
                continue
            # `policies.start`, in the slot that this one has left
            run.popleft()
            attempt += 1
            spec_id = following.spec_id
            following.place = NOWHERE
            following.activity = Executing(attempt, spec_id, executor, (), (), True)
            start = Execute(following.key, attempt, following.run_id, spec_id, executor, ())
            add((drop, report, start))
    finally:
        ledger.nbytes, ledger.last_attempt = kept_nbytes, attempt
        queue.live = len(run)
