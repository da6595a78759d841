"""Visit every state that a machine can reach in a small world, and verify each.

    python tests/exhaust.py                     # all worlds
    python tests/exhaust.py "one key" inputs    # some of them, by name
    python tests/exhaust.py --jobs 1            # in one process instead of one for each CPU

Breadth-first from the empty machine, by every stimulus that is possible in a state (see
`small_world`), up to numbering (see `canonical`). After every transition the machine is verified
against its invariants and against the books of the world around it. When all states are known, so
is whether a task can be stuck: from each of them, in whatever order the answers come, kind answers
alone have to lead to an end. What peers may do before they become kind is a transition too, and
leads to one of these states.

Shown are the states and transitions of each world and the longest of the shortest ways to a state;
of a violation, the shortest way to it. The exit code is 1 if there is one.
"""

import os
import time
from array import array
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from hashlib import blake2b
from typing import NamedTuple

import msgspec
from bounds import WORLDS, Bounds
from canonical import State
from command_line import parser_for, tell
from small_world import Small, empty, is_end, is_kind, options

CHUNK = 16
"""States that a process expands before it is given more."""

BATCH = 1024
"""States whose expansions may wait to be entered, as each of them takes some space."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(State).decode


class Violation(AssertionError):
    """Something does not hold; says the shortest way to it."""


class Step(NamedTuple):
    """A transition out of a state."""

    successor: bytes
    """The encoded state."""
    kind: bool
    """Whether it is an answer of a kind world."""
    refuted: str = ""
    """What does not hold after it."""


class Expansion(NamedTuple):
    """What there is to know of a state."""

    steps: list[Step]
    ends: bool
    refuted: str = ""
    """What does not hold in it."""


class Figures(NamedTuple):
    """What a walk has seen."""

    states: int
    transitions: int
    deepest: int
    """Stimuli from the empty machine to the farthest state, on the shortest way."""
    ends: int
    """States in which everything has come to an end."""
    seconds: float

    def and_those(self, other: "Figures") -> "Figures":
        """Of two worlds together."""
        return Figures(
            self.states + other.states,
            self.transitions + other.transitions,
            max(self.deepest, other.deepest),
            self.ends + other.ends,
            self.seconds + other.seconds,
        )

    def __str__(self) -> str:
        return (
            f"{self.states:,} states, {self.transitions:,} transitions, {self.deepest} deep, "
            f"{self.ends:,} ends, {self.seconds:.0f} s"
        )


def expand(bounds: Bounds, encoded: bytes) -> Expansion:
    """Verify a state, and every transition out of it."""
    world = Small(_decode(encoded))
    steps: list[Step] = []
    for stimulus in options(bounds, world):
        kind = is_kind(world, stimulus)
        after = Small(_decode(encoded))
        refuted = refutation(partial(after.verify, stimulus))
        steps.append(Step(b"" if refuted else _encode(after.state), kind, refuted))
    return Expansion(steps, is_end(world), refutation(world.verify_stale))


def refutation(verify: Callable[[], object]) -> str:
    """What does not hold, or nothing."""
    try:
        verify()
    except Exception as error:  # noqa: BLE001 - whatever a fault raises is told, none is lost
        return f"{type(error).__name__}: {error}"
    return ""


def digest_of(state: State) -> bytes:
    """Under what a walk knows a state."""
    return _digest(_encode(state))


def _digest(encoded: bytes) -> bytes:
    return blake2b(encoded, digest_size=16).digest()


class Walk:
    """Breadth-first through a world; states are numbered in the order of their discovery."""

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.numbers: dict[bytes, int] = {}
        """By the hash of a state."""
        self.parents = array("l")
        self.choices = array("l")
        """Which of its parent's options leads to a state."""
        self.kind: list[tuple[int, ...]] = []
        """Where kind answers lead, by state."""
        self.ends = bytearray()
        self.transitions = 0
        self.deepest = 0

    def run(
        self,
        expand_all: Callable[[list[bytes]], Iterator[Expansion]],
        progress: Callable[[int, int, int], object],
    ) -> Figures:
        """Visit everything, then prove that everything comes to an end."""
        start = time.perf_counter()
        frontier: list[bytes] = []
        self._discover(_encode(empty(self.bounds).state), -1, -1, frontier)
        while frontier:
            level, frontier = frontier, []
            for first in range(0, len(level), BATCH):
                for expansion in expand_all(level[first : first + BATCH]):
                    self._enter(expansion, frontier)
                progress(len(self.numbers), len(level) - first + len(frontier), self.transitions)
            self.deepest += bool(frontier)
        self._prove_ends()
        seconds = time.perf_counter() - start
        return Figures(len(self.numbers), self.transitions, self.deepest, sum(self.ends), seconds)

    def _discover(self, encoded: bytes, parent: int, choice: int, frontier: list[bytes]) -> int:
        number = self.numbers.setdefault(_digest(encoded), len(self.numbers))
        if number == len(self.parents):
            self.parents.append(parent)
            self.choices.append(choice)
            frontier.append(encoded)
        return number

    def _enter(self, expansion: Expansion, frontier: list[bytes]) -> None:
        number = len(self.kind)
        if expansion.refuted:
            raise Violation(self._story(number, expansion.refuted))
        kind: list[int] = []
        for choice, step in enumerate(expansion.steps):
            if step.refuted:
                raise Violation(self._story(number, step.refuted, choice))
            successor = self._discover(step.successor, number, choice, frontier)
            if step.kind:
                kind.append(successor)
        self.kind.append(tuple(kind))
        self.ends.append(expansion.ends)
        self.transitions += len(expansion.steps)

    def _prove_ends(self) -> None:
        """From every state, every way of kind answers leads to an end.

        Backwards from the ends: a state is proven when all its kind answers lead to proven states.
        What is left over is a dead end, or goes round in a circle, or leads to one that does.
        """
        before: list[list[int]] = [[] for _ in self.kind]
        pending = array("l")
        for number, successors in enumerate(self.kind):
            pending.append(len(successors))
            for successor in successors:
                before[successor].append(number)
        proven = deque(
            number for number, ends in enumerate(self.ends) if ends and not pending[number]
        )
        unproven = set(range(len(self.kind)))
        while proven:
            number = proven.popleft()
            unproven.discard(number)
            for predecessor in before[number]:
                pending[predecessor] -= 1
                if not pending[predecessor]:
                    proven.append(predecessor)
        if unproven:
            dead = [number for number in unproven if not self.kind[number]]
            what = "nothing more will happen here" if dead else "kind answers lead round here"
            raise Violation(self._story(min(dead or unproven), what))

    def _story(self, number: int, refuted: str, *last: int) -> str:
        """The shortest way to a state and one choice more, told from the empty machine."""
        choices = list(last)
        while number:
            choices.insert(0, self.choices[number])
            number = self.parents[number]
        world = empty(self.bounds)
        told: list[str] = []
        for choice in choices:
            stimulus = list(options(self.bounds, world))[choice]
            told.append(f"{len(told) + 1:3}. {stimulus}")
            refutation(partial(world.tell, stimulus))  # it is known by now what does not hold
        return "\n".join([refuted, *told])


