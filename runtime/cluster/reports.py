"""What the machine reports, as the ops that a Dask scheduler takes from its workers."""

from typing import Any, TypeAlias, cast

from trouper.actors.dask_actors import HeldActor
from trouper.actors.dask_task import Site
from trouper.actors.dask_values import error_message, type_of
from trouper.actors.errors import TaskCancelled
from trouper.actors.store import Store
from trouper.wire.instructions import (
    AddKeys,
    LongRunning,
    ReleaseWorkerData,
    Report,
    RequestRefreshWhoHas,
    RescheduleTask,
    StealResponse,
    TaskErred,
    TaskFinished,
)
from trouper.wire.keys import decode_key
from trouper.wire.vocabulary import Key

Op: TypeAlias = dict[str, Any]

STATES = frozenset({"ready", "waiting", "constrained", "executing", "long-running", "memory"})
"""What a scheduler knows of a task that it would like to have back; any other word would make it
drop the connection."""


class Reports:
    """See the module's text.

    Args:
        store: Of values and exceptions.
        site: Knows when attempts ran.
    """

    def __init__(self, store: Store, site: Site) -> None:
        self._store = store
        self._site = site
        self._errors: dict[Key, BaseException] = {}
        """Of the tasks that have failed in this batch: those that fail with them name them."""

    def end_batch(self) -> None:
        """All that was reported is said."""
        self._errors.clear()

    def op_of(self, report: Report) -> Op | None:
        """The op that says this; None if it is nothing that a scheduler is told."""
        match report:
            case TaskFinished():
                return self._finished(report)
            case TaskErred():
                return self._erred(report)
            case AddKeys():
                return self._op("add-keys", keys=list(map(decode_key, report.keys)))
            case ReleaseWorkerData():
                return self._op("release-worker-data", key=decode_key(report.key))
            case RescheduleTask():
                return self._op("reschedule", key=decode_key(report.key))
            case LongRunning():
                return self._op(
                    "long-running",
                    key=decode_key(report.key),
                    run_id=report.run_id,
                    compute_duration=report.compute_duration_s,
                )
            case RequestRefreshWhoHas():
                keys = list(map(decode_key, report.keys))
                return self._op("request-refresh-who-has", keys=keys)
            case StealResponse():
                return {
                    "op": "steal-response",
                    "key": decode_key(report.key),
                    "state": state_of(report.phase),
                    "stimulus_id": report.stimulus_id,
                }
            case _:
                return None

    def _op(self, op: str, **fields: Any) -> Op:
        return {"op": op, **fields, "stimulus_id": f"{op}-{self._site.clock()}"}

    def _finished(self, report: TaskFinished) -> Op:
        value = self._store.values[report.key, report.attempt]
        shown = value.instance if type(value) is HeldActor else value
        pickled_type, typename = type_of(cast("type[object]", type(shown)))
        return self._op(
            "task-finished",
            status="OK",
            key=decode_key(report.key),
            run_id=report.run_id,
            nbytes=report.nbytes,
            type=pickled_type,
            typename=typename,
            metadata={},
            **self._timing(report.attempt),
        )

    def _erred(self, report: TaskErred) -> Op:
        if report.attempt:
            error = self._store.values[report.key, report.attempt]
        else:
            error = self._errors.get(report.via or report.key)
        if not isinstance(error, BaseException):
            error = TaskCancelled(f"task {report.key!r} was cancelled")
        self._errors[report.key] = error
        return self._op(
            "task-erred",
            **error_message(error),
            key=decode_key(report.key),
            run_id=report.run_id,
            **self._timing(report.attempt),
        )

    def _timing(self, attempt: int) -> Op:
        timing = self._site.timings.get(attempt)
        if timing is None:  # it was not computed here
            return {"thread": None, "startstops": []}
        span = {"action": "compute", "start": timing.start, "stop": timing.stop}
        return {"thread": timing.thread, "startstops": [span]}


def state_of(phase: str | None) -> str | None:
    """What a scheduler is told when it asks to have a task back, of which this is the phase."""
    if phase is None or phase in STATES:
        return phase
    state = phase.partition("(")[0]
    return state if state in {"cancelled", "resumed"} else None
