"""What is handled together is answered as if it had come alone, and leaves the same state."""

from collections.abc import Sequence
from random import Random

import pytest
from test_shortcuts import Tell, crazy, sane

from trouper.runtime import bulk, machine
from trouper.runtime.errors import StimulusError
from trouper.runtime.invariants import check
from trouper.runtime.ledger import ALWAYS_BRIEF, BRIEF_S, Config
from trouper.runtime.machine import FEW, Machine
from trouper.wire.instructions import Execute, Instruction
from trouper.wire.stimuli import (
    CancelTask,
    ComputeTask,
    ExecuteFailure,
    ExecuteSuccess,
    FreeKeys,
    GatherSuccess,
    Pause,
    Secede,
    Stimulus,
    Unpause,
)


def answered(it: Machine, stimuli: Sequence[Stimulus]) -> list[Sequence[Instruction] | str]:
    """What a machine says to stimuli that come together; of one that is refused, why."""
    answers: list[Sequence[Instruction]] = []
    refusals: dict[int, str] = {}
    while len(answers) < len(stimuli):
        try:
            it.handle_all(stimuli, answers)
        except StimulusError as error:
            refusals[len(answers)] = str(error)
            answers.append(())
    return [refusals.get(place, answer) for place, answer in enumerate(answers)]


def answered_alone(it: Machine, stimuli: Sequence[Stimulus]) -> list[Sequence[Instruction] | str]:
    """What a machine says to stimuli that come one by one."""
    said: list[Sequence[Instruction] | str] = []
    for stimulus in stimuli:
        try:
            said.append(it.handle(stimulus))
        except StimulusError as error:
            said.append(str(error))
    return said


def plain(said: list[Sequence[Instruction] | str]) -> list[list[Instruction] | str]:
    """Without the difference between lists and tuples."""
    return [answer if isinstance(answer, str) else list(answer) for answer in said]


class Waves:
    """Waves of tasks and their ends, and among them, more or less often, whatever could break one.

    Each batch goes to two machines: to one as it is, to the other stimulus by stimulus.
    """

    def __init__(self, seed: int) -> None:
        self.rng = rng = Random(seed)
        self.odd_one_in = rng.choice((20, 80, 300))
        ahead = {"thread": rng.randrange(1, 30)}
        config = Config(
            slots={"thread": rng.choice((1, 2)), "coroutine": 2},
            resources={"gpu": 1},
            run_ahead=rng.choice(({}, ahead, ahead, ahead | {"coroutine": 5})),
        )
        self.together, self.alone = Machine(config), Machine(config)
        self.count = 0
        self.kind = "noop"
        self.keys: list[str] = []
        self.running: list[Execute] = []

    @property
    def odd(self) -> bool:
        """Whether it is time for something else."""
        return self.rng.randrange(self.odd_one_in) == 0

    def send(self, batch: Sequence[Stimulus]) -> None:
        """Give a batch to both."""
        said = plain(answered(self.together, batch))
        assert said == plain(answered_alone(self.alone, batch))
        assert self.together.fingerprint() == self.alone.fingerprint()
        check(self.together)
        self.running += [it for answer in said for it in answer if isinstance(it, Execute)]

    def compute(self) -> Stimulus:
        """A task, most of them like the one before."""
        rng = self.rng
        self.count += 1
        if self.odd:
            self.kind = rng.choice(("noop", "other", ""))
        key = rng.choice(self.keys) if self.keys and self.odd else f"t{self.count}"
        inputs = (rng.choice(self.keys),) if self.keys and self.odd else ()
        self.keys.append(key)
        return ComputeTask(
            key,
            self.count,
            rng.choice((0, -1)) if self.odd else self.count,
            rng.choice([(-1, self.count), (float("nan"),), ()]) if self.odd else (0, self.count),
            inputs,
            {"far": ("tcp://peer:1",)} if self.odd else {},
            {},
            rng.choice(["coroutine", "process"]) if self.odd else "thread",
            {"gpu": 1.0} if self.odd else {},
            self.kind,
        )

    def end(self) -> Stimulus:
        """An attempt ends, most of them well and soon, and in the order in which they began."""
        rng = self.rng
        place = rng.randrange(len(self.running)) if self.odd else 0
        it = self.running[place]
        if not self.odd:  # otherwise it ends again later
            del self.running[place]
        if self.odd:
            self.running.append(it)
            return Secede(it.key, it.attempt)
        if self.odd:
            return rng.choice(
                (
                    ExecuteFailure(it.key, it.attempt, "ValueError"),
                    ExecuteSuccess(it.key, it.attempt + rng.choice((-1, 1000)), 28, "int", 0),
                )
            )
        duration_s = BRIEF_S * 2 if self.odd else BRIEF_S
        return ExecuteSuccess(it.key, it.attempt, 28, "int", duration_s)

    def disturb(self) -> Stimulus:
        """Something else."""
        key = self.rng.choice(self.keys)
        return self.rng.choice((Pause(), CancelTask(key), FreeKeys((key,)), FreeKeys((key,))))

    def tell(self) -> None:
        """A wave, and ends until nothing runs any more."""
        rng = self.rng
        batch = [self.compute() for _ in range(rng.randrange(1, 60))]
        self.send([self.disturb() if self.odd else it for it in batch])
        for _ in range(100):
            self.send([Unpause()])
            if not self.running:
                break
            batch = [self.end() for _ in range(rng.randrange(40)) if self.running]
            self.send([self.disturb() if self.odd else it for it in batch])
        if rng.randrange(2):
            rng.shuffle(self.keys)
            self.send([FreeKeys(tuple(self.keys))])
            self.keys.clear()


