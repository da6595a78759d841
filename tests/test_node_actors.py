"""Dask's actors on nodes, called by clients, by tasks and by each other, beside a stock worker."""

from collections.abc import Generator
from pathlib import Path
from typing import Any

import actor_tasks as tasks
import pytest
from dask_client import Client, by_client, result_of, results_of, wait_for_workers
from dask_cluster import Cluster, cluster
from dask_processes import until

ALL = ("a", "b", "stock")
LIMIT_S = 30


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Generator[Cluster]:
    with cluster(tmp_path_factory.mktemp("actors")) as one:
        one.node("a")
        one.node("b")
        one.stock_worker("stock", one.cws)
        yield one


@pytest.fixture(scope="module")
def client(mixed: Cluster) -> Generator[Client]:
    with mixed.client() as client:
        client.run(wait_for_workers, *ALL)
        yield client


def actor_on(client: Any, name: str, kind: Any, *arguments: Any) -> Any:
    """A future of an actor; what results from it is a proxy."""
    return client.submit(kind, *arguments, workers=[name], actor=True, pure=False)


def said(actor_future: Any) -> Any:
    """What a method returns or raises."""
    return actor_future.result(timeout=LIMIT_S)


@by_client
def test_a_client_calls_an_actor(client: Any) -> None:
    counter = result_of(actor_on(client, "a", tasks.Counter, 5))
    assert said(counter.add(2)) == counter.n == 7
    assert {said(one) for one in [counter.add() for _ in range(50)]} == {*range(8, 58)}
    assert said(counter.as_lambda())() == 57
    assert "Counter" in repr(counter)


@by_client
def test_methods_run_in_one_thread_and_coroutines_beside_each_other(client: Any) -> None:
    counter = result_of(actor_on(client, "a", tasks.Counter))
    waiting = [counter.wait() for _ in range(3)]
    assert {said(counter.where()) for _ in range(5)} == {said(counter.where())}
    assert said(counter.where())[0] == "a"
    assert said(counter.add()) == 1
    said(counter.go_on())
    assert [said(one) for one in waiting] == [1, 1, 1]


@by_client
def test_what_a_method_raises_is_raised_by_the_client(client: Any) -> None:
    counter = result_of(actor_on(client, "a", tasks.Counter))
    with pytest.raises(ValueError, match="an actor has enough"):
        said(counter.fail(ValueError))
    with pytest.raises(RuntimeError, match="an actor has raised SystemExit: an actor has enough"):
        said(counter.fail(SystemExit))
    with pytest.raises(TypeError, match="a lock cannot be serialised"):
        said(counter.lock())
    with pytest.raises(TypeError, match="positional argument"):
        said(counter.add(1, 2, 3))
    with pytest.raises(AttributeError, match="dance"):
        counter.dance()
    assert said(counter.add()) == 1


@pytest.mark.parametrize("adding", [tasks.add_to, tasks.add_in_coroutine])
@by_client
def test_tasks_everywhere_call_actors_everywhere(client: Any, adding: Any) -> None:
    for home in ALL:
        future = actor_on(client, home, tasks.Counter)
        counter = result_of(future)
        given = [
            client.submit(adding, one, 10, workers=[name], pure=False)
            for name in ALL
            for one in (future, counter)
        ]
        assert sorted(results_of(client, given)) == [10, 20, 30, 40, 50, 60]
        assert counter.n == 60


@by_client
def test_actors_call_each_other(client: Any) -> None:
    counter = actor_on(client, "a", tasks.Counter)
    askers = [result_of(actor_on(client, name, tasks.Asker, counter)) for name in ALL]
    assert sorted(said(asker.ask()) for asker in askers) == [1, 2, 3]


@by_client
def test_an_actor_goes_when_nobody_wants_it(client: Any, tmp_path: Path) -> None:
    file = tmp_path / "gone"
    counter = actor_on(client, "a", tasks.Counter, 1, str(file))
    assert result_of(client.submit(tasks.add_to, counter, 1, workers=["a"], pure=False)) == 2
    assert not file.exists()
    del counter
    until(file.exists)


@by_client
def test_an_actor_that_cannot_be_made(client: Any) -> None:
    with pytest.raises(TypeError, match="unexpected keyword"):
        result_of(client.submit(tasks.Counter, nonsense=1, actor=True, workers=["a"]))
