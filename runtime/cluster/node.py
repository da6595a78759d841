"""The node: what stands between a Dask scheduler and the machine.

`Node` is told by the stream from the scheduler what to do (`trouper.actors.comm`), by the
supervisor what has become of it, and by requests (`handlers`) what others want. It decides nothing
about tasks. `open_node` (in `opening`) puts the parts together and owns their lives.
"""

import itertools
import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from enum import IntEnum
from typing import Any, cast, get_args

import msgspec
import trio

from trouper.actors.comm import Outbox
from trouper.actors.dask_task import Site, Specs, Values
from trouper.actors.dask_values import error_message
from trouper.actors.dask_worker import DaskWorker
from trouper.actors.errors import NotSupported
from trouper.actors.fetched import Found
from trouper.actors.store import Store
from trouper.runtime.cluster.arrivals import Arrivals
from trouper.runtime.cluster.reports import Reports
from trouper.runtime.errors import StimulusError
from trouper.runtime.machine import Machine
from trouper.runtime.supervisor import Supervisor
from trouper.wire import dask_stream as ops
from trouper.wire import stimuli as st
from trouper.wire.errors import NotEncodable
from trouper.wire.instructions import Reply, Report
from trouper.wire.keys import UserKey, decode_key
from trouper.wire.vocabulary import Key, Peer

logger = logging.getLogger(__name__)


STATUSES = frozenset({"running", "paused", "closing_gracefully"})
"""What a scheduler may have a node be; any other word, said back, would make it drop the stream."""


class ExitCode(IntEnum):
    """How a node has ended, for whoever watches over its process."""

    CLOSED = 0
    """As it was asked to: by its scheduler, which may have retired it, or by its owner."""
    FAILED = 1
    """By a fault of trouper's; the log says which."""
    LOST = 3
    """The scheduler cannot be reached any more, or has forgotten the node."""
    REFUSED = 4
    """The scheduler did not take it: its name is taken, its token wrong, its protocol too old."""


class Ending(msgspec.Struct, frozen=True):
    """Why a node has ended."""

    code: ExitCode
    reason: str


class _Request:
    """Somebody waits for the machine's reply."""

    def __init__(self) -> None:
        self._replied = trio.Event()
        self._reply: Reply | None = None

    def answer(self, reply: Reply) -> None:
        self._reply = reply
        self._replied.set()

    async def wait(self) -> Reply:
        await self._replied.wait()
        assert self._reply is not None
        return self._reply


