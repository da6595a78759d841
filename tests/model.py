"""The world around a machine, for tests: what it owes, what its store holds, what is believed.

A `World` plays everybody at once: it keeps the specs and values that a store would keep, the
attempts that still have to be answered, and what the scheduler was told. `World.send` hands a
stimulus to the machine and then verifies, after every single one:

- the machine's own invariants;
- that the store holds exactly the specs and entries that the machine knows of: nothing used
  after it was dropped, nothing dropped twice, nothing left behind;
- that exactly the attempts and timers that the machine waits for are owed;
- that what the scheduler was told is here is here ("what it believes we have, we have");
- that a second machine, restored from a snapshot some steps ago, says the same;
- that a stimulus that is refused has changed nothing.
"""

from collections import Counter
from collections.abc import Iterable
from typing import TypeAlias

from trouper.runtime.errors import StimulusError
from trouper.runtime.invariants import check
from trouper.runtime.ledger import Config
from trouper.runtime.machine import Machine
from trouper.runtime.task import IN_MEMORY, Executing, Result
from trouper.wire import instructions as ins
from trouper.wire import stimuli as st
from trouper.wire.instructions import Instruction
from trouper.wire.stimuli import Stimulus
from trouper.wire.vocabulary import Entry, Key

Owed: TypeAlias = ins.Execute | ins.Gather | ins.RetryBusyWorkerLater | ins.FindMissingLater

TERMINAL: dict[type[Stimulus], type[Owed]] = {
    st.ExecuteSuccess: ins.Execute,
    st.ExecuteFailure: ins.Execute,
    st.ExecuteReschedule: ins.Execute,
    st.ExecuteCancelled: ins.Execute,
    st.GatherSuccess: ins.Gather,
    st.GatherBusy: ins.Gather,
    st.GatherNetworkFailure: ins.Gather,
    st.GatherFailure: ins.Gather,
    st.RetryBusyWorker: ins.RetryBusyWorkerLater,
    st.FindMissing: ins.FindMissingLater,
}
"""The stimuli that end something, and what they end."""

RENEW_TWIN_EVERY = 8


