"""What the benchmark of the machine compares: two state machines, fed what their workers feed them.

A *feed* speaks to one of the two in the words of a scheduler and of actors: compute this, it has
been computed, it has arrived, free it. It builds the stimulus that the machine's own worker would
build, keeps it on a list, and plays it to a machine at once, because an answer has to name the
attempt that it ends. What is measured is then the list, played to a fresh machine.

Both are told the same in the same order, as a Dask scheduler tells it: an input comes with who
holds it, be it this very worker. Both have two slots and the same limits on what is fetched.
distributed keeps its two logs with the length that they have in production, and gets as many
objects of its own (a dict of annotations, an identifier for each stimulus) as a message brings.
It pickles the type of every result inside its machine, which trouper leaves to an actor.
"""

import importlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, Protocol, TypeAlias

from trouper.runtime.ledger import Config
from trouper.runtime.machine import Machine
from trouper.wire import instructions as ins
from trouper.wire import stimuli as st

HERE = "tcp://10.0.0.1:1"
PEER = "tcp://10.0.0.1:2"
SLOTS = 2
NBYTES = 28

Handle: TypeAlias = Callable[[Any], Sequence[Any]]
Keep: TypeAlias = Callable[[Any], object]


class Feed(Protocol):
    """One machine, and how its worker speaks to it."""

    name: ClassVar[str]

    def __init__(self, keep: Keep) -> None:
        """A fresh machine; `keep` is given every stimulus."""

    @staticmethod
    def fresh() -> Handle:
        """The entry of a machine to which nothing has been said."""
        ...

    def compute(self, key: str, number: int, inputs: Iterable[str] = (), holder: str = "") -> None:
        """Compute a task; `holder` has all its inputs. Smaller numbers are more urgent."""

    def computed(self, key: str) -> None:
        """The task has been executed."""

    def arrived(self, key: str) -> None:
        """The task's value has come from `PEER`."""

    def free(self, key: str) -> None:
        """Nobody wants the task any more."""

    def held(self) -> int:
        """How many tasks the machine knows."""
        ...

    def forget_the_rest(self) -> None:
        """Let go whatever does not belong to the tasks that are held: logs and payloads."""


class TrouperFeed:
    """`trouper.runtime.machine.Machine`."""

    name: ClassVar[str] = "trouper"

    def __init__(self, keep: Keep) -> None:
        self._keep = keep
        self._machine = _new_machine()
        self._attempts: dict[str, int] = {}

    @staticmethod
    def fresh() -> Handle:
        """The entry of a machine to which nothing has been said."""
        return _new_machine().handle

    def compute(self, key: str, number: int, inputs: Iterable[str] = (), holder: str = "") -> None:
        """Compute a task."""
        self._send(
            st.ComputeTask(
                key,
                run_id=number + 1,
                spec_id=number + 1,
                priority=(0, 1, number),
                who_has=dict.fromkeys(inputs, (holder,)),
                nbytes=dict.fromkeys(inputs, NBYTES),
                prefix=key.rpartition("-")[0],
            )
        )

    def computed(self, key: str) -> None:
        """The task has been executed."""
        self._send(st.ExecuteSuccess(key, self._attempts.pop(key), NBYTES, "int", 0.01))

    def arrived(self, key: str) -> None:
        """The task's value has come."""
        self._send(st.GatherSuccess(PEER, self._attempts.pop(key), {key: (NBYTES, "int")}))

    def free(self, key: str) -> None:
        """Nobody wants the task any more."""
        self._send(st.FreeKeys((key,)))

    def held(self) -> int:
        """How many tasks the machine knows."""
        return len(self._machine.ledger.tasks)

    def forget_the_rest(self) -> None:
        """It keeps nothing else."""

    def _send(self, stimulus: st.Stimulus) -> None:
        self._keep(stimulus)
        for instruction in self._machine.handle(stimulus):
            match instruction:
                case ins.Execute():
                    self._attempts[instruction.key] = instruction.attempt
                case ins.Gather():
                    for key in instruction.keys:
                        self._attempts[key] = instruction.attempt
                case _:
                    pass


def _new_machine() -> Machine:
    return Machine(Config(slots={"thread": SLOTS}, address=HERE))


class DistributedFeed:
    """`distributed.worker_state_machine.WorkerState` as a worker in production has it."""

    name: ClassVar[str] = "distributed"

    def __init__(self, keep: Keep) -> None:
        self._keep = keep
        self._events: Any = importlib.import_module("distributed.worker_state_machine")
        self._state = _new_worker_state()
        self._run_spec = self._events.ComputeTaskEvent.dummy_runspec("any")

    @staticmethod
    def fresh() -> Handle:
        """The entry of a machine to which nothing has been said."""
        handle: Handle = _new_worker_state().handle_stimulus
        return handle

    def compute(self, key: str, number: int, inputs: Iterable[str] = (), holder: str = "") -> None:
        """Compute a task."""
        self._send(
            self._events.ComputeTaskEvent(
                key=key,
                run_id=number + 1,
                who_has=dict.fromkeys(inputs, (holder,)),
                nbytes=dict.fromkeys(inputs, NBYTES),
                priority=(0, 1, number),
                run_spec=self._run_spec,
                resource_restrictions=None,
                actor=False,
                annotations={},
                span_id=None,
                stimulus_id=f"compute-task-{number}",
            )
        )

    def computed(self, key: str) -> None:
        """The task has been executed."""
        run_id = self._state.tasks[key].run_id
        self._send(
            self._events.ExecuteSuccessEvent(
                key=key,
                run_id=run_id,
                value=None,
                start=1.0,
                stop=1.01,
                nbytes=NBYTES,
                type=int,
                stimulus_id=f"task-finished-{run_id}",
            )
        )

    def arrived(self, key: str) -> None:
        """The task's value has come."""
        self._send(
            self._events.GatherDepSuccessEvent(
                worker=PEER,
                total_nbytes=NBYTES,
                data={key: None},
                stimulus_id=f"gather-dep-success-{key}",
            )
        )

    def free(self, key: str) -> None:
        """Nobody wants the task any more."""
        self._send(self._events.FreeKeysEvent(keys=(key,), stimulus_id=f"free-keys-{key}"))

    def held(self) -> int:
        """How many tasks the machine knows."""
        return len(self._state.tasks)

    def forget_the_rest(self) -> None:
        """Empty its logs, which are bounded, and the payloads, which trouper has elsewhere."""
        self._state.log.clear()
        self._state.stimulus_log.clear()
        self._state.data.clear()

    def _send(self, stimulus: Any) -> None:
        self._keep(stimulus)
        self._state.handle_stimulus(stimulus)


def _new_worker_state() -> Any:
    return importlib.import_module("distributed.worker_state_machine").WorkerState(
        nthreads=SLOTS,
        address=HERE,
        validate=False,
        transfer_incoming_count_limit=10,
        transfer_message_bytes_limit=50_000_000,
    )


FEEDS: tuple[type[Feed], ...] = (DistributedFeed, TrouperFeed)
