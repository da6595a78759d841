"""Two tasks, two peers, one slot: everything that can be asked of such a world, and answered.

`x` has no inputs; `y` has none, or `x`. A `Bounds` says what may happen in a world; `options`
lists it for a state, in an order that does not depend on numbering, so that the n-th option of a
state is the same thing under all its names (see `canonical`).
"""

from collections.abc import Iterator
from itertools import chain, combinations

from bounds import A, Bounds, Holders, X, Y
from canonical import PAST_RUN, STALE_ATTEMPT, State, canonical, mentioned
from model import Books, Owed

from trouper.runtime.invariants import check
from trouper.runtime.machine import Machine
from trouper.runtime.snapshot import restore
from trouper.runtime.task import Executing, Place, Result, Task
from trouper.wire import instructions as ins
from trouper.wire import stimuli as st
from trouper.wire.instructions import Instruction
from trouper.wire.stimuli import Stimulus
from trouper.wire.vocabulary import Entry, Key, Peer

THIS_RUN = PAST_RUN + 1
"""The run_id of the request that is being sent."""


class Small(Books):
    """A world that begins in any state."""

    def __init__(self, state: State) -> None:
        machine = Machine.__new__(Machine)  # a new one would convert a configuration
        machine.ledger = restore(state.snapshot)
        super().__init__(machine, state.owed)

    @property
    def state(self) -> State:
        """Where it is now."""
        return canonical(self.machine.snapshot(), self.owed.values())

    def verify(self, stimulus: Stimulus) -> None:
        """Hand a stimulus over, and verify what a look at the state alone would not show.

        From a canonical state only, in which no request has run_id `THIS_RUN` yet.
        """
        missing = {task.key for task in self.machine.ledger.missing}
        cancelled = self._cancelled()
        is_outdated = self._is_outdated(stimulus)
        absent = self._absent(stimulus)
        for instruction in self.tell(stimulus):
            _check_run(instruction, stimulus)
            if isinstance(instruction, (ins.TaskFinished, ins.TaskErred)):
                assert not is_outdated, "it reports the outcome of a spec that is not wanted"
            if isinstance(instruction, (ins.CancelExecute, ins.CancelGather)):
                assert cancelled.isdisjoint(_cancelled_by(instruction)), "it cancels twice"
        for key, peer in absent:
            task = self.machine.ledger.tasks.get(key)
            assert task is None or peer not in (task.holders or ()), "it would ask there again"
        if isinstance(stimulus, st.ComputeTask):
            task = self.machine.ledger.tasks.get(stimulus.key)
            assert task is None or task.run_id == THIS_RUN, "the newest run_id is forgotten"
        if isinstance(stimulus, st.FindMissing):
            assert set(self.sought) == missing, "it does not ask for all that is missing"
        # On the very machine that has changed: one that is restored has its indices anew.
        check(self.machine)
        self.verify_books()
        self._verify_owed()

    def verify_stale(self) -> None:
        """Verify that it ignores what would end attempts that are long over."""
        before = self.machine.snapshot()
        for stimulus in STALE:
            out = self.machine.handle(stimulus)
            assert all(isinstance(instruction, ins.DropData) for instruction in out), stimulus
        check(self.machine)
        assert self.machine.snapshot() == before, "something stale has changed it"

    def _cancelled(self) -> set[Entry]:
        """Key and attempt of all that has been cancelled and not ended."""
        tasks = self.machine.ledger.tasks.values()
        running = [(task.key, task.activity) for task in tasks if task.activity is not None]
        return {(key, activity.attempt) for key, activity in running if activity.cancelling}

    def _absent(self, stimulus: Stimulus) -> list[tuple[Key, Peer]]:
        """Keys that a peer has been asked for, and turns out not to hold."""
        if not isinstance(stimulus, (st.GatherSuccess, st.GatherNetworkFailure)):
            return []
        keys = set(self.machine.ledger.flights[stimulus.attempt].keys)
        if isinstance(stimulus, st.GatherSuccess):
            keys -= stimulus.data.keys()
            keys -= {key for key, _ in self._cancelled()}  # it may have left them out for that
        return [(key, stimulus.peer) for key in sorted(keys)]

    def _is_outdated(self, stimulus: Stimulus) -> bool:
        """Whether an attempt ends that ran another spec than the one wanted now, if any is."""
        if not isinstance(stimulus, (st.ExecuteSuccess, st.ExecuteFailure)):
            return False
        ran = self.owed[stimulus.attempt]
        assert isinstance(ran, ins.Execute)
        return self.machine.ledger.tasks[stimulus.key].spec_id != ran.spec_id

    def _verify_owed(self) -> None:
        """What is owed is the very thing that the machine waits for."""
        ledger = self.machine.ledger
        for owed in self.owed.values():
            match owed:
                case ins.Execute():
                    activity = ledger.tasks[owed.key].activity
                    assert isinstance(activity, Executing)
                    known = (activity.attempt, activity.spec_id, activity.inputs)
                    assert known == (owed.attempt, owed.spec_id, owed.inputs), owed
                case ins.Gather():
                    flight = ledger.flights[owed.attempt]
                    assert flight.peer == owed.peer, owed
                    assert set(flight.keys) == set(owed.keys), owed
                case ins.RetryBusyWorkerLater():
                    assert ledger.peers[owed.peer].busy_attempt == owed.attempt, owed
                case ins.FindMissingLater():
                    assert ledger.missing_attempt == owed.attempt, owed