def walk(name: str, jobs: int) -> Figures:
    """Visit a world in so many processes, and show how far it is."""
    bounds = WORLDS[name]

    def progress(states: int, waiting: int, transitions: int) -> None:
        tell(f"{name}: {states:,} states, {waiting:,} of them new, {transitions:,} transitions")

    with ProcessPoolExecutor(jobs) as pool:
        expand_all = partial(pool.map, partial(expand, bounds), chunksize=CHUNK)
        figures = Walk(bounds).run(expand_all, progress)
    tell("")
    return figures


def describe(bounds: Bounds) -> str:
    """What a world has beside the least."""
    defaults = Bounds()._asdict()
    told = {name: value for name, value in bounds._asdict().items() if value != defaults[name]}
    return ", ".join(f"{name}={value!r}" for name, value in told.items())


def main() -> None:
    """Parse the command line and walk."""
    parser = parser_for(__doc__)
    parser.add_argument("worlds", nargs="*", help=", ".join(WORLDS))
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    arguments = parser.parse_args()
    if unknown := set(arguments.worlds) - WORLDS.keys():
        parser.error(f"no such world: {', '.join(sorted(unknown))}")
    total = Figures(0, 0, 0, 0, 0.0)
    for name in arguments.worlds or WORLDS:
        try:
            figures = walk(name, arguments.jobs)
        except Violation as violation:
            parser.exit(1, f"\n{violation}\n")
        print(f"{name:10} {figures}\n{'':10} {describe(WORLDS[name])}", flush=True)
        total = total.and_those(figures)
    print(f"{'in all':10} {total}")


if __name__ == "__main__":
    main()
