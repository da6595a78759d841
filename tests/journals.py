"""What tests of the journal share: lives of machines, and journals of them."""

import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import cache
from itertools import repeat
from pathlib import Path
from random import Random
from typing import Any

from gates import PATIENCE_S
from model import World
from monkey import CONFIGS, DRAWS

from trouper.runtime.debugging.notation import STIMULI, read
from trouper.runtime.errors import StimulusError
from trouper.runtime.journal.batches import split
from trouper.runtime.journal.format import Header, Noted
from trouper.runtime.journal.frames import MAGIC
from trouper.runtime.journal.options import JournalOptions
from trouper.runtime.journal.recorder import Recorder
from trouper.runtime.ledger import Config
from trouper.runtime.machine import Machine
from trouper.wire.instructions import Instruction
from trouper.wire.stimuli import ComputeTask, ExecuteSuccess, FreeKeys, Stimulus

THREADS = Config(slots={"thread": 2})


@cache
def random_life(seed: int, steps: int) -> tuple[Config, tuple[Stimulus, ...]]:
    """Stimuli of all kinds, sane and crazy; some of them the machine refuses."""
    rng = Random(seed)
    world = World(CONFIGS[1], tangled=True)
    stimuli: list[Stimulus] = []
    while len(stimuli) < steps:
        stimulus = rng.choice(DRAWS)(rng, world)
        if stimulus is not None:
            stimuli.append(stimulus)
            world.send(stimulus)
    return CONFIGS[1], tuple(stimuli)


def plain_life(tasks: int) -> list[Stimulus]:
    """Independent tasks with keys of 20 characters, one after the other: three stimuli for each."""
    stimuli: list[Stimulus] = []
    for number in range(1, tasks + 1):
        key = f"task-{number:015}"
        stimuli.append(ComputeTask(key, number, number, (0, number), prefix="task"))
        stimuli.append(ExecuteSuccess(key, number, 28, "int", 0.0005))
        stimuli.append(FreeKeys((key,)))
    return stimuli


def options(path: Path, **changes: Any) -> JournalOptions:
    defaults: dict[str, Any] = {
        "path": path,
        "max_nbytes": 1 << 26,
        "flush": "buffered",
        "hash_keys": False,
    }
    return JournalOptions(**(defaults | changes))


def told(text: str) -> list[Stimulus]:
    """The stimuli that stand in the lines of a text, written as in the scenarios."""
    return [read(line.strip(), STIMULI) for line in text.strip().splitlines()]


LOST_PEER = told("""
    compute-task y who-has=x@tcp://b:1 nbytes=x:100
    compute-task z local=y
    compute-task a
    gather-network-failure tcp://b:1 #1
    execute-success a #2 nbytes=28
    find-missing #3
""")
"""z waits for y, and y for x, which nobody holds any more."""


def noted(
    told: Iterable[tuple[Stimulus, Sequence[Instruction] | str]],
    times_us: Iterable[int] = repeat(0),
) -> Noted:
    """Stimuli, each with what it led to: instructions, or the type name of an exception."""
    made = Noted()
    for (stimulus, answer), at_us in zip(told, times_us, strict=False):
        made.times_us.append(at_us)
        if isinstance(answer, str):
            made.errors[len(made.answers)] = answer
        made.stimuli.append(stimulus)
        made.answers.append(() if isinstance(answer, str) else answer)
    return made


def wait_until(condition: Callable[[], object]) -> None:
    """Wait for what another thread does."""
    changed = threading.Event()
    for _ in range(int(PATIENCE_S * 1000)):
        if condition():
            return
        changed.wait(0.001)
    raise AssertionError("it never came")


class Clock:
    """A clock that a test sets, in nanoseconds."""

    def __init__(self) -> None:
        self.now_ns = 10**12

    def __call__(self) -> int:
        return self.now_ns


def record(
    path: Path,
    stimuli: Iterable[Stimulus],
    config: Config = THREADS,
    *,
    batch: int = 10,
    on_commit: Callable[[Machine], object] = lambda machine: None,
    **changes: Any,
) -> Machine:
    """Lead a machine through its life, with a journal; the machine at the end."""
    machine = Machine(config)
    recorder = Recorder(machine, "w", options(path, **changes))
    try:
        for number, stimulus in enumerate(stimuli, 1):
            with suppress(StimulusError):
                recorder.handle(stimulus)
            if number % batch == 0:
                recorder.commit()
                on_commit(machine)
    finally:
        recorder.close()
    assert recorder.status().error is None
    return machine


def header(config: Config = THREADS, **changes: Any) -> Header:
    fields: dict[str, Any] = {
        "name": "w",
        "run": "r",
        "first": 1,
        "begun_s": 0.0,
        "at_us": 0,
        "previous": 0,
        "hashed_keys": False,
        "snapshot": Machine(config).snapshot(),
    }
    return Header(**(fields | changes))


def frame_spans(path: Path) -> list[tuple[int, int]]:
    """Where each frame of a segment begins and ends; the first has the header."""
    data = path.read_bytes()
    spans: list[tuple[int, int]] = []
    at = len(MAGIC)
    while at < len(data):
        end = at + 5 + int.from_bytes(data[at : at + 4], "big") + 4
        spans.append((at, end))
        at = end
    return spans


def record_spans(path: Path) -> list[list[tuple[int, int]]]:
    """Where the bytes of each record of a segment stand; first those of the header.

    To the first record of a batch belongs what tells of all; to the last, the check of the frame.
    """
    data = path.read_bytes()
    (_, header_end), *frames = frame_spans(path)
    spans = [[(0, header_end)]]
    for begin, end in frames:
        sizes = [len(row) for row in split(data[begin + 5 : end - 4]).each_row()]
        row = end - 4 - sum(sizes)
        first = len(spans)
        for length in sizes:
            spans.append([(row, row + length)])
            row += length
        spans[first].append((begin, end - 4 - sum(sizes)))
        spans[-1].append((row, end))
    return spans