@pytest.mark.parametrize("seed", range(30))
def test_waves_are_handled_as_if_their_stimuli_came_alone(
    monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(machine, "FEW", 1)
    waves = Waves(seed)
    for _ in range(8):
        waves.tell()


@pytest.mark.parametrize("tell", [sane, crazy])
def test_stories_are_handled_as_if_their_stimuli_came_alone(
    monkeypatch: pytest.MonkeyPatch, tell: Tell
) -> None:
    monkeypatch.setattr(machine, "FEW", 1)
    for seed in range(15):
        config, told = tell(seed)
        rng = Random(seed)
        together, alone = Machine(config), Machine(config)
        while told:
            size = rng.choice((1, 2, 5, 50))
            batch, told = told[:size], told[size:]
            assert plain(answered(together, batch)) == plain(answered_alone(alone, batch))
            assert together.fingerprint() == alone.fingerprint()


def wave(first: int, count: int, prefix: str = "noop") -> list[Stimulus]:
    """Tasks of a kind."""
    return [
        ComputeTask(f"{prefix}-{number}", number, number, (0, number), prefix=prefix)
        for number in range(first, first + count)
    ]


def ends(answers: Sequence[Sequence[Instruction]]) -> list[Stimulus]:
    """What was begun ends at once."""
    return [
        ExecuteSuccess(it.key, it.attempt, 28, "int", 0)
        for answer in answers
        for it in answer
        if isinstance(it, Execute)
    ]


def test_a_wave_is_handled_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    it = Machine(Config(slots={"thread": 2}, run_ahead={"thread": 10}))
    answers: list[Sequence[Instruction]] = []
    it.handle_all(wave(1, 30), answers)
    while done := ends(answers):  # after these it is known how long they take
        answers = []
        it.handle_all(done, answers)

    alone: list[Stimulus] = []
    handle = Machine.handle

    def counted(it: Machine, stimulus: Stimulus) -> list[Instruction]:
        alone.append(stimulus)
        return handle(it, stimulus)

    monkeypatch.setattr(Machine, "handle", counted)
    answers = []
    it.handle_all(wave(31, 100), answers)
    assert [bool(answer) for answer in answers] == [True] * 12 + [False] * 88
    finished = 0
    while done := ends(answers):
        answers = []
        it.handle_all(done, answers)
        finished += len(answers)
    assert finished == 100
    assert len(alone) <= FEW
    check(it)


class Both:
    """Two machines that are told the same: one what comes together, the other one by one."""

    def __init__(self, ahead: int = 40, **slots: int) -> None:
        config = Config(slots=slots, run_ahead=dict.fromkeys(slots, ahead))
        self.together, self.alone = Machine(config), Machine(config)

    def send(self, stimuli: list[Stimulus]) -> list[Stimulus]:
        """Tell both; the good ends of what begins."""
        said = plain(answered(self.together, stimuli))
        assert said == plain(answered_alone(self.alone, stimuli))
        assert self.together.fingerprint() == self.alone.fingerprint()
        return ends([answer for answer in said if not isinstance(answer, str)])

    def teach(self, kind: str, first: int) -> None:
        """Let the machines see that tasks of a kind are brief."""
        done = self.send(wave(first, 20, kind))
        while done:
            done = self.send(done)
        assert self.together.ledger.brevity[kind] == ALWAYS_BRIEF


@pytest.mark.parametrize("ahead", [1, 2, 40])
def test_of_a_wave_as_many_start_as_may(ahead: int) -> None:
    both = Both(ahead, thread=2)
    both.teach("noop", 1)
    done = both.send(wave(100, 60))
    assert len(done) == 2 + ahead
    both.send(done)


@pytest.mark.parametrize(("first", "second"), [("noop", "other"), ("other", "noop")])
def test_each_kind_is_remembered_by_itself(first: str, second: str) -> None:
    both = Both(thread=1)
    both.teach(first, 1)
    both.teach(second, 101)
    (long,) = both.send(wave(200, 1, second))
    assert isinstance(long, ExecuteSuccess)
    both.send([ExecuteSuccess(long.key, long.attempt, 28, "int", 1.0)])
    done = both.send(wave(300, 12, first)) + both.send(wave(400, 12, second))
    assert len(done) == 24
    both.send(done)
    assert both.together.ledger.brevity == {"noop": ALWAYS_BRIEF, "other": ALWAYS_BRIEF}


def test_one_that_has_given_its_slot_back_ends_among_others() -> None:
    both = Both(thread=2)
    both.teach("noop", 1)
    done = both.send(wave(100, 60))
    assert isinstance(done[5], ExecuteSuccess)
    done += both.send([Secede(done[5].key, done[5].attempt)])
    assert len(done) == 43
    both.send(done)


def test_one_that_was_not_known_to_be_brief_ends_among_others() -> None:
    both = Both(thread=2)
    first, second = both.send(wave(1, 2))
    following = both.send([*wave(3, 20), second])
    while len(following) == 1:
        following = both.send(following)
    assert both.together.ledger.brevity["noop"] == ALWAYS_BRIEF
    both.send([*wave(30, 10), first, *wave(40, 10)])
    assert both.together.ledger.slots["thread"].lengthy == 0


def test_a_wave_overtakes_what_is_less_urgent() -> None:
    both = Both(thread=1)
    running = both.send(wave(1, 20))
    both.send([ComputeTask("later", 50, 50, (1,), prefix="noop")])
    both.send(wave(100, 20))
    ended: list[Stimulus] = []
    while running:
        ended += running
        running = both.send(running)
    assert [it.key for it in ended if isinstance(it, ExecuteSuccess)][-1] == "later"


@pytest.mark.parametrize("threads_first", [True, False])
def test_a_kind_that_runs_in_two_executors(threads_first: bool) -> None:
    both = Both(coroutine=2, thread=2)
    both.teach("noop", 1)
    coroutines: list[Stimulus] = [
        ComputeTask(f"c{number}", number, number, (0, number), executor="coroutine", prefix="noop")
        for number in range(100, 112)
    ]
    done = [both.send(wave(200, 12)), both.send(coroutines)]
    assert [*map(len, done)] == [12, 12]
    first, second = done if threads_first else reversed(done)
    both.send(first + second)
    assert [slots.free for slots in both.together.ledger.slots.values()] == [2, 2]


def test_one_that_waited_for_a_copy_comes_next() -> None:
    both = Both(thread=1)
    both.teach("noop", 1)
    done = both.send(wave(100, 41))
    far: dict[str, tuple[str, ...]] = {"far": ("tcp://peer:1",)}
    both.send([ComputeTask("near", 200, 200, (0, 200), who_has=far, prefix="noop")])
    attempt = both.together.ledger.last_attempt
    both.send([GatherSuccess("tcp://peer:1", attempt, {"far": (28, "int")}), *wave(201, 20)])
    assert "near" in [it.key for it in both.send(done) if isinstance(it, ExecuteSuccess)]


def test_who_needs_the_long_way_does_not_try_the_other_at_every_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tries = 0

    def tried(*_: object) -> None:
        nonlocal tries
        tries += 1

    monkeypatch.setattr(machine, "SHORTCUTS", {ComputeTask: tried})
    answers: list[Sequence[Instruction]] = []
    Machine().handle_all(wave(1, 10 * FEW), answers)
    assert len(answers) == 10 * FEW
    assert tries == 9  # the last few are not worth it


def test_what_has_no_short_way_comes_after_hundreds_that_have() -> None:
    both = Both(thread=1)
    others: list[Stimulus] = [Pause(), Unpause()]
    both.send(wave(1, 300) + others * FEW)
    assert not both.together.ledger.paused


def test_what_has_an_answer_is_not_handled_again() -> None:
    it = Machine()
    answers: bulk.Answers = [()]
    it.handle_all(wave(1, 3), answers)
    assert [bool(answer) for answer in answers] == [False, True, False]
    assert list(it.ledger.tasks) == ["noop-2", "noop-3"]


def test_one_that_is_refused_is_the_first_without_an_answer() -> None:
    it = Machine()
    stimuli = [*wave(1, 3), ComputeTask("bad", 4, 0), *wave(5, 2)]
    answers: list[Sequence[Instruction]] = []
    with pytest.raises(StimulusError, match="'bad' has the spec_id 0"):
        it.handle_all(stimuli, answers)
    assert len(answers) == 3
    answers.append(())
    it.handle_all(stimuli, answers)
    assert len(it.ledger.tasks) == 5
