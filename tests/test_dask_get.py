"""`WorkerExecutor.get`: Dask's graphs as graphs of the worker's tasks, with one thread."""

# Dask has hardly any types.
# pyright: basic, reportPrivateImportUsage=false, reportArgumentType=false

import gc
import random
import signal
import string
import sys
import threading
import traceback
import weakref
from collections.abc import Iterator
from typing import Any

import dask
import dask.array as da
import dask.bag as db
import dask.threaded
import numpy as np
import pytest
from dask._task_spec import Alias, DataNode, List, Task, TaskRef
from dask.callbacks import Callback
from dask.diagnostics import ProgressBar

from trouper.runtime import GraphError, TaskCancelled, WorkerExecutor

PATIENCE_S = 20.0


@pytest.fixture
def executor() -> Iterator[WorkerExecutor]:
    with WorkerExecutor(threads=1) as made:
        yield made


def inc(value: int) -> int:
    return value + 1


def add(*values: int) -> int:
    return sum(values)


def fail(error: BaseException, *_: object) -> None:
    raise error


# Results


def test_arrays_bags_and_delayed_give_what_dask_gives(executor: WorkerExecutor) -> None:
    array = da.random.RandomState(7).random_sample((300, 300), chunks=(60, 75))
    arrays = [(array @ array.T).sum(axis=0), array.std(), array[::7, 3].cumsum(axis=0)]
    words = ["to", "be", "or", "not", "to", "be"] * 30
    bags = [
        db.from_sequence(words, npartitions=7).frequencies(),
        db.from_sequence(range(100), npartitions=9).map(inc).fold(add),
        db.from_sequence(range(50), npartitions=4).filter(lambda x: x % 3 == 0),
    ]
    delayed = dask.delayed(add)(*[dask.delayed(inc)(i) for i in range(20)])
    ours = dask.compute(*arrays, *bags, delayed, scheduler=executor.get)
    theirs = dask.compute(*arrays, *bags, delayed, scheduler="threads")
    for mine, reference in zip(ours[:3], theirs[:3], strict=True):
        np.testing.assert_array_equal(mine, reference)
    assert ours[3:] == theirs[3:]
    with dask.config.set(scheduler=executor.get):
        assert delayed.compute() == 210


def test_an_executor_is_a_scheduler_too(executor: WorkerExecutor) -> None:
    array = da.ones((100,), chunks=10)
    assert array.sum().compute(scheduler=executor) == 100


def test_today_s_graphs(executor: WorkerExecutor) -> None:
    graph = {
        "data": DataNode("data", [1, 2]),
        "alias": Alias("alias", "data"),
        ("x", 0): Task(("x", 0), len, TaskRef("alias")),
        ("x", 1): Task(("x", 1), add, TaskRef(("x", 0)), Task(None, inc, TaskRef(("x", 0)))),
        "all": Task("all", list, List(TaskRef(("x", 0)), TaskRef(("x", 1)), 7)),
    }
    keys = ["all", ("x", 1), "alias", "data"]
    assert executor.get(graph, keys) == ([2, 5, 7], 5, [1, 2], [1, 2])


def test_graphs_of_tuples(executor: WorkerExecutor) -> None:
    graph = {
        "a": 1,
        "b": (inc, "a"),
        "c": (add, "a", (inc, (inc, "b")), "b"),
        "d": [(inc, "a"), "c", "text"],
        "e": (sorted, {"k": "b"}),
        "f": "c",
    }
    keys = ["a", "b", "c", "d", "e", "f"]
    assert executor.get(graph, keys) == dask.threaded.get(graph, keys)


@pytest.mark.parametrize("keys", ["w", ["w", "y"], [["w"], ["y", ["x"]], []], ["w", "w"], []])
def test_results_are_nested_as_the_keys_are(executor: WorkerExecutor, keys: Any) -> None:
    graph = {"x": 1, "y": 2, "z": (inc, "x"), "w": (add, "z", "y")}
    assert executor.get(graph, keys) == dask.threaded.get(graph, keys)


def test_a_chain_of_ten_thousand_and_a_task_of_ten_thousand_inputs(
    executor: WorkerExecutor,
) -> None:
    chain: dict[Any, Any] = {0: (int,)}
    chain.update({i + 1: (inc, i) for i in range(10_000)})
    assert executor.get(chain, 10_000) == 10_000
    wide: dict[Any, Any] = {("w", i): (inc, i) for i in range(10_000)}
    wide["sum"] = (sum, [("w", i) for i in range(10_000)])
    assert executor.get(wide, "sum") == 50_005_000


