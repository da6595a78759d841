"""A worker of Dask's that runs nothing: told of a task, it says at once that the task has finished.

    python tests/bench/ideal_worker.py tcp://127.0.0.1:8786 NAME THREADS

What a scheduler and a client take for its tasks, they take for any worker's. It serves nobody, so
the results of its tasks cannot be had.
"""

import asyncio
import importlib
import os
import pickle
import sys
import time
from typing import Any

METRICS: dict[str, Any] = {
    "bandwidth": {"total": 1e8, "workers": {}, "types": {}},
    "cpu": 0.0,
    "digests_total_since_heartbeat": {},
    "event_loop_interval": 0.0,
    "managed_bytes": 0,
    "memory": 0,
    "spilled_bytes": {"memory": 0, "disk": 0},
    "task_counts": {},
}
"""Of these, a scheduler wants to hear."""

OUTCOME: dict[str, Any] = {
    "op": "task-finished",
    "status": "OK",
    "nbytes": sys.getsizeof(True),
    "type": pickle.dumps(bool),
    "typename": "bool",
    "metadata": {},
    "thread": 0,
}


async def answer(address: str, name: str, threads: int) -> None:
    """Introduce the worker, and answer until the scheduler ends it."""
    comm = await importlib.import_module("distributed.core").connect(address)
    await comm.write(introduction(name, threads))
    assert (await comm.read())["status"] == "OK"
    while True:
        ops = await comm.read()
        if any(op["op"] == "close" for op in ops):
            return
        finished = [outcome_of(op) for op in ops if op["op"] == "compute-task"]
        if finished:
            await comm.write(finished)


def introduction(name: str, threads: int) -> dict[str, Any]:
    """Who this is."""
    return {
        "op": "register-worker",
        "reply": False,
        "address": "tcp://127.0.0.1:1",  # where nobody listens
        "status": "running",
        "server_id": name,
        "name": name,
        "nthreads": threads,
        "memory_limit": 0,
        "resources": {},
        "local_directory": "",
        "services": {},
        "nanny": None,
        "pid": os.getpid(),
        "versions": importlib.import_module("distributed.versions").get_versions(),
        "metrics": METRICS,
        "extra": {},
        "now": 0.0,
        "stimulus_id": "introduction",
    }


def outcome_of(task: dict[str, Any]) -> dict[str, Any]:
    """What a worker says that has run a task, in a microsecond."""
    about = {field: task[field] for field in ("key", "run_id", "stimulus_id")}
    start = time.time()
    span = {"action": "compute", "start": start, "stop": start + 1e-6}
    return {**OUTCOME, **about, "startstops": [span]}


if __name__ == "__main__":
    asyncio.run(answer(sys.argv[1], sys.argv[2], int(sys.argv[3])))
