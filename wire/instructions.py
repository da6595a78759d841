"""What a worker can be told to do: everything that its machine ever answers.

*Commands* ask an actor for something. `Execute`, `Gather`, `RetryBusyWorkerLater` and
`FindMissingLater` are each answered by exactly one terminal stimulus with the same attempt.
*Drops* tell the store what is no longer needed. *Reports* tell whoever gave the work what has
become of it: the scheduler, or the embedded worker in its place.

The order of a list of instructions is the order in which they are to be carried out.
"""

from typing import TypeAlias

from trouper.wire.vocabulary import Entry, Key, Peer, Word

# commands


class Execute(Word, frozen=True, gc=False, tag=0):
    """Run a task. Ends with ExecuteSuccess, -Failure, -Reschedule or -Cancelled."""

    key: Key
    attempt: int
    run_id: int
    spec_id: int
    executor: str
    inputs: tuple[Entry, ...]
    """Where the store keeps the inputs. They stay there until the attempt has ended, unless an
    input is cancelled: so take them when the instruction comes."""
    resources: tuple[tuple[str, float], ...] = ()


class CancelExecute(Word, frozen=True, gc=False, tag=1):
    """End this attempt as truly as you can; its terminal stimulus is still owed."""

    key: Key
    attempt: int


class Gather(Word, frozen=True, gc=False, tag=2):
    """Fetch values. Ends with GatherSuccess, -Busy, -NetworkFailure or -Failure."""

    peer: Peer
    attempt: int
    keys: tuple[Key, ...]
    nbytes: int
    """Expected size of the answer."""


class CancelGather(Word, frozen=True, gc=False, tag=3):
    """These keys of the attempt are no longer wanted; its terminal stimulus is still owed."""

    peer: Peer
    attempt: int
    keys: tuple[Key, ...]


class RetryBusyWorkerLater(Word, frozen=True, gc=False, tag=4):
    """Send RetryBusyWorker after a while."""

    peer: Peer
    attempt: int
    delay_s: float


class FindMissingLater(Word, frozen=True, gc=False, tag=5):
    """Send FindMissing after a while."""

    attempt: int
    delay_s: float


# drops


class DropData(Word, frozen=True, gc=False, tag=6):
    """A value or an exception is no longer needed."""

    key: Key
    attempt: int


class DropSpec(Word, frozen=True, gc=False, tag=7):
    """A spec that came with a `ComputeTask` is not needed any more; one for each that came."""

    key: Key
    spec_id: int


# reports


class TaskFinished(Word, frozen=True, gc=False, tag=8):
    """The task's value is in memory here, and stays until the key is freed."""

    key: Key
    run_id: int
    attempt: int
    nbytes: int
    type_name: str


class TaskErred(Word, frozen=True, gc=False, tag=9):
    """The task has failed; the machine remembers so until the key is freed."""

    key: Key
    run_id: int
    attempt: int
    """Under which the store keeps the exception; 0 if there is none."""
    via: Key | None = None
    """The input whose failure or cancellation this is a consequence of."""
    cancelled: bool = False


class AddKeys(Word, frozen=True, gc=False, tag=10):
    """Copies of these values are in memory here, and stay until they are removed or freed."""

    keys: tuple[Key, ...]


class ReleaseWorkerData(Word, frozen=True, gc=False, tag=11):
    """A value that was in memory here is gone."""

    key: Key


class RescheduleTask(Word, frozen=True, gc=False, tag=12):
    """The task asked to be run elsewhere; this worker has given it up."""

    key: Key


class LongRunning(Word, frozen=True, gc=False, tag=13):
    """The task has given its slot back and goes on."""

    key: Key
    run_id: int
    compute_duration_s: float | None


class RequestRefreshWhoHas(Word, frozen=True, gc=False, tag=14):
    """Nobody reachable is known to hold these keys. Answered with RefreshWhoHas."""

    keys: tuple[Key, ...]


class StealResponse(Word, frozen=True, gc=False, tag=15):
    """What became of a StealRequest: the task's phase before it; None if it is unknown here."""

    key: Key
    phase: str | None
    stimulus_id: str


class Reply(Word, frozen=True, gc=False, tag=16):
    """The answer to a request that carried a request_id: sizes in bytes, by key."""

    request_id: str
    nbytes: dict[Key, int]


Command: TypeAlias = (
    Execute | CancelExecute | Gather | CancelGather | RetryBusyWorkerLater | FindMissingLater
)
Drop: TypeAlias = DropData | DropSpec
Report: TypeAlias = (
    TaskFinished
    | TaskErred
    | AddKeys
    | ReleaseWorkerData
    | RescheduleTask
    | LongRunning
    | RequestRefreshWhoHas
    | StealResponse
    | Reply
)
Instruction: TypeAlias = Command | Drop | Report