STALE: tuple[Stimulus, ...] = (
    st.ExecuteSuccess(X, STALE_ATTEMPT, 1, ""),
    st.ExecuteFailure(X, STALE_ATTEMPT, "ValueError"),
    st.ExecuteReschedule(Y, STALE_ATTEMPT),
    st.ExecuteCancelled(Y, STALE_ATTEMPT),
    st.Secede(Y, STALE_ATTEMPT),
    st.GatherSuccess(A, STALE_ATTEMPT, {X: (1, "")}),
    st.GatherBusy(A, STALE_ATTEMPT),
    st.GatherNetworkFailure(A, STALE_ATTEMPT),
    st.GatherFailure(A, STALE_ATTEMPT, "ValueError"),
    st.RetryBusyWorker(A, STALE_ATTEMPT),
    st.FindMissing(STALE_ATTEMPT),
)
"""What would end an attempt that is long over."""


def _cancelled_by(instruction: ins.CancelExecute | ins.CancelGather) -> set[Entry]:
    if isinstance(instruction, ins.CancelExecute):
        return {(instruction.key, instruction.attempt)}
    return {(key, instruction.attempt) for key in instruction.keys}


def _check_run(instruction: Instruction, cause: Stimulus) -> None:
    """A report carries the run_id of the newest request for its key."""
    if isinstance(instruction, (ins.TaskFinished, ins.TaskErred, ins.LongRunning)):
        asked_now = isinstance(cause, st.ComputeTask) and cause.key == instruction.key
        assert instruction.run_id == (THIS_RUN if asked_now else PAST_RUN), instruction


def empty(bounds: Bounds) -> Small:
    """Where a walk begins."""
    return Small(canonical(Machine(bounds.config).snapshot(), ()))


# What can happen


def options(bounds: Bounds, world: Small) -> Iterator[Stimulus]:
    """Every stimulus that makes sense in a state."""
    yield from requests(bounds, world)
    attempts = mentioned(world.machine.snapshot())
    for attempt in sorted(world.owed, key=attempts.__getitem__):
        yield from answers(bounds, world.owed[attempt])


def requests(bounds: Bounds, world: Small) -> Iterator[Stimulus]:
    """All that may be asked of the worker."""
    yield from computations(bounds, world)
    unused = min((attempt for _, attempt in world.entries if attempt < 0), default=0) - 1
    yield st.FreeKeys((X, Y))
    for key in (X, Y):
        yield st.FreeKeys((key,))
        yield st.StealRequest(key, "steal")
        if bounds.cancel:
            yield st.CancelTask(key)
            yield st.CancelCompute(key)
        if bounds.scatter:
            yield st.UpdateData({key: (bounds.nbytes, "")}, unused, "put")
    if bounds.pause:
        yield st.Unpause() if world.machine.ledger.paused else st.Pause()
    for keys in _subsets(bounds.replicas):
        if keys:
            yield st.RemoveReplicas(keys)
            for holders in bounds.holders:
                sizes = dict.fromkeys(keys, bounds.nbytes)
                yield st.AcquireReplicas(dict.fromkeys(keys, holders), sizes)
    yield from news(bounds, world)


