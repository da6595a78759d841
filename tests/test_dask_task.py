"""Dask's tasks as jobs: run in a thread, whatever they are, with what Dask's functions look for."""

import operator
import pickle
import threading
from collections.abc import Generator
from contextvars import Context
from typing import Any

import pytest
from dask._task_spec import Alias, DataNode, Task, TaskRef
from distributed import Reschedule, get_worker, secede
from fake_host import FakeHost, worker_of
from tornado.ioloop import IOLoop

from trouper.actors.dask_task import DaskTask, Site, Specs, Values, spec_id_of
from trouper.actors.job import Job
from trouper.wire.dask_message import Pickled
from trouper.wire.stimuli import ExecuteFailure, ExecuteReschedule, ExecuteSuccess


@pytest.fixture
def host() -> FakeHost:
    host = FakeHost()
    host.values["here"] = 1
    return host


@pytest.fixture
def site(host: FakeHost) -> Generator[Site]:
    with worker_of(host, local_directory="/somewhere") as worker:
        yield Site(worker, lambda: 5.0)


def job_of(site: Site, spec: Any, inputs: dict[str, object] | None = None, attempt: int = 1) -> Job:
    """A job that has run in a thread of its own."""
    pickled = spec if isinstance(spec, Pickled) else Pickled(pickle.dumps(spec))
    job = Job("x", attempt, DaskTask(pickled, Context(), site), inputs or {}, site, True)
    thread = threading.Thread(target=job.run)
    thread.start()
    thread.join()
    return job


def test_tasks_aliases_and_data(site: Site) -> None:
    task = Task("x", operator.sub, TaskRef(("y", 1)), 2)
    assert job_of(site, task, {"~('y', 1)": 5}).value == 3
    assert job_of(site, Alias("x", "y"), {"y": 7}).value == 7
    assert job_of(site, DataNode("x", [1])).value == [1]


def test_buffers_of_the_pickle_are_out_of_band(site: Site) -> None:
    buffers: list[pickle.PickleBuffer] = []
    data = bytearray(b"abc")
    spec = DataNode("x", pickle.PickleBuffer(data))
    frames = pickle.dumps(spec, protocol=5, buffer_callback=buffers.append)
    assert bytes(job_of(site, Pickled(frames, [b.raw() for b in buffers])).value) == b"abc"


async def coroutine(number: int) -> tuple[int, IOLoop]:
    return number + 1, IOLoop.current()


def test_a_coroutine_runs_in_the_loop_that_all_share(site: Site) -> None:
    assert job_of(site, Task("x", coroutine, 1)).value == (2, site.worker.loop)


def ask_to_go_elsewhere() -> None:
    raise Reschedule


def test_a_task_may_ask_to_be_rescheduled(site: Site) -> None:
    assert job_of(site, Task("x", ask_to_go_elsewhere)).outcome == ExecuteReschedule("x", 1)
    assert not site.timings, "nobody would ever ask for it"


@pytest.mark.parametrize("frames", [b"", b"no pickle", pickle.dumps(5)])
def test_what_is_no_task_fails(site: Site, frames: bytes) -> None:
    job = job_of(site, Pickled(frames))
    assert type(job.outcome) is ExecuteFailure
    assert isinstance(job.value, Exception)
    assert not site.running


def test_a_missing_input_fails(site: Site) -> None:
    job = job_of(site, Task("x", operator.neg, TaskRef("y")))
    assert type(job.outcome) is ExecuteFailure


def test_where_and_when_it_ran(site: Site) -> None:
    job_of(site, Task("x", threading.get_ident), attempt=4)
    timing = site.timings[4]
    assert timing.start == 5.0 < timing.stop  # although this scheduler's clock stands still
    assert timing.thread != threading.get_ident()
    values = Values(site.timings)
    values["x", 4] = 1
    del values["x", 4]
    assert not site.timings


def look_around() -> Any:
    worker: Any = get_worker()
    worker.log_event("topic", 1)
    worker.update_data({"new": 2})
    secede()
    return worker.name, worker.get_current_task(), dict(worker.data), worker.local_directory


def test_what_a_task_finds(site: Site, host: FakeHost) -> None:
    job = job_of(site, Task("x", look_around))
    assert type(job.outcome) is ExecuteSuccess, job.value
    assert job.value == ("n", "x", {"here": 1, "new": 2}, "/somewhere")
    assert host.seceded == [job]
    assert host.events == [(["topic"], 1)]


def secede_twice() -> None:
    secede()
    secede()


def test_nobody_secedes_twice(site: Site, host: FakeHost) -> None:
    job_of(site, Task("x", secede_twice))
    assert len(host.seceded) == 1


def test_specs_that_come_again_are_dropped_as_often(site: Site) -> None:
    specs = Specs()
    spec = DaskTask(Pickled(b""), Context(), site)
    for _ in range(3):
        specs[5] = spec
    for left in (1, 1, 0):
        del specs[5]
        assert len(specs) == left


def test_a_spec_has_the_same_number_whenever_it_comes() -> None:
    spec = Pickled(b"abc", [b"de"])
    assert spec_id_of("x", spec) == spec_id_of("x", Pickled(bytearray(b"abc"), [memoryview(b"de")]))
    others = [
        spec_id_of("y", spec),
        spec_id_of("x", Pickled(b"abcd", [b"e"])),
        spec_id_of("x", Pickled(b"abcde")),
    ]
    assert spec_id_of("x", spec) not in others
    assert len(set(others)) == 3
    assert min(others) > 0
    assert max(others) < 1 << 57
