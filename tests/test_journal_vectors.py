"""JOURNAL.md says enough to read a journal: a reader made from it alone reads the vector.

`python tests/test_journal_vectors.py` writes the vector anew, if the format has changed.
"""

import importlib
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cbor2
import msgspec
import pytest
from journals import header, noted, random_life

from trouper.runtime.errors import StimulusError
from trouper.runtime.journal.format import STIMULI, Header, pack
from trouper.runtime.journal.frames import MAGIC
from trouper.runtime.journal.journal import Journal
from trouper.runtime.journal.records import RecordWriter
from trouper.runtime.ledger import Config
from trouper.runtime.machine import Machine
from trouper.wire import stimuli as st
from trouper.wire.instructions import Instruction

pycddl: Any = importlib.import_module("pycddl")  # which has no types

VECTORS = Path(__file__).parent / "vectors" / "journal"
VECTOR = VECTORS / "vector.journal"
PAGE = Path(__file__).parent.parent / "runtime" / "journal" / "JOURNAL.md"

CONFIG = Config(slots={"thread": 1}, resources={"gpu": 1.0}, address="tcp://10.0.0.1:1")
PEER = "tcp://10.0.0.2:1"
LIFE: list[tuple[int, st.Stimulus]] = [
    (1000, st.ComputeTask("load", 1, 1, (0, 1), prefix="load")),
    (1000, st.ComputeTask("sum", 2, 2, (0, 2.5), ("load",), {"far": (PEER,)}, {"far": 70_000})),
    (1500, st.ExecuteSuccess("load", 1, 28, "int", 0.25)),
    (1500, st.GatherBusy(PEER, 2)),
    (3500, st.RetryBusyWorker(PEER, 3)),
    (3500, st.GatherSuccess(PEER, 4, {"far": (64_000, "ndarray")})),
    (4000, st.StealRequest("sum", "steal-1")),
    (4000, st.UpdateData({"put": (8, "float")}, -1, "request-1")),
    (4000, st.FreeKeys(("load", "sum", "far", "put", *[f"gone-{n}" for n in range(1000)]))),
    (4001, st.ExecuteFailure("sum", 5, "ValueError")),
    (90_000_000, st.ExecuteSuccess("sum", 99, 0, "int")),
]
"""With times in microseconds; the last one is refused."""


def vector() -> bytes:
    """The vector's bytes."""
    machine, writer = Machine(CONFIG), RecordWriter(0)
    data = MAGIC + writer.header(header(CONFIG, run="00112233aabbccdd", begun_s=1.75e9))
    *handled, (at_us, refused) = LIFE
    for batch in (handled[:1], handled[1:]):
        told = [(stimulus, machine.handle(stimulus)) for _, stimulus in batch]
        data += writer.write(noted(told, [at_us for at_us, _ in batch]))[0]
    return data + writer.write(noted([(refused, "StimulusError")], [at_us]))[0]


# A reader that knows nothing but the page


def frames(data: bytes) -> Iterator[bytes]:
    """The bodies."""
    assert data[:16] == b"trouper journal\n"
    at, running = 16, 0
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        assert data[at + 4] == zlib.crc32(data[at : at + 4]) % 256
        end = at + 5 + length
        running = zlib.crc32(data[at:end], running)
        assert int.from_bytes(data[end : end + 4], "big") == running
        yield data[at + 5 : end]
        at = end + 4


def batch(body: bytes) -> list[Any]:
    """What stands in a body."""
    packed = zlib.decompress(body) if body[0] == 0x78 else body
    fields: list[Any] = msgspec.msgpack.decode(packed)
    return fields


def read(data: bytes) -> list[dict[str, Any]]:
    first, *bodies = frames(data)
    head = msgspec.msgpack.decode(first)
    records: list[dict[str, Any]] = []
    at_us = head["at_us"]
    for after_us, digests, counts, kinds, errors, rows in map(batch, bodies):
        for place, (tag, *values) in enumerate(rows):
            at_us += after_us[place] if place < len(after_us) else 0
            op, names = head["stimuli"][tag]
            stimulus = {"op": op, **dict(zip(names, values, strict=True))}
            n = head["first"] + len(records)
            record: dict[str, Any] = {"n": n, "at_us": at_us, "stimulus": stimulus}
            if counts[place]:
                record["digest"] = f"{digests[place]:08x}"
                record["instructions"] = [
                    head["instructions"][kind][0] for kind in kinds[: counts[place]]
                ]
                kinds = kinds[counts[place] :]
            else:
                assert digests[place] == 0
            if place in errors:
                record["error"] = errors[place]
            records.append(record)
    return records


def test_the_page_is_enough_to_read_the_vector() -> None:
    assert read(VECTOR.read_bytes()) == json.loads((VECTORS / "records.json").read_text())


def grammar(start: str) -> Any:
    (rules,) = re.findall(r"```cddl\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return pycddl.Schema(f"start = {start}\n{rules}")


def test_every_frame_of_the_vector_is_in_the_grammar() -> None:
    first, *bodies = frames(VECTOR.read_bytes())
    grammar("header").validate_cbor(cbor2.dumps(msgspec.msgpack.decode(first)))
    for fields in map(batch, bodies):
        grammar("batch").validate_cbor(cbor2.dumps(fields))
        for row in fields[-1]:
            tag: int = row[0]
            grammar(STIMULI[tag].op).validate_cbor(cbor2.dumps(row))


def test_stimuli_of_every_kind_are_in_the_grammar() -> None:
    config, stimuli = random_life(seed=1, steps=3000)
    machine = Machine(config)
    told: list[tuple[st.Stimulus, list[Instruction] | str]] = []
    for stimulus in stimuli:
        try:
            told.append((stimulus, machine.handle(stimulus)))
        except StimulusError:
            told.append((stimulus, "StimulusError"))
    rows: list[Any] = []
    of_batches = grammar("batch")
    for fields in map(batch, frames(MAGIC + RecordWriter(0).write(noted(told))[0])):
        of_batches.validate_cbor(cbor2.dumps(fields))
        rows += fields[-1]
    assert {row[0] for row in rows} == set(range(len(STIMULI)))
    rules = [grammar(kind.op) for kind in STIMULI]
    for row in rows:
        rules[row[0]].validate_cbor(cbor2.dumps(row))
        with pytest.raises(pycddl.ValidationError):
            rules[row[0]].validate_cbor(cbor2.dumps([*row, 1]))


def test_the_vector_is_read_as_it_was_written() -> None:
    journal = Journal.open(VECTOR)
    assert [(r.at_us, r.stimulus) for r in journal.records()] == LIFE
    assert journal.verify() == len(LIFE)
    told = json.loads((VECTORS / "records.json").read_text())
    for record, expected in zip(journal.records(), told, strict=True):
        assert list(record.kinds) == expected.get("instructions", [])
        assert record.error == expected.get("error", "")
        if record.digest is not None:
            assert f"{record.digest:08x}" == expected["digest"]


def test_the_vector_is_written_as_ever() -> None:
    first, *_ = frames(VECTOR.read_bytes())
    head = msgspec.msgpack.decode(first)
    assert pack(msgspec.convert(head, Header)) == pack(head)
    assert vector() == VECTOR.read_bytes()


if __name__ == "__main__":
    VECTOR.write_bytes(vector())
    (VECTORS / "records.json").write_text(json.dumps(read(vector()), indent=1) + "\n")
