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
