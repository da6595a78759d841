"""What must hold after every stimulus: each index says the same as the tasks themselves.

`check` looks at everything, so its cost grows with the number of tasks: it is for tests.
"""

from collections import Counter

from trouper.runtime.ledger import Ledger, millionths
from trouper.runtime.machine import Machine
from trouper.runtime.policies import choose
from trouper.runtime.settling import is_retained, place_of
from trouper.runtime.task import Executing, Fetching, Goal, Place, Result, Task


class InvariantError(AssertionError):
    """The state of a machine contradicts itself."""


def check(machine: Machine) -> None:
    """Verify every invariant.

    Raises:
        InvariantError: What does not hold, with the tasks concerned.
    """
    ledger = machine.ledger
    _require(not ledger.unsettled, "tasks are left unsettled", *ledger.unsettled)
    for key, task in ledger.tasks.items():
        _require(key == task.key, "a task stands under another key", key, task)
        _check_task(ledger, task)
    _check_needs(ledger)
    _check_slots(ledger)
    _check_flights(ledger)
    _check_peers(ledger)
    _check_no_idle_capacity(ledger)


def _require(condition: object, message: str, *what: object) -> None:
    if not condition:
        raise InvariantError(f"{message}: {', '.join(map(_describe, what))}")


def _describe(what: object) -> str:
    return f"{what.key!r} ({what.phase})" if isinstance(what, Task) else repr(what)


def _check_task(ledger: Ledger, task: Task) -> None:
    belongs = place_of(task)
    if belongs is Place.WAITING:
        inputs = task.local + task.remote
        unmet = sum(dependency.result is not Result.IN_MEMORY for dependency in inputs)
        belongs = Place.WAITING if unmet else Place.READY
        _require(task.unmet == unmet, "wrong count of unmet inputs", task, task.unmet, unmet)
    _require(task.place is belongs, "in the wrong place", task, task.place, belongs)
    goal = task.goal if task.result is Result.NOTHING else Goal.NONE
    _require(bool(task.spec_id) == (goal is Goal.COMPUTE), "spec without use, or none", task)
    _require(bool(task.local or task.remote) <= bool(task.spec_id), "inputs without a spec", task)
    for dependency in task.local + task.remote:
        _require(ledger.tasks.get(dependency.key) is dependency, "an input is unknown", task)
        _require(task in (dependency.dependents or ()), "not linked back", task, dependency)
    for dependent in task.dependents or ():
        _require(task in dependent.local + dependent.remote, "no such input", dependent, task)
    _require(task.dependents != {} and task.holders != {}, "empty map kept", task)
    if task.result is not Result.NOTHING:
        _require(is_retained(task), "a result that nobody wants", task)
        _require(task.claim is Goal.NONE, "a claim that is answered", task)
    else:
        _require(not task.hold and not task.pins, "held without a result", task)
        _require(
            goal is not Goal.NONE or task.activity is not None or task.dependents,
            "a task that nobody knows",
            task,
        )
    if goal is Goal.NONE and task.activity is not None:
        _require(task.activity.cancelling, "an unwanted attempt goes on", task)
    _require(task not in ledger.missing or task.place is Place.MISSING, "not missing", task)


def _check_needs(ledger: Ledger) -> None:
    local: Counter[str] = Counter()
    remote: Counter[str] = Counter()
    pins: Counter[str] = Counter()
    for task in ledger.tasks.values():
        local.update(dependency.key for dependency in task.local)
        if task.place in (Place.WAITING, Place.READY):
            remote.update(dependency.key for dependency in task.remote)
        if isinstance(task.activity, Executing):
            for key, entry in task.activity.inputs:
                used = ledger.tasks.get(key)
                if used is not None and used.entry == entry and used.result is Result.IN_MEMORY:
                    pins[key] += 1
    for key, task in ledger.tasks.items():
        _require(task.local_needs == local[key], "wrong count of local needs", task)
        _require(task.remote_needs == remote[key], "wrong count of remote needs", task)
        _require(task.pins == pins[key], "wrong count of pins", task)
    in_memory = [task for task in ledger.tasks.values() if task.result is Result.IN_MEMORY]
    _require(ledger.nbytes == sum(task.nbytes for task in in_memory), "wrong sum of bytes")


