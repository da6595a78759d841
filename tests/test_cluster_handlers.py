"""What a node answers to the requests of schedulers, clients and other workers."""

import math
import operator
import pickle
import sys
import time
from typing import Any

import numpy as np
import pytest
import trio
from fake_scheduler import comm_with, compute, fake_scheduler, node_of
from gates import PATIENCE_S, until

from trouper.actors.dask_link import DaskLink
from trouper.actors.dask_values import dump, load
from trouper.runtime.cluster.handlers import NOT_SUPPORTED, SERVED
from trouper.runtime.cluster.node import ExitCode


async def data_of(link: DaskLink, *keys: Any) -> dict[Any, Any]:
    """What a node has of these."""
    reply = await link.call("get_data", keys=list(keys), who="somebody")
    assert reply["status"] == "OK"
    await link.send("OK")
    return {key: load(value) for key, value in reply["data"].items()}


def error_in(reply: Any) -> str:
    assert reply["status"] in {"error", "uncaught-error"}
    return str(reply["exception_text"])


async def test_data_comes_goes_and_is_served() -> None:
    async with fake_scheduler() as scheduler, node_of(scheduler) as node, comm_with(node) as link:
        large = np.arange(100_000.0)
        reply = await link.call(
            "update_data", data={("x", 1): dump(large), "plain": 5}, stimulus_id="s"
        )
        assert reply == {"status": "OK", "nbytes": {("x", 1): 800_000, "plain": 28}}
        assert set(await link.call("keys")) == {("x", 1), "plain"}
        got = await data_of(link, ("x", 1), "plain", "unknown")
        assert got.keys() == {("x", 1), "plain"}
        assert np.array_equal(got["x", 1], large)
        assert await link.call("free_keys", keys=["plain"], stimulus_id="s") is None
        await until(lambda: node.keys() == [("x", 1)])
        assert (await scheduler.hear("release-worker-data"))["key"] == "plain"


async def test_data_that_cannot_be_opened_is_refused_as_a_whole() -> None:
    async with fake_scheduler() as scheduler, node_of(scheduler) as node, comm_with(node) as link:
        bad = dump(1)
        bad.frames = [b"no pickle"]
        error_in(await link.call("update_data", data={"x": dump(2), "bad": bad}))
        assert await link.call("keys") == ()


async def test_a_value_that_cannot_be_serialised_is_an_error_at_who_opens_it() -> None:
    async with fake_scheduler() as scheduler, node_of(scheduler) as node, comm_with(node) as link:
        await scheduler.say(compute("x", not_picklable))
        await scheduler.hear("task-finished")
        with pytest.raises(TypeError, match="Could not serialize"):
            await data_of(link, "x")


async def test_too_many_requests_for_data_are_told_to_come_back() -> None:
    async with fake_scheduler() as scheduler, node_of(scheduler) as node, comm_with(node) as link:
        node.serving = SERVED
        assert await link.call("get_data", keys=["x"]) == {"status": "busy"}
        node.serving = 1
        assert await data_of(link, "x") == {}
        node.pause(True)
        assert await link.call("get_data", keys=["x"]) == {"status": "busy"}
        node.serving = 0
        assert await data_of(link, "x") == {}


async def test_copies_are_fetched_from_another_node() -> None:
    async with (
        fake_scheduler() as scheduler,
        fake_scheduler() as other,
        node_of(scheduler) as node,
        node_of(other) as peer,
        comm_with(node) as link,
        comm_with(peer) as to_peer,
    ):
        await to_peer.call("update_data", data={"x": dump([1, 2]), "y": dump("y")})
        where = [peer.address]
        reply = await link.call("gather", who_has={"x": where, "y": where})
        assert reply == {"status": "OK"}
        assert await data_of(link, "x", "y") == {"x": [1, 2], "y": "y"}
        assert await link.call("gather", who_has={"x": where}) == {"status": "OK"}
        reply = await link.call("gather", who_has={"z": where, "v": ["cws://127.0.0.1:1"]})
        assert (reply["status"], set(reply["keys"])) == ("partial-fail", {"z", "v"})


