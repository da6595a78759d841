"""Let atheris look for input that the decoders trip over: anything but `ProtocolError`, or a hang.

    pip install -e '.[fuzz]'
    python tests/fuzz_codec.py -max_total_time=1200 -timeout=10 -rss_limit_mb=1024

Arguments are libFuzzer's. It starts from the published test vectors.
"""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

atheris: Any = import_module("atheris")  # not installed where types are checked

with atheris.instrument_imports(include=["trouper", "cbor2", "msgspec"]):
    from trouper.wire.codec import MessageDecoder
    from trouper.wire.dask_message import DaskMessageDecoder
    from trouper.wire.dask_stream import read_batch
    from trouper.wire.endpoint import Endpoint
    from trouper.wire.errors import ProtocolError
    from trouper.wire.limits import Limits
    from trouper.wire.packets import PacketReader
    from trouper.wire.reception import Admitted, Reception
    from trouper.wire.session import Session
    from trouper.wire.values import ValueDecoder

VECTORS = Path(__file__).parent / "vectors" / "wire"
HELLO = bytes.fromhex(json.loads((VECTORS / "packets.json").read_text())[0]["hex"])
US = Endpoint(
    role="scheduler",
    name="s",
    capabilities=("dask/1", "peer-exchange/1"),
    limits=Limits(max_message_nbytes=1 << 20),
)


def read_message(data: bytes) -> None:
    MessageDecoder().decode(data)


def read_value(data: bytes) -> None:
    ValueDecoder().decode(data)


def read_dask_message(data: bytes) -> None:
    """Once with its last bytes as a buffer, so that there is something to refer to."""
    with suppress(ProtocolError):
        for _ in read_batch(DaskMessageDecoder().decode(data[:-8], [data[-8:]])):
            pass
    for _ in read_batch(DaskMessageDecoder().decode(data)):
        pass


def read_packets(data: bytes) -> None:
    reader = PacketReader(1 << 20)
    reader.trusted = True
    for piece in (data[: len(data) // 2], data[len(data) // 2 :]):
        for _ in reader.read(piece):
            pass


def talk(data: bytes) -> None:
    """A stranger says hello, and whatever comes after it; a session raises nothing at all."""
    answer = Reception(US, token=None).greet().receive_data(HELLO, 0.0)
    assert isinstance(answer, Admitted)
    session = answer.session
    session.send(b"x", [b"y"])
    while session.data_to_send(answer.link, 0.0):
        pass
    take(session, answer.link, data[: len(data) // 2])
    take(session, answer.link, data[len(data) // 2 :])


def take(session: Session, link: int, data: bytes) -> None:
    """Bytes arrive; those of a buffer where they belong, if the session says where."""
    while data:
        place = session.get_buffer(link)
        if place is None:
            session.receive_data(link, data, 0.0)
            return
        taken = data[: len(place)]
        place[: len(taken)] = taken
        place.release()
        session.buffer_updated(link, len(taken), 0.0)
        data = data[len(taken) :]


def say_hello(data: bytes) -> None:
    Reception(US, token=None).greet().receive_data(data, 0.0)


Read = Callable[[bytes], None]


def framed(read: Read) -> Read:
    """Reads a packet whose head is as long as the first byte says: four are hard to guess."""

    def read_framed(data: bytes) -> None:
        head, tail = data[1 : 1 + data[0]], data[1 + data[0] :]
        read(len(head).to_bytes(4, "big") + head + tail)

    return read_framed


READERS: dict[str, list[Read]] = {
    "message": [read_message],
    "value": [read_value, read_dask_message],
    "packet": [read_packets, talk, say_hello],
}
ENTRIES: list[Read] = [
    *(READERS["message"] + READERS["value"] + READERS["packet"]),
    *map(framed, READERS["packet"]),
]


def fuzz_one(data: bytes) -> None:
    """The first byte says who reads the others."""
    if len(data) > 1:
        with suppress(ProtocolError):
            ENTRIES[data[0] % len(ENTRIES)](data[1:])


def seeds() -> Iterator[bytes]:
    """The test vectors, for the readers they are meant for."""
    for name in ("packets", "messages", "values", "refused"):
        for vector in json.loads((VECTORS / f"{name}.json").read_text()):
            data = bytes.fromhex(vector["hex"])
            for read in READERS[vector.get("what", name.removesuffix("s"))]:
                yield bytes([ENTRIES.index(read)]) + data
                if name == "packets":
                    framing = ENTRIES.index(read) + len(READERS["packet"])
                    yield bytes([framing, data[3]]) + data[4:]


def main() -> None:
    """Start from the vectors, then go on for as long as libFuzzer is told to."""
    with TemporaryDirectory() as corpus:
        for number, seed in enumerate(seeds()):
            (Path(corpus) / str(number)).write_bytes(seed)
        atheris.Setup([*sys.argv, corpus], fuzz_one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
