"""Whatever others request of a node: there is an answer, and the node goes on."""

import math
import operator
import pickle
from collections.abc import Sequence
from typing import Any, cast

import trio
from bare_node import BareNode, bare_node
from fake_scheduler import compute
from gates import PATIENCE_S
from hypothesis import given, settings
from hypothesis import strategies as some

from trouper.actors.dask_actors import Actors
from trouper.actors.dask_link import HANDSHAKE, DaskLink
from trouper.actors.dask_plugins import Plugins
from trouper.actors.dask_values import dump, load
from trouper.actors.fetched import Answer, Fetched, Found
from trouper.actors.logtail import LogTail
from trouper.actors.rpc import answer_requests
from trouper.runtime.cluster.handlers import Handlers
from trouper.runtime.cluster.registration import Facts
from trouper.wire.dask_message import DaskMessageDecoder, Serialized, encode_dask_message
from trouper.wire.errors import SessionClosed
from trouper.wire.vocabulary import Key, Peer

FACTS = Facts(nthreads=1, memory_limit=0, resources={}, local_directory="")


class Script:
    """A comm on which somebody says these requests, one after the other, and hears the answers."""

    def __init__(self, requests: list[dict[str, Any]]) -> None:
        self._said = iter([HANDSHAKE, *requests])
        self._acknowledges = False
        self._decoder = DaskMessageDecoder()
        self.answers: list[Any] = []
        self.connection = self
        self.peer = self
        self.name = "somebody"
        self.pickle_protocol = 5

    async def shake_hands(self) -> None:
        await self.receive()

    async def receive(self) -> Any:
        if self._acknowledges:
            self._acknowledges = False
            return "OK"
        await trio.lowlevel.checkpoint()
        for said in self._said:
            return self._there(said)
        raise SessionClosed("that is all")

    async def send(self, message: object) -> None:
        answer = self._there(message)
        self._acknowledges = type(answer) is dict and "data" in answer
        self.answers.append(answer)

    def abandon(self, reason: str) -> None:
        raise AssertionError(reason)

    def _there(self, message: object) -> Any:
        return self._decoder.decode(*encode_dask_message(message))


async def answers_to(bare: BareNode, *requests: dict[str, Any]) -> list[Any]:
    """What a node answers."""
    script = Script(list(requests))
    worker = bare.node.site.worker
    table = Handlers(bare.node, LogTail(), FACTS, Plugins(worker), Actors(worker)).table()
    with trio.fail_after(PATIENCE_S):
        await answer_requests(cast("DaskLink", script), table)
    return script.answers


async def test_values_come_and_go() -> None:
    async with bare_node() as bare:
        answers = await answers_to(
            bare,
            {"op": "update_data", "data": {("x", 1): dump([1]), "y": 5}},
            {"op": "get_data", "keys": [("x", 1), "z"]},
            {"op": "free_keys", "keys": [("x", 1)]},
            {"op": "keys"},
        )
        put, got, freed, keys = answers
        assert put["nbytes"].keys() == {("x", 1), "y"}
        assert load(got["data"]["x", 1]) == [1]
        assert freed is None
        assert keys in ((("x", 1), "y"), ("y",))


async def test_who_waits_for_copies_learns_that_they_are_freed_or_computed_instead() -> None:
    asked, go = trio.Event(), trio.Event()

    async def fetch(peer: Peer, keys: Sequence[Key], max_nbytes: int) -> Answer:
        asked.set()
        await go.wait()
        return Fetched({key: Found(5, 28, "int") for key in keys})

    gather = {"op": "gather", "who_has": {key: ["cws://a:1"] for key in ("x", "y", "z")}}
    async with bare_node(fetch) as bare, trio.open_nursery() as nursery:

        async def ask() -> None:
            assert await answers_to(bare, gather) == [
                {"status": "partial-fail", "keys": ("x", "y")}
            ]

        nursery.start_soon(ask)
        await asked.wait()
        bare.say({"op": "free-keys", "keys": ("x",)}, compute("y", operator.neg, 1))
        go.set()
        assert (await bare.hear("task-finished"))["key"] == "y"


