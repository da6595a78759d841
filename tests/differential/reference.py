"""The reference: `WorkerState` of distributed, spoken to in our own words.

`Reference.handle` takes one of our stimuli, turns it into the event that a worker of distributed
would get for it, and gives what comes of it back as our instructions. So both machines can be fed
the same story and be compared word by word.

What has no counterpart:

- Attempts. Distributed knows a running task by its key and a gather by its peer. The reference
  numbers its `Execute`, `Gather` and `RetryBusyWorkerLater` by itself and ignores the attempt of
  a stimulus: it has to be told only of what it has asked for.
- `FindMissingLater`: its worker asks every second, whether or not anything is missing.
- `CancelExecute`, `CancelGather`, `DropData`, `DropSpec`: it has no words for them. An attempt
  that ends with `ExecuteCancelled` ends there as a failure.
- `CancelTask` and local inputs are words of an embedded worker. A scheduler marks *every* input in
  `who_has`, with whoever holds it, this very worker included; an input held here is in memory
  already, whoever else has it, and nobody fetches from himself.

Distributed iterates sets of objects that are hashed by identity, and of keys whose hashes change
with every process. Here tasks are hashed by the order in which they were made and keys by the
order in which they were first named, so the same story gives the same answers everywhere.

`mended.MendedReference` is the one that the random stories are compared with.
"""

# What is said to distributed's own classes cannot be checked: it knows its types only partly.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

import importlib
from collections.abc import Iterable, Mapping
from typing import Any

from trouper.runtime.ledger import Config
from trouper.wire import instructions as ins
from trouper.wire import stimuli as st
from trouper.wire.instructions import Instruction
from trouper.wire.stimuli import Stimulus
from trouper.wire.vocabulary import Key, Peer

# By name, as values of any type: what distributed says of its own types does not fit together.
wsm: Any = importlib.import_module("distributed.worker_state_machine")
Serialize: Any = importlib.import_module("distributed.protocol").Serialize
sizeof: Any = importlib.import_module("dask.sizeof").sizeof

NO_ADDRESS = "tcp://10.0.0.1:1"
"""Of a worker whose configuration names none; distributed has to have one."""


class Name(str):
    """A key whose hash is the same in every process."""

    __slots__ = ("rank",)
    rank: int

    def __hash__(self) -> int:
        return self.rank


class Value:
    """Stands for a result: its size and the name of its type are all that is asked of it."""

    def __init__(self, nbytes: int, type_name: str) -> None:
        self.nbytes = nbytes
        self.type_name = type_name


def _nbytes(value: Value) -> int:
    return value.nbytes


sizeof.register(Value, _nbytes)


class RankedTask(wsm.TaskState):
    """A task hashed by the order in which it was made."""

    __slots__ = ("rank",)
    rank: int

    def __init__(self, key: Key, rank: int) -> None:
        self.rank = rank
        super().__init__(key)

    def __post_init__(self) -> None:
        object.__setattr__(self, "prefix", "")  # and no entry in a table of all tasks ever made

    def __hash__(self) -> int:
        return self.rank


class OneDraw:
    """A source of chance that always draws the same: ties between peers fall by address."""

    def random(self) -> float:
        """Nothing is left to chance."""
        return 0.0


class NoStatistics:
    """In place of its count of tasks by prefix and state: it decides nothing, and it costs."""

    def new_task(self, task: Any) -> None:
        """A task has been made."""

    def transitions(self, initial: Any) -> None:
        """Tasks have moved."""


class State(wsm.WorkerState):
    """`WorkerState` whose sets have a fixed order."""

    __slots__ = ("last_rank",)
    last_rank: int

    def make_task(self, key: Key) -> None:
        """Let a task be known before distributed would make it itself."""
        if key not in self.tasks:
            self.last_rank += 1
            self.tasks[key] = RankedTask(key, self.last_rank)

    def _ensure_task_exists(self, key: Any, **kwargs: Any) -> Any:
        self.make_task(key)
        return super()._ensure_task_exists(key, **kwargs)