class Books:
    """What is kept beside a machine: all that was given to it, owed by it, and told by it."""

    def __init__(self, machine: Machine, owed: Iterable[Owed] = ()) -> None:
        tasks = machine.ledger.tasks.values()
        self.machine = machine
        self.owed: dict[int, Owed] = {instruction.attempt: instruction for instruction in owed}
        self.specs = Counter((task.key, task.spec_id) for task in tasks if task.spec_id)
        """How often each has come, and was not dropped."""
        self.entries: set[Entry] = {(task.key, task.entry) for task in tasks if task.entry}
        self.believed: set[Key] = {
            task.key for task in tasks if task.result is IN_MEMORY and task.hold
        }
        """What the scheduler believes to be in memory here."""
        self.sought: list[Key] = []
        """Whose holders the machine has asked for in its last instructions."""

    def tell(self, stimulus: Stimulus) -> list[Instruction]:
        """Hand a stimulus over, and obey what comes of it."""
        self._prepare(stimulus)
        out = self.machine.handle(stimulus)
        self.sought = []
        for instruction in out:
            self._obey(instruction, stimulus)
        if isinstance(stimulus, st.UpdateData):
            self.believed.update(stimulus.data)
        return out

    def _prepare(self, stimulus: Stimulus) -> None:
        """What a worker does before it hands this over: store first, strike off what was owed."""
        match stimulus:
            case st.ComputeTask():
                self.specs[stimulus.key, stimulus.spec_id] += 1
            case st.UpdateData():
                self.entries.update((key, stimulus.attempt) for key in stimulus.data)
            case st.FreeKeys() | st.RemoveReplicas():
                self.believed.difference_update(stimulus.keys)
            case st.ExecuteSuccess() | st.ExecuteFailure():
                self.entries.add((stimulus.key, stimulus.attempt))
                self._strike(stimulus)
            case st.GatherSuccess():
                self.entries.update((key, stimulus.attempt) for key in stimulus.data)
                self._strike(stimulus)
            case st.GatherFailure():
                gather = self.owed.get(stimulus.attempt)
                if isinstance(gather, ins.Gather) and gather.peer == stimulus.peer:
                    self.entries.update((key, stimulus.attempt) for key in gather.keys)
                self._strike(stimulus)
            case _:
                if type(stimulus) in TERMINAL:
                    self._strike(stimulus)

    def _strike(self, stimulus: Stimulus) -> None:
        attempt = getattr(stimulus, "attempt", 0)
        owed = self.owed.get(attempt)
        if type(owed) is not TERMINAL[type(stimulus)]:
            return
        for name in ("key", "peer"):
            if getattr(owed, name, None) != getattr(stimulus, name, None):
                return
        del self.owed[attempt]

    # Obeying

    def _obey(self, instruction: Instruction, cause: Stimulus) -> None:
        match instruction:
            case ins.Execute():
                assert not self.machine.ledger.paused
                assert (instruction.key, instruction.spec_id) in self.specs, instruction
                assert self.entries.issuperset(instruction.inputs), instruction
                self._owe(instruction)
            case ins.Gather():
                assert not self.machine.ledger.paused
                assert instruction.keys, instruction
                assert instruction.peer != self.machine.ledger.config.address
                for other in self.owed.values():
                    assert not isinstance(other, ins.Gather) or other.peer != instruction.peer
                self._owe(instruction)
            case ins.RetryBusyWorkerLater() | ins.FindMissingLater():
                self._owe(instruction)
            case ins.CancelExecute():
                owed = self.owed.get(instruction.attempt)
                assert isinstance(owed, ins.Execute), instruction
                assert owed.key == instruction.key
            case ins.CancelGather():
                owed = self.owed.get(instruction.attempt)
                assert isinstance(owed, ins.Gather), instruction
                assert set(instruction.keys) <= set(owed.keys)
            case ins.DropSpec():
                entry = (instruction.key, instruction.spec_id)
                assert self.specs[entry], instruction
                self.specs -= Counter((entry,))
            case ins.DropData():
                self._drop((instruction.key, instruction.attempt), cause)
            case ins.TaskFinished():
                assert (instruction.key, instruction.attempt) in self.entries, instruction
                self.believed.add(instruction.key)
            case ins.TaskErred():
                entry = (instruction.key, instruction.attempt)
                assert not instruction.attempt or entry in self.entries, instruction
                self.believed.discard(instruction.key)
            case ins.AddKeys():
                self.believed.update(instruction.keys)
            case ins.ReleaseWorkerData():
                assert instruction.key not in self.believed, instruction
            case ins.RequestRefreshWhoHas():
                self.sought += instruction.keys
            case ins.RescheduleTask() | ins.LongRunning() | ins.StealResponse() | ins.Reply():
                pass

    def _owe(self, instruction: Owed) -> None:
        assert instruction.attempt not in self.owed, instruction
        self.owed[instruction.attempt] = instruction

    def _drop(self, entry: Entry, cause: Stimulus) -> None:
        self.entries.remove(entry)
        if isinstance(cause, st.CancelTask):
            return  # nobody shall get it: the only drop that does not wait for who uses it
        for owed in self.owed.values():
            assert not isinstance(owed, ins.Execute) or entry not in owed.inputs, entry

    def verify_books(self) -> None:
        """Specs, entries, what is believed and what is owed are what the machine knows of."""
        ledger = self.machine.ledger
        tasks = ledger.tasks.values()
        assert self.specs == Counter((task.key, task.spec_id) for task in tasks if task.spec_id)
        assert self.entries == {(task.key, task.entry) for task in tasks if task.entry}
        held = {task.key for task in tasks if task.result is Result.IN_MEMORY and task.hold}
        assert self.believed == held
        awaited = {task.activity.attempt for task in tasks if isinstance(task.activity, Executing)}
        awaited |= ledger.flights.keys()
        awaited |= {peer.busy_attempt for peer in ledger.peers.values()}
        awaited.add(ledger.missing_attempt)
        assert self.owed.keys() == awaited - {0}