KEYS = some.sampled_from(["x", "y", ("z", 1), 0, b"\xff", None, (), True, math.nan, {"n": 1}, 1e9])
NUMBERS = some.sampled_from([0, 1, -1, 2**63, -(2**63), 1.5, math.nan, "n"])
VALUES = some.sampled_from(
    [5, "text", (1, 2), dump([1]), dump(print), Serialized({}, []), {"op": "x"}]
)
HASHABLE = KEYS.filter(lambda key: not isinstance(key, dict))
PEERS = some.sampled_from(["cws://a:1", "tcp://b:2", "", 5, None, b"a"])
PICKLES = some.sampled_from(
    [pickle.dumps(x) for x in (int, (), {}, 5, [1], {"a": 1}, {1: 2}, operator.neg, print)]
    + [b"", b"no pickle", None, 5]
)
ARGUMENTS: dict[str, some.SearchStrategy[Any]] = {
    "keys": some.lists(KEYS, max_size=3).map(tuple) | KEYS,
    "keys_or_stimuli": some.lists(KEYS, max_size=3).map(tuple) | KEYS,
    "data": some.dictionaries(HASHABLE, VALUES, max_size=2) | VALUES,
    "who_has": some.dictionaries(HASHABLE, some.lists(PEERS, max_size=2) | PEERS, max_size=2),
    "function": PICKLES,
    "args": PICKLES,
    "kwargs": PICKLES,
    "wait": some.booleans(),
    "plugin": PICKLES,
    "actor": KEYS,
    "attribute": KEYS,
    "filename": KEYS,
    "name": KEYS,
    "n": NUMBERS,
    "packages": KEYS,
    "exclude": KEYS,
    "who": PEERS,
    "serializers": some.sampled_from([None, ("dask", "pickle"), ("error",), ("no",), 5, ()]),
    "request": NUMBERS,
    "self": NUMBERS,
}
NEEDS: dict[str, tuple[str, ...]] = {
    "get_data": ("keys",),
    "update_data": ("data",),
    "gather": ("who_has",),
    "free_keys": ("keys",),
    "run": ("function", "args", "kwargs"),
    "run_coroutine": ("function", "wait"),
    "identity": (),
    "ping": (),
    "keys": (),
    "get_logs": ("n",),
    "call_stack": ("keys",),
    "get_story": ("keys_or_stimuli",),
    "dump_state": ("exclude",),
    "plugin-add": ("plugin", "name"),
    "plugin-remove": ("name",),
    "actor_execute": ("actor", "function", "args", "kwargs"),
    "actor_attribute": ("actor", "attribute"),
    "upload_file": ("filename", "data"),
    "dance": (),
}


@some.composite
def request(draw: some.DrawFn) -> dict[str, Any]:
    """Something that is requested: mostly what is handled, with arguments that it might have."""
    op = draw(some.sampled_from(sorted(NEEDS)))
    names = list(NEEDS[op])
    if draw(some.integers(0, 3)) == 0:
        names = draw(some.lists(some.sampled_from(sorted(ARGUMENTS)), max_size=3))
    return {"op": op, **{name: draw(ARGUMENTS[name]) for name in names}}


@given(some.lists(request(), max_size=12))
@settings(max_examples=30, deadline=None)
def test_there_is_an_answer_to_whatever_is_requested(requests: list[dict[str, Any]]) -> None:
    async def ask() -> None:
        async with bare_node() as bare:
            answers = await answers_to(bare, *requests, {"op": "ping"})
            assert len(answers) == len(requests) + 1
            assert answers[-1] == b"pong"
            bare.say(compute("probe", operator.add, 1, 1))
            while (await bare.hear("task-finished"))["key"] != "probe":
                pass

    trio.run(ask)
