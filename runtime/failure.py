"""Why a task gives no value, and how that is raised at whoever awaits it.

A dependent fails with the exception of the input that failed, and that may be many tasks away:
each `Failure` knows only the one that it is a consequence of, and the path is walked when
somebody asks.
"""

from collections.abc import Iterator
from types import TracebackType
from typing import NoReturn

from trouper.actors.errors import TaskCancelled
from trouper.wire.keys import decode_key
from trouper.wire.vocabulary import Key

SHOWN = 8
"""Of a longer path, so many keys are named at each end."""


class Failure:
    """A task that failed or was cancelled.

    Args:
        key: Of the task.
        exception: What it raised; None if it was cancelled.
        via: The failure of the input that this one is a consequence of; None if it is the origin.
    """

    __slots__ = (
        "_notes",
        "_origin",
        "_traceback",
        "cancelled",
        "exception",
        "key",
        "observed",
        "via",
    )

    def __init__(self, key: Key, exception: BaseException | None, via: "Failure | None") -> None:
        self.key = key
        self.exception = exception
        self.via = via
        self.cancelled: bool = exception is None and (via is None or via.cancelled)
        self.observed = False
        """Of an origin: somebody has seen the exception."""
        self._origin = via.origin if via is not None else None
        self._traceback: TracebackType | None = None
        self._notes: list[str] = []
        if exception is not None and via is None:
            self._traceback = exception.__traceback__
            self._notes = list(getattr(exception, "__notes__", ()))

    @property
    def origin(self) -> "Failure":
        """The failure with which it began."""
        return self._origin or self

    def path(self) -> str:
        """The keys from the origin to this task: ``'a' -> 'b' -> 'c'``."""
        keys = [repr(decode_key(failure.key)) for failure in self._towards_origin()]
        keys.reverse()
        if len(keys) > 2 * SHOWN:
            left_out = f"... ({len(keys) - 2 * SHOWN} more) ..."
            keys[SHOWN:-SHOWN] = [left_out]
        return " -> ".join(keys)

    def _towards_origin(self) -> Iterator["Failure"]:
        failure: Failure | None = self
        while failure is not None:
            yield failure
            failure = failure.via

    def exc_info(self) -> tuple[type[BaseException], BaseException, TracebackType | None] | None:
        """Of an origin, what `logging` takes; None if it was cancelled."""
        if self.exception is None:
            return None
        return type(self.exception), self.exception, self._traceback

    def throw(self) -> NoReturn:
        """Raise what the origin raised, as it was raised there, or `TaskCancelled`."""
        self.origin.observed = True
        raise self.restore()

    def restore(self) -> BaseException:
        """What `throw` raises.

        It is the same exception object each time, so it is restored first: its own traceback
        and notes, and for a dependent one note more, which names the path.
        """
        origin = self.origin
        exception = origin.exception
        if exception is None:
            text = f"task {decode_key(self.key)!r} was cancelled"
            if self.via is not None:
                text += f", because a task was on which it depends: {self.path()}"
            return TaskCancelled(text)
        notes = list(origin._notes)
        if self.via is not None:
            notes.append(
                f"task {decode_key(self.key)!r} failed because a task did on which it depends: "
                f"{self.path()}"
            )
        # Past whatever the user's class does about attributes.
        BaseException.__setattr__(exception, "__notes__", notes)
        return BaseException.with_traceback(exception, origin._traceback)
