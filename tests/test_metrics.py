"""What a node says of its process and machine."""

import time

import psutil
import pytest

from trouper.actors import metrics
from trouper.actors.metrics import Metrics

INDISPENSABLE = {"bandwidth", "digests_total_since_heartbeat", "memory"}
"""A scheduler looks them up without asking whether they are there; and `spilled_bytes`, which the
node adds."""


def test_all_that_a_scheduler_looks_up() -> None:
    sample = Metrics().sample()
    assert sample.keys() >= INDISPENSABLE | {"cpu", "time", "num_fds", "event_loop_interval"}
    assert set(sample["bandwidth"]) == {"total", "workers", "types"}
    assert sample["memory"] > 1 << 20
    assert all(rate >= 0 for rate in sample["host_net_io"].values())


def test_rates_are_means_since_the_last_call(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = iter([(0, 0), (1000, 500), (1000, 500)])
    times = iter([10.0, 12.0, 13.0])
    monkeypatch.setattr(metrics, "_net_io", lambda: next(counts))
    monkeypatch.setattr(time, "monotonic", lambda: next(times))
    measured = Metrics()
    assert measured.sample()["host_net_io"] == {"read_bps": 500.0, "write_bps": 250.0}
    assert measured.sample()["host_net_io"] == {"read_bps": 0.0, "write_bps": 0.0}


def test_a_machine_without_counters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "disk_io_counters", lambda: None)
    monkeypatch.setattr(psutil, "net_io_counters", lambda: None)
    assert Metrics().sample()["host_disk_io"] == {"read_bps": 0.0, "write_bps": 0.0}
