"""The choices: which ready task starts next, and what to gather from whom.

Pure functions of the ledger, run once at the end of every `Machine.handle`, execute first and
gather last, so that all keys that a stimulus made wanted travel in one message per peer. There is
no other place where anything starts (but for shortcuts past it: `gather_alone`, and those in
`bulk`): what frees a slot, a resource, a byte or a peer is a stimulus, and is used before `handle`
returns.
"""

from trouper.runtime.ledger import BRIEF, Ledger, millionths
from trouper.runtime.peers import PeerEntry
from trouper.runtime.ready import ReadyQueue
from trouper.runtime.task import NOWHERE, Executing, Fetching, Task
from trouper.wire.instructions import Execute, Gather, Instruction
from trouper.wire.vocabulary import Entry, Key


def start_ready(ledger: Ledger, out: list[Instruction]) -> None:
    """Start ready tasks while there are slots and resources for them."""
    ledger.stirred = False
    if ledger.paused:
        return
    if ledger.constrained_count:
        while (chosen := choose(ledger)) is not None:
            start(ledger, chosen, out)
        return
    # The common case, and on the way of every task: executors do not get in each other's way.
    for queue in ledger.plain_queues.values():
        slots = queue.slots
        while queue.live and slots.free > -slots.run_ahead:
            if slots.free <= 0 and (  # `may_run_ahead`, in plain
                slots.lengthy or ledger.brevity.get(queue.head()[2].prefix) not in BRIEF
            ):
                break
            start(ledger, queue, out)


def may_run_ahead(ledger: Ledger, queue: ReadyQueue) -> bool:
    """Whether the head of a queue may be handed to its executor ahead of a free slot.

    It may if the task and everything that runs there is known to be brief. Otherwise an executor of
    two slots would idle after every second task until it is told of the next; and a task that
    comes meanwhile, however urgent, hardly waits longer for it.
    """
    slots = queue.slots
    if slots.lengthy or slots.free <= -slots.run_ahead:
        return False
    return ledger.brevity.get(queue.head()[2].prefix) in BRIEF


def choose(ledger: Ledger) -> ReadyQueue | None:
    """The queue whose head starts next, or None, where some tasks take resources.

    The best task goes first. One that finds its resources taken waits, and nothing behind it may
    take those resources meanwhile, or it could wait for ever; tasks that take others may pass.
    """
    contenders = [
        queue
        for queue in ledger.queues.values()
        if queue.live and (queue.slots.free > 0 or may_run_ahead(ledger, queue))
    ]
    contenders.sort(key=lambda queue: queue.head()[:2])
    reserved: set[str] = set()
    for queue in contenders:
        names = queue.resource_names
        if not names or (reserved.isdisjoint(names) and has_resources(ledger, queue)):
            return queue
        reserved.update(names)
    return None


def has_resources(ledger: Ledger, queue: ReadyQueue) -> bool:
    """Whether what the head of a queue takes is free."""
    free = ledger.millionths_free
    return all(free[name] >= millionths(amount) for name, amount in queue.head()[2].resources)


def start(ledger: Ledger, queue: ReadyQueue, out: list[Instruction]) -> None:
    """Begin an attempt for the head of a queue. Plain: every task starts here."""
    task = queue.pop()
    inputs: tuple[Entry, ...] = ()
    if task.local or task.remote:
        taken: list[Entry] = []
        for dependency in task.local:
            dependency.pins += 1
            taken.append((dependency.key, dependency.entry))
        for dependency in task.remote:  # the pin replaces the need of a task that waits
            dependency.remote_needs -= 1
            dependency.pins += 1
            taken.append((dependency.key, dependency.entry))
        inputs = tuple(taken)
    slots = queue.slots
    # Ahead of a free slot only brief ones are started.
    brief = slots.run_ahead > 0 and (slots.free <= 0 or ledger.brevity.get(task.prefix) in BRIEF)
    slots.free -= 1
    if not brief:
        slots.lengthy += 1
    resources = task.resources
    if resources:
        ledger.constrained_count -= 1
        ledger.take_resources(resources)
    ledger.last_attempt = attempt = ledger.last_attempt + 1
    executor, spec_id = task.executor, task.spec_id
    task.activity = Executing(attempt, spec_id, executor, resources, inputs, brief)
    out.append(Execute(task.key, attempt, task.run_id, spec_id, executor, inputs, resources))


def start_gathers(ledger: Ledger, out: list[Instruction]) -> None:
    """Ask peers for wanted values, the best first, until a limit is reached."""
    if ledger.paused:
        return
    while (ledger.restless or ledger.offers) and not is_throttled(ledger):
        peer = ledger.take_offer()
        if peer is None:
            return
        tasks = take_wanted(ledger, peer)
        if not tasks:
            ledger.restless[peer] = None  # until there is room for its best
            return
        ledger.restless.pop(peer, None)  # it has nothing to offer until it has answered
        start_gather(ledger, peer, tasks, out)


def start_gather(
    ledger: Ledger, peer: PeerEntry, tasks: list[Task], out: list[Instruction]
) -> None:
    """Begin an attempt that fetches tasks from a peer."""
    ledger.last_attempt = attempt = ledger.last_attempt + 1
    address = peer.address
    nbytes = 0
    keys: list[Key] = []
    for task in tasks:
        task.activity = Fetching(attempt, address, task.nbytes)
        nbytes += task.nbytes
        keys.append(task.key)
    ledger.flights[attempt] = gather = Gather(address, attempt, tuple(keys), nbytes)
    ledger.incoming_nbytes += nbytes
    peer.attempt = attempt
    out.append(gather)


def gather_alone(ledger: Ledger, task: Task, out: list[Instruction]) -> bool:
    """Fetch the one new input of a new task, if it competes with no other for a peer.

    What `start_gathers` would do with it, without the books in which many compete: no heap, no
    offer, no place. And at the same time: who waits for it does not start, so nothing else does.

    Returns:
        Whether it was begun; if not, it has to be settled as usual.
    """
    if ledger.restless or ledger.offers or ledger.paused or is_throttled(ledger):
        return False
    best: PeerEntry | None = None
    for address in task.holders or ():
        peer = ledger.peers[address]
        if peer.wanted_count:
            return False
        if peer.attempt or peer.busy_attempt:
            continue
        if best is None or (peer.remote, address) < (best.remote, best.address):
            best = peer
    if best is None or not fits(ledger, task, 0):
        return False
    start_gather(ledger, best, [task], out)
    return True


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
    while peer.wanted_count:
        task = peer.best()
        if not fits(ledger, task, message_nbytes):
            break
        task.place = NOWHERE
        ledger.unwant(task)
        taken.append(task)
        message_nbytes += task.nbytes
    return taken


def fits(ledger: Ledger, task: Task, message_nbytes: int) -> bool:
    """Whether a task may join a message that carries `message_nbytes` so far.

    Alone, the best task goes whatever its size: it has to arrive some time.
    """
    if not message_nbytes and not ledger.incoming_nbytes:
        return True
    limits = ledger.config.limits
    nbytes = message_nbytes + task.nbytes
    in_flight = ledger.incoming_nbytes + nbytes
    if limits.incoming_nbytes is not None and in_flight > limits.incoming_nbytes:
        return False
    return not message_nbytes or limits.message_nbytes is None or nbytes <= limits.message_nbytes
