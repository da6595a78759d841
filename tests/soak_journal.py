"""Kill the census at random moments, and see that its journal recovers and replays every time.

    python tests/soak_journal.py --times 50 --seed 0

Each time the census runs anew, records a journal, and gets a SIGKILL somewhere between its first
task and the end that it would have had; then the journal is opened and verified.
"""

import subprocess
import sys
import sysconfig
import time
import warnings
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from command_line import parser_for

from trouper.runtime import Journal, JournalError, JournalWarning

CENSUS = Path(__file__).parent.parent / "examples" / "census.py"
LIBRARY = Path(sysconfig.get_path("stdlib"))


def start_census(journal: Path, package: str) -> "subprocess.Popen[str]":
    """Run the census until it begins its work."""
    process = subprocess.Popen(
        [sys.executable, str(CENSUS), "--path", str(LIBRARY / package), "--journal", str(journal)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("census: 0 of"):
            break
    return process


def duration_s(folder: Path, package: str) -> float:
    """How long the census works if nobody disturbs it."""
    with start_census(folder / "undisturbed", package) as process:
        start = time.monotonic()
        assert process.wait() == 0
    return time.monotonic() - start


def kill_census(folder: Path, rng: Random, package: str, within_s: float = 0.5) -> int:
    """Kill it, and verify its journal; how many records there were.

    Args:
        folder: Where the journal goes.
        rng: Says when it is killed.
        package: What is counted.
        within_s: From the beginning of its work.
    """
    journal = folder / f"killed-{rng.random()}"
    with start_census(journal, package) as process:
        try:
            process.wait(rng.uniform(0, within_s))
        except subprocess.TimeoutExpired:
            process.kill()
    if not journal.exists() or not journal.stat().st_size:
        return 0  # it had not begun
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", JournalWarning)
        opened = Journal.open(journal)
    assert opened.verify() == opened.last
    return opened.last


def main() -> int:
    """Read the command line and soak; gives the exit code."""
    parser = parser_for(__doc__)
    parser.add_argument("--times", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--package", default="", help="of the standard library; all of it if empty")
    arguments = parser.parse_args()
    rng = Random(arguments.seed)
    failed = 0
    with TemporaryDirectory() as name:
        within_s = duration_s(Path(name), arguments.package)
        for number in range(1, arguments.times + 1):
            try:
                count = kill_census(Path(name), rng, arguments.package, within_s)
            except JournalError as error:
                failed += 1
                print(f"{number}: FAILED: {error}")
            else:
                print(f"{number}: {count} records, all of them verified", flush=True)
    recovered = arguments.times - failed
    print(f"{recovered} of {arguments.times} recovered, killed within {within_s:.1f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
