"""What actors raise, at tasks and at those who wait for them."""

from trouper.wire.errors import TrouperError


class TaskCancelled(TrouperError):
    """The task, or one that it depends on, was cancelled."""


class ActorCrashed(TrouperError):
    """The actor that ran the task has crashed; the task may have run in part."""


class TaskRescheduled(TrouperError):
    """The task asks to be run elsewhere."""


class NotSupported(TrouperError):
    """Something that a stock worker of Dask's can do and a node of trouper's cannot."""


class PeerUnreachable(TrouperError):
    """A peer cannot be reached, or not any more; the text says which, and why."""


class ValueUnreadable(TrouperError):
    """A value that a peer holds does not come across; the text says why, the cause too if known."""


def text_of(error: BaseException) -> str:
    """What an exception says, whatever users' classes do when they are asked."""
    try:
        return str(error)
    except BaseException:  # noqa: BLE001 - whatever users' classes raise
        return "(which cannot be shown as text)"
