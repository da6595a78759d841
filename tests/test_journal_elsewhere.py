"""Journals of whole runs, some of them killed, replay bit for bit in other processes."""

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from random import Random
from textwrap import dedent
from typing import Any

import trio
from crashes import Fragile
from gates import AsyncGate, Gate
from soak_journal import kill_census

from trouper.runtime import ActorCrashed, Journal, RestartPolicy, TaskCancelled, Worker, open_worker

REPLAY = """
    import sys
    from trouper.runtime import Journal
    journal = Journal.open(sys.argv[1])
    print(journal.verify(), journal.replay().fingerprint(), journal.replay(50).fingerprint())
"""


def replayed_elsewhere(path: Path, seeds: range) -> set[str]:
    """What replaying says in processes that know nothing of the tasks, each with another seed."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", dedent(REPLAY), str(path)],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONHASHSEED": str(seed)},
        )
        for seed in seeds
    ]
    said: set[str] = set()
    for process in processes:
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 0
        said.add(output)
    return said


async def chaos(worker: Worker, actor: Fragile, rng: Random) -> None:
    """Tasks that succeed, fail, are cancelled, and whose actor crashes."""

    def sometimes(*values: Any) -> int:
        if rng.random() < 0.2:
            raise ValueError
        return len(values)

    gate = Gate()
    handles = [worker.submit(gate, key="gate")]
    gates: list[AsyncGate] = []
    for number in range(60):
        inputs = rng.sample(handles, min(len(handles), rng.randrange(3)))
        if rng.random() < 0.2:
            gates.append(AsyncGate())
            handles.append(worker.submit(gates[-1], *inputs))
        else:
            handles.append(worker.submit(sometimes, *inputs, key=("k", number)))
        if rng.random() < 0.1:
            rng.choice(handles[1:] or handles).cancel()
        if rng.random() < 0.1:
            actor.crash.set()
        await trio.sleep(0.0005)
    handles.append(worker.submit(AsyncGate()))
    handles[-1].cancel()  # the others may all have ended before they were cancelled
    gate.let_go()
    for opened in gates:
        opened.let_go()
    handles.append(worker.submit(AsyncGate(), key="never let go"))
    handles[-1].cancel()
    for handle in handles:
        with suppress(ValueError, TaskCancelled, ActorCrashed):
            await handle


async def test_a_journal_of_a_run_with_failures_replays_everywhere(tmp_path: Path) -> None:
    actor = Fragile()
    policy = RestartPolicy(limit=1000, backoff_s=0)
    with trio.fail_after(30):
        async with open_worker(
            threads=2, execute_actor=actor, restart_policy=policy, journal=tmp_path / "j"
        ) as worker:
            await chaos(worker, actor, Random(1))
    journal = Journal.open(tmp_path / "j")
    kinds = {type(found.stimulus).__name__ for found in journal.records()}
    assert kinds >= {"ComputeTask", "ExecuteSuccess", "ExecuteFailure", "CancelTask"}
    expected = (
        f"{journal.last} {worker.supervisor.machine.fingerprint()} "
        f"{journal.replay(50).fingerprint()}\n"
    )
    assert replayed_elsewhere(tmp_path / "j", range(1, 11)) == {expected}


def test_a_census_that_is_killed_leaves_a_journal_that_replays(tmp_path: Path) -> None:
    killed = [kill_census(tmp_path, Random(seed), "email") for seed in range(3)]
    assert sum(killed) > 0
