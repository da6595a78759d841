"""The machine, and who owns it: everything that decides. Users import from here."""

from trouper.actors.errors import ActorCrashed, TaskCancelled
from trouper.actors.job import check_cancelled
from trouper.runtime.errors import (
    ForeignHandle,
    GraphError,
    ResourceError,
    TaskReleased,
    WorkerClosed,
    WorkerFailed,
)
from trouper.runtime.executor import WorkerExecutor
from trouper.runtime.future import WorkerFuture
from trouper.runtime.handle import TaskHandle
from trouper.runtime.opening import open_worker
from trouper.runtime.status import WorkerStatus
from trouper.runtime.supervisor import RestartPolicy
from trouper.runtime.worker import Worker
from trouper.wire.errors import InvalidKey, TrouperError

__all__ = [
    "ActorCrashed",
    "ForeignHandle",
    "GraphError",
    "InvalidKey",
    "ResourceError",
    "RestartPolicy",
    "TaskCancelled",
    "TaskHandle",
    "TaskReleased",
    "TrouperError",
    "Worker",
    "WorkerClosed",
    "WorkerExecutor",
    "WorkerFailed",
    "WorkerFuture",
    "WorkerStatus",
    "check_cancelled",
    "open_worker",
]
