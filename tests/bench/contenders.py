"""What the benchmark compares: four ways of running tasks in threads, and four shapes of work.

The shapes:

- **independent**: no-ops, 1,000 in flight: 1,000 are submitted, all are waited for, and again.
- **chain**: each task takes the result of the one before.
- **tree**: a sum of n leaves by pairs; 2n - 1 tasks.
- **pair**: no-ops, two in flight: when the older of two has ended, another one is submitted.

Everybody has two threads and gets every result. A contender that cannot do a shape does the
nearest thing that its users would do:

- ThreadPoolExecutor knows no graph: in a chain and in a tree the caller waits for the inputs and
  passes their values on, in a tree level by level.
- `dask.threaded.get` takes a whole graph and waits for it: a graph for each 1,000 no-ops, and for
  pairs one graph of all, of which it keeps two in flight by itself.

Each `measure_...` opens the contender, warms it up, and gives the seconds that the work took
without the opening and closing. What a contender needs is imported when it is called, so that
each process holds its own contender only.
"""

import gc
import importlib
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeAlias, TypeVar

T = TypeVar("T")

THREADS = 2
WAVE = 1000
"""Independent tasks in flight."""
WARM_UP = 100
"""At most so many tasks are run before the clock starts."""

Measure: TypeAlias = Callable[[str, int], float]
"""The seconds that a shape of n tasks, or of n leaves, takes."""


def noop(value: int = 0) -> int:
    """Do nothing."""
    return value


def increment(value: int) -> int:
    """Do hardly more."""
    return value + 1


def add(left: int, right: int) -> int:
    """Add two results."""
    return left + right


def task_count(shape: str, n: int) -> int:
    """How many tasks a shape has."""
    return 2 * n - 1 if shape == "tree" else n


def waves(n: int) -> Iterator[range]:
    """The numbers from 0 to n - 1, a wave at a time."""
    for start in range(0, n, WAVE):
        yield range(start, min(start + WAVE, n))


def pairwise(level: Sequence[T], join: Callable[[T, T], T]) -> list[T]:
    """The next level of a tree; an odd one out goes up as it is."""
    joined = [join(left, right) for left, right in zip(level[::2], level[1::2], strict=False)]
    return joined + list(level[len(joined) * 2 :])


def timed(run: Callable[[int], object], n: int) -> float:
    """The seconds that `run(n)` takes when it is warm."""
    run(min(n, WARM_UP))
    gc.collect()
    start = time.perf_counter()
    run(n)
    return time.perf_counter() - start


# trouper


def measure_trouper(shape: str, n: int) -> float:
    """An embedded worker, called as its users call it."""
    trio = importlib.import_module("trio")
    runtime = importlib.import_module("trouper.runtime")

    async def independent(worker: Any, n: int) -> None:
        for wave in waves(n):
            for handle in worker.map(noop, wave):
                await handle

    async def chain(worker: Any, n: int) -> None:
        handle = worker.submit(noop, 1)
        for _ in range(n - 1):
            handle = worker.submit(increment, handle)
        assert await handle == n

    async def tree(worker: Any, n: int) -> None:
        level: list[Any] = worker.map(noop, range(n))
        while len(level) > 1:
            level = pairwise(level, lambda left, right: worker.submit(add, left, right))
        assert await level[0] == n * (n - 1) // 2

    async def pair(worker: Any, n: int) -> None:
        in_flight: deque[Any] = deque()
        for _ in range(n):
            in_flight.append(worker.submit(noop))
            if len(in_flight) == 2:
                await in_flight.popleft()
        while in_flight:
            await in_flight.popleft()

    async def main() -> float:
        run = {"independent": independent, "chain": chain, "tree": tree, "pair": pair}[shape]
        async with runtime.open_worker(threads=THREADS) as worker:
            await run(worker, min(n, WARM_UP))
            gc.collect()
            start = time.perf_counter()
            await run(worker, n)
            return time.perf_counter() - start

    seconds: float = trio.run(main)
    return seconds


# concurrent.futures


