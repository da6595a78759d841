"""The supervisor with all its actors, as a node has it: values are gathered, and waits end."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from random import Random
from typing import NoReturn

import pytest
import trio
from crashes import QUICK, Crash
from gates import until, worker_threads

from trouper.actors.errors import PeerUnreachable
from trouper.actors.execute import execute
from trouper.actors.fetched import Answer, Fetched, Found, PeerBusy
from trouper.actors.gather import gather
from trouper.actors.store import Store
from trouper.actors.timers import timers
from trouper.runtime import RestartPolicy
from trouper.runtime.errors import StimulusError
from trouper.runtime.invariants import check
from trouper.runtime.ledger import Config, Limits
from trouper.runtime.machine import Machine
from trouper.runtime.supervisor import Supervisor
from trouper.wire.instructions import AddKeys, Report, RequestRefreshWhoHas
from trouper.wire.stimuli import AcquireReplicas, FreeKeys, RefreshWhoHas, Stimulus


class Scheduler:
    """Who gave the work, and hears of everything."""

    heeded: frozenset[type[Report]] = frozenset({AddKeys, RequestRefreshWhoHas})

    def __init__(self) -> None:
        self.reports: list[Report] = []
        self.failure: BaseException | None = None

    def on_reports(self, reports: Sequence[Report]) -> None:
        self.reports += reports

    def on_stimulus_refused(self, stimulus: Stimulus, error: StimulusError) -> None:
        raise error

    def on_batch_end(self) -> None:
        pass

    def on_failure(self, reason: BaseException) -> None:
        self.failure = reason


class Peers:
    """The real gather actor, whose peers answer as they are told; the gather crashes of a fault."""

    def __init__(self, *answers: Answer | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, tuple[str, ...]]] = []

    async def fetch(self, peer: str, keys: Sequence[str], max_nbytes: int) -> Answer:
        self.asked.append((peer, tuple(keys)))
        await trio.lowlevel.checkpoint()
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


class Weather:
    """Peers that answer in every way there is, by chance, until the weather is fine."""

    def __init__(self, rng: Random) -> None:
        self.fine = False
        self._rng = rng

    async def fetch(self, peer: str, keys: Sequence[str], max_nbytes: int) -> Answer:
        await trio.sleep(self._rng.random() * 0.002)
        chance = 1.0 if self.fine else self._rng.random()
        if chance < 0.1:
            return PeerBusy()
        if chance < 0.2:
            raise PeerUnreachable("the storm")
        if chance < 0.25:
            await trio.sleep_forever()  # until it is cancelled, or the actor crashes
        if chance < 0.27:
            raise Crash
        if chance < 0.35:
            return Fetched({}, {key: LookupError(key) for key in keys})
        fetched = Fetched({key: Found(key, 10, "str") for key in keys})
        if self.fine:
            return fetched
        for key in keys:
            if (fate := self._rng.random()) < 0.3:
                del fetched.found[key]
                if fate < 0.1:
                    fetched.unreadable[key] = LookupError(key)
        rest = set(keys).difference(fetched.found, fetched.unreadable)
        left = frozenset(key for key in sorted(rest) if self._rng.random() < 0.5)
        return Fetched(fetched.found, fetched.unreadable, left)


@asynccontextmanager
async def with_peers(
    peers: Peers | Weather, policy: RestartPolicy = QUICK
) -> AsyncGenerator[tuple[Supervisor, Scheduler]]:
    """A supervisor with all actors."""
    scheduler, store = Scheduler(), Store()
    config = Config(limits=Limits(retry_busy_delay_s=0.01, find_missing_delay_s=0.01))
    supervisor = Supervisor(
        Machine(config),
        store,
        scheduler,
        name="w",
        execute=execute,
        gather=partial(gather, fetch=peers.fetch),
        timers=timers,
        restart_policy=policy,
    )
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(supervisor.run)
            try:
                yield supervisor, scheduler
            finally:
                supervisor.abandon()
    assert worker_threads() == []


BROUGHT = Fetched({"k": Found("value", 10, "str")})


async def test_a_value_is_gathered_and_can_be_looked_up() -> None:
    async with with_peers(Peers(BROUGHT)) as (supervisor, scheduler):
        assert supervisor.value_of("k") is None
        supervisor.send(AcquireReplicas({"k": ("ws://a",)}))
        await until(lambda: scheduler.reports == [AddKeys(("k",))])
        assert supervisor.value_of("k") == Found("value", 10, "str")
        assert supervisor.is_idle()
        supervisor.send(FreeKeys(("k",)))
        await until(lambda: not len(supervisor.store))
        assert supervisor.value_of("k") is None


async def test_a_failure_cannot_be_looked_up() -> None:
    async with with_peers(Peers(Fetched(unreadable={"k": LookupError()}))) as (supervisor, _):
        supervisor.send(AcquireReplicas({"k": ("ws://a",)}))
        await until(lambda: supervisor.machine.phase("k") == "error")
        assert supervisor.value_of("k") is None


async def test_a_value_that_cannot_be_read_fails_without_those_that_can() -> None:
    broken = Fetched({}, {"b": LookupError("broken")})
    peers = Peers(Fetched(BROUGHT.found, broken.unreadable), broken)
    async with with_peers(peers) as (supervisor, scheduler):
        supervisor.send(AcquireReplicas({"k": ("ws://a",), "b": ("ws://a",)}))
        await until(lambda: RequestRefreshWhoHas(("b",)) in scheduler.reports)
        supervisor.send(RefreshWhoHas({"b": ("ws://a",)}))
        await until(lambda: supervisor.machine.phase("b") == "error")
        assert supervisor.machine.phase("k") == "memory"
    assert peers.asked == [("ws://a", ("k", "b")), ("ws://a", ("b",))]


async def test_a_busy_peer_is_asked_again_when_the_wait_is_over() -> None:
    peers = Peers(PeerBusy(), PeerBusy(), BROUGHT)
    async with with_peers(peers) as (supervisor, scheduler):
        supervisor.send(AcquireReplicas({"k": ("ws://a",)}))
        await until(lambda: AddKeys(("k",)) in scheduler.reports)
    assert peers.asked == 3 * [("ws://a", ("k",))]


async def test_gathers_of_an_actor_that_crashes_end_as_if_the_peer_was_lost(
    caplog: pytest.LogCaptureFixture,
) -> None:
    peers = Peers(Crash(), BROUGHT)
    async with with_peers(peers) as (supervisor, scheduler):
        supervisor.send(AcquireReplicas({"k": ("ws://a", "ws://b")}))
        await until(lambda: AddKeys(("k",)) in scheduler.reports)
        assert supervisor.is_idle()
    assert peers.asked == [("ws://a", ("k",)), ("ws://b", ("k",))]
    assert "the gather actor has crashed" in caplog.text


async def test_past_the_limit_of_any_actor_the_worker_fails() -> None:
    peers = Peers(Crash(), BROUGHT)
    async with with_peers(peers, RestartPolicy(limit=0)) as (supervisor, scheduler):
        supervisor.send(AcquireReplicas({"k": ("ws://a",)}))
        await until(lambda: scheduler.failure)
        assert isinstance(scheduler.failure, ExceptionGroup)


async def test_waits_of_timers_that_crash_are_over(monkeypatch: pytest.MonkeyPatch) -> None:
    async def crash(*_: object) -> NoReturn:
        monkeypatch.undo()  # at once: more crashes than the policy has patience for come quickly
        raise Crash

    monkeypatch.setattr("trouper.actors.timers._wait", crash)
    async with with_peers(Peers()) as (supervisor, scheduler):
        supervisor.send(AcquireReplicas({"k": ()}))
        await until(lambda: RequestRefreshWhoHas(("k",)) in scheduler.reports)
        count = len(scheduler.reports)
        await until(lambda: len(scheduler.reports) > count)


async def test_a_gather_is_cancelled() -> None:
    begun, cancelled = trio.Event(), trio.Event()

    class Slow(Peers):
        async def fetch(self, peer: str, keys: Sequence[str], max_nbytes: int) -> Answer:
            begun.set()
            try:
                await trio.sleep_forever()
            finally:
                cancelled.set()
            raise AssertionError

    async with with_peers(Slow()) as (supervisor, _):
        supervisor.send(AcquireReplicas({"k": ("ws://a",)}))
        await begun.wait()
        assert not supervisor.is_idle()
        supervisor.send(FreeKeys(("k",)))
        await cancelled.wait()
        await until(supervisor.is_idle)
        assert not supervisor.machine.ledger.tasks


@pytest.mark.parametrize("seed", range(5))
async def test_nothing_is_owed_or_kept_whatever_peers_do(seed: int) -> None:
    rng = Random(seed)
    weather = Weather(rng)
    keys = [f"key-{i}" for i in range(40)]
    policy = RestartPolicy(limit=1000, backoff_s=0)
    async with with_peers(weather, policy) as (supervisor, scheduler):
        for _ in range(300):
            some = rng.sample(keys, rng.randint(1, 10))
            holders = {key: tuple(rng.sample(["ws://a", "ws://b", "ws://c"], 2)) for key in some}
            supervisor.send(
                rng.choice(
                    (
                        AcquireReplicas(holders),
                        AcquireReplicas(holders),
                        RefreshWhoHas(holders),
                        FreeKeys(tuple(some)),
                    )
                )
            )
            await trio.sleep(rng.random() * 0.002)
            check(supervisor.machine)
        supervisor.send(FreeKeys(tuple(keys)))  # which ends what hangs, too
        await until(supervisor.is_idle)
        assert not len(supervisor.store)
        weather.fine = True
        supervisor.send(AcquireReplicas(dict.fromkeys(keys, ("ws://a",))))
        await until(lambda: supervisor.machine.ledger.nbytes == 10 * len(keys))
        assert scheduler.failure is None
        assert {key for key, _ in supervisor.store.values} == set(keys)
