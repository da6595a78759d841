"""The keeper of one actor: what it is told, what it owes, and how often it may crash.

A crash is contained: what the actor owed ends with a failure, what it had not taken yet is for the
next one, which begins after a while; unless it crashes too often.
"""

import logging
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import trio

from trouper.actors.actor import Actor, Terminal
from trouper.actors.errors import ActorCrashed
from trouper.actors.store import Store

logger = logging.getLogger(__name__)


class Attempt(Protocol):
    """Something that an actor begins, or is told about it."""

    @property
    def attempt(self) -> int:
        """Its number."""
        ...


C = TypeVar("C", bound=Attempt)


@dataclass(frozen=True)
class RestartPolicy:
    """How often an actor may crash: `limit` times within `period_s` seconds."""

    limit: int = 3
    period_s: float = 5.0
    backoff_s: float = 0.05
    """Wait before the first restart; doubled with each further one in the period."""


class Keeper(Generic[C]):
    """See the module's text.

    Args:
        name: Of the actor, for the log.
        actor: What is kept running.
        store: For the actor.
        queue: Takes its terminal stimuli.
        policy: How often it may crash.
        end: What becomes of an attempt that a crashed actor owed.
    """

    def __init__(
        self,
        name: str,
        actor: Actor[C],
        store: Store,
        queue: Callable[[Sequence[Terminal]], None],
        policy: RestartPolicy,
        end: Callable[[C, Exception], Terminal],
    ) -> None:
        self.owed: dict[int, C] = {}
        """What it was told to begin and has not ended, by attempt."""
        self.outbox: list[C] = []
        """What it is told next."""
        self._name = name
        self._actor = actor
        self._store = store
        self._queue = queue
        self._policy = policy
        self._end = end
        self._closed = False
        self._out, self._in = trio.open_memory_channel[list[C]](math.inf)

    def begin(self, command: C) -> None:
        """Have the actor begin something, which it owes from now on."""
        self.owed[command.attempt] = command
        self.outbox.append(command)

    def tell(self, command: C) -> None:
        """Tell the actor something about what it has begun."""
        self.outbox.append(command)

    def flush(self) -> None:
        """Hand over what stands in the outbox."""
        self._out.send_nowait(self.outbox)
        self.outbox = []

    def send_nowait(self, stimuli: Sequence[Terminal], /) -> None:
        """For the actor: queue what it owed, which it owes no more.

        Raises:
            KeyError: It does not owe this: a fault of the actor's, of which it crashes.
        """
        for stimulus in stimuli:
            del self.owed[stimulus.attempt]
            self._queue((stimulus,))

    def expect_end(self) -> None:
        """From now on the actor may end, however it does."""
        self._closed = True

    def close(self) -> None:
        """Tell the actor to end."""
        self._out.close()

    @trio.lowlevel.enable_ki_protection
    async def run(self) -> None:
        """Run the actor until it is closed.

        Raises:
            Exception: What it has crashed of once too often.
        """
        crashes: deque[float] = deque()
        policy = self._policy
        while True:
            try:
                await self._actor(self._in, self, self._store)
                if self._closed:
                    return
                raise ActorCrashed("it has returned, and was not told to")
            except Exception as error:  # whatever it is, the worker goes on
                logger.error("the %s actor has crashed", self._name, exc_info=error)
                if self._closed:
                    return
                self._end_owed(error)
                now = trio.current_time()
                crashes.append(now)
                while crashes[0] < now - policy.period_s:
                    crashes.popleft()
                if len(crashes) > policy.limit:
                    raise
            await trio.sleep(policy.backoff_s * 2 ** (len(crashes) - 1))

    def _end_owed(self, error: Exception) -> None:
        """End what the crashed actor owes; what it has not taken yet is for the next one."""
        untaken: list[C] = []
        while True:
            try:
                untaken += self._in.receive_nowait()
            except (trio.WouldBlock, trio.EndOfChannel):
                break
        if untaken:
            self._out.send_nowait(untaken)
        kept = {id(command) for command in untaken}
        for command in list(self.owed.values()):
            if id(command) not in kept:
                self.send_nowait((self._end(command, error),))
