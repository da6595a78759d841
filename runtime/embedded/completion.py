"""Tasks in the order in which they end."""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

import trio

from trouper.runtime.embedded.handle import TaskHandle

T = TypeVar("T")


class AsCompleted(Generic[T]):
    """An async iterator over handles, each as soon as its task has ended, however it ended.

    Args:
        handles: What to wait for; one that stands there twice comes twice.
        before_wait: Called before every wait.
    """

    def __init__(self, handles: Iterable[TaskHandle[T]], before_wait: Callable[[], None]) -> None:
        self._before_wait = before_wait
        self._ended: deque[TaskHandle[T]] = deque()
        self._left = 0
        self._event = trio.Event()
        for handle in handles:
            handle.check_usable()
            self._left += 1
            handle.when_done(self._add)

    def _add(self, handle: TaskHandle[T]) -> None:
        self._ended.append(handle)
        self._event.set()

    def __aiter__(self) -> "AsCompleted[T]":
        return self

    async def __anext__(self) -> TaskHandle[T]:
        if not self._left:
            raise StopAsyncIteration
        if self._ended:
            await trio.lowlevel.checkpoint_if_cancelled()
        else:
            self._before_wait()
            self._event = trio.Event()
            await self._event.wait()
        self._left -= 1
        return self._ended.popleft()
