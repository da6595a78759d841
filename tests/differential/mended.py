"""The reference, mended where it differs from us on purpose.

Each difference has a name, an entry in `differences.md` under that name, and a test that shows
both behaviours on the reference as it is. Here each is mended as narrowly as can be, and counted
whenever it is applied, so that all the rest can be required to be equal. Two are not counted, for
they are about the order in which things are looked at, always: *late choice*, *stale priorities*.
"""

import operator
from collections import Counter
from typing import Any

from mended_state import BEGUN, BY_PRIORITY, QUEUED, FairHeap, MendedState
from reference import ERROR, Reference, wsm

from trouper.runtime.ledger import Config
from trouper.wire import instructions as ins
from trouper.wire import stimuli as st
from trouper.wire.instructions import Instruction
from trouper.wire.stimuli import Stimulus
from trouper.wire.vocabulary import Key, Peer

# What is said to distributed's own classes cannot be checked: it knows its types only partly.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

BY_RANK = operator.attrgetter("rank")
NOTHING_KNOWN: tuple[frozenset[Peer], int | None] = (frozenset(), None)
SOUGHT = ("fetch", "flight", "missing")


class MendedReference(Reference):
    """distributed's `WorkerState`, different from ours only by accident."""

    state_type = MendedState

    def __init__(self, config: Config, *, validate: bool = True) -> None:
        super().__init__(config, validate=validate)
        self.mended: Counter[str] = Counter()
        """How often each difference was undone."""
        self.kept: dict[Key, None] = {}
        """Values that were freed while a task here uses them."""
        self.inputs: dict[Key, tuple[Key, ...]] = {}
        """Of each attempt that executes."""
        self.book: dict[Any, tuple[frozenset[Peer], int | None]] = {}
        """Who was said to hold a key, and its size."""
        self.left_out: frozenset[Key] = frozenset()
        """What was asked for in the gather that has just ended, and has not come."""
        self.cancelled: set[Key] = set()
        """Keys in flight that were unwanted for a while; asked for membership only."""
        state = self.state
        state.came = frozenset()
        state.choosing = False
        state.claims = set()
        state.unranked = {}
        state.mended = self.mended
        state.ready = FairHeap(key=BY_PRIORITY)
        state.constrained = FairHeap(key=BY_PRIORITY)
        state.data_needed.default_factory = lambda: FairHeap(key=BY_PRIORITY)

    def handle(self, stimulus: Stimulus) -> list[Instruction]:
        """Take a stimulus and say what is to be done."""
        state = self.state
        state.came = self.left_out = frozenset()
        if isinstance(stimulus, st.GatherSuccess | st.GatherFailure):
            state.came = frozenset(state.in_flight_workers[stimulus.peer])
        if isinstance(stimulus, st.GatherSuccess):
            self.left_out = frozenset(map(str, state.came)).difference(stimulus.data)
            state.came = frozenset(key for key in state.came if str(key) in stimulus.data)
        waited = frozenset(state.waiting)
        begun = isinstance(stimulus, st.ComputeTask) and self._is_begun(stimulus.key)
        out: list[Instruction] = []
        for word in self._adapt(stimulus, out):
            out += self._feed(self._event(word))
        self.transitions.counts = False  # what follows is our doing
        if isinstance(stimulus, st.ComputeTask) and not begun:
            self._forget_failures(stimulus)
        if isinstance(stimulus, st.ExecuteFailure | st.ExecuteCancelled):
            self._seek_what_failed(stimulus.key)
        if isinstance(stimulus, st.GatherFailure):
            out += self._fail_who_waits(waited)
        self._unlink_what_is_done()
        self._rank_for_dependents()
        self._stand_by_needs()
        if not begun:
            self._remember(stimulus)
        out += self._free_what_is_not_used()
        self._note_claims_and_cancellations()
        self._close_book()
        if isinstance(stimulus, st.GatherBusy):
            out = [word for word in map(self._unless_unwanted, out) if word is not None]
        self.transitions.counts = True
        for told in state.choose(self.stimulus_id):
            out += self._instruction(told)
        return out

    def _feed(self, event: Any) -> list[Instruction]:
        out: list[Instruction] = []
        for told in self.state.handle_stimulus(event):
            out += self._instruction(told)
        return out

    def _recommend(self, task: Any, finish: str) -> None:
        told = self.state._transitions({task: finish}, stimulus_id=self.stimulus_id)
        assert not told

    # Before

    def _adapt(self, stimulus: Stimulus, out: list[Instruction]) -> list[Stimulus]:
        """The stimuli to feed instead of the one that distributed would get."""
        self.stimulus_id = stimulus.stimulus_id if isinstance(stimulus, st.StealRequest) else "s"
        match stimulus:
            case st.FreeKeys():
                keys = tuple(key for key in stimulus.keys if self._may_be_freed(key))
                return [st.FreeKeys(keys)]
            case st.RemoveReplicas():
                keys = tuple(key for key in stimulus.keys if self._may_be_removed(key, out))
                return [st.RemoveReplicas(keys)]
            case st.CancelCompute(key=key):
                task = self._task(key)
                if task is not None and task.state in QUEUED and task.dependents:
                    self.mended["cancel-compute of an input"] += 1
                    return [st.FreeKeys((key,))]
            case st.AcquireReplicas():
                for key in stimulus.who_has:
                    self._acquire(key, out)
            case st.ComputeTask():
                way = self._make_way(stimulus.key, stimulus)
                return [*way, *self._seek_no_longer(stimulus), stimulus]
            case st.UpdateData():
                for key in stimulus.data:
                    self.kept.pop(key, None)
                    self.state.claims.discard(self.name(key))
            case _:
                pass
        return [stimulus]

    def _may_be_freed(self, key: Key) -> bool:
        task = self._task(key)
        self.state.claims.discard(self.name(key))
        if task is None:
            return True
        if task.state == "memory" and self._is_used(task):
            self.mended["inputs stay"] += 1
            self.kept[key] = None
            return False
        if task.state in SOUGHT and self._is_needed(task):
            self.mended["needs stand"] += 1
            return False
        return True

    def _may_be_removed(self, key: Key, out: list[Instruction]) -> bool:
        task = self._task(key)
        if task is None or task.state != "memory" or not self._is_used(task):
            return True
        self.mended["add-keys for what stays"] += 1
        self.kept.pop(key, None)
        out.append(ins.AddKeys((key,)))
        return False

    def _acquire(self, key: Key, out: list[Instruction]) -> None:
        task = self._task(key)
        if task is not None and task.state == "memory":
            self.mended["add-keys for what is held"] += 1
            self.kept.pop(key, None)
            out.append(ins.AddKeys((key,)))
        else:
            self.state.claims.add(self.name(key))

    def _make_way(self, key: Key, stimulus: st.ComputeTask) -> list[Stimulus]:
        """Let a task that is to be computed be as new."""
        self.kept.pop(key, None)
        self.state.claims.discard(self.name(key))
        task = self._task(key)
        if task is None or self._is_begun(key):
            return []
        if task.state in ("fetch", "error") and stimulus.who_has:
            self.mended["recommendations conflict"] += 1
            return [st.FreeKeys((key,))]
        return []

    def _seek_no_longer(self, stimulus: st.ComputeTask) -> list[Stimulus]:
        """*fetch without holders*: what is in fetch is missing when nobody else holds it."""
        nobody: dict[Key, tuple[Peer, ...]] = {}
        if self._is_begun(stimulus.key):
            return []  # neither side looks at whom it names
        for key, peers in stimulus.who_has.items():
            task = self._task(key)
            if task is not None and task.state == "fetch" and set(peers) <= {self.state.address}:
                self.mended["fetch without holders"] += 1
                nobody[key] = ()
        return [st.RefreshWhoHas(nobody)] if nobody else []

    # After

    def _seek_what_failed(self, key: Key) -> None:
        task = self._task(key)
        if task is not None and task.state == "error" and self._is_needed(task):
            self.mended["needs stand"] += 1
            self._recommend(task, "fetch")

    def _forget_failures(self, stimulus: st.ComputeTask) -> None:
        """*failures end with news*: who names holders of an input wants it fetched."""
        for key in stimulus.who_has:
            task = self._task(key)
            if task is not None and task.state == "error":
                self.mended["failures end with news"] += 1
                self._recommend(task, "released")

    def _unlink_what_is_done(self) -> None:
        """*links linger*: who will not be computed here takes no inputs.

        Distributed keeps a task linked to its inputs until it is forgotten: an input stays known,
        with the priority and run_id that it had, and counts as waited for; and a task that is to
        be computed again, with other inputs, waits for the old ones too.
        """
        for task in list(self.state.tasks.values()):
            linked = task.state in (*QUEUED, *BEGUN) or task.next == "waiting"
            for old in [] if linked else sorted(task.dependencies, key=BY_RANK):
                self.mended["links linger"] += 1
                task.dependencies.discard(old)
                task.waiting_for_data.discard(old)
                old.dependents.discard(task)
                old.waiters.discard(task)
                if old.state in SOUGHT and not old.waiters and old.key not in self.state.claims:
                    self._recommend(old, "released")
                if old.state == "released" and not old.dependents:
                    self._recommend(old, "forgotten")

    def _rank_for_dependents(self) -> None:
        """*priorities go with values*: what is to be fetched again has that of who wants it now."""
        for _, task in sorted(self.state.unranked.items()):
            best = min((dep.priority for dep in task.dependents), default=task.priority)
            self.mended["priorities go with values"] += best != task.priority
            task.priority = best
        self.state.unranked.clear()

    def _fail_who_waits(self, waited: frozenset[Any]) -> list[Instruction]:
        """*unreadable inputs*: who waits for an input that could not be read fails with it.

        Not who has only begun to wait: for that one it is fetched once more.
        """
        out: list[Instruction] = []
        for task in sorted(waited & self.state.waiting, key=BY_RANK):
            if any(dep.state == "error" for dep in task.waiting_for_data):
                self.mended["unreadable inputs"] += 1
                out.append(ins.TaskErred(str(task.key), task.run_id, 0))
                failed = ("error", *ERROR.values(), task.run_id)
                self.state._transitions({task: failed}, stimulus_id=self.stimulus_id)
                self._seek_what_failed(str(task.key))
        return out

    def _stand_by_needs(self) -> None:
        """Who waits still needs its inputs, whatever the scheduler has said of them."""
        lost = {
            dep.rank: dep
            for task in self.state.waiting
            for dep in task.waiting_for_data
            if dep.state in ("released", "cancelled", "error")
        }
        for _, dep in sorted(lost.items()):
            self.mended["needs stand"] += 1
            self._recommend(dep, "fetch")

    def _remember(self, stimulus: Stimulus) -> None:
        """*holders remembered*: what was said of a key still stands, whatever became of its task.

        Distributed forgets who holds a key, and its size, whenever its task passes through
        released; the news in the very message that is being dealt with too.

        *left out, not lost*: what was cancelled may be missing in an answer just for that.
        """
        self._note_news(stimulus)
        known: dict[Any, list[Peer]] = {}
        for task in self.state.tasks.values():
            peers, nbytes = self.book.get(task.key, NOTHING_KNOWN)
            peers -= {self.state.address}
            if task.state == "missing":
                if task.nbytes is None:
                    task.nbytes = nbytes
                if peers:
                    known[task.key] = sorted(peers)
            elif task.state == "fetch" and peers > task.who_has:
                known[task.key] = sorted(peers)
        if known:
            forgiven = isinstance(stimulus, st.GatherSuccess)
            self.mended["left out, not lost" if forgiven else "holders remembered"] += 1
            self._feed(wsm.RefreshWhoHasEvent(self.stimulus_id, known))

    def _note_news(self, stimulus: Stimulus) -> None:
        """Enter into the book what a stimulus says of holders."""
        book = self.book
        match stimulus:
            case st.ComputeTask() | st.AcquireReplicas():
                sizes = self._sizes(stimulus)
                for key, peers in self._named(stimulus.who_has).items():
                    book[key] = (frozenset(peers), sizes[key])
            case st.RefreshWhoHas():
                for key, peers in self._named(stimulus.who_has).items():
                    book[key] = (frozenset(peers), book.get(key, NOTHING_KNOWN)[1])
            case st.RemoveWorker(peer=peer) | st.GatherNetworkFailure(peer=peer):
                self._note_lost(peer, frozenset(map(str, book)))
            case st.GatherSuccess(peer=peer):
                self._note_lost(peer, self.left_out - self.cancelled)
            case _:
                pass

    def _note_lost(self, peer: Peer, keys: frozenset[Key]) -> None:
        for key, (peers, nbytes) in self.book.items():
            if str(key) in keys:
                self.book[key] = (peers - {peer}, nbytes)

    def _close_book(self) -> None:
        for key in self.book.keys() - self.state.tasks.keys():
            del self.book[key]

    def _note_claims_and_cancellations(self) -> None:
        flying = {str(task.key) for task in self.state.in_flight_tasks}
        self.cancelled &= flying
        for task in self.state.tasks.values():
            if task.state in ("memory", "error"):
                self.state.claims.discard(task.key)
            elif task.state == "cancelled" and task.previous == "flight":
                self.cancelled.add(str(task.key))

    def _free_what_is_not_used(self) -> list[Instruction]:
        out: list[Instruction] = []
        for key in list(self.kept):
            task = self._task(key)
            if task is None or task.state != "memory":
                del self.kept[key]
            elif not self._is_used(task):
                del self.kept[key]
                out += self._feed(self._event(st.FreeKeys((key,))))
        return out

    def _unless_unwanted(self, word: Instruction) -> Instruction | None:
        if not isinstance(word, ins.RequestRefreshWhoHas):
            return word
        tasks = [(key, self._task(key)) for key in word.keys]
        keys = tuple(key for key, task in tasks if task is not None and task.state == "fetch")
        if keys != word.keys:
            self.mended["nobody seeks the unwanted"] += 1
        return ins.RequestRefreshWhoHas(keys) if keys else None

    # Who uses what

    def _task(self, key: Key) -> Any:
        return self.state.tasks.get(self.name(key))

    def _is_begun(self, key: Key) -> bool:
        """Whether a request to compute this changes no more than its run_id."""
        task = self._task(key)
        return task is not None and task.state in (*QUEUED, *BEGUN, "memory")

    def _is_needed(self, task: Any) -> bool:
        return any(dependent.state in QUEUED for dependent in task.dependents)

    def _is_used(self, task: Any) -> bool:
        if self._is_needed(task):
            return True
        return any(str(task.key) in inputs for inputs in self.inputs.values())

    def _execute(self, task: Any) -> ins.Execute:
        self.inputs[str(task.key)] = tuple(str(dep.key) for dep in task.dependencies)
        return super()._execute(task)

    def _end_run(self, key: Key) -> dict[str, Any]:
        """*run_id of the newest request*: as it is by now, not as it was when the run began."""
        del self.inputs[key]
        ended = super()._end_run(key)
        run_id = self._task(key).run_id
        self.mended["run_id of the newest request"] += run_id != ended["run_id"]
        return {**ended, "run_id": run_id}
