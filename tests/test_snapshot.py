"""A snapshot is the whole state: the machine made from it is the machine."""

import json
from typing import Any

import msgspec
import pytest

from trouper.runtime.errors import SnapshotError
from trouper.runtime.invariants import check
from trouper.runtime.ledger import Config, Limits
from trouper.runtime.machine import Machine
from trouper.wire.stimuli import (
    AcquireReplicas,
    ComputeTask,
    ExecuteFailure,
    ExecuteSuccess,
    FreeKeys,
    GatherBusy,
    Pause,
    Secede,
    Stimulus,
    Unpause,
    UpdateData,
)

P = "tcp://10.0.0.2:1"
Q = "tcp://10.0.0.3:1"

CONFIG = Config(
    slots={"thread": 2, "process": 1},
    resources={"gpu": 1},
    address="tcp://10.0.0.1:1",
    limits=Limits(incoming_count=3, message_nbytes=9),
)
BUSY_DAY: tuple[Stimulus, ...] = (
    UpdateData({"put": (5, "int")}, -1),
    ComputeTask("seceded", 1, 1, (0, 0.5), local=("put",), resources={"gpu": 0.5}),
    Secede("seceded", 1),
    ComputeTask("failed", 2, 1),
    ExecuteFailure("failed", 2, "ValueError"),
    ComputeTask("runs", 3, 1, who_has={"put": (P,)}, executor="process"),
    ComputeTask("constrained", 4, 1, resources={"gpu": 1}),
    ComputeTask("waits", 5, 1, local=("runs",), who_has={"missing": (), "flies": (P, Q)}),
    AcquireReplicas({"busy": (Q,)}, {"busy": 7}),
    GatherBusy(Q, 6),
    ComputeTask("unwanted", 6, 1),
    FreeKeys(("unwanted", "put")),
    Pause(),
    ComputeTask("ready", 7, 1),
    AcquireReplicas({"wanted": (P,)}),
)


def busy() -> Machine:
    machine = Machine(CONFIG)
    for stimulus in BUSY_DAY:
        machine.handle(stimulus)
        check(machine)
    return machine


def test_a_busy_day_has_a_bit_of_everything() -> None:
    machine = busy()
    assert {key: machine.phase(key) for key in machine.ledger.tasks} == {
        "put": "memory",
        "seceded": "long-running",
        "failed": "error",
        "runs": "executing",
        "constrained": "constrained",
        "waits": "waiting",
        "missing": "missing",
        "flies": "flight",
        "busy": "fetch",
        "unwanted": "cancelled(executing)",
        "ready": "ready",
        "wanted": "fetch",
    }


def test_restored_machine_is_the_same() -> None:
    machine = busy()
    restored = Machine.from_snapshot(machine.snapshot())
    check(restored)
    assert restored.snapshot() == machine.snapshot()
    assert restored.fingerprint() == machine.fingerprint()
    for stimulus in (
        Unpause(),
        ExecuteSuccess("runs", 3, 5, "int"),
        ExecuteSuccess("seceded", 1, 5, "int"),
        FreeKeys(tuple(machine.ledger.tasks)),
    ):
        assert restored.handle(stimulus) == machine.handle(stimulus)
        assert restored.fingerprint() == machine.fingerprint()


def test_every_prefix_restores() -> None:
    machine = Machine(CONFIG)
    for stimulus in BUSY_DAY:
        restored = Machine.from_snapshot(machine.snapshot())
        assert restored.handle(stimulus) == machine.handle(stimulus)
        assert restored.fingerprint() == machine.fingerprint()


def test_snapshot_is_plain_data() -> None:
    """Through any codec and back."""
    snapshot = busy().snapshot()
    for read in (
        json.loads(json.dumps(snapshot)),
        msgspec.msgpack.decode(msgspec.msgpack.encode(snapshot)),
    ):
        assert Machine.from_snapshot(read).fingerprint() == busy().fingerprint()


def test_snapshot_does_not_change_with_the_machine() -> None:
    machine = busy()
    snapshot = machine.snapshot()
    kept = json.dumps(snapshot)
    machine.handle(FreeKeys(tuple(machine.ledger.tasks)))
    assert json.dumps(snapshot) == kept


def test_fingerprint_tells_states_apart() -> None:
    machine = Machine(CONFIG)
    seen = {machine.fingerprint()}
    for stimulus in BUSY_DAY:
        machine.handle(stimulus)
        seen.add(machine.fingerprint())
    assert len(seen) == len(BUSY_DAY) + 1
    assert len(machine.fingerprint()) == 32


def test_one_and_one_point_zero_are_the_same_configuration() -> None:
    one = Machine(Config(resources={"gpu": 1}))
    assert one.fingerprint() == Machine(Config(resources={"gpu": 1.0})).fingerprint()


def spoilt(path: str, value: Any) -> dict[str, Any]:
    """A good snapshot with one thing wrong; the path leads to it, "5" being the sixth task."""
    snapshot: dict[str, Any] = json.loads(json.dumps(busy().snapshot()))
    *way, last = path.split("/")
    place: Any = snapshot
    for step in way:
        place = place[int(step) if step.isdigit() else step]
    place[last] = value
    return snapshot


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("version", 2, "has version 2, not 1"),
        ("colour", "red", "unknown field `colour`"),
        ("paused", "yes", r"Expected `bool`, got `str` - at `\$.paused`"),
        ("tasks/0/claim", 3, "Invalid enum value 3"),
        ("tasks/0/result", "gone", "Invalid enum value 'gone'"),
        ("tasks/3/local", ["nowhere"], "names 'nowhere'"),
        ("tasks/1/activity/executor", "rocket", "names 'rocket'"),
        ("tasks/1/activity/resources", [["tpu", 1]], "names 'tpu'"),
    ],
)
def test_what_no_machine_has_written_is_refused(path: str, value: Any, message: str) -> None:
    with pytest.raises(SnapshotError, match=message):
        Machine.from_snapshot(spoilt(path, value))
