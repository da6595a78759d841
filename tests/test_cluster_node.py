"""A node and what a scheduler says to it: sense, and nonsense, which it survives."""

import operator
import threading
from pathlib import Path
from typing import Any

import pytest
import trio
from fake_scheduler import FakeScheduler, comm_with, compute, fake_scheduler, node_of
from gates import PATIENCE_S, until

from trouper.actors.dask_values import load
from trouper.runtime.cluster.node import ExitCode, Node
from trouper.runtime.cluster.opening import CLOSING_S
from trouper.runtime.journal.journal import Journal
from trouper.wire.dask_message import Pickled

NONSENSE: list[Any] = [
    17,
    None,
    b"\xff",
    {},
    {"op": "no-such-op"},
    {"op": 5},
    {"op": "free-keys"},
    {"op": "free-keys", "keys": "abc"},
    {"op": "free-keys", "keys": ({"a": 1},)},
    {"op": "free-keys", "keys": (float("nan"),)},
    {"op": "steal-request", "key": ("x", {1})},
    {"op": "acquire-replicas", "who_has": {"x": 5}, "nbytes": {}},
    {"op": "acquire-replicas", "who_has": {float("inf"): ("cws://nobody",)}, "nbytes": {}},
    {"op": "refresh-who-has", "who_has": ["x"]},
    {"op": "remove-worker", "worker": 3},
    {"op": "worker-status-change", "status": "dancing"},
    {"op": "worker-status-change"},
    {"op": "compute-task"},
    {"op": "compute-task", "key": "x", "run_id": "one"},
]


async def works(scheduler: FakeScheduler) -> None:
    """Let the node compute something."""
    await scheduler.say(compute("probe", operator.add, 1, 1))
    while (await scheduler.hear("task-finished"))["key"] != "probe":
        pass
    await scheduler.say({"op": "free-keys", "keys": ("probe",), "stimulus_id": "test"})
    assert (await scheduler.hear("release-worker-data"))["key"] == "probe"


async def test_nonsense_is_refused_and_said_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async with fake_scheduler() as scheduler, node_of(scheduler) as node:
        for nonsense in NONSENSE:
            caplog.clear()
            await scheduler.say(nonsense)
            await works(scheduler)
            assert "refused what the scheduler said" in caplog.text, nonsense
            assert node.ending is None


SENSELESS: list[tuple[dict[str, Any], str]] = [
    ({"priority": (float("nan"),)}, "priority"),
    ({"priority": ("first",)}, "priority"),
    ({"priority": None}, "priority"),
    ({"run_spec": 17}, "run_spec"),
    ({"resource_restrictions": {"gpu": 1.0}}, "gpu"),
    ({"resource_restrictions": {"gpu": -1.0}}, "gpu"),
    ({"actor": 5}, "actor"),
    ({"who_has": {"x": ()}}, "itself"),
    ({"who_has": {"y": 7}}, "who_has"),
    ({"nbytes": {"y": "much"}, "who_has": {"y": ()}}, "nbytes"),
]


async def test_a_task_that_makes_no_sense_fails() -> None:
    async with fake_scheduler() as scheduler, node_of(scheduler):
        for fields, reason in SENSELESS:
            await scheduler.say(compute("x", operator.neg, 1, **fields))
            erred = await scheduler.hear("task-erred")
            assert (erred["key"], erred["run_id"]) == ("x", 1)
            assert reason in erred["exception_text"]
            await works(scheduler)


async def test_what_cannot_be_unpickled_is_a_task_that_fails() -> None:
    async with fake_scheduler() as scheduler, node_of(scheduler):
        await scheduler.say(compute("x", operator.neg, 1, run_spec=Pickled(b"no pickle")))
        assert "UnpicklingError" in (await scheduler.hear("task-erred"))["exception_text"]
        await works(scheduler)


