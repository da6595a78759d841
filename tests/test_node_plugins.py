"""Worker plugins and uploaded files on nodes, by an unmodified client."""

from collections.abc import Generator
from pathlib import Path
from typing import Any

import plugin_tasks as tasks
import pytest
from dask_client import Client, by_client, result_of, wait_for_workers
from dask_cluster import Cluster, cluster

LARGE_NBYTES = 70_000_000


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Generator[Cluster]:
    with cluster(tmp_path_factory.mktemp("plugins")) as one:
        one.node("a")
        one.node("b")
        yield one


@pytest.fixture(scope="module")
def client(nodes: Cluster) -> Generator[Client]:
    with nodes.client() as client:
        client.run(wait_for_workers, "a", "b")
        yield client


def on(client: Any, name: str, function: Any, *arguments: Any) -> Any:
    """What a function returns as a task on this node."""
    return result_of(client.submit(function, *arguments, workers=[name], pure=False))


def notes(directory: Path) -> dict[str, str]:
    """What has happened on each node."""
    return {file.name: file.read_text().strip() for file in directory.iterdir()}


@by_client
def test_a_plugin_begins_is_replaced_and_ends(client: Any, tmp_path: Path) -> None:
    for number in (1, 2):
        client.register_plugin(tasks.Noted(str(tmp_path), number), name="noted")
    assert notes(tmp_path) == dict.fromkeys("ab", "+1 -1 +2")
    client.unregister_worker_plugin("noted")
    assert notes(tmp_path) == dict.fromkeys("ab", "+1 -1 +2 -2")


@by_client
def test_a_plugin_that_fails_is_told_and_ends_no_node(client: Any) -> None:
    with pytest.raises(Exception, match="a plugin wants to go"):
        client.register_plugin(tasks.Quits(), name="quits")
    client.unregister_worker_plugin("quits")
    assert on(client, "a", abs, -1) == 1


@by_client
def test_a_plugin_that_wants_transitions_is_refused(client: Any) -> None:
    with pytest.raises(Exception, match="has a method `transition`"):
        client.register_plugin(tasks.WantsTransitions(), name="wants")


@by_client
def test_a_module_is_uploaded_and_again(client: Any, tmp_path: Path) -> None:
    module = tmp_path / "uploaded_module.py"
    for number in (1, 2):
        module.write_text(f"NUMBER = {number}\n")
        client.upload_file(str(module))
        for name in "ab":
            assert on(client, name, tasks.number_in, "uploaded_module") == number


@by_client
def test_a_file_that_is_no_module(client: Any, tmp_path: Path) -> None:
    file = tmp_path / "uploaded.txt"
    file.write_text("read me")
    client.upload_file(str(file), load=False)
    assert [on(client, name, tasks.text_of_file, "uploaded.txt") for name in "ab"] == [
        "read me",
        "read me",
    ]


@by_client
def test_a_file_that_is_longer_than_a_body_may_be(client: Any, tmp_path: Path) -> None:
    file = tmp_path / "large.bin"
    file.write_bytes(bytes(LARGE_NBYTES))
    client.upload_file(str(file), load=False)
    assert [on(client, name, tasks.length_of_file, "large.bin") for name in "ab"] == [
        LARGE_NBYTES,
        LARGE_NBYTES,
    ]


@by_client
def test_a_module_that_cannot_be_imported(client: Any, tmp_path: Path) -> None:
    module = tmp_path / "uploaded_badly.py"
    module.write_text("1 / 0\n")
    with pytest.raises(ZeroDivisionError):
        client.upload_file(str(module))


def test_a_node_that_joins_later_has_them_too_and_ends_them(
    client: Client, nodes: Cluster, tmp_path: Path
) -> None:
    module = tmp_path / "uploaded_before.py"
    module.write_text("NUMBER = 7\n")
    notes_of = tmp_path / "notes"
    notes_of.mkdir()
    client.run(prepare, str(module), str(notes_of))
    later = nodes.node("later")
    client.run(wait_for_workers, "a", "b", "later")
    assert client.run(on, "later", tasks.number_in, "uploaded_before") == 7
    assert notes(notes_of)["later"] == "+5"
    later.end()
    assert later.exit_code() == 0
    assert notes(notes_of) == {"a": "+5", "b": "+5", "later": "+5 -5"}


def prepare(client: Any, module: str, directory: str) -> None:
    """What every worker is to have."""
    client.upload_file(module)
    client.register_plugin(tasks.Noted(directory, 5), name="for all")
