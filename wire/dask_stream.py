"""What a Dask scheduler says to its workers on their stream, as far as it concerns us: typed.

A message on the stream is a batch of *ops*, dicts with a name under ``op``. `read_batch` makes
typed ones of them. Fields that we do not know are ignored, as Dask adds some now and then; a field
that is missing or of the wrong type, and an op that we do not know, is an error of that op alone.

Keys are Dask's here: text, numbers, bytes, tuples of such.
"""

from collections.abc import Iterator
from typing import Any, TypeAlias, cast, get_args

import msgspec

from trouper.wire.dask_message import Pickled
from trouper.wire.errors import Code, ProtocolError
from trouper.wire.vocabulary import kebab_case


class Op(msgspec.Struct, frozen=True, gc=False):
    """Something that the scheduler says. `stimulus_id` is for logs, and echoed in answers."""


class ComputeTask(Op, frozen=True, gc=False):
    """Compute a task."""

    key: Any
    run_id: int
    run_spec: Any
    """A `Pickled`, opened in the thread that runs the task."""
    priority: tuple[int | float, ...]
    stimulus_id: str
    who_has: dict[Any, tuple[str, ...]] = {}
    nbytes: dict[Any, int] = {}
    resource_restrictions: dict[str, float] | None = None
    actor: bool = False
    annotations: dict[Any, Any] | None = None
    span_id: str | None = None


class FreeKeys(Op, frozen=True, gc=False):
    """Nobody wants these any more."""

    keys: tuple[Any, ...]
    stimulus_id: str = ""


class CancelCompute(Op, frozen=True, gc=False):
    """Give a task up that has not begun."""

    key: Any
    stimulus_id: str = ""


class AcquireReplicas(Op, frozen=True, gc=False):
    """Fetch copies."""

    who_has: dict[Any, tuple[str, ...]]
    nbytes: dict[Any, int]
    stimulus_id: str = ""


class RemoveReplicas(Op, frozen=True, gc=False):
    """Let copies go."""

    keys: tuple[Any, ...]
    stimulus_id: str = ""


class StealRequest(Op, frozen=True, gc=False):
    """Give a task up that has not begun, and say whether you did."""

    key: Any
    stimulus_id: str


class RefreshWhoHas(Op, frozen=True, gc=False):
    """Who holds these now."""

    who_has: dict[Any, tuple[str, ...]]
    stimulus_id: str = ""


class RemoveWorker(Op, frozen=True, gc=False):
    """Another worker is gone."""

    worker: str
    stimulus_id: str = ""


class WorkerStatusChange(Op, frozen=True, gc=False):
    """Take on this status."""

    status: str
    stimulus_id: str = ""


class Close(Op, frozen=True, gc=False):
    """End."""

    reason: str = ""


class NotAnOp(msgspec.Struct, frozen=True):
    """Something on the stream that cannot be understood, and why."""

    error: ProtocolError
    op: object


StreamOp: TypeAlias = (
    ComputeTask
    | FreeKeys
    | CancelCompute
    | AcquireReplicas
    | RemoveReplicas
    | StealRequest
    | RefreshWhoHas
    | RemoveWorker
    | WorkerStatusChange
    | Close
)

_TYPES: dict[str, type[Op]] = {kebab_case(op.__name__): op for op in get_args(StreamOp)}


def read_batch(message: object) -> Iterator[StreamOp | NotAnOp]:
    """The ops of one message on the stream, in order.

    A single op does for a batch, and so does "OK", which says nothing.
    """
    if message == "OK":
        return
    items = cast("tuple[object, ...]", message) if type(message) is tuple else (message,)
    for item in items:
        try:
            yield _read(item)
        except ProtocolError as error:
            yield NotAnOp(error, item)


def _read(item: object) -> StreamOp:
    if type(item) is not dict:
        raise ProtocolError(Code.MALFORMED, f"an op has to be a dict, not {item!r:.80}")
    fields = cast("dict[object, object]", item)
    name = fields.get("op")
    if type(name) is not str or name not in _TYPES:
        raise ProtocolError(Code.MALFORMED, f"unknown op {name!r:.80}")
    try:
        op = cast("StreamOp", msgspec.convert(fields, _TYPES[name]))
    except msgspec.ValidationError as error:
        raise ProtocolError(Code.MALFORMED, f"bad op {name!r}: {error}") from error
    if type(op) is ComputeTask and type(op.run_spec) is not Pickled:
        raise ProtocolError(Code.MALFORMED, f"bad op {name!r}: its run_spec is not pickled")
    return op
