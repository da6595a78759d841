"""Random stories told to our machine and to distributed's: a short range of them.

`python tests/differential/run.py` tells long ones; what is here shows that the comparison works.
"""

import re
from pathlib import Path
from typing import Any

import pytest
from duel import Divergence, Duel
from fake_cluster import ADDRESS, PEERS
from generator import Story
from shrink import shrink, told_as_text

from trouper.runtime import machine as machine_module
from trouper.runtime import outcomes
from trouper.runtime.ledger import Config, Ledger
from trouper.wire.instructions import Instruction, StealResponse, TaskFinished
from trouper.wire.stimuli import (
    AcquireReplicas,
    CancelTask,
    ComputeTask,
    ExecuteSuccess,
    GatherFailure,
    GatherSuccess,
    Pause,
    StealRequest,
    Unpause,
)

FOLDER = Path(__file__).parent / "differential"


@pytest.mark.parametrize("seed", range(12))
def test_both_machines_answer_a_story_alike(seed: int) -> None:
    story = Story(seed)
    story.tell(200)
    assert story.ended or len(story.duel.told) == 200


def test_the_same_seed_tells_the_same_story() -> None:
    one, other = Story(4), Story(4)
    one.tell(100)
    other.tell(100)
    assert one.duel.told == other.duel.told
    assert one.duel.machine.fingerprint() == other.duel.machine.fingerprint()
    assert one.duel.reference.mended == other.duel.reference.mended


def forgetful_steal(ledger: Ledger, ev: Any, out: list[Instruction]) -> None:
    """A fault: the task is given up in words only."""
    task = ledger.tasks.get(ev.key)
    out.append(StealResponse(ev.key, task.phase if task else None, ev.stimulus_id))


def first_divergence(seeds: range) -> tuple[Story, Divergence]:
    """The first story that ends in one."""
    for seed in seeds:
        story = Story(seed)
        try:
            story.tell(200)
        except Divergence as found:
            return story, found
    pytest.fail("the fault was not found")


def test_a_fault_is_found_and_shrunk(monkeypatch: pytest.MonkeyPatch) -> None:
    handlers = {**machine_module.HANDLERS, StealRequest: forgetful_steal}
    monkeypatch.setattr(machine_module, "HANDLERS", handlers)
    story, found = first_divergence(range(100))
    shortest = shrink(story.config, story.duel.told, found)
    assert found.kind == "phases"
    assert len(shortest) <= 4
    assert type(shortest[-1]) is StealRequest
    assert "StealRequest(key=" in told_as_text(shortest)


def unreported_success(ledger: Ledger, ev: Any, out: list[Instruction]) -> None:
    """A fault: nobody is told of a result."""
    outcomes.execute_success(ledger, ev, out)
    out[:] = [word for word in out if not isinstance(word, TaskFinished)]


def test_what_ends_an_attempt_is_bound_anew_in_a_shorter_story(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without the copy, the attempt of x is the first."""
    handlers = {**machine_module.HANDLERS, ExecuteSuccess: unreported_success}
    monkeypatch.setattr(machine_module, "HANDLERS", handlers)
    duel = Duel(Config(address=ADDRESS))
    duel.send(AcquireReplicas({"copy": (PEERS[0],)}, {"copy": 1}))
    duel.send(ComputeTask("x", 1, 1))
    duel.send(GatherSuccess(PEERS[0], 1, {"copy": (1, "int")}))
    with pytest.raises(Divergence) as found:
        duel.send(ExecuteSuccess("x", 2, 1, "int"))
    shortest = shrink(Config(address=ADDRESS), duel.told, found.value)
    assert shortest == [ComputeTask("x", 1, 1), ExecuteSuccess("x", 1, 1, "int")]


def test_words_of_an_embedded_worker_are_refused() -> None:
    duel = Duel(Config(address=ADDRESS))
    duel.send(Pause())
    with pytest.raises(Divergence, match="no scheduler can say CancelTask"):
        duel.send(CancelTask("x"))
    duel = Duel(Config(address=ADDRESS))
    duel.send(ComputeTask("x", 1, 1))
    with pytest.raises(Divergence, match="put it in who_has"):
        duel.send(ComputeTask("y", 1, 1, local=("x",)))


def test_what_the_machine_refuses_is_a_divergence() -> None:
    duel = Duel(Config(address=ADDRESS))
    with pytest.raises(Divergence, match="refused"):
        duel.send(ComputeTask("x", 1, 1, executor="rocket"))


def test_every_mending_is_in_the_ledger_of_differences() -> None:
    ledger = (FOLDER / "differences.md").read_text()
    named = set(re.findall(r"\*\*(.+?)\.\*\*", ledger))
    sources = [(FOLDER / name).read_text() for name in ("mended.py", "duel.py")]
    used = {
        name
        for source in sources
        for name in re.findall(r'(?:mended\[|return )"([a-z][^"]+ [^"]+)"', source)
    }
    assert len(used) > 15
    assert used <= named


def test_unreadable_input_is_fetched_again_on_both_sides_for_who_begins_to_wait() -> None:
    """Both were in one gather, and one of them was to be computed from the other."""
    duel = Duel(Config(address=ADDRESS))
    duel.send(AcquireReplicas({"x": PEERS[:1], "y": PEERS[:1]}, {"x": 1, "y": 1}))
    duel.send(ComputeTask("y", 1, 1, who_has={"x": PEERS[:1]}, nbytes={"x": 1}))
    duel.send(GatherFailure(PEERS[0], 1, "UnpicklingError"))
    assert duel.phases == {"x": "flight", "y": "waiting"}


def test_unpausing_starts_on_both_sides() -> None:
    duel = Duel(Config(address=ADDRESS))
    duel.send(Pause())
    duel.send(ComputeTask("x", 1, 1))
    assert duel.owed == {}
    duel.send(Unpause())
    assert [type(owed).__name__ for owed in duel.owed.values()] == ["Execute"]
