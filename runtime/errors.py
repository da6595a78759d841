"""What trouper raises at its users."""


class TrouperError(Exception):
    """Any error of trouper's own."""


class StimulusError(TrouperError):
    """A stimulus that no correct sender can send. Nothing has changed."""


class SnapshotError(TrouperError):
    """A snapshot that no machine has written."""


class TaskCancelled(TrouperError):
    """The task, or one that it depends on, was cancelled."""


class TaskReleased(TrouperError):
    """The handle was released: it gives no result any more."""


class WorkerClosed(TrouperError):
    """The worker takes no more tasks."""


class WorkerFailed(TrouperError):
    """The worker has ended because of a fault of its own; the cause tells which."""


class ActorCrashed(TrouperError):
    """The actor that ran the task has crashed; it may have run in part."""


class GraphError(TrouperError, ValueError):
    """A graph that cannot be run: a cycle, or an input that is nowhere defined."""
