"""A scheduler of Dask's and some peers, small, with every delay that a network can have.

The scheduler keeps its own view of the cluster and acts on it, however stale it is: what it says
to our worker waits in `down` until it is delivered, what our worker reports waits in `up` until
the scheduler gets to it. Both are in order, as a stream is. What the scheduler does about each
report, and when it may send what, follows `distributed/scheduler.py` 2026.8: stale runs are
answered with free-keys, a reschedule with free-keys and a new assignment, copies of what is not in
memory with remove-replicas; a lost last copy takes the tasks that were sent out with it back.

Peers hold values, lose them, are busy and die without telling; the scheduler hears of it later.
"""

from collections import deque
from random import Random

from trouper.wire import instructions as ins
from trouper.wire import stimuli as st
from trouper.wire.instructions import Instruction
from trouper.wire.stimuli import Stimulus
from trouper.wire.vocabulary import Key, Peer, Priority

ADDRESS = "tcp://10.0.0.1:1"
PEERS = ("tcp://10.0.0.1:2", "tcp://10.0.0.2:1", "tcp://10.0.0.3:1")
KEYS = tuple("abcdefgh")
SIZES = (0, 1, 5, 12, 20)
PRIORITIES: tuple[Priority, ...] = ((0, 0), (0, 1), (1, 0), (-1, 0))


class Known:
    """What the scheduler knows of a key. A key that is released and not wanted is forgotten."""

    def __init__(self, key: Key, nbytes: int) -> None:
        self.key = key
        self.nbytes = nbytes
        self.state = "released"
        """released, waiting, processing, memory or erred."""
        self.wanted = False
        """A client holds a future."""
        self.spec_id = 0
        """Which of its specs; 0 for a value that was scattered."""
        self.inputs: tuple[Key, ...] = ()
        self.priority: Priority = (0, 0)
        self.resources: dict[str, float] = {}
        self.run_id = 0
        self.worker: Peer | None = None
        """Where it is processed, or where it erred."""
        self.stolen: tuple[str, Peer] | None = None
        """The steal request that has not been answered, and the thief."""
        self.who_has: dict[Peer, None] = {}


class Node:
    """A peer as it really is."""

    def __init__(self) -> None:
        self.holds: dict[Key, None] = {}
        self.alive = True
        self.known = True
        """Whether the scheduler still counts it in."""
        self.busy = False