def computations(bounds: Bounds, world: Small) -> Iterator[Stimulus]:
    """Compute-task for both keys, in every shape, from a known spec or a new one."""
    tasks = world.machine.ledger.tasks
    x = tasks.get(X)
    remote: list[dict[Key, Holders]] = [{}, *({X: holders} for holders in bounds.remote)]
    shapes: list[tuple[tuple[Key, ...], dict[Key, Holders]]] = [((), who_has) for who_has in remote]
    if bounds.local and x is not None and (x.spec_id or x.result is not Result.NOTHING):
        shapes.append(((X,), {}))
    for key, local, who_has in [(X, (), {}), *((Y, *shape) for shape in shapes)]:
        if key not in bounds.computed:
            continue
        for spec_id in specs(tasks.get(key)):
            for priority in bounds.priorities:
                for resources in bounds.resources:
                    sizes = dict.fromkeys(who_has, bounds.nbytes)
                    yield st.ComputeTask(
                        key, THIS_RUN, spec_id, priority, local, who_has, sizes, "thread", resources
                    )


def specs(task: Task | None) -> list[int]:
    """The spec that is wanted, the one that runs, and a new one: no others make a difference."""
    if task is None:
        return [1]
    known = [task.spec_id] if task.spec_id else []
    if isinstance(task.activity, Executing) and task.activity.spec_id not in known:
        known.append(task.activity.spec_id)
    return [*known, max(known, default=0) + 1]


def news(bounds: Bounds, world: Small) -> Iterator[Stimulus]:
    """What the scheduler says of holders; unasked, only if the bounds allow it."""
    told = [task.key for task in world.machine.ledger.missing]
    if bounds.refresh:
        told += bounds.replicas
    for key in sorted(set(told)):
        for holders in bounds.holders:
            yield st.RefreshWhoHas({key: holders})
    if bounds.refresh:
        for peer in dict.fromkeys(chain.from_iterable(bounds.holders)):
            yield st.RemoveWorker(peer)


def answers(bounds: Bounds, owed: Owed) -> Iterator[Stimulus]:
    """Every way in which what is owed can end, and what can be said before."""
    nbytes = bounds.nbytes
    match owed:
        case ins.Execute(key=key, attempt=attempt):
            yield st.ExecuteSuccess(key, attempt, nbytes, "")
            yield st.ExecuteFailure(key, attempt, "ValueError")
            yield st.ExecuteReschedule(key, attempt)
            yield st.ExecuteCancelled(key, attempt)
            if bounds.secede:
                yield st.Secede(key, attempt)
        case ins.Gather(peer=peer, attempt=attempt):
            for keys in _subsets(tuple(sorted(owed.keys))):
                yield st.GatherSuccess(peer, attempt, dict.fromkeys(keys, (nbytes, "")))
            yield st.GatherBusy(peer, attempt)
            yield st.GatherNetworkFailure(peer, attempt)
            yield st.GatherFailure(peer, attempt, "ValueError")
        case ins.RetryBusyWorkerLater(peer=peer, attempt=attempt):
            yield st.RetryBusyWorker(peer, attempt)
        case ins.FindMissingLater(attempt=attempt):
            yield st.FindMissing(attempt)


def _subsets(keys: tuple[Key, ...]) -> Iterator[tuple[Key, ...]]:
    return chain.from_iterable(combinations(keys, size) for size in range(len(keys) + 1))


# What happens when everybody is kind


def is_kind(world: Small, stimulus: Stimulus) -> bool:
    """Whether a stimulus is an answer that a kind world gives; it asks for nothing new.

    Who is asked answers with what was asked for, waits end, the worker goes on. The scheduler says
    who holds what is missing, which it is asked as often as it does not (`Small.verify` checks
    that).
    """
    ledger = world.machine.ledger
    match stimulus:
        case st.ExecuteSuccess() | st.RetryBusyWorker() | st.Unpause():
            return True
        case st.ExecuteCancelled(key=key):
            activity = ledger.tasks[key].activity
            return activity is not None and activity.cancelling
        case st.GatherSuccess(attempt=attempt):
            return stimulus.data.keys() == set(ledger.flights[attempt].keys)
        case st.FindMissing():
            return not ledger.missing
        case st.RefreshWhoHas():
            missing = {task.key for task in ledger.missing}
            return missing.issuperset(stimulus.who_has) and all(
                holders == (A,) for holders in stimulus.who_has.values()
            )
        case _:
            return False


def is_end(world: Small) -> bool:
    """Whether nothing is owed, and no task wants anything that it lacks."""
    tasks = world.machine.ledger.tasks.values()
    return not world.owed and all(task.place is Place.NOWHERE for task in tasks)
