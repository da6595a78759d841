"""How much memory this process has, and has had at most."""

import resource
import sys
from pathlib import Path

STATUS = Path("/proc/self/status")


def resident_nbytes() -> int:
    """What is resident now; where there is no /proc, the most that ever was."""
    return _from_proc("VmRSS:") or peak_nbytes()


def peak_nbytes() -> int:
    """The most that was ever resident."""
    # Not ru_maxrss if it can be helped: on Linux that counts what the parent had at the fork, too.
    unit = 1 if sys.platform == "darwin" else 1024
    return _from_proc("VmHWM:") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _from_proc(name: str) -> int:
    """A line of /proc/self/status; 0 where there is none."""
    if not STATUS.exists():
        return 0
    for line in STATUS.read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    return 0