def _check_slots(ledger: Ledger) -> None:
    config = ledger.config
    free = dict(config.slots)
    resources = {name: millionths(x) for name, x in config.resources.items()}
    lengthy = dict.fromkeys(free, 0)
    ready: Counter[str] = Counter()
    for task in ledger.tasks.values():
        if task.place is Place.READY:
            ready[task.executor] += 1
        activity = task.activity
        if isinstance(activity, Executing):
            free[activity.executor] -= not activity.seceded
            lengthy[activity.executor] += not activity.seceded and not activity.brief
            for name, amount in activity.resources:
                resources[name] -= millionths(amount)
    for executor, slots in ledger.slots.items():
        _require(slots.free == free[executor], "wrong count of slots", executor, slots.free)
        _require(slots.lengthy == lengthy[executor], "wrong count of lengthy tasks", executor)
        ahead = config.run_ahead.get(executor, 0)
        _require(slots.free >= -ahead, "more tasks than slots", executor, slots.free)
        live = sum(queue.live for queue in ledger.queues.values() if queue.executor == executor)
        _require(live == ready[executor], "wrong count of ready tasks", executor, live)
    _require(resources == ledger.millionths_free, "wrong sum of a resource", resources)
    _require(min(resources.values(), default=0) >= 0, "more taken of a resource", resources)
    constrained = sum(queue.live for queue in ledger.queues.values() if queue.resource_names)
    _require(ledger.constrained_count == constrained, "wrong count of constrained tasks")


def _check_flights(ledger: Ledger) -> None:
    aboard: dict[int, set[str]] = {attempt: set() for attempt in ledger.flights}
    for task in ledger.tasks.values():
        if isinstance(task.activity, Fetching):
            _require(task.activity.attempt in aboard, "fetching without a flight", task)
            aboard[task.activity.attempt].add(task.key)
    for attempt, flight in ledger.flights.items():
        _require(aboard[attempt] == set(flight.keys), "wrong passengers", attempt, flight)
        _require(ledger.peers[flight.peer].attempt == attempt, "flight without its peer", flight)
    total = sum(flight.nbytes for flight in ledger.flights.values())
    _require(total == ledger.incoming_nbytes, "wrong sum of bytes in flight", total)


def _check_peers(ledger: Ledger) -> None:
    _require(ledger.config.address not in ledger.peers, "a peer of its own")
    for address, peer in ledger.peers.items():
        holding = {task.key for task in ledger.tasks.values() if address in (task.holders or ())}
        _require({task.key for task in peer.held} == holding, "wrong holdings", address)
        wanted = sum(task.place is Place.WANTED for task in peer.held)
        _require(peer.wanted_count == wanted, "wrong count of wanted values", address, wanted)
        _require(peer.held or peer.attempt or peer.busy_attempt, "a peer without use", address)
        if peer not in ledger.restless:
            rank = peer.rank()
            _require(rank == peer.offered, "offers something else", address, rank)
            _require(rank is None or rank in ledger.offers, "not offered", address, rank)
    _require(not ledger.missing or ledger.missing_attempt, "nobody looks for what is missing")


def _check_no_idle_capacity(ledger: Ledger) -> None:
    """Whatever could start has started: there is no later moment at which it would."""
    if ledger.paused:
        return
    chosen = choose(ledger)
    _require(chosen is None, "a ready task could start", chosen.head()[2] if chosen else None)
    if not ledger.flights:
        for address, peer in ledger.peers.items():
            _require(peer.rank() is None, "a peer could be asked, nothing is in flight", address)
