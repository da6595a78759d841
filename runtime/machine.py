"""The machine: a stimulus in, instructions out; every decision of a worker is taken here.

`Machine.handle` is synchronous and the only way to change the state: W(i+1) = F(W(i), S(i)). It
has four steps: dispatch the stimulus, let the tables say what it does (`transitions`), start
what can start now (`policies`), return the instructions. A stimulus that no correct sender can
send raises `StimulusError` before anything has changed.

The machine holds no payload and no time: no function, argument, value or exception object. Those
live in the store, by key and attempt. So the same stimuli give the same instructions and the same
`fingerprint` in every process, and a log of stimuli replays without the user's code.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import msgspec

import trouper.runtime.bulk as bulk
import trouper.runtime.outcomes as outcomes
import trouper.runtime.requests as requests
import trouper.runtime.snapshot as snapshot
from trouper.runtime.ledger import HISTORY, Config, Ledger
from trouper.runtime.policies import start_gathers, start_ready
from trouper.wire import stimuli
from trouper.wire.instructions import Instruction
from trouper.wire.stimuli import Stimulus
from trouper.wire.vocabulary import Key

Handler: TypeAlias = Callable[[Ledger, Any, list[Instruction]], None]
Shortcut: TypeAlias = Callable[[Ledger, Sequence[Stimulus], bulk.Answers], None]

# By type and not `match`: with 23 kinds of stimuli, trying them one after the other would cost
# more than handling most of them. A test holds the table complete.
HANDLERS: Mapping[type[Stimulus], Handler] = {
    stimuli.ComputeTask: requests.compute_task,
    stimuli.FreeKeys: requests.free_keys,
    stimuli.CancelTask: requests.cancel_task,
    stimuli.CancelCompute: requests.cancel_compute,
    stimuli.AcquireReplicas: requests.acquire_replicas,
    stimuli.RemoveReplicas: requests.remove_replicas,
    stimuli.StealRequest: requests.steal_request,
    stimuli.RefreshWhoHas: requests.refresh_who_has,
    stimuli.RemoveWorker: requests.remove_worker,
    stimuli.UpdateData: requests.update_data,
    stimuli.Pause: requests.pause,
    stimuli.Unpause: requests.unpause,
    stimuli.ExecuteSuccess: outcomes.execute_success,
    stimuli.ExecuteFailure: outcomes.execute_failure,
    stimuli.ExecuteReschedule: outcomes.execute_reschedule,
    stimuli.ExecuteCancelled: outcomes.execute_cancelled,
    stimuli.Secede: outcomes.secede,
    stimuli.GatherSuccess: outcomes.gather_success,
    stimuli.GatherBusy: outcomes.gather_busy,
    stimuli.GatherNetworkFailure: outcomes.gather_network_failure,
    stimuli.GatherFailure: outcomes.gather_failure,
    stimuli.RetryBusyWorker: outcomes.retry_busy_worker,
    stimuli.FindMissing: outcomes.find_missing,
}

SHORTCUTS: Mapping[type[Stimulus], Shortcut] = {
    stimuli.ComputeTask: bulk.compute_tasks,
    stimuli.ExecuteSuccess: bulk.execute_successes,
}
"""Each handles as many as it can, none perhaps, of the stimuli that have no answer yet."""

FEW = HISTORY
"""So many stimuli are not worth a shortcut; nor is one looked for behind a stimulus for which there
was none, for so many: a task that has taken too long for it is remembered that long."""


class Machine:
    """The state of a worker, changed by `handle` and `handle_all` alone.

    Args:
        config: Slots, resources, limits and the worker's address; it never changes.
    """

    def __init__(self, config: Config | None = None) -> None:
        # There and back: 1 and 1.0 become the same number, and a wrong type is an error here.
        plain = msgspec.to_builtins(config or Config())
        self.ledger = Ledger(msgspec.convert(plain, Config))

    def handle(self, stimulus: Stimulus) -> list[Instruction]:
        """Take a stimulus and say what is to be done, in this order.

        Raises:
            StimulusError: No correct sender can send this. Nothing has changed.
        """
        ledger = self.ledger
        out: list[Instruction] = []
        HANDLERS[type(stimulus)](ledger, stimulus, out)
        if ledger.stirred:
            start_ready(ledger, out)
        if ledger.restless or ledger.offers:
            start_gathers(ledger, out)
        return out

    def handle_all(self, stimuli: Sequence[Stimulus], answers: bulk.Answers) -> None:
        """Take stimuli one after the other, and add to `answers` what `handle` would return.

        Some hundreds at most: what they lead to has to be begun. Those for which there is an
        answer already are not handled again.

        Raises:
            StimulusError: No correct sender can send the first one that is without an answer now.
        """
        done = len(answers)
        while len(stimuli) - done > FEW:
            shortcut = SHORTCUTS.get(type(stimuli[done]))
            if shortcut is not None:
                shortcut(self.ledger, stimuli, answers)
            if len(answers) == done:
                for stimulus in stimuli[done : done + FEW]:
                    answers.append(self.handle(stimulus))
            done = len(answers)
        for stimulus in stimuli[done:]:
            answers.append(self.handle(stimulus))

    def phase(self, key: Key) -> str:
        """The derived name of a task's state (see `task`); "released" if the key is unknown."""
        task = self.ledger.tasks.get(key)
        return "released" if task is None else task.phase

    def snapshot(self) -> dict[str, Any]:
        """The whole state as plain data (text, numbers, lists, maps), in canonical order."""
        return snapshot.take(self.ledger)

    @classmethod
    def from_snapshot(cls, taken: dict[str, Any]) -> "Machine":
        """A machine in the state that a snapshot describes.

        Raises:
            SnapshotError: No machine has written this.
        """
        machine = cls()
        machine.ledger = snapshot.restore(taken)
        return machine

    def fingerprint(self) -> str:
        """A hash of the canonical snapshot, 32 hexadecimal digits, the same in every process."""
        encoded = msgspec.msgpack.encode(self.snapshot())
        return hashlib.blake2b(encoded, digest_size=16).hexdigest()
