"""Stories that a scheduler of Dask's and real peers could tell a worker, from one integer seed.

A story is told by a `Cluster` that acts at random, by the attempts of our worker that end at
random, and by messages that are delivered at random; so that whatever can cross on the way does.
"""

from collections import Counter
from collections.abc import Callable
from random import Random
from typing import TypeAlias

from duel import UNDISTURBED, Duel
from fake_cluster import ADDRESS, KEYS, PEERS, Cluster

from trouper.runtime.invariants import check
from trouper.runtime.ledger import Config, Limits
from trouper.wire import instructions as ins
from trouper.wire import stimuli as st
from trouper.wire.stimuli import Stimulus
from trouper.wire.vocabulary import Key, Peer

LIMITS = (
    Limits(),
    Limits(incoming_count=1, incoming_throttle_nbytes=0, message_nbytes=None),
    Limits(incoming_count=2, incoming_throttle_nbytes=10, incoming_nbytes=30, message_nbytes=15),
    Limits(incoming_count=1, incoming_throttle_nbytes=10, message_nbytes=12),
    Limits(incoming_nbytes=20),
)
RESOURCES: tuple[dict[str, float], ...] = ({}, {}, {"gpu": 1.0}, {"gpu": 1.0, "licence": 2.0})

Act: TypeAlias = Callable[["Story"], Stimulus | None]
"""Something happens; if it reaches our worker at once, it is this stimulus."""


