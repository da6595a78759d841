"""Values and errors in the form in which Dask sends them. Imports Dask: for nodes only.

What is here may take long and runs users' code: it is called in threads, but for what is small.
"""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false
# pyright: reportUnknownVariableType=false, reportMissingTypeStubs=false
# pyright: reportPrivateImportUsage=false
# What Dask does not say about its types is not known here either.

import traceback
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from types import TracebackType
from typing import Any, cast

import cloudpickle
import dask.config
import tblib.pickling_support
from dask.utils import typename
from distributed.protocol import Serialized as DaskSerialized
from distributed.protocol import pickle, serialize
from distributed.protocol.compression import decompress
from distributed.protocol.serialize import merge_and_deserialize
from distributed.utils import truncate_exception

from trouper.actors.errors import ValueUnreadable
from trouper.wire.dask_message import Serialized
from trouper.wire.errors import cut_reason

FAMILIES = ("dask", "pickle")
"""How values are serialised, unless somebody asks for another way."""


def dump(value: object, families: Sequence[str] = FAMILIES, pickle_protocol: int = 5) -> Serialized:
    """A value for others. One that cannot be serialised becomes an error that they will see."""
    try:
        header, frames = serialize(
            value,
            serializers=tuple(families),
            on_error="message",
            context={"pickle-protocol": pickle_protocol},
        )
    except BaseException as error:  # noqa: BLE001 - `SystemExit`, say, of a user's class
        said = f"Could not serialize a {type(value).__qualname__}: {_brief(error, 500)[1]}"
        header, frames = {"serializer": "error"}, [_sendable(said).encode()]
    return Serialized(header, frames)


def load(serialized: Serialized | DaskSerialized) -> object:
    """The value that others have sent. Raises whatever users' classes raise, if it is an error.

    Who sends with ``tcp://`` may have cut and compressed its frames, also if it comes by a relay.

    Raises:
        ValueUnreadable: They want to end the program.
    """
    header, frames = serialized.header, list(serialized.frames)
    if "compression" in header:
        frames = decompress(header, frames)
    try:
        return cast("object", merge_and_deserialize(header, frames))
    except Exception:
        raise
    except BaseException as error:
        kind = type(error).__qualname__
        raise ValueUnreadable(f"a value that raises {kind} when it is opened") from error


def opened(sent: object) -> Any:
    """A value that others have sent, whether or not it was serialised. Raises as `load` does."""
    return load(sent) if isinstance(sent, (Serialized, DaskSerialized)) else sent


def type_of(kind: type) -> tuple[bytes, str]:
    """The pickle of a type, and its name, as a scheduler wants to know them."""
    try:
        return _type_of(kind)
    except BaseException:  # noqa: BLE001 - a user's metaclass may raise whatever it likes
        name = type.__getattribute__(kind, "__qualname__")
        return cloudpickle.dumps(name), name


@lru_cache(maxsize=256)
def _type_of(kind: type) -> tuple[bytes, str]:
    return cloudpickle.dumps(kind), typename(kind)


def error_message(error: BaseException, status: str = "error") -> dict[str, Any]:
    """What Dask's programs raise again as this exception, with its traceback.

    The exception is pickled, with the pickle serialised as a value: two layers. One that cannot be
    pickled and unpickled becomes a plain `Exception` with its text; so does one like `SystemExit`,
    which would end the client that raises it again. One that is too long is cut. Raises nothing,
    whatever users' exceptions do.
    """
    most = cast("int", dask.config.get("distributed.admin.max-error-length"))
    with suppress(BaseException):  # a chain too long to follow, say: it will be told as text
        tblib.pickling_support.install(error)
    text = "".join(traceback.format_tb(error.__traceback__))
    said, brief = _brief(error, most)
    trace = _loadable(error.__traceback__) or pickle.dumps(text)
    return {
        "status": status,
        "exception": dump(said),
        "traceback": dump(trace) if len(trace) <= most else None,
        "exception_text": brief,
        "traceback_text": _sendable(text),
    }


def _brief(error: BaseException, most: int) -> tuple[bytes, str]:
    """A pickle of an exception, and its text; neither much longer than that."""
    try:
        text = _sendable(repr(error)[:most])
        short = truncate_exception(error, most)
    except BaseException:  # noqa: BLE001 - whatever users' classes raise
        text = f"<{type(error).__qualname__}, which cannot be shown as text>"
        short = None
    said = _loadable(short) if isinstance(short, Exception) else None
    return said or pickle.dumps(Exception(cut_reason(text))), text


def _sendable(text: str) -> str:
    """A text with nothing in it that is no Unicode."""
    return text.encode("utf-8", "replace").decode()


def _loadable(thing: BaseException | TracebackType | None) -> bytes | None:
    """A pickle that can be opened again; None if there can be none."""
    try:
        pickled = cast("bytes", pickle.dumps(thing))
        pickle.loads(pickled)
    except BaseException:  # noqa: BLE001 - whatever users' classes raise
        return None
    return pickled