def test_nested_computations_finish_with_one_thread(executor: WorkerExecutor) -> None:
    def outer(n: int) -> int:
        inner = dask.delayed(add)(*[dask.delayed(inc)(i) for i in range(n)])
        return int(inner.compute(scheduler=executor.get))

    tree = dask.delayed(add)(*[dask.delayed(outer)(n) for n in range(6)])
    assert tree.compute(scheduler=executor.get) == 35
    assert executor.submit(outer, 4).result(PATIENCE_S) == 10


def test_many_threads_may_compute_at_once() -> None:
    results: list[int] = []
    array = da.arange(1000, chunks=50)
    with WorkerExecutor(threads=2) as executor:
        threads = [
            threading.Thread(
                target=lambda: results.append(int(array.sum().compute(scheduler=executor.get)))
            )
            for _ in range(5)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_S)
    assert results == [499500] * 5


# Order and memory


def test_it_goes_into_the_depth(executor: WorkerExecutor) -> None:
    ran: list[str] = []

    # Each of a kind of its own, for of a kind that is known to be brief some are started ahead.
    letters = string.ascii_letters[:20]
    graph: dict[Any, Any] = {f"load{x}": (ran.append, "load!") for x in letters}
    graph.update({f"use{x}": (lambda _: ran.append("use"), f"load{x}") for x in letters})
    graph["all"] = (list, [f"use{x}" for x in letters])
    executor.get(graph, "all")
    loaded = most = 0
    for name in ran:
        loaded += 1 if name == "load!" else -1
        most = max(most, loaded)
    assert len(ran) == 40
    assert most <= 3


def test_intermediate_results_are_dropped_when_they_have_been_used(
    executor: WorkerExecutor,
) -> None:
    class Value:
        pass

    gone = threading.Event()
    checked: list[bool] = []

    def make() -> Value:
        value = Value()
        weakref.finalize(value, gone.set)
        return value

    def check(_: object) -> None:
        checked.append(gone.wait(PATIENCE_S))

    graph = {"value": (make,), "use": (id, "value"), "check": (check, "use"), "end": (id, "check")}
    gc.disable()
    try:
        executor.get(graph, "end")
    finally:
        gc.enable()
    assert checked == [True]


# Errors


def test_a_cycle_is_named_at_once(executor: WorkerExecutor) -> None:
    graph = {"a": (inc, "b"), "b": (inc, "c"), "c": (inc, "a"), "d": (inc, "c")}
    with pytest.raises(GraphError, match=r"'b' -> 'a' -> 'c' -> 'b'|'c' -> 'b' -> 'a' -> 'c'"):
        executor.get(graph, "d")
    with pytest.raises(GraphError, match="'a' -> 'a'"):
        executor.get({"a": "a"}, "a")
    with pytest.raises(GraphError, match="'a' -> 'a'"):
        executor.get({"a": (inc, "a")}, ["a"])
    long = {i: (inc, (i + 1) % 10_000) for i in range(10_000)}
    with pytest.raises(GraphError, match=r"0 -> 9999 -> .*\(9981 more\).* -> 0"):
        executor.get(long, 0)


def test_a_key_that_is_nowhere_is_named_at_once(executor: WorkerExecutor) -> None:
    with pytest.raises(GraphError, match="the key 'b' is not in the graph"):
        executor.get({"a": 1}, ["a", "b"])
    graph = {"a": Task("a", inc, TaskRef("b"))}
    with pytest.raises(GraphError, match="the key 'b', an input of 'a', is not in the graph"):
        executor.get(graph, "a")


def test_the_first_failure_is_raised_and_the_rest_is_cancelled(
    executor: WorkerExecutor, caplog: pytest.LogCaptureFixture
) -> None:
    error = ValueError("no")
    ran: list[int] = []
    graph: dict[Any, Any] = {("bad", i): (fail, error) for i in range(3)}
    graph.update({("after", i): (ran.append, ("bad", 0)) for i in range(5)})
    graph["end"] = (list, list(graph))
    with pytest.raises(ValueError, match="no") as caught:
        executor.get(graph, "end")
    assert caught.value is error
    assert traceback.extract_tb(error.__traceback__)[-1].name == "fail"
    assert not ran
    executor.shutdown()
    assert "nobody awaited" not in caplog.text


def test_ctrl_c_while_waiting_cancels_the_rest(executor: WorkerExecutor) -> None:
    begun, go = threading.Event(), threading.Event()
    ran: list[object] = []

    def interrupt() -> None:
        begun.set()
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        assert go.wait(PATIENCE_S)

    graph = {"first": (interrupt,), "then": (ran.append, "first")}
    with pytest.raises(KeyboardInterrupt):
        executor.get(graph, "then")
    go.set()
    executor.shutdown()
    assert begun.is_set()
    assert not ran


