"""What a scheduler says on the stream, read as typed ops; and what it cannot say."""

from typing import Any

import pytest

from trouper.wire import dask_stream as ops
from trouper.wire.dask_message import Pickled

SPEC = Pickled(b"a task")


def read(*items: Any) -> list[Any]:
    return list(ops.read_batch(items))


def test_a_task_with_all_that_a_scheduler_says_of_it() -> None:
    op = {
        "op": "compute-task",
        "key": ("x", 1),
        "run_id": 7,
        "priority": (0, 1.5, -2),
        "who_has": {("y", 2): ("tcp://a:1", "cws://b:2")},
        "nbytes": {("y", 2): 28},
        "run_spec": SPEC,
        "resource_restrictions": {"gpu": 1},
        "actor": False,
        "annotations": {"executor": "default"},
        "span_id": "a span",
        "stimulus_id": "s",
        "something-new": 5,
    }
    (task,) = read(op)
    assert isinstance(task, ops.ComputeTask)
    assert (task.key, task.run_id, task.priority) == (("x", 1), 7, (0, 1.5, -2))
    assert task.who_has == {("y", 2): ("tcp://a:1", "cws://b:2")}
    assert task.nbytes == {("y", 2): 28}
    assert task.resource_restrictions == {"gpu": 1.0}
    assert task.run_spec is SPEC


@pytest.mark.parametrize(
    ("op", "typed"),
    [
        ({"op": "free-keys", "keys": ("a", 1)}, ops.FreeKeys(("a", 1))),
        ({"op": "cancel-compute", "key": "a"}, ops.CancelCompute("a")),
        (
            {"op": "acquire-replicas", "who_has": {"a": ("x",)}, "nbytes": {"a": 1}},
            ops.AcquireReplicas({"a": ("x",)}, {"a": 1}),
        ),
        ({"op": "remove-replicas", "keys": ()}, ops.RemoveReplicas(())),
        ({"op": "steal-request", "key": "a", "stimulus_id": "s"}, ops.StealRequest("a", "s")),
        ({"op": "refresh-who-has", "who_has": {"a": ()}}, ops.RefreshWhoHas({"a": ()})),
        ({"op": "remove-worker", "worker": "x"}, ops.RemoveWorker("x")),
        ({"op": "worker-status-change", "status": "x"}, ops.WorkerStatusChange("x")),
        ({"op": "close", "reason": "x"}, ops.Close("x")),
    ],
    ids=lambda value: type(value).__name__,
)
def test_each_op(op: dict[str, Any], typed: ops.Op) -> None:
    assert read({**op, "stimulus_id": "s"}) == [
        type(typed)(**{**{f: getattr(typed, f) for f in typed.__struct_fields__}, **sid(typed)})
    ]


def sid(op: ops.Op) -> dict[str, str]:
    return {"stimulus_id": "s"} if "stimulus_id" in op.__struct_fields__ else {}


def test_a_single_op_does_for_a_batch_and_ok_says_nothing() -> None:
    assert list(ops.read_batch({"op": "close"})) == [ops.Close()]
    assert list(ops.read_batch("OK")) == []
    assert read() == []


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (5, "a dict"),
        (None, "a dict"),
        ({}, "unknown op None"),
        ({"op": ["x"]}, "unknown op"),
        ({"op": "dance"}, "unknown op 'dance'"),
        ({"op": "free-keys"}, "keys"),
        ({"op": "free-keys", "keys": 5}, "keys"),
        ({"op": "steal-request", "key": "x"}, "stimulus_id"),
        ({"op": "remove-worker", "worker": 5}, "worker"),
        ({"op": "compute-task", "key": "x", "run_id": 1.5}, "run_id"),
        (
            {"op": "compute-task", "key": "x", "run_id": 1, "priority": (), "stimulus_id": "s",
             "run_spec": b"plain bytes"},
            "run_spec is not pickled",
        ),
    ],
    ids=str,
)  # fmt: skip
def test_what_cannot_be_understood_is_an_error_of_that_op_alone(item: Any, reason: str) -> None:
    before, refused, after = read({"op": "close"}, item, {"op": "close"})
    assert before == after == ops.Close()
    assert isinstance(refused, ops.NotAnOp)
    assert refused.op is item
    assert reason in str(refused.error)
