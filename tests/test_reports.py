"""The machine's reports as ops for a scheduler."""

import itertools
import pickle
from typing import Any

import pytest
from fake_host import facts

from trouper.actors.dask_task import Site, Timing, Values
from trouper.actors.dask_values import load
from trouper.actors.dask_worker import DaskWorker
from trouper.actors.store import Store
from trouper.runtime.cluster.reports import Reports, state_of
from trouper.wire.instructions import (
    AddKeys,
    LongRunning,
    ReleaseWorkerData,
    Reply,
    Report,
    RequestRefreshWhoHas,
    RescheduleTask,
    StealResponse,
    TaskErred,
    TaskFinished,
)

KEY, TEXT = ("x", 1), "~('x', 1)"


@pytest.fixture
def site() -> Site:
    worker = DaskWorker(**facts())
    clock = itertools.count(100)
    return Site(worker, lambda: float(next(clock)))


@pytest.fixture
def reports(site: Site) -> Reports:
    store = Store()
    store.values = Values(site.timings)
    store.values[TEXT, 3] = [1, 2]
    store.values["failed", 4] = ValueError("no")
    site.timings[3] = site.timings[4] = Timing(7, 1.5, 2.5)
    return Reports(store, site)


def said(reports: Reports, report: Report) -> dict[str, Any]:
    op = reports.op_of(report)
    assert op is not None
    assert isinstance(op.pop("stimulus_id"), str)
    return op


def test_a_task_that_is_finished(reports: Reports) -> None:
    op = said(reports, TaskFinished(TEXT, 9, 3, 72, "list"))
    assert pickle.loads(op.pop("type")) is list
    assert op == {
        "op": "task-finished", "status": "OK", "key": KEY, "run_id": 9, "nbytes": 72,
        "typename": "list", "metadata": {}, "thread": 7,
        "startstops": [{"action": "compute", "start": 1.5, "stop": 2.5}],
    }  # fmt: skip


def test_a_value_that_was_not_computed_here_has_no_times(reports: Reports, site: Site) -> None:
    site.timings.clear()
    op = said(reports, TaskFinished(TEXT, 9, 3, 72, "list"))
    assert (op["thread"], op["startstops"]) == (None, [])


def test_a_task_that_has_failed_and_one_that_fails_with_it(reports: Reports) -> None:
    first = said(reports, TaskErred("failed", 9, 4, None, False))
    second = said(reports, TaskErred(TEXT, 8, 0, "failed", False))
    third = said(reports, TaskErred("z", 7, 0, TEXT, False))
    for op, key, run_id in ((first, "failed", 9), (second, KEY, 8), (third, "z", 7)):
        assert (op["op"], op["status"]) == ("task-erred", "error")
        assert (op["key"], op["run_id"]) == (key, run_id)
        assert repr(pickle.loads(load(op["exception"]))) == "ValueError('no')"  # type: ignore[arg-type]


def test_a_failure_is_remembered_for_a_batch_only(reports: Reports) -> None:
    said(reports, TaskErred("failed", 9, 4, None, False))
    reports.end_batch()
    op = said(reports, TaskErred(TEXT, 8, 0, "failed", False))
    assert "TaskCancelled" in op["exception_text"]


def test_a_task_that_was_cancelled(reports: Reports) -> None:
    assert "was cancelled" in said(reports, TaskErred(TEXT, 8, 0, None, True))["exception_text"]


@pytest.mark.parametrize(
    ("report", "op"),
    [
        (AddKeys((TEXT, "y")), {"op": "add-keys", "keys": [KEY, "y"]}),
        (ReleaseWorkerData(TEXT), {"op": "release-worker-data", "key": KEY}),
        (RescheduleTask(TEXT), {"op": "reschedule", "key": KEY}),
        (
            LongRunning(TEXT, 5, 1.5),
            {"op": "long-running", "key": KEY, "run_id": 5, "compute_duration": 1.5},
        ),
        (RequestRefreshWhoHas((TEXT,)), {"op": "request-refresh-who-has", "keys": [KEY]}),
        (
            StealResponse(TEXT, "ready", "s"),
            {"op": "steal-response", "key": KEY, "state": "ready"},
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_each_report(reports: Reports, report: Report, op: dict[str, Any]) -> None:
    assert said(reports, report) == op


def test_who_asked_to_steal_is_answered_under_its_own_name(reports: Reports) -> None:
    op = reports.op_of(StealResponse(TEXT, None, "their id"))
    assert op == {"op": "steal-response", "key": KEY, "state": None, "stimulus_id": "their id"}


def test_replies_are_nothing_for_a_scheduler(reports: Reports) -> None:
    assert reports.op_of(Reply("r", {})) is None


@pytest.mark.parametrize(
    ("phase", "state"),
    [
        (None, None), ("ready", "ready"), ("waiting", "waiting"), ("constrained", "constrained"),
        ("executing", "executing"), ("long-running", "long-running"), ("memory", "memory"),
        ("cancelled(executing)", "cancelled"), ("resumed(flight->waiting)", "resumed"),
        ("fetch", None), ("flight", None), ("missing", None), ("error", None), ("released", None),
    ],
)  # fmt: skip
def test_a_scheduler_knows_few_states(phase: str | None, state: str | None) -> None:
    assert state_of(phase) == state