def test_shutdown_with_cancel_futures_ends_a_computation() -> None:
    executor = WorkerExecutor(threads=1)
    begun, go = threading.Event(), threading.Event()

    def hold() -> None:
        begun.set()
        assert go.wait(PATIENCE_S)

    def stop() -> None:
        assert begun.wait(PATIENCE_S)
        executor.shutdown(wait=False, cancel_futures=True)

    stopper = threading.Thread(target=stop)
    stopper.start()
    with pytest.raises(TaskCancelled):
        executor.get({"a": (hold,), "b": (id, "a")}, "b")
    go.set()
    stopper.join()
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.get({"a": (int,)}, "a")
    executor.shutdown()


def test_a_coroutine_that_would_block_the_loop_is_told_so(executor: WorkerExecutor) -> None:
    async def block() -> Any:
        return executor.get({"a": (int,)}, "a")

    with pytest.raises(RuntimeError, match="block"):
        executor.submit_task(block).result(PATIENCE_S)


def test_without_dask_it_says_what_is_missing(
    executor: WorkerExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "trouper.runtime.embedded.dask_get", raising=False)
    monkeypatch.setitem(sys.modules, "dask.local", None)
    with pytest.raises(ImportError, match="pip install dask"):
        executor.get({"a": 1}, "a")


# Dask's callbacks


class Record(Callback):  # type: ignore[misc]
    """What Dask tells its callbacks, in order, and whether the state is sound."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Any]] = []
        super().__init__()

    def _start(self, dsk: Any) -> None:
        self.told.append(("start", len(dsk)))

    def _start_state(self, dsk: Any, state: Any) -> None:
        self.told.append(("state", sorted(state["ready"])))

    def _pretask(self, key: Any, dsk: Any, state: Any) -> None:
        assert key in state["running"]
        assert threading.current_thread() is threading.main_thread()
        self.told.append(("begin", key))

    def _posttask(self, key: Any, result: Any, dsk: Any, state: Any, worker_id: Any) -> None:
        assert key in state["finished"]
        self.told.append(("end", (key, result)))

    def _finish(self, dsk: Any, state: Any, failed: bool) -> None:
        self.told.append(("finish", failed))


def test_callbacks_are_told_everything_in_order(executor: WorkerExecutor) -> None:
    graph = {"a": 1, "b": (inc, "a"), "c": (add, "b", "a"), "unused": (inc, "a")}
    with Record() as record:
        assert executor.get(graph, ["c"]) == (3,)
    assert record.told == [
        ("start", 3),
        ("state", ["b"]),
        ("begin", "b"),
        ("end", ("b", 2)),
        ("begin", "c"),
        ("end", ("c", 3)),
        ("finish", False),
    ]


def test_callbacks_are_told_of_a_failure(executor: WorkerExecutor) -> None:
    with Record() as record, pytest.raises(ValueError, match="no"):
        executor.get({"a": (fail, ValueError("no")), "b": (inc, "a")}, "b")
    assert record.told[2:] == [("begin", "a"), ("finish", True)]


def test_a_callback_that_raises_ends_the_computation(executor: WorkerExecutor) -> None:
    def broken(*_: object) -> None:
        raise LookupError("broken")

    with Callback(posttask=broken), pytest.raises(LookupError, match="broken"):
        executor.get({"a": (int,), "b": (inc, "a")}, "b")
    assert executor.get({"a": (int,), "b": (inc, "a")}, "b") == 1


def test_a_cache_may_put_results_into_the_graph(executor: WorkerExecutor) -> None:
    def put(dsk: Any) -> None:
        dsk["b"] = 100

    with Callback(start=put):
        assert (
            executor.get({"a": (fail, ValueError()), "b": (inc, "a"), "c": (inc, "b")}, "c") == 101
        )


def test_callbacks_see_a_random_graph_as_dask_shows_it(executor: WorkerExecutor) -> None:
    rng = random.Random(3)
    graph: dict[Any, Any] = {"k0": 1}
    for i in range(1, 300):
        graph[f"k{i}"] = (add, *[f"k{j}" for j in rng.sample(range(i), min(i, 3))])
    seen: dict[str, set[Any]] = {"ours": set(), "dask": set()}
    for name, get in (("ours", executor.get), ("dask", dask.threaded.get)):

        def collect(key: Any, result: Any, dsk: Any, state: Any, _: Any, name: str = name) -> None:
            seen[name].add((key, result, len(state["dependencies"][key])))

        with Callback(posttask=collect):
            get(graph, ["k299", "k150"])
    assert seen["ours"] == seen["dask"]


def test_the_progress_bar_works(
    executor: WorkerExecutor, capsys: pytest.CaptureFixture[str]
) -> None:
    with ProgressBar():
        da.ones((40,), chunks=10).sum().compute(scheduler=executor.get)
    assert "100% Completed" in capsys.readouterr().out