class Story:
    """One seed's worth of stimuli, told to both machines."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        self.config = Config(
            slots={"thread": self.rng.choice((1, 1, 2, 3))},
            resources=self.rng.choice(RESOURCES),
            address=ADDRESS,
            limits=self.rng.choice(LIMITS),
        )
        self.duel = Duel(self.config)
        self.cluster = Cluster(self.rng, self.config.resources)
        self.ended = ""
        """The intended difference at which the story has ended, if it has."""
        self.avoided: Counter[str] = Counter()
        """Stimuli left out for an intended difference that they would have led to."""
        self.deck = [act for act, weight in ACTS for _ in range(weight * self.rng.choice(OFTENER))]

    def tell(self, steps: int) -> None:
        """So many stimuli.

        Raises:
            Divergence: The machines differ.
            AssertionError: At the end, our machine contradicts itself.
        """
        while len(self.duel.told) < steps:
            stimulus = self.rng.choice(self.deck)(self)
            if stimulus is None:
                continue
            self.ended = self.duel.exempt(stimulus)
            if self.ended:
                break
            self.cluster.up.extend(
                word for word in self.duel.send(stimulus) if isinstance(word, REPORTS)
            )
        check(self.duel.machine)

    def key(self) -> Key:
        """Any key."""
        return self.rng.choice(KEYS)

    def keys(self) -> list[Key]:
        """Some different keys."""
        return self.rng.sample(KEYS, self.rng.choice((1, 1, 2, 3)))

    def peer(self) -> Peer:
        """Any peer."""
        return self.rng.choice(PEERS)


REPORTS = (
    ins.TaskFinished,
    ins.TaskErred,
    ins.AddKeys,
    ins.ReleaseWorkerData,
    ins.RescheduleTask,
    ins.LongRunning,
    ins.RequestRefreshWhoHas,
    ins.StealResponse,
)


def submit(story: Story) -> None:
    story.cluster.submit(story.key())


def release(story: Story) -> None:
    story.cluster.release(story.key())


def forget(story: Story) -> None:
    story.cluster.forget(story.key())


def acquire(story: Story) -> None:
    story.cluster.acquire(story.keys())


def remove(story: Story) -> None:
    story.cluster.remove(story.keys())


def steal(story: Story) -> None:
    story.cluster.steal(story.key())


def rerun(story: Story) -> None:
    story.cluster.rerun(story.key())


def cancel_compute(story: Story) -> None:
    story.cluster.cancel_compute(story.key())


def scatter(story: Story) -> Stimulus | None:
    keys = story.keys()
    idle = [key for key in keys if story.duel.machine.phase(key) in UNDISTURBED]
    story.avoided["scatter meets work"] += len(keys) - len(idle)
    return story.cluster.scatter(idle)


def peer_ends(story: Story) -> None:
    for key in KEYS:
        if story.rng.randrange(2):
            story.cluster.peer_ends(key)


def replicate(story: Story) -> None:
    story.cluster.replicate(story.key(), story.peer())


def drop(story: Story) -> None:
    story.cluster.drop(story.key(), story.peer())


def busy(story: Story) -> None:
    node = story.cluster.nodes[story.peer()]
    node.busy = node.alive and not node.busy


def die(story: Story) -> None:
    story.cluster.die(story.peer())


def notice(story: Story) -> None:
    for peer in PEERS:
        story.cluster.notice(peer)


def join(story: Story) -> None:
    story.cluster.join(story.peer())


def deliver(story: Story) -> Stimulus | None:
    down = story.cluster.down
    return down.popleft() if down else None


def hear(story: Story) -> None:
    if story.cluster.up:
        story.cluster.hear()


def pause(story: Story) -> Stimulus | None:
    return None if story.duel.machine.ledger.paused else st.Pause()


def unpause(story: Story) -> Stimulus | None:
    return st.Unpause() if story.duel.machine.ledger.paused else None


def end_run(story: Story) -> Stimulus | None:
    """An attempt ends, or secedes."""
    running = [owed for owed in story.duel.owed.values() if isinstance(owed, ins.Execute)]
    if not running:
        return None
    run = story.rng.choice(running)
    how = story.rng.randrange(16)
    if how < 10:
        nbytes = story.cluster.tasks[run.key].nbytes
        return st.ExecuteSuccess(run.key, run.attempt, nbytes, "int")
    if how < 12:
        return st.ExecuteFailure(run.key, run.attempt, "ValueError")
    if how == 12:
        return st.ExecuteReschedule(run.key, run.attempt)
    if how == 13:
        cancelled = st.ExecuteCancelled(run.key, run.attempt)
        name = story.duel.exempt(cancelled)
        if name:  # most attempts are not being cancelled; no actor would say so of those
            story.avoided[name] += story.duel.is_cancelling(run.key)
        return None if name else cancelled
    return st.Secede(run.key, run.attempt, 0.5)


def end_gather(story: Story) -> Stimulus | None:
    """A peer answers, or does not."""
    flying = [owed for owed in story.duel.owed.values() if isinstance(owed, ins.Gather)]
    if not flying:
        return None
    gather = story.rng.choice(flying)
    node = story.cluster.nodes[gather.peer]
    if not node.alive or not story.rng.randrange(12):
        return st.GatherNetworkFailure(gather.peer, gather.attempt)
    if node.busy or not story.rng.randrange(12):
        return st.GatherBusy(gather.peer, gather.attempt)
    if not story.rng.randrange(12):
        return st.GatherFailure(gather.peer, gather.attempt, "UnpicklingError")
    tasks = story.cluster.tasks
    data = {key: (tasks[key].nbytes, "int") for key in gather.keys if key in node.holds}
    return st.GatherSuccess(gather.peer, gather.attempt, data)


def end_wait(story: Story) -> Stimulus | None:
    """A timer runs out."""
    for owed in story.duel.owed.values():
        if isinstance(owed, ins.RetryBusyWorkerLater) and story.rng.randrange(2):
            return st.RetryBusyWorker(owed.peer, owed.attempt)
        if isinstance(owed, ins.FindMissingLater) and story.rng.randrange(2):
            return st.FindMissing(owed.attempt)
    return None


ACTS: tuple[tuple[Act, int], ...] = (
    (submit, 10),
    (release, 4),
    (forget, 1),
    (acquire, 4),
    (remove, 3),
    (steal, 3),
    (rerun, 3),
    (cancel_compute, 1),
    (scatter, 2),
    (peer_ends, 4),
    (replicate, 4),
    (drop, 1),
    (busy, 1),
    (die, 1),
    (notice, 2),
    (join, 2),
    (deliver, 30),
    (hear, 30),
    (pause, 1),
    (unpause, 6),
    (end_run, 12),
    (end_gather, 10),
    (end_wait, 4),
)
"""What can happen, and how often."""

OFTENER = (1, 1, 1, 5)
"""In each story some of it happens more often: what is rare has to meet what is rare."""
