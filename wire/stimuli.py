"""What can happen to a worker: the only way to change the state of its machine.

Each struct says who sends it and when. Two rules hold for all of them:

- A stimulus that ends something the machine asked for (`Execute`, `Gather`, or a timer)
  carries the *attempt* it ends. If that attempt is not the current one, the stimulus is stale:
  what it brings is dropped and nothing else changes.
- A stimulus about a key that the machine does not know is answered where an answer is due, and
  ignored otherwise: messages cross on the way. Only what no correct sender can say is an error
  (`trouper.runtime.machine.StimulusError`), raised before anything has changed.
"""

import math
from typing import TypeAlias

from trouper.wire.vocabulary import Key, Peer, Priority, Word

# from outside: the scheduler, a client, or the embedded API in their place


class ComputeTask(Word, frozen=True, gc=False, tag=0):
    """Compute a task here. Sent by the scheduler, or by `submit` in an embedded worker.

    A key in memory is answered with `TaskFinished` again; a key already to be computed from the
    same spec only takes over the run_id. A failure recorded for the key is forgotten.
    """

    key: Key
    run_id: int
    """Echoed in every report about this request."""
    spec_id: int
    """What to run, opaque; positive. A result computed from another spec does not count."""
    priority: Priority = ()
    local: tuple[Key, ...] = ()
    """Inputs that this worker holds or computes itself; each must be known to it."""
    who_has: dict[Key, tuple[Peer, ...]] = {}
    """Inputs to be fetched, and who holds them."""
    nbytes: dict[Key, int] = {}
    """Sizes of the inputs in `who_has`, as far as known."""
    executor: str = "thread"
    """Which kind of slot it takes."""
    resources: dict[str, float] = {}
    """What it takes of the worker's named resources while it runs."""
    prefix: str = ""
    """What tasks of its kind have in common, say the function: how long they take, above all."""


class FreeKeys(Word, frozen=True, gc=False, tag=1):
    """The sender no longer wants these keys, computed or held. Inputs still needed here stay."""

    keys: tuple[Key, ...]


class CancelTask(Word, frozen=True, gc=False, tag=2):
    """Nobody shall get this result: end the task, and every task here that depends on it.

    Sent by an embedded worker for `TaskHandle.cancel`. Each task ended so is reported as
    `TaskErred` with ``cancelled=True``. An unknown key is ignored.
    """

    key: Key


class CancelCompute(Word, frozen=True, gc=False, tag=3):
    """Give up a task unless it already runs. Best effort, no answer. Sent by a scheduler."""

    key: Key


class AcquireReplicas(Word, frozen=True, gc=False, tag=4):
    """Fetch a copy of each key. A key already in memory is answered with `AddKeys`."""

    who_has: dict[Key, tuple[Peer, ...]]
    nbytes: dict[Key, int] = {}


class RemoveReplicas(Word, frozen=True, gc=False, tag=5):
    """The scheduler has forgotten these copies. One still used here stays: `AddKeys` says so."""

    keys: tuple[Key, ...]


class StealRequest(Word, frozen=True, gc=False, tag=6):
    """The scheduler would like to give this task to another worker. Always answered."""

    key: Key
    stimulus_id: str
    """Echoed in the `StealResponse`."""


class RefreshWhoHas(Word, frozen=True, gc=False, tag=7):
    """Who holds these keys now; nobody, if empty. Answer to `RequestRefreshWhoHas`."""

    who_has: dict[Key, tuple[Peer, ...]]


class RemoveWorker(Word, frozen=True, gc=False, tag=8):
    """A peer is gone, and with it all that it held."""

    peer: Peer


class UpdateData(Word, frozen=True, gc=False, tag=9):
    """Values put here from outside (scatter). They are in the store already.

    A key in memory keeps the value it has. Answered with `Reply` if there is a request_id.
    """

    data: dict[Key, tuple[int, str]]
    """Size in bytes and type name, by key."""
    attempt: int
    """Under which the store keeps the values; negative, so that no attempt of ours has it, and
    used once."""
    request_id: str | None = None


class Pause(Word, frozen=True, gc=False, tag=10):
    """Start nothing new. What runs or is in flight goes on."""


class Unpause(Word, frozen=True, gc=False, tag=11):
    """Start what is waiting for its turn."""


# from actors: how what the machine asked for has ended


class ExecuteSuccess(Word, frozen=True, gc=False, tag=12):
    """The attempt returned a value; it is in the store under (key, attempt)."""

    key: Key
    attempt: int
    nbytes: int
    type_name: str
    duration_s: float = math.inf
    """How long the function ran; infinite if unknown."""


class ExecuteFailure(Word, frozen=True, gc=False, tag=13):
    """The attempt raised; the exception is in the store under (key, attempt)."""

    key: Key
    attempt: int
    type_name: str


class ExecuteReschedule(Word, frozen=True, gc=False, tag=14):
    """The task asked to be run elsewhere."""

    key: Key
    attempt: int


class ExecuteCancelled(Word, frozen=True, gc=False, tag=15):
    """A cancellation reached the attempt, and it did not succeed all the same."""

    key: Key
    attempt: int


class Secede(Word, frozen=True, gc=False, tag=16):
    """The attempt gives its slot back and goes on without one."""

    key: Key
    attempt: int
    compute_duration_s: float | None = None


class GatherSuccess(Word, frozen=True, gc=False, tag=17):
    """The peer answered. Keys that were asked for and are not in `data` it does not hold."""

    peer: Peer
    attempt: int
    data: dict[Key, tuple[int, str]]
    """Size in bytes and type name of each value, in the store under (key, attempt)."""


class GatherBusy(Word, frozen=True, gc=False, tag=18):
    """The peer asked to be left alone for a while."""

    peer: Peer
    attempt: int


class GatherNetworkFailure(Word, frozen=True, gc=False, tag=19):
    """The peer cannot be reached: it is treated as holding nothing."""

    peer: Peer
    attempt: int


class GatherFailure(Word, frozen=True, gc=False, tag=20):
    """The peer answered and the answer cannot be read.

    The exception is in the store under (key, attempt) for every key that was asked for.
    """

    peer: Peer
    attempt: int
    type_name: str


class RetryBusyWorker(Word, frozen=True, gc=False, tag=21):
    """The wait asked for with `RetryBusyWorkerLater` is over."""

    peer: Peer
    attempt: int


class FindMissing(Word, frozen=True, gc=False, tag=22):
    """The wait asked for with `FindMissingLater` is over."""

    attempt: int


Stimulus: TypeAlias = (
    ComputeTask
    | FreeKeys
    | CancelTask
    | CancelCompute
    | AcquireReplicas
    | RemoveReplicas
    | StealRequest
    | RefreshWhoHas
    | RemoveWorker
    | UpdateData
    | Pause
    | Unpause
    | ExecuteSuccess
    | ExecuteFailure
    | ExecuteReschedule
    | ExecuteCancelled
    | Secede
    | GatherSuccess
    | GatherBusy
    | GatherNetworkFailure
    | GatherFailure
    | RetryBusyWorker
    | FindMissing
)
