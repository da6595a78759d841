"""What trouper raises at its users."""

from trouper.wire.errors import TrouperError


class StimulusError(TrouperError):
    """A stimulus that no correct sender can send. Nothing has changed."""


class SnapshotError(TrouperError):
    """A snapshot that no machine has written."""


class TaskReleased(TrouperError):
    """The handle was released: it gives no result any more."""


class WorkerClosed(TrouperError):
    """The worker takes no more tasks."""


class WorkerFailed(TrouperError):
    """The worker has ended because of a fault of its own; the cause tells which."""


class ForeignHandle(TrouperError, ValueError):
    """A handle or future of another worker."""


class ResourceError(TrouperError, ValueError):
    """A resource that the worker does not have, or more of it than there is."""


class GraphError(TrouperError, ValueError):
    """A graph that cannot be run: a cycle, or a key that is nowhere defined."""


class JournalError(TrouperError):
    """A journal that cannot be written, read or replayed."""


class CorruptJournal(JournalError):
    """A journal is not as it was written; all that stands before can be read."""

    def __init__(self, message: str, n: int) -> None:
        super().__init__(message)
        self.n = n
        """Number of the record that is corrupt; 0 if it is the header before the first one. If more
        than a bit was changed, it may be a later one of the same batch."""


class JournalWarning(UserWarning):
    """A part of a journal is left out: its torn end after a crash, or what can be read no more."""


class NodeRefused(TrouperError):
    """The scheduler does not take this node; the text says what it has said."""
