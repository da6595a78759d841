"""Both machines at once: every stimulus goes to ours and to the reference, and all is compared.

After each stimulus these must be equal:

- the derived phase of every task;
- the reports to the scheduler with all their fields, the executions that start (with run, inputs
  and resources), and the gathers (peer, keys, bytes). Distributed gives them in the order in which
  it happens to visit its sets, so they are compared key by key: what is said of one key, in order.
- the counters: free slots, who executes, what is left of each resource, the gathers in flight,
  bytes in flight, bytes in memory, and the peers that are left alone because they were busy.

Attempts are numbered by each side for itself, so they are left out.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Any, TypeAlias

from mended import MendedReference
from model import TERMINAL, Owed

from trouper.runtime.errors import StimulusError
from trouper.runtime.ledger import Config
from trouper.runtime.machine import Machine
from trouper.runtime.task import Executing
from trouper.wire import instructions as ins
from trouper.wire import stimuli as st
from trouper.wire.instructions import Instruction
from trouper.wire.stimuli import Stimulus
from trouper.wire.vocabulary import Key

Words: TypeAlias = list[tuple[str, Any]]
"""What is said of a key or a peer."""


UNDISTURBED = ("released", "memory")
"""Phases in which a value that is put here by a client meets no work on the same key."""


class Divergence(Exception):
    """The two machines differ.

    Attributes:
        kind: In what they differ: "raised", "refused", "words", "phases" or "counters".
        ours: Our side of it.
        theirs: The reference's side of it.
    """

    def __init__(self, kind: str, ours: Any, theirs: Any) -> None:
        super().__init__(f"{kind}\n    ours:   {ours}\n    theirs: {theirs}")
        self.kind = kind
        self.ours = ours
        self.theirs = theirs


class Duel:
    """Our machine and the reference, told the same."""

    def __init__(self, config: Config, *, validate: bool = True) -> None:
        self.machine = Machine(config)
        self.reference = MendedReference(config, validate=validate)
        self.owed: dict[int, Owed] = {}
        """What both have asked for and what has not been answered yet, by our attempt."""
        self.told: list[Stimulus] = []
        self.phases: dict[Key, str] = {}
        """Of all tasks that are more than known, after the last stimulus."""
        self.visited: Counter[tuple[str, str]] = Counter()
        """How often each kind of stimulus met a task in each phase."""

    def send(self, stimulus: Stimulus) -> list[Instruction]:
        """Tell both, and say what comes of it here.

        Raises:
            Divergence: They differ.
        """
        self.told.append(stimulus)
        self._count(stimulus)
        if type(stimulus) in TERMINAL:
            del self.owed[stimulus.attempt]  # type: ignore[union-attr]  # all of these have one
        try:
            out = self.machine.handle(stimulus)
        except StimulusError as error:
            raise Divergence("refused", error, "") from error
        try:
            theirs = self.reference.handle(stimulus)
        except Exception as error:  # whatever it is: it is what is looked for
            raise Divergence("raised", out, error) from error
        for word in out:
            if isinstance(
                word,
                ins.Execute | ins.Gather | ins.RetryBusyWorkerLater | ins.FindMissingLater,
            ):
                self.owed[word.attempt] = word
        self._compare(out, theirs)
        return out

    def exempt(self, stimulus: Stimulus) -> str:
        """The name of the intended difference that this would lead to; "" if there is none.

        These are the ones that no mending of the reference can undo.
        """
        ledger = self.machine.ledger
        match stimulus:
            case st.ComputeTask():
                task = ledger.tasks.get(stimulus.key)
                activity = task.activity if task else None
                if isinstance(activity, Executing) and activity.spec_id != stimulus.spec_id:
                    return "outcome of another spec"
            case st.UpdateData():
                if any(self.machine.phase(key) not in UNDISTURBED for key in stimulus.data):
                    return "scatter meets work"
            case st.ExecuteCancelled():
                if not self.machine.phase(stimulus.key).startswith(("cancelled", "resumed")):
                    return "cancellation of what is wanted again"
            case _:
                pass
        return ""

    def is_cancelling(self, key: Key) -> bool:
        """Whether the attempt that runs for a key has been asked to end."""
        activity = self.machine.ledger.tasks[key].activity
        return activity is not None and activity.cancelling

    def _compare(self, out: list[Instruction], theirs: list[Instruction]) -> None:
        ours, others = said(out), said(theirs)
        if ours != others:
            raise Divergence("words", *differing(ours, others))
        self.phases, their_phases = self._our_phases(), self.reference.phases()
        if self.phases != their_phases:
            raise Divergence("phases", *differing(self.phases, their_phases))
        our_counters, their_counters = self._our_counters(), self.reference.counters()
        if our_counters != their_counters:
            raise Divergence("counters", *differing(our_counters, their_counters))

    def _our_phases(self) -> dict[Key, str]:
        named = {key: task.phase for key, task in self.machine.ledger.tasks.items()}
        return {key: phase for key, phase in named.items() if phase != "released"}

    def _our_counters(self) -> dict[str, Any]:
        ledger = self.machine.ledger
        tasks = ledger.tasks.items()
        return {
            "slots_free": ledger.slots["thread"].free,
            "executing": sorted(k for k, task in tasks if isinstance(task.activity, Executing)),
            "resources_free": ledger.resources_free,
            "flights": {fly.peer: sorted(fly.keys) for fly in ledger.flights.values()},
            "incoming_nbytes": ledger.incoming_nbytes,
            "nbytes": ledger.nbytes,
            "busy": sorted(p for p, peer in ledger.peers.items() if peer.busy_attempt),
        }

    def _count(self, stimulus: Stimulus) -> None:
        kind = type(stimulus).__name__
        keys = keys_of(stimulus, self.owed)
        for key in keys:
            known = key in self.machine.ledger.tasks
            phase = self.phases.get(key, "released" if known else "unknown")
            self.visited[phase, kind] += 1
        if not keys:
            self.visited["-", kind] += 1


def keys_of(stimulus: Stimulus, owed: dict[int, Owed]) -> tuple[Key, ...]:
    """The tasks that a stimulus is about."""
    match stimulus:
        case st.FreeKeys() | st.RemoveReplicas():
            return stimulus.keys
        case st.AcquireReplicas() | st.RefreshWhoHas():
            return tuple(stimulus.who_has)
        case st.UpdateData():
            return tuple(stimulus.data)
        case st.GatherSuccess() | st.GatherBusy() | st.GatherNetworkFailure() | st.GatherFailure():
            gather = owed[stimulus.attempt]
            return gather.keys if isinstance(gather, ins.Gather) else ()
        case _:
            key = getattr(stimulus, "key", None)
            return () if key is None else (key,)


def said(words: Iterable[Instruction]) -> dict[str, Words]:
    """What is said of each key and peer, in order, without attempts."""
    by_key: dict[str, Words] = {}
    for word in words:
        for key, name, fields in _plain(word):
            by_key.setdefault(key, []).append((name, fields))
    return by_key


def _plain(word: Instruction) -> list[tuple[str, str, Any]]:
    name = type(word).__name__
    match word:
        case ins.Execute():
            inputs = sorted(key for key, _ in word.inputs)
            return [(word.key, name, (word.run_id, word.spec_id, inputs, word.resources))]
        case ins.Gather():
            return [(word.peer, name, (sorted(word.keys), word.nbytes))]
        case ins.RetryBusyWorkerLater():
            return [(word.peer, name, ())]
        case ins.AddKeys() | ins.RequestRefreshWhoHas():
            return [(key, name, ()) for key in word.keys]
        case ins.TaskFinished():
            return [(word.key, name, (word.run_id, word.nbytes, word.type_name))]
        case ins.TaskErred():
            # Which of several failed inputs is named is ours alone: distributed names none.
            return [(word.key, name, (word.run_id, word.cancelled))]
        case ins.StealResponse():
            # Distributed names no more than this, and on the wire we neither.
            state = word.phase and word.phase.partition("(")[0]
            return [(word.key, name, (state, word.stimulus_id))]
        case ins.LongRunning():
            return [(word.key, name, (word.run_id, word.compute_duration_s))]
        case ins.ReleaseWorkerData() | ins.RescheduleTask():
            return [(word.key, name, ())]
        case _:
            return []  # words that distributed does not have


def differing(ours: dict[str, Any], theirs: dict[str, Any]) -> tuple[Any, Any]:
    """The entries in which two maps differ."""
    keys = [key for key in sorted({*ours, *theirs}) if ours.get(key) != theirs.get(key)]
    return {key: ours.get(key) for key in keys}, {key: theirs.get(key) for key in keys}
