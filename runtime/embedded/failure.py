"""Why a task gives no value, and how that is raised at whoever awaits it.

A dependent fails with the exception of the input that failed, and that may be many tasks away:
each `Failure` knows only the one that it is a consequence of, and the path is walked when
somebody asks.
"""

from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, NoReturn

from trouper.actors.errors import TaskCancelled
from trouper.wire.keys import decode_key
from trouper.wire.vocabulary import Key

SHOWN = 8
"""Of a longer path, so many keys are named at each end."""


# Past whatever the user's class does when it is asked for attributes.
_dict_of: Callable[[BaseException], dict[str, Any]] = BaseException.__dict__["__dict__"].__get__
_traceback_of = BaseException.__dict__["__traceback__"].__get__
_context_of = BaseException.__dict__["__context__"].__get__
_set_context = BaseException.__dict__["__context__"].__set__


class Failure:
    """A task that failed or was cancelled.

    Args:
        key: Of the task.
        exception: What it raised; None if it was cancelled.
        via: The failure of the input that this one is a consequence of; None if it is the origin.
    """

    __slots__ = (
        "_context",
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
        self._context: BaseException | None = None
        self._notes: list[str] = []
        if exception is not None and via is None:
            self._traceback = _traceback_of(exception)
            self._context = _context_of(exception)
            self._notes = list(_dict_of(exception).get("__notes__", ()))

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

        It is the same exception object each time, so it is restored first: its own traceback,
        context and notes, and for a dependent one note more, which names the path.
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
        _dict_of(exception)["__notes__"] = notes
        _set_context(exception, origin._context)
        return BaseException.with_traceback(exception, origin._traceback)
