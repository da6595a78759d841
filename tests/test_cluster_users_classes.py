"""What users' classes may do to a node when they are pickled, opened, compared or shown."""

import operator
import pickle
import sys
from pathlib import Path
from typing import Any

import pytest
import trio
from fake_scheduler import FakeScheduler, comm_with, compute, fake_scheduler, node_of
from gates import PATIENCE_S, until

from trouper.actors.dask_values import dump, load
from trouper.runtime.journal.journal import Journal


class NoText(Exception):
    def __repr__(self) -> str:
        raise LookupError("no text for it")

    __str__ = __repr__


class NoTextButAnEnd(NoText):
    def __repr__(self) -> str:
        raise SystemExit(5)


class EqualToNothing(Exception):
    def __eq__(self, other: object) -> bool:
        raise LookupError("do not compare me")

    __hash__ = Exception.__hash__


class RaisesWhenOpened:
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __reduce__(self) -> Any:
        return throw, (self.error,)


class Lazy:
    nbytes = 1 << 80


class EndsWhenPickled:
    def __reduce__(self) -> Any:
        raise SystemExit(5)


def throw(error: BaseException) -> None:
    raise error


def throw_because(error: BaseException) -> None:
    raise error from EqualToNothing()


async def works(scheduler: FakeScheduler) -> None:
    """Let the node compute something."""
    await scheduler.say(compute("probe", operator.add, 1, 1))
    assert (await scheduler.hear("task-finished"))["key"] == "probe"


ERRORS = [NoText(), NoTextButAnEnd(), EqualToNothing(), SystemExit(3), KeyboardInterrupt()]


async def test_what_a_task_raises() -> None:
    async with fake_scheduler() as scheduler, node_of(scheduler):
        for i, error in enumerate(ERRORS):
            await scheduler.say(compute(("x", i), throw_because, error))
            erred = await scheduler.hear("task-erred")
            assert type(error).__name__ in erred["exception_text"]
        await works(scheduler)


async def test_a_value_that_says_to_be_larger_than_any_memory(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    async with fake_scheduler() as scheduler, node_of(scheduler, journal=path):
        await scheduler.say(compute("x", Lazy))
        assert (await scheduler.hear("task-finished"))["nbytes"] == sys.getsizeof(Lazy())
        beats = scheduler.beats
        await until(lambda: scheduler.beats > beats + 1)
    journal = Journal.open(path)
    assert journal.verify() == journal.last
    assert "ExecuteSuccess" in str(list(journal.records()))


async def test_what_a_value_raises_that_is_brought() -> None:
    async with fake_scheduler() as scheduler, node_of(scheduler) as node, comm_with(node) as link:
        for error in ERRORS:
            data = {"x": dump(RaisesWhenOpened(error))}
            answer = await link.call("update_data", data=data)
            assert answer["status"] == "uncaught-error"
            assert type(error).__name__ in answer["exception_text"]
        await works(scheduler)


async def test_what_a_value_raises_that_is_fetched() -> None:
    async with (
        fake_scheduler() as scheduler,
        fake_scheduler() as other,
        node_of(scheduler) as node,
        node_of(other) as peer,
        comm_with(node) as link,
    ):
        await other.say(compute("x", RaisesWhenOpened, SystemExit(3)))
        await other.hear("task-finished")
        with trio.fail_after(PATIENCE_S):
            answer = await link.call("gather", who_has={"x": [peer.address]})
        assert answer == {"status": "partial-fail", "keys": ("x",)}
        await works(scheduler)


async def test_what_a_value_raises_that_is_given() -> None:
    async with fake_scheduler() as scheduler, node_of(scheduler) as node, comm_with(node) as link:
        await scheduler.say(compute("x", EndsWhenPickled), compute("y", operator.neg, 1))
        await scheduler.hear("task-finished")
        await scheduler.hear("task-finished")
        data = (await link.call("get_data", keys=["x", "y"]))["data"]
        await link.send("OK")
        with pytest.raises(TypeError, match="Could not serialize a EndsWhenPickled"):
            load(data["x"])
        assert load(data["y"]) == -1
        answer = await link.call("run", function=pickle.dumps(EndsWhenPickled))
        with pytest.raises(TypeError, match="Could not serialize a EndsWhenPickled"):
            load(answer["result"])
        await works(scheduler)


async def test_what_a_function_raises_that_is_no_task() -> None:
    async with fake_scheduler() as scheduler, node_of(scheduler) as node, comm_with(node) as link:
        for error in ERRORS:
            for function in (throw, RaisesWhenOpened(error)):
                pickled = {"function": pickle.dumps(function), "args": pickle.dumps((error,))}
                answer = await link.call("run", **pickled)
                assert answer["status"] == "error"
                assert type(error).__name__ in answer["exception_text"]
        await works(scheduler)
