"""Every kind of stimulus at random, sane and crazy, over a universe small enough to collide in.

Each function takes a source of chance and the world, and gives a stimulus, or None if there is
nothing to say of that kind. Sane ones answer what is owed and name inputs that exist; a few in a
hundred name anything at all, repeat what is long over, or are impossible and must be refused.
"""

from collections.abc import Callable
from random import Random
from typing import TypeAlias, TypeVar

from model import World

from trouper.runtime.ledger import Config, Limits
from trouper.runtime.task import Result
from trouper.wire import instructions as ins
from trouper.wire import stimuli as st
from trouper.wire.stimuli import Stimulus
from trouper.wire.vocabulary import Key, Peer

T = TypeVar("T")

KEYS = tuple("abcdefgh")
ADDRESS = "tcp://10.0.0.1:1"
PEERS = ("tcp://10.0.0.1:2", "tcp://10.0.0.2:1", "tcp://10.0.0.3:1")
PRIORITIES: tuple[tuple[int | float, ...], ...] = ((), (0,), (1,), (0, 0.5), (-1, 3))
SIZES = (0, 1, 5, 12, 20)

CONFIGS = (
    Config(address=ADDRESS),
    Config(
        slots={"thread": 2, "process": 1},
        resources={"gpu": 1.0, "licence": 0.3},
        address=ADDRESS,
        limits=Limits(
            incoming_count=2, incoming_throttle_nbytes=10, incoming_nbytes=30, message_nbytes=15
        ),
    ),
    Config(
        slots={"thread": 1, "process": 2},
        resources={"gpu": 2.0},
        limits=Limits(incoming_count=1, incoming_throttle_nbytes=0, message_nbytes=None),
        run_ahead={"thread": 2},
    ),
)

Draw: TypeAlias = Callable[[Random, World], Stimulus | None]


def rarely(rng: Random) -> bool:
    """One time in sixteen."""
    return rng.randrange(16) == 15


def some(rng: Random, items: tuple[T, ...], most: int) -> tuple[T, ...]:
    """Up to so many of them; the same may come twice."""
    return tuple([rng.choice(items) for _ in range(rng.randrange(most + 1))])


def holders(rng: Random) -> tuple[Peer, ...]:
    return some(rng, (*PEERS, PEERS[0], PEERS[1], ADDRESS), 3)


def who_has(rng: Random, keys: tuple[Key, ...]) -> dict[Key, tuple[Peer, ...]]:
    return {key: holders(rng) for key in keys}


def sizes(rng: Random, keys: tuple[Key, ...]) -> dict[Key, int]:
    return {key: rng.choice(SIZES) for key in keys if rng.randrange(2)}


# Requests


def compute_task(rng: Random, world: World) -> Stimulus:
    ledger = world.machine.ledger
    key = rng.choice(KEYS)
    inputs = tuple(dict.fromkeys(some(rng, KEYS, 3)))
    if not world.tangled:
        inputs = tuple([name for name in inputs if name < key])
    local: list[Key] = []
    remote: list[Key] = []
    for name in inputs:
        task = ledger.tasks.get(name)
        known = task is not None and (task.spec_id or task.result is not Result.NOTHING)
        if rarely(rng):
            local.append(name)
        elif name != key:
            (local if known and rng.randrange(4) else remote).append(name)
    resources: dict[str, float] = {}
    for name in ledger.config.resources:
        if rng.randrange(3) == 0:
            resources[name] = rng.choice((0.1, 0.3, 0.2, 1.0))
    return st.ComputeTask(
        key,
        run_id=world.steps,
        spec_id=rng.choice((1, 2, 3, 0)) if rarely(rng) else rng.choice((1, 2)),
        priority=rng.choice(PRIORITIES) if not rarely(rng) else (float("nan"),),
        local=tuple(local),
        who_has=who_has(rng, tuple(remote)),
        nbytes=sizes(rng, tuple(remote)),
        executor="rocket" if rarely(rng) else rng.choice(tuple(sorted(ledger.config.slots))),
        resources=resources,
        prefix=rng.choice(("", "brief", "brief", "lengthy")),
    )


def free_keys(rng: Random, world: World) -> Stimulus:
    return st.FreeKeys(some(rng, KEYS, 3))


def cancel_task(rng: Random, world: World) -> Stimulus:
    return st.CancelTask(rng.choice(KEYS))


def cancel_compute(rng: Random, world: World) -> Stimulus:
    return st.CancelCompute(rng.choice(KEYS))


def acquire_replicas(rng: Random, world: World) -> Stimulus:
    keys = some(rng, KEYS, 3)
    return st.AcquireReplicas(who_has(rng, keys), sizes(rng, keys))


def remove_replicas(rng: Random, world: World) -> Stimulus:
    return st.RemoveReplicas(some(rng, KEYS, 3))


def steal_request(rng: Random, world: World) -> Stimulus:
    return st.StealRequest(rng.choice(KEYS), f"steal-{world.steps}")


def refresh_who_has(rng: Random, world: World) -> Stimulus:
    return st.RefreshWhoHas(who_has(rng, some(rng, KEYS, 4)))