async def test_the_journal_survives_nonsense(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    async with fake_scheduler() as scheduler, node_of(scheduler, journal=path):
        await scheduler.say(*NONSENSE)
        await scheduler.say(compute("big", operator.neg, 1, run_id=2**64 - 1))
        await scheduler.say(compute("old", operator.neg, 1, run_id=-(2**63), priority=(2**63,)))
        await scheduler.say(compute("neg", operator.neg, 1, who_has={"y": ()}, nbytes={"y": -5}))
        await scheduler.say(compute("nan", operator.neg, 1, priority=(float("nan"),)))
        await works(scheduler)
    journal = Journal.open(path)
    assert journal.verify() == journal.last
    assert "probe" in str(list(journal.records()))


async def test_the_scheduler_closes_the_node() -> None:
    async with fake_scheduler() as scheduler, node_of(scheduler) as node:
        await scheduler.say({"op": "close", "reason": "no work"})
        ending = await node.wait_ended()
    assert (ending.code, ending.reason) == (ExitCode.CLOSED, "no work")


async def test_a_scheduler_that_is_gone_ends_the_node() -> None:
    async with fake_scheduler() as scheduler, node_of(scheduler) as node:
        scheduler.link.connection.abandon("enough")
        ending = await node.wait_ended()
    assert ending.code is ExitCode.LOST
    assert "enough" in ending.reason


async def test_garbage_instead_of_a_message_ends_the_node_with_the_reason() -> None:
    async with fake_scheduler() as scheduler, node_of(scheduler) as node:
        await scheduler.link.connection.send(b"\xff\xff", ())
        ending = await node.wait_ended()
    assert ending.code is ExitCode.LOST


async def test_its_owner_closes_it_and_the_scheduler_is_told() -> None:
    async with fake_scheduler() as scheduler:
        async with node_of(scheduler) as node:
            await works(scheduler)
        assert node.ending is not None
        assert node.ending.code is ExitCode.CLOSED
        assert await scheduler.hear("close-stream") == {"op": "close-stream"}


async def test_statuses_are_taken_on_and_said_back() -> None:
    async with fake_scheduler() as scheduler, node_of(scheduler) as node:
        for status in ("paused", "running", "closing_gracefully"):
            op = {"op": "worker-status-change", "status": status, "stimulus_id": "s"}
            await scheduler.say(op)
            assert await scheduler.hear("worker-status-change") == op
            assert node.status == status
            assert node.supervisor.machine.ledger.paused is (status == "paused")
        node.pause(True)  # not while the scheduler has it leave
        assert node.status == "closing_gracefully"


async def test_who_is_to_leave_while_it_is_paused_starts_nothing_more() -> None:
    async with fake_scheduler() as scheduler, node_of(scheduler) as node:
        for status, paused in (
            ("paused", True),
            ("closing_gracefully", True),
            ("running", False),
        ):
            await scheduler.say({"op": "worker-status-change", "status": status, "stimulus_id": ""})
            assert (await scheduler.hear("worker-status-change"))["status"] == status
            assert node.supervisor.machine.ledger.paused is paused


async def test_memory_pauses_and_resumes_it() -> None:
    async with fake_scheduler() as scheduler, node_of(scheduler) as node:
        for paused, status in ((True, "paused"), (False, "running")):
            node.pause(paused)
            node.pause(paused)  # once more changes nothing
            assert (await scheduler.hear("worker-status-change"))["status"] == status
        await works(scheduler)


async def test_a_function_that_runs_is_waited_for_at_the_end() -> None:
    begun, go = threading.Event(), threading.Event()
    BLOCKED[:] = [begun, go]
    async with fake_scheduler() as scheduler, node_of(scheduler) as node:
        await scheduler.say(compute("x", block))
        await until(begun.is_set)
        threading.Timer(0.2, go.set).start()
    assert node.supervisor.is_idle()


async def test_what_is_missing_is_not_waited_for_at_the_end(tmp_path: Path) -> None:
    async with fake_scheduler() as scheduler:
        async with node_of(scheduler, journal=tmp_path / "journal"):
            await scheduler.say(compute("x", operator.neg, 1, who_has={"y": ()}))
            await scheduler.hear("request-refresh-who-has")
            left = trio.current_time()
        assert trio.current_time() - left < CLOSING_S
    Journal.open(tmp_path / "journal").verify()


async def test_a_fault_of_ours_ends_the_node_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    async with fake_scheduler() as scheduler, node_of(scheduler) as node:

        def fail(_: object) -> None:
            raise AssertionError("a fault of ours")

        monkeypatch.setattr(node.supervisor.machine, "handle", fail)
        await scheduler.say({"op": "free-keys", "keys": ("x",), "stimulus_id": "test"})
        with trio.fail_after(PATIENCE_S):
            ending = await node.wait_ended()
        await scheduler.say({"op": "free-keys", "keys": ("x",), "stimulus_id": "too late"})
        await until(lambda: scheduler.beats)
    assert ending.code is ExitCode.FAILED
    assert "a fault of ours" in ending.reason


async def test_a_fault_of_ours_in_the_stream_is_raised_and_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("a fault of ours")

    monkeypatch.setattr(Node, "on_lost_worker", fail)
    nodes: list[Node] = []
    ours = pytest.RaisesExc(AssertionError, match="a fault of ours")
    async with fake_scheduler() as scheduler:
        with pytest.RaisesGroup(ours, flatten_subgroups=True):
            async with node_of(scheduler) as node:
                nodes.append(node)
                await scheduler.say({"op": "remove-worker", "worker": "cws://b", "stimulus_id": ""})
                with trio.fail_after(PATIENCE_S):
                    await trio.sleep_forever()
    ending = nodes[0].ending
    assert ending is not None
    assert ending.code is ExitCode.FAILED
    assert "a fault of ours" in ending.reason


async def test_a_copy_of_the_machine() -> None:
    async with fake_scheduler() as scheduler, node_of(scheduler) as node:
        await works(scheduler)
        assert node.freeze().fingerprint() == node.supervisor.machine.fingerprint()


async def test_tasks_ask_the_node_for_data_and_bring_it_some() -> None:
    async with fake_scheduler() as scheduler, node_of(scheduler) as node:
        await scheduler.say(compute(("x", 1), look_around))
        await scheduler.hear("task-finished")
        async with comm_with(node) as link:
            reply = await link.call("get_data", keys=[("x", 1), "brought"])
            await link.send("OK")
        values = {key: load(value) for key, value in reply["data"].items()}
        assert values == {("x", 1): ([], "nothing", ["brought"], 5, 1), "brought": 5}
        event = await scheduler.hear("log-event")
        assert (event["topic"], event["msg"]) == (("topic",), "said")


async def test_an_event_that_cannot_be_sent_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    async with fake_scheduler() as scheduler, node_of(scheduler) as node:
        node.log_event(["topic"], threading.Lock())
        await works(scheduler)
    assert "the scheduler is not told 'log-event'" in caplog.text


BLOCKED: list[threading.Event] = []


def block() -> None:
    begun, go = BLOCKED
    begun.set()
    assert go.wait(PATIENCE_S)


def look_around() -> object:
    from distributed import get_worker

    worker: Any = get_worker()
    before = list(worker.data)
    missing = worker.data.get("brought", "nothing")
    worker.update_data({"brought": 5})
    worker.log_event("topic", "said")
    return before, missing, list(worker.data), worker.data["brought"], len(worker.data)
