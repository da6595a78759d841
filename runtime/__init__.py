"""The machine, and who owns it: everything that decides. Users import from here."""

from trouper.actors.errors import ActorCrashed, TaskCancelled
from trouper.actors.job import check_cancelled
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
from trouper.runtime.executor import WorkerExecutor
from trouper.runtime.future import WorkerFuture
from trouper.runtime.handle import TaskHandle
from trouper.runtime.journal import Journal, Step
from trouper.runtime.journal_format import Record
from trouper.runtime.journal_replay import ReplayDiverged
from trouper.runtime.journal_writer import JournalStatus
from trouper.runtime.keeper import RestartPolicy
from trouper.runtime.opening import open_worker
from trouper.runtime.status import WorkerStatus
from trouper.runtime.worker import Worker
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
