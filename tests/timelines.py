"""A whole worker in simulated time, for tests of its timeline.

Its work takes some time, in slots; its inputs come from peers that are busy, lost, or send what
cannot be read.
"""

from collections.abc import Callable
from contextlib import suppress
from heapq import heappop, heappush
from pathlib import Path
from random import Random

from journals import THREADS, Clock, header, noted, options

from trouper.runtime.errors import StimulusError
from trouper.runtime.journal.frames import MAGIC
from trouper.runtime.journal.journal import Journal
from trouper.runtime.journal.recorder import Recorder
from trouper.runtime.journal.records import RecordWriter
from trouper.runtime.ledger import Config
from trouper.runtime.machine import Machine
from trouper.wire import instructions as ins
from trouper.wire import stimuli as st
from trouper.wire.stimuli import Stimulus


def spaced(path: Path, stimuli: list[Stimulus], config: Config = THREADS) -> Journal:
    """A journal of some stimuli, one in every millisecond; the first comes after one."""
    clock = Clock()
    recorder = Recorder(Machine(config), "w", options(path), clock)
    for stimulus in stimuli:
        clock.now_ns += 1_000_000
        with suppress(StimulusError):
            recorder.handle(stimulus)
        recorder.commit()
    recorder.close()
    return Journal.open(path)


PEERS = tuple(f"tcp://10.0.0.{number}:4000" for number in range(2, 7))
CONFIG = Config(slots={"thread": 8, "coroutine": 2}, address="tcp://10.0.0.1:4000")
PREFIXES = ("load", "clean", "join", "train", "score")
MEAN_S = {"load": 0.02, "clean": 0.03, "join": 0.06, "train": 0.18, "score": 0.01}


class Simulation:
    """Leads a machine through a life that its own instructions make, and records it.

    Args:
        path: Of the journal.
        seed: Decides everything.
        trouble: How likely it is that something goes wrong.
    """

    def __init__(self, path: Path, seed: int = 0, trouble: float = 0.02) -> None:
        self._machine = Machine(CONFIG)
        self._path = path
        self._write: Callable[[bytes], object] = lambda data: None
        self._writer = RecordWriter(0)
        self._rng = Random(seed)
        self._trouble = trouble
        self._now_us = 0
        self._due: list[tuple[int, int, Stimulus]] = []
        self._count = 0
        self._made: list[str] = []

    def run(self, tasks: int) -> None:
        """Let so many tasks come, at the rate at which they can be done, until all is quiet."""
        with self._path.open("wb") as file:
            self._write = file.write
            self._write(MAGIC + self._writer.header(header(CONFIG, name="node-1")))
            for number in range(tasks):
                self._come(number)
                self._advance(self._now_us + int(self._rng.expovariate(1 / 0.0085) * 1e6))
            while any(not isinstance(stimulus, st.FindMissing) for _, _, stimulus in self._due):
                self._advance(self._due[0][0])

    def _come(self, number: int) -> None:
        """The next task; and what else may happen."""
        rng, made, known = self._rng, self._made, self._machine.ledger.tasks
        prefix = PREFIXES[number % len(PREFIXES)]
        key = f"{prefix}-{number:06}"
        inputs = [rng.choice(made[-40:]) for _ in range(number % 3) if made]
        who_has: dict[str, tuple[str, ...]] = {}
        if rng.random() < 0.1:
            who_has[f"part-{number:06}"] = tuple(rng.sample(PEERS, 2))
        self._tell(
            st.ComputeTask(
                key,
                number + 1,
                number + 1,
                (number,),
                tuple(dict.fromkeys(name for name in inputs if name in known)),
                who_has,
                executor="coroutine" if prefix == "score" else "thread",
                nbytes=dict.fromkeys(who_has, 10_000),
                prefix=prefix,
            )
        )
        made.append(key)
        if number % 7 == 6:
            self._tell(st.FreeKeys((made[max(0, number - 60)],)))
        if rng.random() < self._trouble / 10:
            self._at(0.0, st.Pause())
            self._at(0.3, st.Unpause())
        if rng.random() < self._trouble / 2:
            self._tell(st.CancelTask(rng.choice(made[-20:])))

    def _advance(self, until_us: int) -> None:
        while self._due and self._due[0][0] <= until_us:
            self._now_us, _, stimulus = heappop(self._due)
            self._tell(stimulus)
        self._now_us = max(until_us, self._now_us)

    def _at(self, delay_s: float, stimulus: Stimulus) -> None:
        self._count += 1
        heappush(self._due, (self._now_us + int(delay_s * 1e6), self._count, stimulus))

    def _tell(self, stimulus: Stimulus) -> None:
        instructions = self._machine.handle(stimulus)
        frame, _, _ = self._writer.write(noted([(stimulus, instructions)], [self._now_us]))
        self._write(frame)
        for instruction in instructions:
            self._obey(instruction)

    def _obey(self, instruction: ins.Instruction) -> None:
        rng = self._rng
        match instruction:
            case ins.Execute(key=key, attempt=attempt):
                prefix = key.partition("-")[0]
                delay_s = rng.expovariate(1 / MEAN_S[prefix])
                outcome: Stimulus = st.ExecuteSuccess(
                    key, attempt, rng.randrange(100, 10**6), "DataFrame", delay_s
                )
                if prefix == "train" and rng.random() < 10 * self._trouble:
                    self._at(delay_s / 2, st.Secede(key, attempt))
                if rng.random() < self._trouble:
                    outcome = st.ExecuteFailure(key, attempt, "ValueError")
                self._at(delay_s, outcome)
            case ins.Gather(peer=peer, attempt=attempt, keys=keys, nbytes=nbytes):
                self._at(rng.expovariate(1 / 0.03), self._answer(peer, attempt, keys, nbytes))
            case ins.RetryBusyWorkerLater(peer=peer, attempt=attempt, delay_s=delay_s):
                self._at(delay_s, st.RetryBusyWorker(peer, attempt))
            case ins.FindMissingLater(attempt=attempt, delay_s=delay_s):
                self._at(delay_s, st.FindMissing(attempt))
            case ins.RequestRefreshWhoHas(keys=keys) if rng.random() < 0.9:
                self._at(0.01, st.RefreshWhoHas({key: (rng.choice(PEERS),) for key in keys}))
            case _:
                pass

    def _answer(self, peer: str, attempt: int, keys: tuple[str, ...], nbytes: int) -> Stimulus:
        draw = self._rng.random() / max(self._trouble, 1e-9)
        if draw < 4:
            return st.GatherBusy(peer, attempt)
        if draw < 6:
            return st.GatherNetworkFailure(peer, attempt)
        if draw < 7:
            return st.GatherFailure(peer, attempt, "EOFError")
        return st.GatherSuccess(
            peer, attempt, {key: (nbytes // len(keys), "bytes") for key in keys}
        )