class Cluster:
    """Everybody but our worker."""

    def __init__(self, rng: Random, resources: dict[str, float]) -> None:
        self.rng = rng
        self.resources = resources
        self.tasks = {key: Known(key, rng.choice(SIZES)) for key in KEYS}
        self.nodes = {peer: Node() for peer in PEERS}
        self.down: deque[Stimulus] = deque()
        self.up: deque[Instruction] = deque()
        self.run_id = 0
        self.steals = 0
        self.scatters = 0
        self.specs: dict[tuple[Key, int], tuple[Key, ...]] = {}

    # What clients and the scheduler do by themselves

    def submit(self, key: Key) -> None:
        """A client wants a key computed, and with it all that it takes."""
        task = self.tasks[key]
        task.wanted = True
        if task.state != "released":
            return
        if not task.spec_id:
            task.spec_id = 1 if self.rng.randrange(16) else 2
        inputs = self._inputs(key, task.spec_id)
        if any(self.tasks[name].state == "erred" for name in inputs):
            task.wanted = False
            task.spec_id = 0
            return
        task.inputs = inputs
        task.priority = self.rng.choice(PRIORITIES)
        task.resources = {}
        for name, total in self.resources.items():
            if not self.rng.randrange(3):
                task.resources[name] = self.rng.choice((0.3, 1.0, total))
        task.state = "waiting"
        for name in inputs:
            if self.tasks[name].state == "released":
                wanted = self.tasks[name].wanted
                self.submit(name)
                self.tasks[name].wanted = wanted
        if all(self.tasks[name].state != "released" for name in inputs):
            self._assign_if_possible(task)
        else:
            self.forget(key)

    def _inputs(self, key: Key, spec_id: int) -> tuple[Key, ...]:
        inputs = self.specs.get((key, spec_id))
        if inputs is None:
            below = KEYS[: KEYS.index(key)]
            count = min(len(below), self.rng.choice((0, 1, 1, 2, 3)))
            inputs = self.specs[key, spec_id] = tuple(self.rng.sample(below, count))
        return inputs

    def _assign_if_possible(self, task: Known) -> None:
        if task.state != "waiting":
            return
        if any(self.tasks[name].state != "memory" for name in task.inputs):
            return
        peers = [peer for peer in PEERS if self.nodes[peer].known]
        if task.resources or not peers or self.rng.randrange(4):
            self._send_to(task, ADDRESS)
        else:
            self._send_to(task, self.rng.choice(peers))

    def _send_to(self, task: Known, worker: Peer) -> None:
        task.state = "processing"
        task.worker = worker
        self.run_id += 1
        task.run_id = self.run_id
        if worker != ADDRESS:
            return
        self.down.append(
            st.ComputeTask(
                task.key,
                task.run_id,
                task.spec_id,
                task.priority,
                who_has={name: tuple(self.tasks[name].who_has) for name in task.inputs},
                nbytes={name: self.tasks[name].nbytes for name in task.inputs},
                resources=task.resources,
            )
        )

    def dependents(self, key: Key) -> list[Known]:
        """Tasks that take a key and are not done."""
        return [
            task
            for task in self.tasks.values()
            if key in task.inputs and task.state in ("waiting", "processing")
        ]

    def release(self, key: Key) -> None:
        """A client lets a key go; whoever needs it still keeps it."""
        self.tasks[key].wanted = False
        self._collect(key)

    def _collect(self, key: Key) -> None:
        task = self.tasks[key]
        if task.wanted or task.state == "released" or self.dependents(key):
            return
        inputs = task.inputs
        self._forget(task)
        for name in inputs:
            self._collect(name)

    def forget(self, key: Key) -> None:
        """A client cancels a key: it goes, and all that depends on it, in this order."""
        task = self.tasks[key]
        task.wanted = False
        inputs = task.inputs
        dependents = self.dependents(key)
        self._forget(task)
        for dependent in dependents:
            self.forget(dependent.key)
        for name in inputs:
            self._collect(name)

    def _forget(self, task: Known) -> None:
        self._free(task)
        task.state = "released"
        task.spec_id = 0
        task.inputs = ()

    def _free(self, task: Known) -> None:
        """End what was asked of workers about a task."""
        if task.worker is not None:
            self._free_on(task.worker, task.key)
            task.worker = None
        task.stolen = None
        for peer in task.who_has:
            self._free_on(peer, task.key)
        task.who_has = {}

    def _free_on(self, worker: Peer, key: Key) -> None:
        if worker == ADDRESS:
            self.down.append(st.FreeKeys((key,)))
        elif self.rng.randrange(4):  # else the message is slow: it holds the value for a while
            self.nodes[worker].holds.pop(key, None)

    def _retry(self, task: Known) -> None:
        """Processing ends without a result: free it there, and compute it again if it is due."""
        self._free(task)
        task.state = "released"
        if not task.wanted and not self.dependents(task.key):
            self._forget(task)
            return
        task.state = "waiting"
        for name in task.inputs:
            if self.tasks[name].state == "released":
                self.submit_again(name)
        self._assign_if_possible(task)

    def submit_again(self, key: Key) -> None:
        """Something that is needed has gone: compute it again."""
        task = self.tasks[key]
        if not task.spec_id:
            self.forget(key)  # scattered, and lost for ever
            return
        task.state = "waiting"
        for name in task.inputs:
            if self.tasks[name].state == "released":
                self.submit_again(name)
        self._assign_if_possible(task)

    def _lose(self, task: Known, peer: Peer) -> None:
        """A copy is gone; the last one takes back what was sent out with it."""
        if peer not in task.who_has:
            return
        del task.who_has[peer]
        if task.who_has or task.state != "memory":
            return
        task.state = "released"
        if not task.spec_id:
            self.forget(task.key)
            return
        dependents = self.dependents(task.key)
        if task.wanted or dependents:
            self.submit_again(task.key)
        else:
            self._forget(task)
        for dependent in dependents:
            if dependent.state == "processing":
                self._retry(dependent)

    def _in_memory(self, task: Known, peer: Peer) -> None:
        task.state = "memory"
        task.worker = None
        task.stolen = None
        task.who_has = {peer: None}
        for dependent in self.dependents(task.key):
            self._assign_if_possible(dependent)
        for name in task.inputs:
            self._collect(name)
        self._collect(task.key)

    def acquire(self, keys: list[Key]) -> None:
        """The memory manager wants copies here."""
        wanted = [self.tasks[key] for key in keys]
        wanted = [task for task in wanted if task.state == "memory" and ADDRESS not in task.who_has]
        if wanted:
            self.down.append(
                st.AcquireReplicas(
                    {task.key: tuple(task.who_has) for task in wanted},
                    {task.key: task.nbytes for task in wanted},
                )
            )

    def remove(self, keys: list[Key]) -> None:
        """The memory manager finds copies here superfluous."""
        removed: list[Key] = []
        for key in keys:
            task = self.tasks[key]
            needed = any(dependent.worker == ADDRESS for dependent in self.dependents(key))
            if ADDRESS in task.who_has and len(task.who_has) > 1 and not needed:
                del task.who_has[ADDRESS]
                removed.append(key)
        if removed:
            self.down.append(st.RemoveReplicas(tuple(removed)))

    def steal(self, key: Key) -> None:
        """Another worker is idle."""
        task = self.tasks[key]
        thieves = [peer for peer in PEERS if self.nodes[peer].known]
        if task.worker == ADDRESS and task.state == "processing" and not task.stolen and thieves:
            self.steals += 1
            task.stolen = (f"steal-{self.steals}", self.rng.choice(thieves))
            self.down.append(st.StealRequest(key, task.stolen[0]))

    def rerun(self, key: Key) -> None:
        """A client lets a key go that is processed here, and wants it again; a peer is quicker."""
        task = self.tasks[key]
        peers = [peer for peer in PEERS if self.nodes[peer].alive and self.nodes[peer].known]
        if task.worker == ADDRESS and task.state == "processing" and peers:
            self._free(task)
            self._send_to(task, self.rng.choice(peers))
            self.peer_ends(key)
            self.acquire([key])

    def cancel_compute(self, key: Key) -> None:
        """The scheduler would rather not have it computed; it frees the key for good next."""
        task = self.tasks[key]
        if task.worker == ADDRESS and task.state == "processing" and not self.dependents(key):
            self.down.append(st.CancelCompute(key))
            self.release(key)

    def scatter(self, keys: list[Key]) -> Stimulus | None:
        """A client puts values here; by a request of its own, which nothing in `down` delays."""
        new = [self.tasks[key] for key in keys if self.tasks[key].state == "released"]
        if not new:
            return None
        self.scatters += 1
        data = {task.key: (task.nbytes, "int") for task in new}
        for task in new:
            task.spec_id = 0
            task.inputs = ()
            task.wanted = True
            task.state = "memory"
            task.who_has = {ADDRESS: None}
        return st.UpdateData(data, -self.scatters)

    # What becomes of peers

    def peer_ends(self, key: Key) -> None:
        """A peer ends a task that was sent to it."""
        task = self.tasks[key]
        if task.state != "processing" or task.worker is None or task.worker == ADDRESS:
            return
        node = self.nodes[task.worker]
        if not node.alive:
            return
        if self.rng.randrange(12):
            node.holds[key] = None
            self._in_memory(task, task.worker)
        else:
            self._err(task)

    def _err(self, task: Known) -> None:
        task.state = "erred"
        task.stolen = None
        for dependent in self.dependents(task.key):
            self._free(dependent)
            self._err(dependent)
        self._collect(task.key)

    def replicate(self, key: Key, peer: Peer) -> None:
        """A peer gets a copy of what is in memory somewhere."""
        task, node = self.tasks[key], self.nodes[peer]
        if task.state == "memory" and node.alive and node.known:
            node.holds[key] = None
            task.who_has[peer] = None

    def drop(self, key: Key, peer: Peer) -> None:
        """A peer has lost a copy; the scheduler hears of it."""
        self.nodes[peer].holds.pop(key, None)
        self._lose(self.tasks[key], peer)

    def die(self, peer: Peer) -> None:
        """A peer dies. Nobody knows yet."""
        node = self.nodes[peer]
        node.alive = False
        node.busy = False
        node.holds = {}

    def notice(self, peer: Peer) -> None:
        """The scheduler finds out that a peer has died, and tells everybody."""
        node = self.nodes[peer]
        if node.alive or not node.known:
            return
        node.known = False
        self.down.append(st.RemoveWorker(peer))
        for task in self.tasks.values():
            if task.worker == peer and task.state == "processing":
                task.worker = None
                self._retry(task)
            self._lose(task, peer)

    def join(self, peer: Peer) -> None:
        """A new peer under the address of one that is gone."""
        if not self.nodes[peer].known:
            self.nodes[peer] = Node()

    # What the scheduler does about reports

    def hear(self) -> None:
        """Deal with the oldest report."""
        match self.up.popleft():
            case ins.TaskFinished(key=key, run_id=run_id):
                self._finished(self.tasks[key], run_id)
            case ins.TaskErred(key=key, run_id=run_id):
                self._erred(self.tasks[key], run_id)
            case ins.AddKeys(keys=keys):
                self._added(keys)
            case ins.ReleaseWorkerData(key=key):
                self._lose(self.tasks[key], ADDRESS)
            case ins.RescheduleTask(key=key):
                task = self.tasks[key]
                if task.state == "processing" and task.worker == ADDRESS:
                    self._retry(task)
            case ins.RequestRefreshWhoHas(keys=keys):
                self._refresh(keys)
            case ins.StealResponse() as response:
                self._stolen(response)
            case _:
                pass  # long-running: only for its estimates

    def _finished(self, task: Known, run_id: int) -> None:
        if task.state in ("released", "erred"):
            self.down.append(st.FreeKeys((task.key,)))
        elif task.run_id != run_id:
            if task.worker == ADDRESS and task.state == "processing":
                self._retry(task)
            else:
                self.down.append(st.FreeKeys((task.key,)))
        elif task.state == "memory":
            task.who_has[ADDRESS] = None
        else:
            self._in_memory(task, ADDRESS)

    def _erred(self, task: Known, run_id: int) -> None:
        if task.state != "processing":
            return
        if task.run_id == run_id:
            self._err(task)
        elif task.worker == ADDRESS:
            self._retry(task)

    def _added(self, keys: tuple[Key, ...]) -> None:
        redundant: list[Key] = []
        for key in keys:
            task = self.tasks[key]
            if task.state == "memory":
                task.who_has[ADDRESS] = None
            else:
                redundant.append(key)
        if redundant:
            self.down.append(st.RemoveReplicas(tuple(redundant)))

    def _refresh(self, keys: tuple[Key, ...]) -> None:
        known = {key: self.tasks[key] for key in keys if self._is_known(self.tasks[key])}
        if known:
            self.down.append(
                st.RefreshWhoHas({key: tuple(task.who_has) for key, task in known.items()})
            )
        unknown = tuple(key for key in keys if key not in known)
        if unknown:
            self.down.append(st.FreeKeys(unknown))

    def _is_known(self, task: Known) -> bool:
        return task.state != "released" or task.wanted

    def _stolen(self, response: ins.StealResponse) -> None:
        task = self.tasks[response.key]
        if task.stolen is None or task.stolen[0] != response.stimulus_id:
            return
        _, thief = task.stolen
        task.stolen = None
        given_up = response.phase in ("waiting", "ready", "constrained")
        if response.phase is None or (given_up and not self.nodes[thief].known):
            self._retry(task)
        elif given_up:
            self._send_to(task, thief)