async def test_holders_that_are_none_are_refused() -> None:
    nonsense: list[Any] = [5, None, {"x": 5}, {"x": "cws://a"}, {"x": [5, "a"]}, {"x": [None]}]
    async with fake_scheduler() as scheduler, node_of(scheduler) as node, comm_with(node) as link:
        for who_has in [*nonsense, {(math.inf,): ["cws://a"]}]:
            error_in(await link.call("gather", who_has=who_has))
        await scheduler.say(compute("x", operator.neg, 1))
        await scheduler.hear("task-finished")


async def run(link: DaskLink, function: Any, *args: Any, **more: Any) -> Any:
    """What comes of ``client.run``."""
    pickled = {"function": pickle.dumps(function), "args": pickle.dumps(args)}
    return await link.call("run", **{**pickled, "kwargs": None, "wait": True, **more})


async def test_functions_that_are_no_tasks() -> None:
    async with fake_scheduler() as scheduler, node_of(scheduler) as node, comm_with(node) as link:
        assert load((await run(link, operator.add, 1, 2))["result"]) == 3
        assert load((await run(link, coroutine, 1))["result"]) == 2
        named = await run(link, named_worker, kwargs=pickle.dumps({"suffix": "!"}))
        assert load(named["result"]) == "n!"
        assert "ZeroDivisionError" in error_in(await run(link, divmod, 1, 0))
        assert "SystemExit" in error_in(await run(link, sys.exit, 3))
        assert "UnpicklingError" in error_in(await link.call("run", function=b"nonsense"))
        assert "nobody waits" in error_in(await run(link, operator.add, 1, 2, wait=False))
        assert "TypeError" in error_in(await link.call("run", function=17))
        result = (await run(link, not_picklable))["result"]
        with pytest.raises(TypeError, match="Could not serialize"):
            load(result)


async def test_who_it_is_and_what_it_has_logged() -> None:
    async with fake_scheduler() as scheduler, node_of(scheduler) as node, comm_with(node) as link:
        identity = await link.call("identity")
        assert (identity["type"], identity["nthreads"]) == ("Worker", 1)
        assert await link.call("ping") == b"pong"
        assert (await link.call("echo", data=[1, {2}]))["data"] == (1, {2})
        assert {"host", "packages"} <= (await link.call("versions")).keys()
        await scheduler.say({"op": "dance"})
        await until(lambda: scheduler.beats > 1)
        logs = await link.call("get_logs", n=5)
        assert any("dance" in line for level, line in logs if level == "ERROR")


async def test_stories_stacks_and_dumps() -> None:
    async with fake_scheduler() as scheduler, node_of(scheduler) as node, comm_with(node) as link:
        await scheduler.say(compute("x", operator.neg, 1), compute("y", wait_for_unblocking))
        await scheduler.hear("task-finished")
        await until(lambda: node.site.running)
        ((key, phase, *_),) = await link.call("get_story", keys_or_stimuli={"x", "unknown"})
        assert (key, phase) == ("x", "memory")
        assert "wait_for_unblocking" in "".join((await link.call("call_stack"))["y"])
        assert await link.call("call_stack", keys=["x"]) == {}
        state = await link.call("dump_state", exclude=())
        assert state["status"] == "running"
        assert "x" in str(state["machine"])
        UNBLOCKED.append(True)
        await scheduler.hear("task-finished")


async def test_what_is_not_supported_says_so() -> None:
    async with fake_scheduler() as scheduler, node_of(scheduler) as node, comm_with(node) as link:
        for op, what in NOT_SUPPORTED.items():
            said = error_in(await link.call(op, name="x", plugin=b"", anything=5))
            assert f"does not support {what}" in said
        assert "does not know the request 'dance'" in error_in(await link.call("dance"))


async def test_it_ends_when_it_is_asked_to() -> None:
    async with fake_scheduler() as scheduler, node_of(scheduler) as node, comm_with(node) as link:
        assert await link.call("terminate", reason="enough") == "OK"
        with trio.fail_after(PATIENCE_S):
            ending = await node.wait_ended()
    assert (ending.code, ending.reason) == (ExitCode.CLOSED, "enough")


async def coroutine(number: int) -> int:
    return number + 1


def named_worker(dask_worker: Any, suffix: str) -> str:
    return str(dask_worker.name) + suffix


class NotPicklable:
    def __reduce__(self) -> Any:
        raise TypeError("not me")


def not_picklable() -> object:
    return NotPicklable()


UNBLOCKED: list[bool] = []


def wait_for_unblocking() -> None:
    while not UNBLOCKED:
        time.sleep(0.01)
