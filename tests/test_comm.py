"""The stream between a node and its scheduler: what becomes of what comes, and what leaves."""

import math
import operator
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from bare_node import bare_node
from dask_links import links
from fake_host import facts
from fake_scheduler import compute
from hypothesis import given, settings
from hypothesis import strategies as some

from trouper.actors.comm import Intake, Outbox, comm
from trouper.actors.dask_link import DaskLink
from trouper.actors.dask_task import DaskTask, Site, spec_id_of
from trouper.actors.dask_worker import DaskWorker
from trouper.actors.execute import THREAD
from trouper.actors.sizeof import MOST_NBYTES
from trouper.actors.store import Store
from trouper.wire import dask_stream as ops
from trouper.wire import stimuli as st
from trouper.wire.dask_message import Pickled
from trouper.wire.errors import NotEncodable, ProtocolError, SessionClosed
from trouper.wire.events import IncomingLost
from trouper.wire.vocabulary import Peer


class Owner:
    """Notes what it is told, in order."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def send(self, stimulus: st.Stimulus) -> None:
        self.told.append(stimulus)

    def on_status_change(self, op: ops.WorkerStatusChange) -> None:
        self.told.append(op)

    def on_close(self, op: ops.Close) -> None:
        self.told.append(op)

    def on_lost_worker(self, address: Peer) -> None:
        self.told.append(address)

    def on_refused(self, op: object, error: Exception) -> None:
        self.told.append((op, str(error)))

    def on_unsendable(self, op: dict[str, Any], error: NotEncodable) -> None:
        self.told.append((op["op"], str(error)))


class Stream:
    """What stands between a scheduler and a node, without either."""

    def __init__(self) -> None:
        worker = DaskWorker(**facts())
        self.owner = Owner()
        self.store = Store()
        self.outbox = Outbox()
        self.site = Site(worker, lambda: 0.0)
        self.intake = Intake(self.owner, self.store, self.site)

    def told(self, *said: Any) -> list[Any]:
        """What the owner is told of these."""
        self.owner.told.clear()
        self.intake.take(said)
        return self.owner.told


@pytest.fixture
def stream() -> Stream:
    return Stream()


KEY, TEXT = ("x", 1), "~('x', 1)"


@pytest.mark.parametrize(
    ("op", "told"),
    [
        ({"op": "free-keys", "keys": (KEY, "y")}, st.FreeKeys((TEXT, "y"))),
        ({"op": "cancel-compute", "key": KEY}, st.CancelCompute(TEXT)),
        (
            {"op": "acquire-replicas", "who_has": {KEY: ("cws://a",)}, "nbytes": {KEY: 5}},
            st.AcquireReplicas({TEXT: ("cws://a",)}, {TEXT: 5}),
        ),
        ({"op": "remove-replicas", "keys": (KEY,)}, st.RemoveReplicas((TEXT,))),
        ({"op": "steal-request", "key": KEY, "stimulus_id": "s"}, st.StealRequest(TEXT, "s")),
        ({"op": "refresh-who-has", "who_has": {KEY: ()}}, st.RefreshWhoHas({TEXT: ()})),
        (
            {"op": "worker-status-change", "status": "paused"},
            ops.WorkerStatusChange("paused"),
        ),
        ({"op": "close"}, ops.Close()),
    ],
    ids=lambda value: type(value).__name__,
)
def test_each_op_has_its_consequence(stream: Stream, op: dict[str, Any], told: object) -> None:
    assert stream.told(op) == [told]
    assert not len(stream.store)


def test_connections_to_a_worker_that_is_gone_are_dropped_first(stream: Stream) -> None:
    told = stream.told({"op": "remove-worker", "worker": "cws://a"})
    assert told == ["cws://a", st.RemoveWorker("cws://a")]


def test_the_spec_of_a_task_is_there_before_it_is_told(stream: Stream) -> None:
    said = compute(KEY, operator.neg, 1, who_has={("y", 2): ("tcp://a",)}, nbytes={("y", 2): 7})
    (stimulus,) = stream.told(said)
    spec_id = spec_id_of(TEXT, said["run_spec"])
    inputs: dict[str, tuple[str, ...]] = {"~('y', 2)": ("tcp://a",)}
    assert stimulus == st.ComputeTask(
        TEXT, 1, spec_id, (0, 1), (), inputs, {"~('y', 2)": 7}, THREAD, {}, "x"
    )
    task = stream.store.specs[spec_id]
    assert isinstance(task, DaskTask)
    assert (task.run_spec, task.site) == (said["run_spec"], stream.site)


def test_sizes_that_nothing_has_are_cut(stream: Stream) -> None:
    said = {"x": 2**64 - 1, "y": -(2**63), "z": 5}
    cut = {"x": MOST_NBYTES, "y": 0, "z": 5}
    (acquire,) = stream.told({"op": "acquire-replicas", "who_has": {}, "nbytes": said})
    (task,) = stream.told(compute("t", operator.neg, 1, nbytes=said))
    assert acquire.nbytes == task.nbytes == cut


@pytest.mark.parametrize(
    ("key", "prefix"),
    [
        ("inc-0123456789abcdef0123456789abcdef", "inc"),
        (("sum-5", 0), "sum"),
        (b"inc", "inc"),
        (b"\xff", "Other"),
        ((), "Other"),
        (((), 1), "Other"),
        (None, "Other"),
        (5, "Other"),
        (True, "Other"),
    ],
)
def test_tasks_are_known_by_what_their_keys_begin_with(
    stream: Stream, key: Any, prefix: str
) -> None:
    (stimulus,) = stream.told(compute(key, operator.neg, 1))
    assert stimulus.prefix == prefix


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (compute(float("nan"), operator.neg, 1), "nan cannot be a key"),
        (compute({"x": 1}, operator.neg, 1), "cannot be a key"),
        (compute("x", operator.neg, 1, who_has={float("inf"): ()}), "inf cannot be a key"),
        (compute("x", operator.neg, 1, nbytes={frozenset(): 1}), "cannot be a key"),
        ({"op": "free-keys", "keys": ("x", ["y"])}, "cannot be a key"),
        ({"op": "refresh-who-has", "who_has": {float("nan"): ()}}, "nan cannot be a key"),
    ],
    ids=lambda value: value if isinstance(value, str) else value["op"],
)
def test_what_cannot_be_done_is_refused_and_changes_nothing(
    stream: Stream, said: dict[str, Any], why: str
) -> None:
    before, (refused, reason), after = stream.told({"op": "close"}, said, {"op": "close"})
    assert before == after == ops.Close()
    assert isinstance(refused, ops.Op)
    assert why in reason
    assert not len(stream.store)


def test_what_a_plugin_wants_to_know_is_not_refused(stream: Stream) -> None:
    worker, told = stream.site.worker, list[Any]()

    def note(**fields: Any) -> None:
        told.append(fields)

    worker.stream_handlers["shuffle-fail"] = note
    said: dict[Any, Any] = {"op": "shuffle-fail", "shuffle_id": "s", "run_id": 1}
    nameless = {**said, 5: "a field that nothing takes"}
    assert stream.told(said, nameless) == [(nameless, "unknown op 'shuffle-fail'")]
    worker.close()
    assert told == [{"shuffle_id": "s", "run_id": 1}]


def test_what_cannot_be_understood_is_refused_as_it_came(stream: Stream) -> None:
    assert stream.told(17) == [(17, "an op has to be a dict, not 17")]
    said = compute("x", operator.neg, 1, run_spec=b"plain")
    ((refused, _),) = stream.told(said)
    assert refused is said


async def test_what_is_put_leaves_together_when_somebody_says_so() -> None:
    outbox = Outbox()
    outbox.flush()
    with trio.move_on_after(0) as impatient:
        await outbox.take()
    assert impatient.cancelled_caught
    outbox.put({"op": "a"})
    with trio.move_on_after(0) as impatient:
        await outbox.take()
    assert impatient.cancelled_caught
    outbox.put({"op": "b"})
    outbox.flush()
    assert await outbox.take() == [{"op": "a"}, {"op": "b"}]
    outbox.put({"op": "c"})
    assert outbox.rest() == [{"op": "c"}]
    assert outbox.rest() == []


@asynccontextmanager
async def conversing(stream: Stream) -> AsyncGenerator[DaskLink]:
    """The scheduler's end of a stream that is carried."""
    async with links() as (ours, scheduler), trio.open_nursery() as nursery:
        nursery.start_soon(comm, ours, stream.outbox, stream.intake)
        yield scheduler
        nursery.cancel_scope.cancel()


