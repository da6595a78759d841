"""What a node tells its scheduler about the machine that it runs on."""

import os
import time
from typing import Any

import psutil

BANDWIDTH = 100_000_000.0
"""Bytes per second between two workers, as long as nobody has measured it: Dask's own guess."""


class Metrics:
    """Measures, from one call to the next."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._process.cpu_percent()  # the first call has nothing to compare with
        self._last = time.monotonic()
        self._net = _net_io()
        self._disk = _disk_io()
        self.lateness_s = 0.0
        """By how much the event loop was late at last."""

    def resident_nbytes(self) -> int:
        """Of this process."""
        rss: int = self._process.memory_info().rss
        return rss

    def sample(self) -> dict[str, Any]:
        """In the words of `distributed`; rates are means since the last call."""
        now = time.monotonic()
        elapsed_s = max(now - self._last, 1e-3)
        self._last = now
        net, self._net = self._net, _net_io()
        disk, self._disk = self._disk, _disk_io()
        return {
            "cpu": self._process.cpu_percent(),
            "memory": self.resident_nbytes(),
            "time": time.time(),
            "host_net_io": _rates(net, self._net, elapsed_s),
            "host_disk_io": _rates(disk, self._disk, elapsed_s),
            "num_fds": self._process.num_fds() if os.name == "posix" else 0,
            "event_loop_interval": self.lateness_s,
            "bandwidth": {"total": BANDWIDTH, "workers": {}, "types": {}},
            "digests_total_since_heartbeat": {},
        }


def _net_io() -> tuple[int, int]:
    counters = psutil.net_io_counters()
    return (counters.bytes_recv, counters.bytes_sent) if counters else (0, 0)


def _disk_io() -> tuple[int, int]:
    counters = psutil.disk_io_counters()  # None in a container without disks of its own
    return (counters.read_bytes, counters.write_bytes) if counters else (0, 0)


def _rates(before: tuple[int, int], after: tuple[int, int], elapsed_s: float) -> dict[str, float]:
    read, written = ((b - a) / elapsed_s for a, b in zip(before, after, strict=True))
    return {"read_bps": read, "write_bps": written}
