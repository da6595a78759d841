"""The gather actor, with a peer that does as it is told."""

import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import pytest
import trio
import trio.testing
from driven import driven

from trouper.actors.actor import Actor
from trouper.actors.errors import PeerUnreachable
from trouper.actors.fetched import Answer, Fetch, Fetched, Found, PeerBusy
from trouper.actors.gather import GatherCommand, gather
from trouper.wire.instructions import CancelGather, Gather
from trouper.wire.stimuli import GatherBusy, GatherFailure, GatherNetworkFailure, GatherSuccess
from trouper.wire.vocabulary import Key, Peer

PEER = "ws://peer"


def found(*keys: Key) -> dict[Key, Found]:
    return {key: Found(f"value of {key}", 10, "str") for key in keys}


class Peers:
    """Answers as it is told, one answer after the other; and notes what it was asked.

    Args:
        answers: What to say, or to raise; a function is called with the keys.
    """

    def __init__(self, *answers: Answer | Exception | Callable[[], Awaitable[Answer]]) -> None:
        self._answers = iter(answers)
        self.asked: list[tuple[Key, ...]] = []

    async def __call__(self, peer: Peer, keys: Sequence[Key], max_nbytes: int) -> Answer:
        assert peer == PEER
        assert max_nbytes > 0
        self.asked.append(tuple(keys))
        answer = next(self._answers)
        await trio.lowlevel.checkpoint()
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, (Fetched, PeerBusy)) else await answer()


def actor_of(fetch: Fetch) -> Actor[GatherCommand]:
    return partial(gather, fetch=fetch)


async def test_what_was_found_is_stored_first() -> None:
    async with driven(actor_of(Peers(Fetched(found("a", "b"))))) as actor:
        actor.tell(Gather(PEER, 7, ("a", "b", "c"), 30))
        stimulus = await actor.hear()
        assert stimulus == GatherSuccess(PEER, 7, {"a": (10, "str"), "b": (10, "str")})
        assert actor.store.values == {("a", 7): "value of a", ("b", 7): "value of b"}


async def test_busy() -> None:
    async with driven(actor_of(Peers(PeerBusy()))) as actor:
        actor.tell(Gather(PEER, 7, ("a",), 10))
        assert await actor.hear() == GatherBusy(PEER, 7)
        assert not len(actor.store)


