"""Compare our machine with distributed's on random stories, and say what they have visited.

    python tests/differential/run.py --seeds 0:2000 --steps 250 --jobs 2

Each seed is one story, the same in every process; `--hash-seed-check` shows that it is. The first
divergence ends the run: it is shrunk and printed, with the seed that leads to it.
"""

import hashlib
import logging
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import msgspec
from command_line import parser_for
from duel import Divergence
from generator import Story
from reference import wsm
from shrink import shrink, told_as_text

CHUNK = 20
"""Seeds between two lines of progress."""


class Tally(msgspec.Struct):
    """What so many stories have come to."""

    stories: int = 0
    stimuli: int = 0
    visited: Counter[tuple[str, str]] = msgspec.field(default_factory=Counter[tuple[str, str]])
    transitions: Counter[tuple[str, str]] = msgspec.field(default_factory=Counter[tuple[str, str]])
    mended: Counter[str] = msgspec.field(default_factory=Counter[str])
    ended: Counter[str] = msgspec.field(default_factory=Counter[str])
    avoided: Counter[str] = msgspec.field(default_factory=Counter[str])
    digest: str = ""
    divergence: str = ""

    def add(self, other: "Tally") -> None:
        """Count another one in."""
        self.stories += other.stories
        self.stimuli += other.stimuli
        self.visited += other.visited
        self.transitions += other.transitions
        self.mended += other.mended
        self.ended += other.ended
        self.avoided += other.avoided
        self.digest = hashlib.blake2b((self.digest + other.digest).encode()).hexdigest()[:32]
        self.divergence = self.divergence or other.divergence


def tell(seed: int, steps: int) -> Tally:
    """One story."""
    logging.disable(logging.CRITICAL)  # what distributed logs before it raises is long
    story = Story(seed)
    duel = story.duel
    divergence = ""
    try:
        story.tell(steps)
    except Divergence as found:
        shortest = shrink(story.config, duel.told, found)
        divergence = f"seed {seed}, stimulus {len(duel.told)}: {found}\nshrunk to\n"
        divergence += f"    {story.config}\n{told_as_text(shortest)}"
    ended = Counter([story.ended] if story.ended else [])
    told = (duel.told, duel.machine.snapshot(), sorted(duel.reference.mended.items()))
    return Tally(
        1,
        len(duel.told),
        duel.visited,
        Counter(duel.reference.transitions.seen),
        duel.reference.mended,
        ended,
        story.avoided,
        hashlib.blake2b(msgspec.msgpack.encode(told), digest_size=16).hexdigest(),
        divergence,
    )


def tell_some(seeds: range, steps: int) -> Tally:
    """Stories, up to the first divergence."""
    tally = Tally()
    for seed in seeds:
        tally.add(tell(seed, steps))
        if tally.divergence:
            break
    return tally


def tell_all(seeds: range, steps: int, jobs: int) -> Tally:
    """All stories, in so many processes, with a line of progress now and then."""
    began = time.perf_counter()
    total = Tally()
    chunks = [seeds[at : at + CHUNK] for at in range(0, len(seeds), CHUNK)]
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        for tally in pool.map(tell_some, chunks, [steps] * len(chunks)):
            total.add(tally)
            rate = total.stimuli / (time.perf_counter() - began)
            print(f"{total.stories} stories, {total.stimuli} stimuli, {rate:.0f}/s", flush=True)
            if total.divergence:
                pool.shutdown(cancel_futures=True)
                break
    return total


def report(total: Tally) -> None:
    """What was visited, which transitions were not, and which differences were met."""
    print(f"\n{total.stories} stories, {total.stimuli} stimuli, digest {total.digest}")
    table = set(wsm.WorkerState._TRANSITIONS_TABLE)
    missed = sorted(table - (+total.transitions).keys())
    print(f"{len(table) - len(missed)} of {len(table)} transitions of distributed; not reached:")
    _print_list(" -> ".join(pair) for pair in missed)
    print(f"{len(total.visited)} pairs (phase, stimulus):")
    for kind in sorted({kind for _, kind in total.visited}):
        phases = sorted(phase for phase, name in total.visited if name == kind)
        count = sum(n for (_, name), n in total.visited.items() if name == kind)
        print(f"    {kind:22}{count:9}  {', '.join(phases)}")
    for title, counter in (
        ("mended in the reference", total.mended),
        ("stories ended at", total.ended),
        ("stimuli left out for", total.avoided),
    ):
        print(f"{title}:")
        _print_list(f"{n:9}  {name}" for name, n in sorted(counter.items()) if n)


def _print_list(lines: Iterable[str]) -> None:
    for line in lines:
        print(f"    {line}")


def check_hash_seeds(steps: int) -> bool:
    """Whether the first stories are the same under different PYTHONHASHSEEDs."""
    digests: set[str] = set()
    for hash_seed in ("0", "1", "4711"):
        command = [sys.executable, __file__, "--seeds", f"0:{CHUNK}", "--steps", str(steps)]
        told = subprocess.run(
            command,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        )
        digests.update(line for line in told.stdout.splitlines() if "digest" in line)
    print(*digests, sep="\n")
    return len(digests) == 1


def main() -> int:
    """Parse the command line and compare."""
    parser = parser_for(__doc__)
    parser.add_argument("--seeds", default="0:200", help="first:last+1")
    parser.add_argument("--steps", type=int, default=250, help="stimuli in a story, at most")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--hash-seed-check", action="store_true")
    arguments = parser.parse_args()
    if arguments.hash_seed_check:
        return 0 if check_hash_seeds(arguments.steps) else 1
    first, _, last = arguments.seeds.partition(":")
    total = tell_all(range(int(first), int(last)), arguments.steps, arguments.jobs)
    report(total)
    if total.divergence:
        print(f"\nDIVERGENCE {total.divergence}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
