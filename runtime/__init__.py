"""The machine, and who owns it: everything that decides. Users import from here."""

from trouper.actors.errors import ActorCrashed, TaskCancelled
from trouper.actors.job import check_cancelled
from trouper.runtime.embedded.executor import WorkerExecutor
from trouper.runtime.embedded.future import WorkerFuture
from trouper.runtime.embedded.handle import TaskHandle
from trouper.runtime.embedded.opening import open_worker
from trouper.runtime.embedded.status import WorkerStatus
from trouper.runtime.embedded.worker import Worker
from trouper.runtime.errors import (
    CorruptJournal,
    ForeignHandle,
    GraphError,
    JournalError,
    JournalWarning,
    ResourceError,
    TaskReleased,
    WorkerClosed,
    WorkerFailed,
)
from trouper.runtime.journal.format import Record
from trouper.runtime.journal.journal import Journal, Step
from trouper.runtime.journal.replay import ReplayDiverged
from trouper.runtime.journal.writer import JournalStatus
from trouper.runtime.keeper import RestartPolicy
from trouper.wire.errors import InvalidKey, TrouperError

__all__ = [
    "ActorCrashed",
    "CorruptJournal",
    "ForeignHandle",
    "GraphError",
    "InvalidKey",
    "Journal",
    "JournalError",
    "JournalStatus",
    "JournalWarning",
    "Record",
    "ReplayDiverged",
    "ResourceError",
    "RestartPolicy",
    "Step",
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
