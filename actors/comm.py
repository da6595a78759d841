"""The comm actor: the stream between a node and its scheduler, in both directions.

What the scheduler says becomes stimuli; a task's spec is in the store before its stimulus is sent.
What concerns the node's own life, and what cannot be understood, is given to its owner. Nothing
that comes can end the loop but the end of the session.
"""

from contextvars import Context
from typing import Any, Protocol, cast

import trio
from dask.utils import key_split  # pyright: ignore[reportUnknownVariableType]

from trouper.actors.dask_link import DaskLink
from trouper.actors.dask_task import DaskTask, Site, spec_id_of
from trouper.actors.errors import NotSupported
from trouper.actors.execute import THREAD
from trouper.actors.sizeof import MOST_NBYTES
from trouper.actors.store import Store
from trouper.wire import dask_stream as ops
from trouper.wire import stimuli as st
from trouper.wire.errors import InvalidKey, NotEncodable
from trouper.wire.keys import encode_key
from trouper.wire.vocabulary import Key, Peer


class Owner(Protocol):
    """The node, as far as the stream concerns it."""

    def send(self, stimulus: st.Stimulus) -> None:
        """Give a stimulus to the machine."""
        ...

    def on_status_change(self, op: ops.WorkerStatusChange) -> None:
        """The scheduler gives the node another status."""
        ...

    def on_close(self, op: ops.Close) -> None:
        """The scheduler ends the node."""
        ...

    def on_lost_worker(self, address: Peer) -> None:
        """Another worker is gone."""
        ...

    def on_refused(self, op: object, error: Exception) -> None:
        """Something has come that cannot be done or understood."""
        ...

    def on_unsendable(self, op: dict[str, Any], error: NotEncodable) -> None:
        """Something for the scheduler is left out, as it cannot be sent."""
        ...


class Outbox:
    """Ops for the scheduler, which leave together when the stream is free."""

    def __init__(self) -> None:
        self._ops: list[dict[str, Any]] = []
        self._filled = trio.Event()

    def put(self, op: dict[str, Any]) -> None:
        """Queue an op; see `flush`."""
        self._ops.append(op)

    def flush(self) -> None:
        """What was put is to leave."""
        if self._ops:
            self._filled.set()

    async def take(self) -> list[dict[str, Any]]:
        """All that is to leave, when there is something."""
        await self._filled.wait()
        self._filled = trio.Event()
        return self.rest()

    def rest(self) -> list[dict[str, Any]]:
        """All that was put and not taken."""
        taken, self._ops = self._ops, []
        return taken


async def comm(link: DaskLink, outbox: Outbox, intake: "Intake") -> None:
    """Carry ops both ways until the session ends.

    Raises:
        ProtocolError: Something has come that is no message at all.
        SessionClosed: The session is over.
    """
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_send, link, outbox, intake.owner)
        while True:
            intake.take(await link.receive())


async def _send(link: DaskLink, outbox: Outbox, owner: Owner) -> None:
    while True:
        batch = await outbox.take()
        try:
            await link.send(batch)
        except NotEncodable:  # because of one of them, or all together are too long
            for op in batch:
                try:
                    await link.send([op])
                except NotEncodable as error:
                    owner.on_unsendable(op, error)


class Intake:
    """What becomes of the ops that come.

    Args:
        owner: The node.
        store: Gets the specs of tasks.
        site: Of the tasks.
    """

    def __init__(self, owner: Owner, store: Store, site: Site) -> None:
        self.owner = owner
        self._store = store
        self._site = site

    def take(self, message: object) -> None:
        """Take in one message of the stream."""
        for op in ops.read_batch(message):
            try:
                if not isinstance(op, ops.NotAnOp):
                    self._take(op)
                elif not self._heard(op.op):
                    self.owner.on_refused(op.op, op.error)
            except (InvalidKey, NotSupported) as error:
                self.owner.on_refused(op, error)

    def _heard(self, said: object) -> bool:
        """Whether a plugin wants to be told this."""
        fields = dict(cast("dict[str, Any]", said)) if type(said) is dict else {}
        op: object = fields.pop("op", None)
        return (
            type(op) is str
            and all(type(name) is str for name in fields)
            and self._site.worker.hear(op, fields)
        )

    def _take(self, op: ops.StreamOp) -> None:
        send = self.owner.send
        match op:
            case ops.ComputeTask():
                send(self._compute_task(op))
            case ops.FreeKeys():
                send(st.FreeKeys(_keys(op.keys)))
            case ops.CancelCompute():
                send(st.CancelCompute(encode_key(op.key)))
            case ops.AcquireReplicas():
                send(st.AcquireReplicas(_by_key(op.who_has), _sizes(op.nbytes)))
            case ops.RemoveReplicas():
                send(st.RemoveReplicas(_keys(op.keys)))
            case ops.StealRequest():
                send(st.StealRequest(encode_key(op.key), op.stimulus_id))
            case ops.RefreshWhoHas():
                send(st.RefreshWhoHas(_by_key(op.who_has)))
            case ops.RemoveWorker():
                self.owner.on_lost_worker(op.worker)
                send(st.RemoveWorker(op.worker))
            case ops.WorkerStatusChange():
                self.owner.on_status_change(op)
            case ops.Close():
                self.owner.on_close(op)

    def _compute_task(self, op: ops.ComputeTask) -> st.ComputeTask:
        key = encode_key(op.key)
        spec_id = spec_id_of(key, op.run_spec)
        stimulus = st.ComputeTask(
            key,
            op.run_id,
            spec_id,
            op.priority,
            (),
            _by_key(op.who_has),
            _sizes(op.nbytes),
            THREAD,
            op.resource_restrictions or {},
            _prefix_of(op.key),
        )
        self._store.specs[spec_id] = DaskTask(op.run_spec, Context(), self._site, op.actor)
        return stimulus


def _prefix_of(key: Any) -> str:
    """What a key begins with, by which Dask takes tasks for similar ones."""
    try:
        return str(key_split(key))  # pyright: ignore[reportUnknownArgumentType]
    except (IndexError, UnicodeDecodeError):  # of an empty tuple, and bytes that are no text
        return "Other"


def _keys(keys: tuple[Any, ...]) -> tuple[Key, ...]:
    return tuple(map(encode_key, keys))


def _by_key(of_keys: dict[Any, Any]) -> dict[Key, Any]:
    return {encode_key(key): value for key, value in of_keys.items()}


def _sizes(of_keys: dict[Any, int]) -> dict[Key, int]:
    """Sizes in bytes, such as there are: all that is fetched at once has one that can be told."""
    return {encode_key(key): min(max(n, 0), MOST_NBYTES) for key, n in of_keys.items()}