class World(Books):
    """A machine and everything around it; see the module's text."""

    def __init__(self, config: Config, *, tangled: bool = False) -> None:
        self.tangled = tangled
        """Inputs may form cycles across the worker's border, which no graph of a scheduler does.

        Only what is all local is refused as a cycle; such a task may wait until it is freed.
        """
        super().__init__(Machine(config))
        self.twin = Machine.from_snapshot(self.machine.snapshot())
        self.steps = 0
        self.last_put = 0
        self.refused = 0
        self.visited: Counter[tuple[str, str]] = Counter()
        """How often each kind of stimulus met a task in each phase."""

    # Sending

    def send(self, stimulus: Stimulus) -> list[Instruction]:
        """Hand a stimulus over, obey what comes of it, and verify everything."""
        self.steps += 1
        self._count(stimulus)
        before = self.machine.snapshot()
        saved = (dict(self.owed), Counter(self.specs), set(self.entries), set(self.believed))
        try:
            out = self.tell(stimulus)
        except StimulusError:
            assert self.machine.snapshot() == before, f"refused, and changed: {stimulus}"
            self.owed, self.specs, self.entries, self.believed = saved
            self.refused += 1
            return []
        self._verify()
        self._compare_twin(stimulus, out)
        return out

    def play(self, *stimuli: Stimulus) -> list[Instruction]:
        """Send these one after the other; what the last of them leads to."""
        out: list[Instruction] = []
        for stimulus in stimuli:
            out = self.send(stimulus)
        return out

    # Verifying

    def _verify(self) -> None:
        check(self.machine)
        self.verify_books()

    def _compare_twin(self, stimulus: Stimulus, out: list[Instruction]) -> None:
        assert self.twin.handle(stimulus) == out, f"restored, it answers otherwise: {stimulus}"
        if self.steps % RENEW_TWIN_EVERY == 0:
            snapshot = self.machine.snapshot()
            assert self.twin.snapshot() == snapshot
            self.twin = Machine.from_snapshot(snapshot)
            assert self.twin.fingerprint() == self.machine.fingerprint()

    def _count(self, stimulus: Stimulus) -> None:
        kind = type(stimulus).__name__
        keys = keys_of(stimulus, self.owed)
        for key in keys:
            known = key in self.machine.ledger.tasks
            self.visited[self.machine.phase(key) if known else "unknown", kind] += 1
        if not keys:
            self.visited["-", kind] += 1

    # Endings

    def drain(self) -> None:
        """Be kind until nothing is owed: then whatever is still wanted must be in memory.

        This is the liveness test: every peer answers, every wait ends, every task succeeds.
        """
        assert not self.tangled
        self.send(st.Unpause())
        tasks = self.machine.ledger.tasks
        erred = [key for key, task in tasks.items() if task.result is Result.FAILED]
        self.send(st.FreeKeys(tuple(erred)))
        for _ in range(1000):
            if self.sought:
                holder = ("tcp://10.0.0.9:1",)
                self.send(st.RefreshWhoHas(dict.fromkeys(self.sought, holder)))
            elif self.owed:
                self.send(kind_answer(self.owed[min(self.owed)]))
            else:
                break
        assert not self.owed
        assert {task.phase for task in tasks.values()} <= {"memory"}

    def finish(self) -> None:
        """Free everything and answer everything: then nothing at all is left."""
        for _ in range(1000):
            self.send(st.FreeKeys(tuple(self.machine.ledger.tasks)))
            if not self.owed:
                break
            self.send(kind_answer(self.owed[max(self.owed)]))
        ledger = self.machine.ledger
        assert not ledger.tasks
        assert not ledger.peers
        assert not ledger.flights
        assert not self.owed
        assert not self.specs
        assert not self.entries
        assert all(slots.free == slots.total for slots in ledger.slots.values())
        assert ledger.nbytes == ledger.incoming_nbytes == 0


def kind_answer(owed: Owed) -> Stimulus:
    """How what is owed ends when all goes well."""
    match owed:
        case ins.Execute():
            return st.ExecuteSuccess(owed.key, owed.attempt, 1, "int")
        case ins.Gather():
            return st.GatherSuccess(owed.peer, owed.attempt, dict.fromkeys(owed.keys, (1, "int")))
        case ins.RetryBusyWorkerLater():
            return st.RetryBusyWorker(owed.peer, owed.attempt)
        case ins.FindMissingLater():
            return st.FindMissing(owed.attempt)


def keys_of(stimulus: Stimulus, owed: dict[int, Owed]) -> set[Key]:
    """The tasks that a stimulus is about."""
    keys: set[Key] = set()
    match stimulus:
        case st.FreeKeys() | st.RemoveReplicas():
            keys.update(stimulus.keys)
        case st.AcquireReplicas() | st.RefreshWhoHas():
            keys.update(stimulus.who_has)
        case st.UpdateData():
            keys.update(stimulus.data)
        case _:
            keys.update(getattr(owed.get(getattr(stimulus, "attempt", 0)), "keys", ()))
            if (key := getattr(stimulus, "key", None)) is not None:
                keys.add(key)
    return keys
