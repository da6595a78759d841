"""The heartbeat actor, with a scheduler that answers as it is told, or not at all."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
import trio

from trouper.actors.dask_link import DaskLink
from trouper.actors.heartbeat import LONGEST_S, heartbeat, interval_of
from trouper.wire.errors import CannotConnect, Code, SessionLost, SessionRefused


class Fake:
    """A patient, its scheduler, and the comm between them.

    Args:
        answers: To heartbeats; an exception is raised instead, and "refuse" refuses the next comm.
    """

    def __init__(self, *answers: Any) -> None:
        self._answers = list(answers)
        self.asked: list[float] = []
        self.heard: list[Any] = []
        self.dialled = 0
        self.done = trio.Event()

    @asynccontextmanager
    async def dial(self) -> AsyncGenerator[DaskLink]:
        self.dialled += 1
        if isinstance(self._answers[0], (CannotConnect, SessionRefused)):
            raise self._answers.pop(0)
        yield cast("DaskLink", self)

    async def call(self, op: str, **arguments: Any) -> Any:
        assert (op, arguments) == ("heartbeat_worker", {"address": "a"})
        self.asked.append(trio.current_time())
        answer = self._answers.pop(0)
        if not self._answers:
            self.done.set()
            await trio.sleep_forever()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def vital_signs(self) -> dict[str, Any]:
        return {"address": "a"}

    def on_answer(self, answer: dict[str, Any], sent: float, received: float) -> None:
        assert sent <= received
        self.heard.append(answer)


async def beats(fake: Fake) -> list[float]:
    """When the heart has beaten; in seconds after it began to."""
    begun = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(heartbeat, fake.dial, fake, 1.0)
        await fake.done.wait()
        nursery.cancel_scope.cancel()
    return [round(at - begun, 1) for at in fake.asked]


pytestmark = pytest.mark.usefixtures("autojump_clock")


async def test_as_often_as_the_scheduler_would_like() -> None:
    answers = [{"heartbeat-interval": 2.0}, {}, {"heartbeat-interval": 5}, {}, {}]
    fake = Fake(*answers)
    assert await beats(fake) == [0, 2, 4, 9, 14]
    assert fake.heard == answers[:-1]
    assert fake.dialled == 1


async def test_a_comm_that_is_lost_is_made_again() -> None:
    lost = SessionLost(Code.DISCONNECTED, "cut", 0)
    fake = Fake({}, lost, CannotConnect("nobody"), SessionRefused(Code.BUSY, "full"), {}, {})
    assert await beats(fake) == [0, 1, 4, 5]
    assert fake.dialled == 4


async def test_what_is_no_answer_ends_the_comm() -> None:
    fake = Fake("what?", {}, {})
    assert await beats(fake) == [0, 1, 2]
    assert fake.dialled == 2


@pytest.mark.parametrize("said", [0, -1, float("nan"), float("inf"), 2 * LONGEST_S, "1", None])
async def test_an_interval_that_makes_no_sense_is_none(said: Any) -> None:
    assert interval_of({"heartbeat-interval": said}) is None
    assert interval_of({}) is None
