"""Send a machine stimuli at random, verify everything after each, and say what was visited.

    python tests/soak_machine.py --steps 100000 --seed 0

The same seed says the same in every process: the last line is a digest of every instruction that
was given on the way. A failure names the seed and the step, and shows the last stimuli.
"""

import hashlib
import sys
from collections import Counter, deque
from random import Random

import msgspec
from command_line import parser_for
from model import World
from monkey import CONFIGS, DRAWS

from trouper.wire.stimuli import Stimulus

EPISODE = 400
"""Stimuli between two fresh machines."""


def main() -> None:
    """Parse the command line and soak."""
    parser = parser_for(__doc__)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = Random(arguments.seed)
    digest = hashlib.blake2b(digest_size=16)
    visited: Counter[tuple[str, str]] = Counter()
    steps = refused = 0
    while steps < arguments.steps:
        last: deque[Stimulus] = deque(maxlen=30)
        world = World(rng.choice(CONFIGS), tangled=rng.choice((True, False)))
        try:
            run_episode(rng, world, min(EPISODE, arguments.steps - steps), last, digest)
        except BaseException:
            print(f"seed {arguments.seed}, step {steps + world.steps}:", file=sys.stderr)
            print(*last, sep="\n", file=sys.stderr)
            raise
        steps += world.steps
        refused += world.refused
        visited += world.visited
    report(visited, steps, refused)
    print("digest", digest.hexdigest())


def run_episode(
    rng: Random,
    world: World,
    steps: int,
    last: deque[Stimulus],
    digest: "hashlib.blake2b",
) -> None:
    """A fresh machine, so many stimuli, and an end at which nothing may be left."""
    while world.steps < steps:
        stimulus = rng.choice(DRAWS)(rng, world)
        if stimulus is None:
            continue
        last.append(stimulus)
        digest.update(msgspec.msgpack.encode(world.send(stimulus)))
    digest.update(world.machine.fingerprint().encode())
    if not world.tangled:
        world.drain()
    world.finish()


def report(visited: Counter[tuple[str, str]], steps: int, refused: int) -> None:
    """What was visited, by kind of stimulus."""
    print(f"{steps} stimuli, {refused} of them refused, {len(visited)} pairs (phase, stimulus)")
    kinds = sorted({kind for _, kind in visited})
    for kind in kinds:
        phases = {phase: n for (phase, name), n in sorted(visited.items()) if name == kind}
        print(f"{kind:22} {sum(phases.values()):8}  in {len(phases)} phases")


if __name__ == "__main__":
    main()
