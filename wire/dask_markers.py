"""Dask's own marker classes, to those of `trouper.wire.dask_message` and back.

For Dask's processes, which serialise and open what users gave them just where they do so over
``tcp://``, with the same functions of Dask's. Safe in any thread.
"""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false
# pyright: reportUnknownVariableType=false, reportUnknownLambdaType=false
# What distributed does not say about its types is not known here either.

import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any, TypeAlias

from distributed.protocol import pickle
from distributed.protocol.compression import decompress, maybe_compress
from distributed.protocol.serialize import Pickled as DaskPickled
from distributed.protocol.serialize import (
    Serialize,
    ToPickle,
    import_allowed_module,
    merge_and_deserialize,
    serialize_and_split,
)
from distributed.protocol.serialize import Serialized as DaskSerialized
from distributed.utils import ensure_memoryview

from trouper.wire.cbor import Chunk
from trouper.wire.dask_message import (
    DaskMessageDecoder,
    EnumMember,
    Pickled,
    Serialized,
    encode_dask_message,
)

Deserializers: TypeAlias = Mapping[str, Any] | None

_WHOLE = sys.maxsize
"""Frames are not split into shards: a session does that on its way, and puts them together again.
Only compression wants shards."""


def encode_for_dask(
    message: object,
    *,
    serializers: Sequence[str] | None,
    on_error: str,
    context: Mapping[str, Any],
) -> tuple[bytes, list[Chunk]]:
    """Body and buffers of a message of Dask's.

    Args:
        message: What Dask gives to ``Comm.write``.
        serializers: The families that may serialise what is marked so, in this order.
        on_error: What happens if none can: ``message`` sends that, ``raise`` raises.
        context: What was agreed on when the comm was opened.

    Raises:
        TypeError: Something cannot be serialised, and `on_error` says so.
        NotEncodable: See `encode_dask_message`.
    """

    def stand_in(value: object) -> object:
        match value:
            case Serialize():
                return _serialized(value, serializers, on_error, context)
            case DaskSerialized():
                return Serialized(value.header, value.frames)
            case ToPickle():
                return _pickled(value.data)
            case DaskPickled():
                return Pickled(
                    value.header["pickled-obj"], _decompressed(value.header, value.frames)
                )
            case Enum():
                return EnumMember(type(value).__module__, type(value).__name__, value.name)
            case _:
                return _pickled(value)

    return encode_dask_message(message, stand_in)


def _serialized(
    value: Serialize, serializers: Sequence[str] | None, on_error: str, context: Mapping[str, Any]
) -> Serialized:
    method = context.get("compression")
    header, frames = serialize_and_split(
        value, serializers, on_error, context, size=None if method else _WHOLE
    )
    compression = list(header["compression"])
    for i, frame in enumerate(frames):
        frames[i] = ensure_memoryview(frame)
        if method and compression[i] is None:
            compression[i], frames[i] = maybe_compress(frame, compression=method)
    return Serialized({**header, "compression": tuple(compression)}, frames)


def _decompressed(header: dict[str, Any], frames: Sequence[Chunk]) -> Sequence[Chunk]:
    if "compression" not in header:
        return frames
    decompressed: list[Chunk] = decompress(header, frames)
    return decompressed


def _pickled(value: object) -> Pickled:
    buffers: list[Chunk] = []
    stream = pickle.dumps(
        value, buffer_callback=lambda buffer: buffers.append(ensure_memoryview(buffer))
    )
    return Pickled(stream, buffers)


class _Decoders(threading.local):
    """One for each thread; to make another for each message takes half as long as to read it."""

    def __init__(self) -> None:
        self.of_thread = DaskMessageDecoder()


_decoders = _Decoders()


def decode_for_dask(
    body: Chunk,
    buffers: Sequence[Chunk],
    *,
    deserialize: bool,
    deserializers: Deserializers,
) -> Any:
    """What ``Comm.read`` returns.

    Args:
        body: Of a message.
        buffers: Of the same.
        deserialize: Whether serialised values are opened here; else they are passed on.
        deserializers: The families that may do so; None for all.

    Raises:
        ProtocolError: It is no message.
        Exception: Whatever opening a user's value raises.
    """
    decoder = _decoders.of_thread
    message = decoder.decode(body, buffers)
    if not decoder.markers:
        return message
    return _Opening(deserialize, deserializers).of(message)


class _Opening:
    """Puts Dask's objects in the place of markers. Not into what is inside those."""

    def __init__(self, deserialize: bool, deserializers: Deserializers) -> None:
        self._deserialize = deserialize
        self._deserializers = deserializers
        self._ways: dict[type, Callable[[Any], Any]] = {
            dict: self._of_dict,
            tuple: lambda items: tuple(map(self.of, items)),
            set: lambda members: set(map(self.of, members)),
            Serialized: self._of_serialized,
            Pickled: _unpickled,
            EnumMember: _member,
        }

    def of(self, value: Any) -> Any:
        way = self._ways.get(type(value))
        return value if way is None else way(value)

    def _of_dict(self, value: dict[Any, Any]) -> dict[Any, Any]:
        return {self.of(key): self.of(item) for key, item in value.items()}

    def _of_serialized(self, marker: Serialized) -> Any:
        header, frames = self.of(marker.header), _views(marker.frames)
        if not self._deserialize:
            return DaskSerialized(header, frames)
        return merge_and_deserialize(
            header, _decompressed(header, frames), deserializers=self._deserializers
        )


def _unpickled(marker: Pickled) -> Any:
    return pickle.loads(marker.pickle, buffers=_views(marker.buffers))


def _member(marker: EnumMember) -> Any:
    return getattr(getattr(import_allowed_module(marker.module), marker.cls), marker.name)


def _views(frames: Sequence[Chunk]) -> list[Chunk]:
    return [memoryview(frame) for frame in frames]