async def test_unreachable(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with driven(actor_of(Peers(PeerUnreachable("no way to ws://peer")))) as actor:
        actor.tell(Gather(PEER, 7, ("a",), 10))
        assert await actor.hear() == GatherNetworkFailure(PEER, 7)
        assert not len(actor.store)
    assert "gather 7 has failed: no way to ws://peer" in caplog.text


async def test_nothing_can_be_read() -> None:
    errors: dict[Key, Exception] = {"a": LookupError("a"), "b": ValueError("b")}
    async with driven(actor_of(Peers(Fetched(unreadable=errors)))) as actor:
        actor.tell(Gather(PEER, 7, ("a", "b"), 10))
        assert await actor.hear() == GatherFailure(PEER, 7, "LookupError")
        assert actor.store.values == {("a", 7): errors["a"], ("b", 7): errors["b"]}


@pytest.mark.parametrize("others", ["found", "missing"])
async def test_what_cannot_be_read_spoils_nothing_else(
    others: str, caplog: pytest.LogCaptureFixture
) -> None:
    answer = Fetched(found("a") if others == "found" else {}, {"b": LookupError("b is broken")})
    async with driven(actor_of(Peers(answer))) as actor:
        actor.tell(Gather(PEER, 7, ("a", "b"), 10))
        data = {"a": (10, "str")} if others == "found" else {}
        assert await actor.hear() == GatherSuccess(PEER, 7, data)
        assert set(actor.store.values) == {(key, 7) for key in data}
    assert "'b' of peer ws://peer is sought elsewhere: b is broken" in caplog.text


async def test_what_cannot_be_read_may_not_even_say_why(caplog: pytest.LogCaptureFixture) -> None:
    class UnspeakableError(Exception):
        def __str__(self) -> str:
            raise SystemExit

    answer = Fetched(found("a"), {"b": UnspeakableError()})
    async with driven(actor_of(Peers(answer))) as actor:
        actor.tell(Gather(PEER, 7, ("a", "b"), 10))
        assert await actor.hear() == GatherSuccess(PEER, 7, {"a": (10, "str")})
    assert "sought elsewhere: (which cannot be shown as text)" in caplog.text


async def test_what_was_left_out_is_asked_for_again_in_the_same_attempt() -> None:
    peers = Peers(
        Fetched(found("a"), left=frozenset("bcd")),
        Fetched({}, {"b": LookupError()}, left=frozenset("d")),
        Fetched(found("d")),
    )
    async with driven(actor_of(peers)) as actor:
        actor.tell(Gather(PEER, 7, ("a", "b", "c", "d"), 10))
        assert await actor.hear() == GatherSuccess(PEER, 7, {"a": (10, "str"), "d": (10, "str")})
    assert peers.asked == [("a", "b", "c", "d"), ("b", "c", "d"), ("d",)]


async def test_who_leaves_everything_out_is_not_asked_for_ever() -> None:
    async with driven(actor_of(Peers(Fetched(left=frozenset("ab"))))) as actor:
        actor.tell(Gather(PEER, 7, ("a", "b"), 10))
        assert await actor.hear() == GatherNetworkFailure(PEER, 7)


async def test_what_came_before_a_loss_counts() -> None:
    peers = Peers(Fetched(found("a"), left=frozenset("b")), PeerUnreachable("gone"))
    async with driven(actor_of(peers)) as actor:
        actor.tell(Gather(PEER, 7, ("a", "b"), 10))
        assert await actor.hear() == GatherSuccess(PEER, 7, {"a": (10, "str")})


async def test_who_becomes_busy_has_not_lost_what_it_left_out() -> None:
    peers = Peers(Fetched(found("a"), left=frozenset("b")), PeerBusy())
    async with driven(actor_of(peers)) as actor:
        actor.tell(Gather(PEER, 7, ("a", "b"), 10))
        assert await actor.hear() == GatherBusy(PEER, 7)
        assert not len(actor.store)


async def hang() -> Answer:
    await trio.sleep_forever()
    raise AssertionError


async def test_cancelling_all_keys_ends_the_fetch() -> None:
    async with driven(actor_of(Peers(hang))) as actor:
        actor.tell(Gather(PEER, 7, ("a", "b"), 10))
        await trio.testing.wait_all_tasks_blocked()
        actor.tell(CancelGather(PEER, 7, ("a",)))
        await trio.testing.wait_all_tasks_blocked()
        assert actor.says_nothing()
        actor.tell(CancelGather(PEER, 7, ("b",)))
        assert await actor.hear() == GatherSuccess(PEER, 7, {})


async def test_cancelling_before_it_has_begun() -> None:
    peers = Peers(hang)
    async with driven(actor_of(peers)) as actor:
        actor.tell(Gather(PEER, 7, ("a",), 10), CancelGather(PEER, 7, ("a",)))
        assert await actor.hear() == GatherSuccess(PEER, 7, {})


async def test_a_key_that_was_cancelled_is_not_asked_for_again() -> None:
    go_on = trio.Event()

    async def first() -> Answer:
        await go_on.wait()
        return Fetched(found("a", "b"), left=frozenset("cd"))

    peers = Peers(first, Fetched(found("d")))
    async with driven(actor_of(peers)) as actor:
        actor.tell(Gather(PEER, 7, ("a", "b", "c", "d"), 10))
        actor.tell(CancelGather(PEER, 7, ("b", "c")))
        await trio.testing.wait_all_tasks_blocked()
        go_on.set()
        stimulus = await actor.hear()
        assert isinstance(stimulus, GatherSuccess)
        assert set(stimulus.data) == {"a", "b", "d"}
    assert peers.asked[1:] == [("d",)]


async def test_cancelling_the_rest_keeps_what_came() -> None:
    async with driven(actor_of(Peers(Fetched(found("a"), left=frozenset("b")), hang))) as actor:
        actor.tell(Gather(PEER, 7, ("a", "b"), 10))
        await trio.testing.wait_all_tasks_blocked()
        actor.tell(CancelGather(PEER, 7, ("b",)))
        assert await actor.hear() == GatherSuccess(PEER, 7, {"a": (10, "str")})


async def test_a_cancellation_that_comes_too_late_changes_nothing() -> None:
    async with driven(actor_of(Peers(Fetched(found("a")), Fetched(found("b"))))) as actor:
        actor.tell(Gather(PEER, 7, ("a",), 10))
        assert await actor.hear() == GatherSuccess(PEER, 7, {"a": (10, "str")})
        actor.tell(CancelGather(PEER, 7, ("a",)), Gather(PEER, 8, ("b",), 10))
        assert await actor.hear() == GatherSuccess(PEER, 8, {"b": (10, "str")})


async def test_one_gather_does_not_wait_for_another() -> None:
    async with driven(actor_of(Peers(hang, Fetched(found("b"))))) as actor:
        actor.tell(Gather(PEER, 7, ("a",), 10))
        await trio.testing.wait_all_tasks_blocked()
        actor.tell(Gather(PEER, 8, ("b",), 10))
        assert await actor.hear() == GatherSuccess(PEER, 8, {"b": (10, "str")})