async def test_it_carries_ops_both_ways(stream: Stream) -> None:
    async with conversing(stream) as scheduler:
        await scheduler.send([{"op": "close"}, {"op": "remove-replicas", "keys": ["x"]}])
        await scheduler.send({"op": "dance"})
        stream.outbox.put({"op": "a", "key": KEY})
        stream.outbox.put({"op": "b"})
        stream.outbox.flush()
        assert await scheduler.receive() == ({"op": "a", "key": KEY}, {"op": "b"})
        await scheduler.send("OK")
        while len(stream.owner.told) < 3:  # noqa: ASYNC110 - nobody would set an event
            await trio.sleep(0.001)
    *understood, (refused, _) = stream.owner.told
    assert understood == [ops.Close(), st.RemoveReplicas(("x",))]
    assert refused == {"op": "dance"}


async def test_what_cannot_be_sent_is_left_out_and_the_rest_is_sent(stream: Stream) -> None:
    async with conversing(stream) as scheduler:
        for op in ({"op": "a"}, {"op": "b", "msg": threading.Lock()}, {"op": "c", "n": 1 << 70}):
            stream.outbox.put(op)
        stream.outbox.put({"op": "d", "text": "\ud800"})
        stream.outbox.put({"op": "e"})
        stream.outbox.flush()
        assert await scheduler.receive() == ({"op": "a"},)
        assert await scheduler.receive() == ({"op": "e"},)
    assert [op for op, _ in stream.owner.told] == ["b", "c", "d"]
    assert "a lock cannot be part of a message" in stream.owner.told[0][1]