class Transitions:
    """Counts the transitions of distributed's table: a plugin, as a worker's user would write."""

    def __init__(self) -> None:
        self.seen: dict[tuple[str, str], int] = {}
        self.counts = True

    def transition(self, key: Any, start: str, finish: str) -> None:
        """Called after each transition."""
        self.seen[start, finish] = self.seen.get((start, finish), 0) + self.counts


class Reference:
    """distributed's `WorkerState` as if it were a `Machine`.

    Args:
        config: The same that our machine gets; there may be just the executor ``thread``.
        validate: Let distributed verify itself after every stimulus.
    """

    state_type: type[State] = State

    def __init__(self, config: Config, *, validate: bool = True) -> None:
        assert list(config.slots) == ["thread"], "distributed counts one kind of slot"
        self.transitions = Transitions()
        self.state = self._new_state(config, validate)
        self.names: dict[Key, Name] = {}
        self.run_ids: dict[Key, int] = {}
        """Of each attempt that executes, the run for which it began."""
        self.flights: dict[Peer, int] = {}
        """Of each gather, how many bytes it was asked for."""
        self.last_attempt = 0
        self.stimulus_id = ""

    def _new_state(self, config: Config, validate: bool) -> State:
        limits = config.limits
        state: State = self.state_type(
            nthreads=config.slots["thread"],
            address=config.address or NO_ADDRESS,
            resources=config.resources,
            plugins={"transitions": self.transitions},
            transfer_incoming_count_limit=limits.incoming_count,
            transfer_incoming_bytes_limit=_limit(limits.incoming_nbytes),
            transfer_message_bytes_limit=_limit(limits.message_nbytes),
            validate=validate,
            transition_counter_max=1_000_000,
        )
        state.last_rank = 0
        state.transfer_incoming_bytes_throttle_threshold = limits.incoming_throttle_nbytes
        state.rng = OneDraw()
        state.task_counter = NoStatistics()
        return state

    # What can be asked

    def phase(self, key: Key) -> str:
        """The derived name of a task's state, as our machine would put it."""
        task = self.state.tasks.get(self.name(key))
        if task is None:
            return "released"
        if task.state == "cancelled":
            return f"cancelled({task.previous})"
        if task.state == "resumed":
            return f"resumed({task.previous}->{task.next})"
        return str(task.state)

    def phases(self) -> dict[Key, str]:
        """The phases of all tasks that are not merely known."""
        named = {key: self.phase(key) for key in map(str, self.state.tasks)}
        return {key: phase for key, phase in named.items() if phase != "released"}

    def counters(self) -> dict[str, Any]:
        """Slots, bytes, resources and what is under way."""
        state = self.state
        return {
            "slots_free": state.nthreads - len(state.executing),
            "executing": sorted(str(task.key) for task in state.all_running_tasks),
            "resources_free": {k: round(v, 6) for k, v in state.available_resources.items()},
            "flights": {
                peer: sorted(str(key) for key in keys)
                for peer, keys in state.in_flight_workers.items()
            },
            "incoming_nbytes": state.transfer_incoming_bytes,
            "nbytes": state.nbytes,
            "busy": sorted(state.busy_workers),
        }

    def name(self, key: Key) -> Name:
        """The key by which distributed knows a task."""
        name = self.names.get(key)
        if name is None:
            name = self.names[key] = Name(key)
            name.rank = len(self.names)
        return name

    # Stimuli

    def handle(self, stimulus: Stimulus) -> list[Instruction]:
        """Take a stimulus and say what is to be done.

        Raises:
            Exception: Whatever distributed raises; a worker of it would close.
        """
        self.stimulus_id = stimulus.stimulus_id if isinstance(stimulus, st.StealRequest) else "s"
        event = self._event(stimulus)
        out: list[Instruction] = []
        for instruction in self.state.handle_stimulus(event):
            out += self._instruction(instruction)
        return out

    def _event(self, stimulus: Stimulus) -> Any:
        match stimulus:
            case st.ComputeTask():
                return self._compute_task(stimulus)
            case st.FreeKeys():
                return wsm.FreeKeysEvent(self.stimulus_id, self._names(stimulus.keys))
            case st.CancelCompute():
                return wsm.CancelComputeEvent(self.stimulus_id, self.name(stimulus.key))
            case st.AcquireReplicas():
                return wsm.AcquireReplicasEvent(
                    self.stimulus_id, self._named(stimulus.who_has), self._sizes(stimulus)
                )
            case st.RemoveReplicas():
                return wsm.RemoveReplicasEvent(self.stimulus_id, self._names(stimulus.keys))
            case st.StealRequest():
                return wsm.StealRequestEvent(self.stimulus_id, self.name(stimulus.key))
            case st.RefreshWhoHas():
                return wsm.RefreshWhoHasEvent(self.stimulus_id, self._named(stimulus.who_has))
            case st.RemoveWorker():
                return wsm.RemoveWorkerEvent(self.stimulus_id, stimulus.peer)
            case st.UpdateData():
                data = self._values(stimulus.data)
                for key in data:
                    self.state.make_task(key)
                return wsm.UpdateDataEvent(self.stimulus_id, data)
            case st.Pause():
                return wsm.PauseEvent(self.stimulus_id)
            case st.Unpause():
                return wsm.UnpauseEvent(self.stimulus_id)
            case st.CancelTask():
                raise ValueError("no scheduler can say CancelTask: distributed has no such event")
            case _:
                return self._outcome(stimulus)

    def _compute_task(self, stimulus: st.ComputeTask) -> Any:
        if stimulus.local:
            raise ValueError("a scheduler names who holds an input: put it in who_has")
        key = self.name(stimulus.key)
        self.state.make_task(key)
        return wsm.ComputeTaskEvent(
            stimulus_id=self.stimulus_id,
            key=key,
            run_id=stimulus.run_id,
            who_has=self._named(stimulus.who_has),
            nbytes=self._sizes(stimulus),
            priority=stimulus.priority,
            run_spec=stimulus.spec_id,
            resource_restrictions=dict(stimulus.resources),
            actor=False,
            annotations={},
            span_id=None,
        )

    def _outcome(self, stimulus: Stimulus) -> Any:
        match stimulus:
            case st.ExecuteSuccess(nbytes=nbytes):
                return wsm.ExecuteSuccessEvent(
                    stimulus_id=self.stimulus_id,
                    **self._end_run(stimulus.key),
                    value=Value(nbytes, stimulus.type_name),
                    start=0.0,
                    stop=1.0,
                    nbytes=nbytes,
                    type=Value,
                )
            case st.ExecuteFailure() | st.ExecuteCancelled():
                return wsm.ExecuteFailureEvent(
                    stimulus_id=self.stimulus_id,
                    **self._end_run(stimulus.key),
                    start=None,
                    stop=None,
                    **ERROR,
                )
            case st.ExecuteReschedule():
                key = self._end_run(stimulus.key)["key"]
                return wsm.RescheduleEvent(self.stimulus_id, key)
            case st.Secede():
                duration = stimulus.compute_duration_s
                return wsm.SecedeEvent(self.stimulus_id, self.name(stimulus.key), duration)
            case st.GatherSuccess():
                data = self._values(stimulus.data)
                return wsm.GatherDepSuccessEvent(**self._landed(stimulus.peer), data=data)
            case st.GatherBusy():
                return wsm.GatherDepBusyEvent(**self._landed(stimulus.peer))
            case st.GatherNetworkFailure():
                return wsm.GatherDepNetworkFailureEvent(**self._landed(stimulus.peer))
            case st.GatherFailure():
                return wsm.GatherDepFailureEvent(**self._landed(stimulus.peer), **ERROR)
            case st.RetryBusyWorker():
                return wsm.RetryBusyWorkerEvent(self.stimulus_id, stimulus.peer)
            case st.FindMissing():
                return wsm.FindMissingEvent(self.stimulus_id)
            case _:
                raise AssertionError(stimulus)

    def _end_run(self, key: Key) -> dict[str, Any]:
        return {"key": self.name(key), "run_id": self.run_ids.pop(key)}

    def _landed(self, peer: Peer) -> dict[str, Any]:
        total_nbytes = self.flights.pop(peer)
        return {"stimulus_id": self.stimulus_id, "worker": peer, "total_nbytes": total_nbytes}

    def _names(self, keys: Iterable[Key]) -> list[Name]:
        return [self.name(key) for key in keys]

    def _named(self, who_has: Mapping[Key, tuple[Peer, ...]]) -> dict[Name, tuple[Peer, ...]]:
        return {self.name(key): peers for key, peers in who_has.items()}

    def _sizes(self, stimulus: st.ComputeTask | st.AcquireReplicas) -> dict[Name, int]:
        return {self.name(key): stimulus.nbytes.get(key, 0) for key in stimulus.who_has}

    def _values(self, data: Mapping[Key, tuple[int, str]]) -> dict[Name, Value]:
        return {self.name(key): Value(*size_and_type) for key, size_and_type in data.items()}

    # Instructions

    def _next_attempt(self) -> int:
        self.last_attempt += 1
        return self.last_attempt

    def _instruction(self, told: Any) -> list[Instruction]:
        match told:
            case wsm.Execute():
                task = self.state.tasks[told.key]
                self.run_ids[str(told.key)] = task.run_id
                return [self._execute(task)]
            case wsm.GatherDep():
                self.flights[told.worker] = told.total_nbytes
                keys = tuple(str(key) for key in sorted(told.to_gather, key=lambda key: key.rank))
                attempt = self._next_attempt()
                return [ins.Gather(told.worker, attempt, keys, told.total_nbytes)]
            case wsm.RetryBusyWorkerLater():
                return [ins.RetryBusyWorkerLater(told.worker, self._next_attempt(), 0.15)]
            case wsm.TaskFinishedMsg():
                type_name = self.state.data[told.key].type_name
                return [ins.TaskFinished(str(told.key), _run_id(told), 0, told.nbytes, type_name)]
            case wsm.TaskErredMsg():
                return [ins.TaskErred(str(told.key), _run_id(told), 0)]
            case wsm.ReleaseWorkerDataMsg():
                return [ins.ReleaseWorkerData(str(told.key))]
            case wsm.RescheduleMsg():
                return [ins.RescheduleTask(str(told.key))]
            case wsm.LongRunningMsg():
                return [ins.LongRunning(str(told.key), _run_id(told), told.compute_duration)]
            case wsm.AddKeysMsg():
                return [ins.AddKeys(tuple(str(key) for key in told.keys))]
            case wsm.RequestRefreshWhoHasMsg():
                return [ins.RequestRefreshWhoHas(tuple(str(key) for key in told.keys))]
            case wsm.StealResponseMsg():
                return [ins.StealResponse(str(told.key), told.state, told.stimulus_id)]
            case _:
                raise AssertionError(told)

    def _execute(self, task: Any) -> ins.Execute:
        resources = tuple(sorted((k, float(v)) for k, v in task.resource_restrictions.items()))
        inputs = tuple((str(dep.key), 0) for dep in task.dependencies)
        return ins.Execute(
            str(task.key),
            self._next_attempt(),
            task.run_id,
            task.run_spec,
            "thread",
            inputs,
            resources,
        )


ERROR = {
    "exception": Serialize(ValueError("it failed")),
    "traceback": None,
    "exception_text": "",
    "traceback_text": "",
}


def _limit(nbytes: int | None) -> float:
    return float("inf") if nbytes is None else nbytes


def _run_id(told: Any) -> int:
    """Ours is 0 where distributed says that there was none."""
    return 0 if told.run_id == wsm.RUN_ID_SENTINEL else int(told.run_id)
