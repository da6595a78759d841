"""Hashed keys: nobody can read them, and the machine does the same with them."""

from pathlib import Path

import pytest
from journals import options, random_life, record

from trouper.runtime.errors import StimulusError
from trouper.runtime.journal.journal import Journal
from trouper.runtime.journal.keys import KeyHasher
from trouper.runtime.journal.recorder import Recorder
from trouper.runtime.machine import Machine
from trouper.wire.instructions import Execute, Gather
from trouper.wire.stimuli import ComputeTask, ExecuteSuccess, Stimulus, UpdateData

SECRET = b"open sesame"


def test_all_keys_of_a_word_are_hashed_and_nothing_else() -> None:
    hasher = KeyHasher(SECRET)
    a, b, c, f = (hasher.key(key) for key in ("a", "b", "c", "f"))
    assert hasher.word(
        ComputeTask("a", 1, 2, (0,), ("b",), {"c": ("tcp://p",)}, {"c": 5}, "thread", {}, "f")
    ) == ComputeTask(a, 1, 2, (0,), (b,), {c: ("tcp://p",)}, {c: 5}, "thread", {}, f)
    assert hasher.word(UpdateData({"a": (3, "int")}, -1, "a")) == UpdateData(
        {a: (3, "int")}, -1, "a"
    )
    assert hasher.word(Execute("a", 1, 2, 3, "thread", (("b", 7),))) == Execute(
        a, 1, 2, 3, "thread", ((b, 7),)
    )
    assert hasher.word(Gather("a", 1, ("a", "b"), 9)) == Gather("a", 1, (a, b), 9)


def test_hashes_depend_on_the_key_and_on_the_secret_alone() -> None:
    keys = [f"task-{number}" for number in range(1000)] + ["\ud800"]
    hashes = [KeyHasher(SECRET).key(key) for key in keys]
    assert hashes == [KeyHasher(SECRET).key(key) for key in keys]
    assert len({len(text) for text in hashes}) == 1
    assert len(set(hashes)) == len(keys)
    assert KeyHasher().key("a") != KeyHasher().key("a")
    assert KeyHasher().key("") == ""


@pytest.mark.parametrize("seed", range(4))
def test_hashing_and_deciding_may_change_places(seed: int) -> None:
    hasher = KeyHasher()
    config, stimuli = random_life(seed, 600)
    plain, hashed = Machine(config), Machine(config)
    refused = 0
    for stimulus in stimuli:
        try:
            answer = plain.handle(stimulus)
        except StimulusError:
            refused += 1
            with pytest.raises(StimulusError):
                hashed.handle(hasher.word(stimulus))
            continue
        assert hashed.handle(hasher.word(stimulus)) == [hasher.word(word) for word in answer]
        assert (
            hashed.snapshot() == Machine.from_snapshot(hasher.snapshot(plain.snapshot())).snapshot()
        )
    assert refused < 600 // 4


def test_a_journal_with_hashed_keys_replays_and_holds_no_key(tmp_path: Path) -> None:
    config, stimuli = random_life(seed=5, steps=2000)
    secret_words = {name: f"secret-{name}" for name in "abcdefgh"}
    renamer = KeyHasher(SECRET)
    renamer.key = lambda key: secret_words.get(key, f"secret-{key}" if key else "")  # type: ignore[method-assign]
    stimuli = tuple([renamer.word(stimulus) for stimulus in stimuli])
    machine = record(
        tmp_path / "j", stimuli, config, hash_keys=SECRET, max_nbytes=1 << 16, flush="buffered"
    )
    files = list(tmp_path.iterdir())
    assert len(files) > 1  # a snapshot of a machine at work is among them
    assert not [file for file in files if b"secret" in file.read_bytes()]
    journal = Journal.open(tmp_path / "j")
    assert journal.header.hashed_keys
    assert journal.verify() == journal.last - journal.first + 1
    expected = Machine.from_snapshot(KeyHasher(SECRET).snapshot(machine.snapshot()))
    assert journal.replay().fingerprint() == expected.fingerprint()


def test_an_error_in_the_journal_names_no_key(tmp_path: Path) -> None:
    recorder = Recorder(Machine(), "w", options(tmp_path / "j", hash_keys=True))
    stimulus: Stimulus = ExecuteSuccess("secret", 7, 0, "int")
    with pytest.raises(StimulusError, match="secret"):
        recorder.handle(stimulus)
    recorder.close()
    assert b"secret" not in (tmp_path / "j").read_bytes()
    (found,) = Journal.open(tmp_path / "j").records()
    assert found.error == "StimulusError"
    assert Journal.open(tmp_path / "j").verify() == 1