def remove_worker(rng: Random, world: World) -> Stimulus:
    return st.RemoveWorker(rng.choice(PEERS))


def update_data(rng: Random, world: World) -> Stimulus:
    world.last_put -= 1
    return st.UpdateData(
        {key: (rng.choice(SIZES), "int") for key in some(rng, KEYS, 2)},
        attempt=1 if rarely(rng) else world.last_put,
        request_id=rng.choice((None, "r")),
    )


def pause(rng: Random, world: World) -> Stimulus:
    return st.Pause()


def unpause(rng: Random, world: World) -> Stimulus:
    return st.Unpause()


# Outcomes


def _execute(rng: Random, world: World) -> tuple[Key, int] | None:
    """An attempt that runs; rarely, one that does not."""
    if rarely(rng):
        return rng.choice(KEYS), 1 + rng.randrange(world.machine.ledger.last_attempt + 1)
    running = [owed for owed in world.owed.values() if isinstance(owed, ins.Execute)]
    if not running:
        return None
    execute = rng.choice(running)
    return execute.key, execute.attempt


def _gather(rng: Random, world: World) -> ins.Gather | None:
    if rarely(rng):
        last_attempt = world.machine.ledger.last_attempt
        attempt = 1 + rng.randrange(last_attempt + 1)
        return ins.Gather(rng.choice(PEERS), attempt, some(rng, KEYS, 2), 0)
    flying = [owed for owed in world.owed.values() if isinstance(owed, ins.Gather)]
    return rng.choice(flying) if flying else None


def execute_success(rng: Random, world: World) -> Stimulus | None:
    it = _execute(rng, world)
    if it is None:
        return None
    task = world.machine.ledger.tasks.get(it[0])
    brief = task is not None and task.prefix == "brief" and not rarely(rng)
    return st.ExecuteSuccess(*it, rng.choice(SIZES), "int", 0.0001 if brief else 2.5)


def execute_failure(rng: Random, world: World) -> Stimulus | None:
    it = _execute(rng, world)
    return it and st.ExecuteFailure(*it, "ValueError")


def execute_reschedule(rng: Random, world: World) -> Stimulus | None:
    it = _execute(rng, world)
    return it and st.ExecuteReschedule(*it)


def execute_cancelled(rng: Random, world: World) -> Stimulus | None:
    it = _execute(rng, world)
    return it and st.ExecuteCancelled(*it)


def secede(rng: Random, world: World) -> Stimulus | None:
    it = _execute(rng, world)
    return it and st.Secede(*it, compute_duration_s=0.5)


def gather_success(rng: Random, world: World) -> Stimulus | None:
    gather = _gather(rng, world)
    if gather is None:
        return None
    sent = [key for key in gather.keys if rng.randrange(4)] + [rng.choice(KEYS)] * rarely(rng)
    return st.GatherSuccess(
        gather.peer, gather.attempt, {key: (rng.choice(SIZES), "int") for key in sent}
    )


def gather_busy(rng: Random, world: World) -> Stimulus | None:
    gather = _gather(rng, world)
    return None if gather is None else st.GatherBusy(gather.peer, gather.attempt)


def gather_network_failure(rng: Random, world: World) -> Stimulus | None:
    gather = _gather(rng, world)
    return None if gather is None else st.GatherNetworkFailure(gather.peer, gather.attempt)


def gather_failure(rng: Random, world: World) -> Stimulus | None:
    gather = _gather(rng, world)
    return (
        None if gather is None else st.GatherFailure(gather.peer, gather.attempt, "UnpicklingError")
    )


def retry_busy_worker(rng: Random, world: World) -> Stimulus | None:
    if rarely(rng):
        return st.RetryBusyWorker(rng.choice(PEERS), rng.randrange(9))
    timers = [owed for owed in world.owed.values() if isinstance(owed, ins.RetryBusyWorkerLater)]
    if not timers:
        return None
    timer = rng.choice(timers)
    return st.RetryBusyWorker(timer.peer, timer.attempt)


def find_missing(rng: Random, world: World) -> Stimulus | None:
    if rarely(rng):
        return st.FindMissing(rng.randrange(9))
    timers = [owed for owed in world.owed.values() if isinstance(owed, ins.FindMissingLater)]
    return st.FindMissing(rng.choice(timers).attempt) if timers else None


# Each as often as it stands here: outcomes outweigh requests, or everything would stay busy.
DRAWS: tuple[Draw, ...] = (
    *(compute_task,) * 10,
    *(free_keys,) * 3,
    cancel_task,
    cancel_compute,
    *(acquire_replicas,) * 3,
    remove_replicas,
    steal_request,
    refresh_who_has,
    remove_worker,
    update_data,
    pause,
    *(unpause,) * 4,
    *(execute_success,) * 6,
    *(execute_failure,) * 2,
    execute_reschedule,
    *(execute_cancelled,) * 2,
    *(secede,) * 2,
    *(gather_success,) * 6,
    gather_busy,
    gather_network_failure,
    gather_failure,
    *(retry_busy_worker,) * 2,
    *(find_missing,) * 2,
)