def measure_thread_pool(shape: str, n: int) -> float:
    """The standard library's executor."""

    def independent(n: int) -> None:
        for wave in waves(n):
            for future in [pool.submit(noop, i) for i in wave]:
                future.result()

    def chain(n: int) -> None:
        value = pool.submit(noop, 1).result()
        for _ in range(n - 1):
            value = pool.submit(increment, value).result()
        assert value == n

    def tree(n: int) -> None:
        level = [pool.submit(noop, i) for i in range(n)]
        while len(level) > 1:
            level = pairwise(
                level, lambda left, right: pool.submit(add, left.result(), right.result())
            )
        assert level[0].result() == n * (n - 1) // 2

    def pair(n: int) -> None:
        in_flight: deque[Future[int]] = deque()
        for _ in range(n):
            in_flight.append(pool.submit(noop))
            if len(in_flight) == 2:
                in_flight.popleft().result()
        while in_flight:
            in_flight.popleft().result()

    shapes = {"independent": independent, "chain": chain, "tree": tree, "pair": pair}
    with ThreadPoolExecutor(THREADS) as pool:
        return timed(shapes[shape], n)


# dask.threaded


def measure_dask_threaded(shape: str, n: int) -> float:
    """Dask's scheduler for threads, given graphs as Dask's own collections make them."""
    threaded = importlib.import_module("dask.threaded")
    spec = importlib.import_module("dask._task_spec")

    def get(graph: dict[str, Any], keys: list[str]) -> list[int]:
        values: Any = threaded.get(graph, keys, pool=pool)
        return list(values)

    def independent(n: int) -> None:
        for wave in waves(n):
            one_graph(wave)

    def one_graph(numbers: range) -> None:
        graph = {f"noop-{i}": spec.Task(f"noop-{i}", noop, i) for i in numbers}
        get(graph, list(graph))

    def chain(n: int) -> None:
        graph = {"task-0": spec.Task("task-0", noop, 1)}
        for i in range(1, n):
            graph[f"task-{i}"] = spec.Task(f"task-{i}", increment, spec.TaskRef(f"task-{i - 1}"))
        assert get(graph, [f"task-{n - 1}"]) == [n]

    def tree(n: int) -> None:
        graph = {f"task-{i}": spec.Task(f"task-{i}", noop, i) for i in range(n)}

        def join(left: str, right: str) -> str:
            key = f"task-{len(graph)}"
            graph[key] = spec.Task(key, add, spec.TaskRef(left), spec.TaskRef(right))
            return key

        level = list(graph)
        while len(level) > 1:
            level = pairwise(level, join)
        assert get(graph, level) == [n * (n - 1) // 2]

    def pair(n: int) -> None:
        one_graph(range(n))

    shapes = {"independent": independent, "chain": chain, "tree": tree, "pair": pair}
    with ThreadPoolExecutor(THREADS) as pool:
        return timed(shapes[shape], n)


# distributed


def measure_local_cluster(shape: str, n: int) -> float:
    """A Dask cluster in this process: scheduler, worker and client."""
    distributed = importlib.import_module("distributed")

    def independent(n: int) -> None:
        for wave in waves(n):
            client.gather(client.map(noop, wave, pure=False))

    def chain(n: int) -> None:
        future = client.submit(noop, 1, pure=False)
        for _ in range(n - 1):
            future = client.submit(increment, future, pure=False)
        assert future.result() == n

    def tree(n: int) -> None:
        level: list[Any] = client.map(noop, range(n), pure=False)
        while len(level) > 1:
            level = pairwise(level, lambda left, right: client.submit(add, left, right, pure=False))
        assert level[0].result() == n * (n - 1) // 2

    def pair(n: int) -> None:
        in_flight: deque[Any] = deque()
        for _ in range(n):
            in_flight.append(client.submit(noop, pure=False))
            if len(in_flight) == 2:
                in_flight.popleft().result()
        while in_flight:
            in_flight.popleft().result()

    shapes = {"independent": independent, "chain": chain, "tree": tree, "pair": pair}
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=THREADS, processes=False, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        return timed(shapes[shape], n)


CONTENDERS: dict[str, Measure] = {
    "trouper": measure_trouper,
    "ThreadPoolExecutor": measure_thread_pool,
    "dask.threaded": measure_dask_threaded,
    "LocalCluster": measure_local_cluster,
}