async def test_the_end_of_the_session_ends_it(stream: Stream) -> None:
    with pytest.RaisesGroup(SessionClosed, flatten_subgroups=True):
        async with conversing(stream) as scheduler:
            scheduler.connection.abandon("enough")
            await trio.sleep_forever()


async def test_what_is_no_message_ends_it(stream: Stream) -> None:
    with pytest.RaisesGroup(ProtocolError, flatten_subgroups=True):
        async with conversing(stream) as scheduler:
            await scheduler.connection.send(b"\xff\xff")
            await trio.sleep_forever()


async def test_a_message_that_was_cut_ends_it(stream: Stream) -> None:
    class Cut:
        async def receive(self) -> IncomingLost:
            return IncomingLost(1)

    with pytest.RaisesGroup(pytest.RaisesExc(ProtocolError, match="cut by the loss")):
        await comm(DaskLink(Cut()), stream.outbox, stream.intake)  # type: ignore[arg-type]


# Whatever is said: no word of it is a fault, and the node goes on.

KEYS = some.sampled_from(["x", "y", ("z", 1), 0, b"\xff", None, (), True])
BAD_KEYS = some.sampled_from([float("nan"), {"n": 1}, ("x", float("inf")), {5}])
PEERS = some.sampled_from(["", "cws://127.0.0.1:1", "cws://a:1", "tcp://b:2"])
NUMBERS = some.sampled_from([0, 1, -1, 2**63, 2**64 - 1, -(2**63), 1.5, math.nan, math.inf])
FIELDS: dict[str, some.SearchStrategy[Any]] = {
    "key": KEYS,
    "keys": some.lists(KEYS, max_size=3).map(tuple),
    "who_has": some.dictionaries(KEYS, some.lists(PEERS, max_size=2).map(tuple), max_size=2),
    "nbytes": some.dictionaries(KEYS, some.integers(-1, 2**64 - 1), max_size=2),
    "run_id": some.integers(-(2**63), 2**64 - 1),
    "run_spec": some.sampled_from([compute("x", operator.neg, 1)["run_spec"], Pickled(b"")]),
    "priority": some.lists(NUMBERS, max_size=2).map(tuple),
    "resource_restrictions": some.dictionaries(some.sampled_from(["gpu", "cpu"]), NUMBERS),
    "stimulus_id": some.just("s"),
    "worker": PEERS,
    "status": some.sampled_from(["paused", "running", "closing_gracefully", "closed"]),
}
NAMES = ["compute-task", "free-keys", "cancel-compute", "acquire-replicas", "remove-replicas",
         "steal-request", "refresh-who-has", "remove-worker", "worker-status-change"]  # fmt: skip


@some.composite
def op(draw: some.DrawFn) -> dict[str, Any]:
    """What a scheduler might say; every other time with something in it that makes no sense."""
    said = {"op": draw(some.sampled_from(NAMES)), **draw(some.fixed_dictionaries(FIELDS))}
    if draw(some.booleans()):
        noise = some.one_of(KEYS, BAD_KEYS, PEERS, NUMBERS, some.lists(BAD_KEYS).map(tuple))
        said[draw(some.sampled_from([*FIELDS, "actor", "op"]))] = draw(noise)
    return said


@given(some.lists(some.lists(op(), max_size=5), max_size=8))
@settings(max_examples=30, deadline=None)
def test_whatever_is_said_the_node_goes_on(batches: list[list[dict[str, Any]]]) -> None:
    async def converse() -> None:
        async with bare_node() as bare:
            for batch in batches:
                bare.say(*batch)
                await trio.lowlevel.checkpoint()
            bare.say({"op": "worker-status-change", "status": "paused", "stimulus_id": ""})
            bare.say({"op": "worker-status-change", "status": "running", "stimulus_id": ""})
            bare.say(compute("probe", operator.add, 1, 1))
            while (await bare.hear("task-finished"))["key"] != "probe":
                pass

    trio.run(converse)
