"""The choices: which ready task starts next, and what to gather from whom.

Pure functions of the ledger, run once at the end of every `Machine.handle`, execute first and
gather last, so that all keys that a stimulus made wanted travel in one message per peer. There is
no other place where anything starts: what frees a slot, a resource, a byte or a peer is a
stimulus, and is used before `handle` returns.
"""

from trouper.runtime.ledger import Flight, Ledger, PeerEntry, ReadyQueue, millionths
from trouper.runtime.settling import leave
from trouper.runtime.task import Executing, Fetching, Task
from trouper.wire.instructions import Execute, Gather, Instruction
from trouper.wire.vocabulary import Entry


def start_ready(ledger: Ledger, out: list[Instruction]) -> None:
    """Start ready tasks while there are slots and resources for them."""
    if ledger.paused:
        return
    if ledger.constrained_count:
        while (queue := choose_queue(ledger)) is not None:
            start(ledger, queue, out)
        return
    # The common case, and on the way of every task: executors do not get in each other's way.
    slots_free = ledger.slots_free
    for executor, queue in ledger.plain_queues.items():
        while queue.live and slots_free[executor] > -queue.run_ahead and has_room(ledger, queue):
            start(ledger, queue, out)


def choose_queue(ledger: Ledger) -> ReadyQueue | None:
    """The queue whose head starts next, or None, where some tasks take resources.

    The best task goes first. One that finds its resources taken waits, and nothing behind it may
    take those resources meanwhile, or it could wait for ever; tasks that take others may pass.
    """
    contenders = [queue for queue in ledger.queues.values() if queue.live]
    contenders = [queue for queue in contenders if has_room(ledger, queue)]
    contenders.sort(key=_head_rank)
    reserved: set[str] = set()
    for queue in contenders:
        if not queue.resource_names:
            return queue
        if reserved.isdisjoint(queue.resource_names) and _has_resources(ledger, queue):
            return queue
        reserved.update(queue.resource_names)
    return None


def has_room(ledger: Ledger, queue: ReadyQueue) -> bool:
    """Whether the head of a queue may be handed to its executor.

    If a slot is free; or ahead of that, if the task and everything that runs there is known to be
    brief. Otherwise an executor of two slots would idle after every second task until it is told
    of the next; and a task that comes meanwhile, however urgent, hardly waits longer for it.
    """
    free = ledger.slots_free[queue.executor]
    if free > 0:
        return True
    if free <= -queue.run_ahead or ledger.lengthy[queue.executor]:
        return False
    head = queue.head()
    return head is not None and ledger.is_brief(head[2].prefix)


def _head_rank(queue: ReadyQueue) -> tuple[tuple[int | float, ...], int]:
    head = queue.head()
    assert head is not None
    return head[:2]


def _has_resources(ledger: Ledger, queue: ReadyQueue) -> bool:
    head = queue.head()
    assert head is not None
    free = ledger.millionths_free
    return all(free[name] >= millionths(amount) for name, amount in head[2].resources)


def start(ledger: Ledger, queue: ReadyQueue, out: list[Instruction]) -> None:
    """Begin an attempt for the head of a queue."""
    task = queue.pop()
    ledger.ready_count -= 1
    if queue.resource_names:
        ledger.constrained_count -= 1
    inputs: tuple[Entry, ...] = ()
    if task.local or task.remote:
        inputs = tuple([(dep.key, dep.entry) for dep in task.local + task.remote])
        for dependency in task.local:
            dependency.pins += 1
        for dependency in task.remote:  # the pin replaces the need of a task that waits
            dependency.remote_needs -= 1
            dependency.pins += 1
    # Plain, with no call more than it needs: every task starts here.
    ledger.last_attempt = attempt = ledger.last_attempt + 1
    executor, resources, spec_id = task.executor, task.resources, task.spec_id
    brief = queue.run_ahead > 0 and ledger.is_brief(task.prefix)
    task.activity = activity = Executing(attempt, spec_id, executor, resources, inputs, brief)
    if brief and not resources:
        ledger.slots_free[executor] -= 1
    else:
        ledger.take(activity)
    out.append(Execute(task.key, attempt, task.run_id, spec_id, executor, inputs, resources))


def start_gathers(ledger: Ledger, out: list[Instruction]) -> None:
    """Ask peers for wanted values, the best first, until a limit is reached."""
    if ledger.paused:
        return
    while (peer := ledger.best_offer()) is not None and not is_throttled(ledger):
        tasks = take_wanted(ledger, peer)
        if not tasks:
            return
        attempt = ledger.next_attempt()
        for task in tasks:
            task.activity = Fetching(attempt, peer.address, task.nbytes)
        keys = tuple(task.key for task in tasks)
        nbytes = sum(task.nbytes for task in tasks)
        ledger.flights[attempt] = Flight(peer.address, keys, nbytes)
        ledger.incoming_nbytes += nbytes
        peer.attempt = attempt
        out.append(Gather(peer.address, attempt, keys, nbytes))


def is_throttled(ledger: Ledger) -> bool:
    """Whether enough is in flight already."""
    limits = ledger.config.limits
    if limits.incoming_nbytes is not None and ledger.incoming_nbytes >= limits.incoming_nbytes:
        return True
    return (
        len(ledger.flights) >= limits.incoming_count
        and ledger.incoming_nbytes >= limits.incoming_throttle_nbytes
    )


def take_wanted(ledger: Ledger, peer: PeerEntry) -> list[Task]:
    """What to ask of a peer in one message, best first, as far as the limits allow."""
    taken: list[Task] = []
    message_nbytes = 0
    while (task := peer.best()) is not None and fits(ledger, task, message_nbytes):
        leave(ledger, task)
        taken.append(task)
        message_nbytes += task.nbytes
    return taken


def fits(ledger: Ledger, task: Task, message_nbytes: int) -> bool:
    """Whether a task may join a message that carries `message_nbytes` so far.

    Alone, the best task goes whatever its size: it has to arrive some time.
    """
    limits = ledger.config.limits
    if not message_nbytes and not ledger.incoming_nbytes:
        return True
    nbytes = message_nbytes + task.nbytes
    in_flight = ledger.incoming_nbytes + nbytes
    if limits.incoming_nbytes is not None and in_flight > limits.incoming_nbytes:
        return False
    return not message_nbytes or limits.message_nbytes is None or nbytes <= limits.message_nbytes