class Node:
    """See the module's text. Made by `open_node`.

    Args:
        name: Unique among the workers of its scheduler.
        address: Where others reach it.
        worker: What its tasks get from `distributed.get_worker`.
        forget: Drops the connections to another worker.
    """

    def __init__(
        self,
        name: str | int,
        address: Peer,
        worker: DaskWorker,
        forget: Callable[[Peer], None],
    ) -> None:
        self.name = name
        self.address = address
        """Where others reach it."""
        self.status = "running"
        """In Dask's words."""
        self.supervisor: Supervisor
        """Set by `open_node` before anybody else sees the node."""
        self.clock_ahead_s = 0.0
        """By how much the scheduler's clock is ahead of ours."""
        self.site = Site(worker, self.now)
        self.store = Store()
        self.store.specs = Specs()
        self.store.values = Values(self.site.timings)
        self.outbox = Outbox()
        self.serving = self.served_total = 0
        """Requests for data that are being answered, and all that were."""
        self.fetched_total = 0
        """Requests for data that this node has sent."""
        self.ending: Ending | None = None
        self._ended = trio.Event()
        self._quiet = trio.Event()
        """Something has been handled."""
        self._reports = Reports(self.store, self.site)
        self._arrivals = Arrivals()
        self._numbers = itertools.count(1)
        self._requests: dict[str, _Request] = {}
        self._forget = forget

    # What its owner asks

    def end(self, code: ExitCode, reason: str) -> None:
        """End the node; the first reason counts."""
        if self.ending is None:
            self.ending = Ending(code, reason)
            self.status = "closing"
            self._ended.set()

    def close(self, reason: str) -> None:
        """End the node in order, as its owner wishes."""
        self.end(ExitCode.CLOSED, reason)

    async def wait_ended(self) -> Ending:
        """Until the node has come to an end, for whatever reason."""
        await self._ended.wait()
        assert self.ending is not None
        return self.ending

    async def wind_down(self) -> None:
        """Start nothing more, and wait until the tasks that run have ended.

        Not for what is fetched or waited for: nobody wants that any more. Nor if the worker has
        failed.
        """
        if self.supervisor.closed:
            return
        running = tuple([job.key for job in self.supervisor.owed])
        self.send(st.Pause())
        self.send(st.FreeKeys(running))
        while self.supervisor.owed:
            self._quiet = trio.Event()
            await self._quiet.wait()

    def keys(self) -> list[UserKey]:
        """What is in memory."""
        tasks = self.supervisor.machine.ledger.tasks
        return [decode_key(key) for key, task in tasks.items() if task.phase == "memory"]

    def freeze(self) -> Machine:
        """A copy of the machine as it is now, between two stimuli; the node goes on."""
        return Machine.from_snapshot(self.supervisor.machine.snapshot())

    def now(self) -> float:
        """Seconds since 1970, by the scheduler's clock."""
        return time.time() + self.clock_ahead_s

    # What the machine reports

    heeded: frozenset[type[Report]] = frozenset(get_args(Report))

    def on_reports(self, reports: Iterable[Report]) -> None:
        """Tell the scheduler, or whoever waits for it."""
        for report in reports:
            self._arrivals.on_report(report)
            if isinstance(report, Reply):
                self._requests.pop(report.request_id).answer(report)
                continue
            op = self._reports.op_of(report)
            if op is not None:
                self.outbox.put(op)

    def on_batch_end(self) -> None:
        """What was reported may leave."""
        self._reports.end_batch()
        self.outbox.flush()
        self._quiet.set()

    def on_failure(self, reason: BaseException) -> None:
        """The supervisor has given up."""
        self.end(ExitCode.FAILED, f"the worker has failed: {reason!r}")

    def on_stimulus_refused(self, stimulus: st.Stimulus, error: StimulusError) -> None:
        """The scheduler has asked for what no worker can do; the node goes on."""
        logger.error("refused what the scheduler said: %s", error)
        if isinstance(stimulus, st.ComputeTask):
            del self.store.specs[stimulus.spec_id]
            self._fail_task(decode_key(stimulus.key), stimulus.run_id, error)

    # What the scheduler says on the stream

    def send(self, stimulus: st.Stimulus) -> None:
        """Give a stimulus to the machine."""
        if isinstance(stimulus, st.FreeKeys):
            self._arrivals.give_up(stimulus.keys)
        elif isinstance(stimulus, st.ComputeTask):  # which takes the place of a copy
            self._arrivals.give_up((stimulus.key,))
        if not self.supervisor.closed:  # by a fault, while the stream still brings something
            self.supervisor.send(stimulus)

    def on_status_change(self, op: ops.WorkerStatusChange) -> None:
        """Take on a status, and say so."""
        if op.status not in STATUSES:
            raise NotSupported(f"a trouper node has no status {op.status!r}")
        logger.info("the scheduler has set the status to %s (%s)", op.status, op.stimulus_id)
        self.set_status(op.status, op.stimulus_id)

    def pause(self, on: bool) -> None:
        """Start nothing more, or go on; unless the scheduler has said something else."""
        if self.status == ("running" if on else "paused"):
            status = "paused" if on else "running"
            self.set_status(status, f"worker-status-change-{self.now()}")

    def set_status(self, status: str, stimulus_id: str) -> None:
        """Take on a status of Dask's, and tell the scheduler."""
        if status == "paused":
            self.send(st.Pause())
        elif status == "running":  # who leaves while it is paused starts nothing more
            self.send(st.Unpause())
        self.status = status
        self.outbox.put(
            {"op": "worker-status-change", "status": status, "stimulus_id": stimulus_id}
        )
        self.outbox.flush()

    def on_close(self, op: ops.Close) -> None:
        """The scheduler ends the node."""
        self.end(ExitCode.CLOSED, op.reason or "the scheduler has closed it")

    def on_lost_worker(self, address: Peer) -> None:
        """Another worker is gone: keep no connection to it."""
        logger.info("worker %s is gone", address)
        self._forget(address)

    def on_refused(self, op: object, error: Exception) -> None:
        """Answer what can be answered; the rest is a matter for the log."""
        logger.error("refused what the scheduler said: %s", error)
        match op:
            case ops.ComputeTask():
                self._fail_task(op.key, op.run_id, error)
            case {"op": "compute-task", "run_id": int() as run_id}:
                fields = cast("dict[str, object]", op)
                self._fail_task(fields.get("key"), run_id, error)
            case _:
                pass

    def on_unsendable(self, op: dict[str, Any], error: NotEncodable) -> None:
        """What users have put into an op has no form in which it could be sent."""
        logger.error("the scheduler is not told %r: %s", op["op"], error)

    def _fail_task(self, key: object, run_id: int, error: Exception) -> None:
        self.outbox.put(
            {
                "op": "task-erred",
                **error_message(error),
                "key": key,
                "run_id": run_id,
                "thread": None,
                "startstops": [],
                "stimulus_id": f"task-refused-{self.now()}",
            }
        )
        self.outbox.flush()

    def log_event(self, topics: Collection[str], message: object) -> None:
        """Have the scheduler log an event."""
        self.outbox.put({"op": "log-event", "topic": list(topics), "msg": message})
        self.outbox.flush()

    # What others request

    async def put(self, values: Mapping[Key, Found]) -> dict[Key, int]:
        """Keep values that come from outside; their sizes in bytes."""
        number = next(self._numbers)
        request_id = f"put-{number}"
        request = self._requests[request_id] = _Request()
        for key, found in values.items():
            self.store.values[key, -number] = found.value
        data = {key: (found.nbytes, found.type_name) for key, found in values.items()}
        self.send(st.UpdateData(data, -number, request_id))
        return (await request.wait()).nbytes

    async def acquire(self, who_has: Mapping[Key, tuple[Peer, ...]]) -> list[Key]:
        """Fetch copies, and wait for them; those that nobody has."""
        wait = self._arrivals.expect(who_has)
        try:
            self.send(st.AcquireReplicas(dict(who_has)))
            await wait.over.wait()
        finally:
            self._arrivals.forget(wait)
        return wait.failed

    def remove(self, keys: Iterable[Key]) -> None:
        """Let copies go, but for those that are needed here."""
        self.send(st.RemoveReplicas(tuple(keys)))
