"""How a node introduces itself, and what it makes of the answers; also to its heartbeats."""

import logging
import math
import os
import pickle
import threading
from pathlib import Path
from typing import Any

import pytest
import trio
from distributed import WorkerPlugin
from fake_scheduler import LIMITS, US, WELCOME, comm_with, fake_scheduler, node_of
from gates import PATIENCE_S, until, worker_threads

from trouper.actors.dask_link import DaskLink
from trouper.runtime.cluster.node import ExitCode
from trouper.runtime.cluster.opening import open_node
from trouper.runtime.errors import NodeRefused
from trouper.wire.connection import Connection
from trouper.wire.listener import open_listener

REQUIRED = {
    "address", "status", "server_id", "nthreads", "name", "now", "resources", "memory_limit",
    "local_directory", "services", "nanny", "versions", "metrics", "extra", "stimulus_id",
}  # fmt: skip
"""What a scheduler cannot do without, beside `op` and `reply`."""


async def test_all_that_a_scheduler_wants_to_know() -> None:
    async with fake_scheduler() as scheduler:
        options = {"threads": 3, "resources": {"gpu": 2}, "memory_limit": 1 << 40}
        async with node_of(scheduler, **options) as node:
            said = scheduler.registered
            assert said.keys() >= REQUIRED
            assert said["reply"] is False
            assert (said["name"], said["nthreads"], said["resources"]) == ("n", 3, {"gpu": 2})
            assert said["memory_limit"] == 1 << 40
            assert said["address"] == node.address
            assert said["metrics"]["spilled_bytes"] == {"memory": 0, "disk": 0}


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"status": "error", "message": "name taken, n"}, "name taken, n"),
        ({"status": "uncaught-error", "exception_text": "ValueError('no')"}, "no"),
        ({}, "does not take"),
        ({"status": "error", "message": 5}, "does not take node 'n': 5"),
        ({"status": {}, "message": {"no": 1}}, "does not take"),
        ("hello", "hello"),
        (None, "None"),
    ],
    ids=str,
)
async def test_a_scheduler_that_does_not_take_it(answer: Any, reason: str) -> None:
    async with fake_scheduler() as scheduler:
        scheduler.welcome = answer
        with pytest.raises(NodeRefused, match=reason):
            async with node_of(scheduler, connect_timeout_s=0.5):
                pass
    assert not worker_threads()


async def test_a_scheduler_that_goes_while_a_name_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trouper.runtime.cluster.registration.NAME_TAKEN_S", 0.1)
    tried = 0

    async def serve(connection: Connection) -> None:
        nonlocal tried
        link = DaskLink(connection)
        await link.shake_hands()
        tried += (await link.receive())["op"] == "register-worker"
        await link.send({"status": "error", "message": "name taken, n"})

    with trio.fail_after(PATIENCE_S):
        async with open_listener(US, serve, token=None) as listener:
            with pytest.raises(NodeRefused, match="does not answer node 'n'"):
                async with open_node(f"cws://127.0.0.1:{listener.port}", name="n", limits=LIMITS):
                    pass
    assert tried == 1


@pytest.mark.parametrize(
    "extra",
    [{"heartbeat-interval": math.nan}, {"heartbeat-interval": -1}, {"heartbeat-interval": "soon"},
     {"heartbeat-interval": None}, {"time": "late"}, {"time": math.inf}, {"worker-plugins": None},
     {"worker-plugins": {"mine": b""}}, {"worker-plugins": 5}, {"worker-plugins": "shuffle"}],
    ids=repr,
)  # fmt: skip
async def test_nonsense_in_an_answer_is_passed_over(extra: dict[str, Any]) -> None:
    async with fake_scheduler() as scheduler:
        scheduler.welcome = {**WELCOME, **extra}
        scheduler.beat = {**scheduler.beat, **extra}
        async with node_of(scheduler) as node, comm_with(node) as link:
            await until(lambda: scheduler.beats)
            assert await link.call("ping") == b"pong"
            assert math.isfinite(node.clock_ahead_s)


class Noted(WorkerPlugin):  # type: ignore[misc]
    """Notes in the node's directory when it begins and when it ends."""

    def setup(self, worker: Any) -> None:
        Path(worker.local_directory, "began").touch()

    def teardown(self, worker: Any) -> None:
        Path(worker.local_directory, "ended").touch()


async def test_plugins_begin_before_tasks_do_and_end_with_the_node(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plugins = {"broken": b"no pickle", 5: b"", "none": 7, "mine": pickle.dumps(Noted())}
    async with fake_scheduler() as scheduler:
        scheduler.welcome = {**WELCOME, "worker-plugins": plugins}
        async with node_of(scheduler, local_directory=tmp_path) as node:
            assert list(node.site.worker.plugins) == ["mine"]
            assert os.listdir(tmp_path) == ["began"]
    assert set(os.listdir(tmp_path)) == {"began", "ended"}
    assert "plugin broken, which every worker is to have, fails here" in caplog.text


class Stuck(WorkerPlugin):  # type: ignore[misc]
    """Does not end for a while."""

    may_end = threading.Event()

    def teardown(self, worker: Any) -> None:
        Stuck.may_end.wait(PATIENCE_S)


async def test_a_plugin_that_does_not_end_is_left_behind(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("trouper.runtime.cluster.opening.CLOSING_S", 0.1)
    async with fake_scheduler() as scheduler:
        scheduler.welcome = {**WELCOME, "worker-plugins": {"stuck": pickle.dumps(Stuck())}}
        async with node_of(scheduler):
            pass
        Stuck.may_end.set()
    assert "plugins do not end" in caplog.text


async def test_the_clock_is_the_schedulers() -> None:
    async with fake_scheduler() as scheduler:
        scheduler.welcome = {**WELCOME, "time": 5000.0}
        async with node_of(scheduler) as node:
            assert node.now() == pytest.approx(5000.0, abs=PATIENCE_S)


async def test_a_scheduler_that_has_forgotten_it_ends_it() -> None:
    async with fake_scheduler() as scheduler, node_of(scheduler) as node:
        scheduler.beat = {"status": "missing"}
        with trio.fail_after(PATIENCE_S):
            ending = await node.wait_ended()
    assert ending.code is ExitCode.LOST
    assert "does not know this node" in ending.reason


async def test_a_removed_node_hears_why_even_if_a_heartbeat_comes_in_between(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    async with fake_scheduler() as scheduler, node_of(scheduler) as node:
        scheduler.beat = {"status": "missing", "heartbeat-interval": 60.0}
        await until(lambda: "does not know this node" in caplog.text)
        await scheduler.say({"op": "close", "reason": "scheduler-remove-worker"})
        with trio.fail_after(PATIENCE_S):
            ending = await node.wait_ended()
    assert (ending.code, ending.reason) == (ExitCode.CLOSED, "scheduler-remove-worker")


async def test_a_heartbeat_that_is_no_answer_is_tried_again() -> None:
    async with fake_scheduler() as scheduler, node_of(scheduler) as node:
        scheduler.beat = "what?"
        await until(lambda: scheduler.beats > 2)
        scheduler.beat = {"status": "OK", "time": 0.0}
        beats = scheduler.beats
        await until(lambda: scheduler.beats > beats)
        assert node.ending is None
