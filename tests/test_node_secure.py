"""A cluster with certificates and a token: its scheduler, two nodes and a stock worker."""

from collections.abc import Generator
from pathlib import Path
from typing import Any

import node_tasks as tasks
import pytest
import trustme
from actor_tasks import Counter, add_to
from dask_client import Client, by_client, result_of, wait_for_workers, workers
from dask_cluster import Cluster, cluster

NAMES = ("a", "b", "stock")


def credentials(directory: Path) -> dict[str, str]:
    """A token, an authority and a certificate, as trouper and Dask find them."""
    authority: Any = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    files = {name: str(directory / name) for name in ("token", "ca.pem", "cert.pem", "key.pem")}
    Path(files["token"]).write_text("open sesame\n")
    authority.cert_pem.write_to_path(files["ca.pem"])
    issued.cert_chain_pems[0].write_to_path(files["cert.pem"])
    issued.private_key_pem.write_to_path(files["key.pem"])
    dask = {"DASK_DISTRIBUTED__COMM__TLS__CA_FILE": files["ca.pem"]}
    for role in ("SCHEDULER", "WORKER", "CLIENT"):
        dask[f"DASK_DISTRIBUTED__COMM__TLS__{role}__CERT"] = files["cert.pem"]
        dask[f"DASK_DISTRIBUTED__COMM__TLS__{role}__KEY"] = files["key.pem"]
    return {
        "TROUPER_TOKEN_FILE": files["token"],
        "TROUPER_TLS_CA_FILE": files["ca.pem"],
        "TROUPER_TLS_CERT": files["cert.pem"],
        "TROUPER_TLS_KEY": files["key.pem"],
        **dask,
    }


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Generator[Cluster]:
    directory = tmp_path_factory.mktemp("secure")
    with cluster(directory, scheme="cwss", **credentials(directory)) as one:
        one.node("a")
        one.node("b")
        one.stock_worker("stock", one.cws)
        yield one


@pytest.fixture(scope="module")
def client(secure: Cluster) -> Generator[Client]:
    with secure.client() as client:
        client.run(wait_for_workers, *NAMES)
        assert {where.split(":")[0] for where in client.run(workers).values()} == {"cwss"}
        yield client


@by_client
def test_values_go_from_each_to_each(client: Any) -> None:
    for maker in NAMES:
        made = client.submit(tasks.ones, 8_000_000, workers=[maker], pure=False)
        for user in NAMES:
            used = client.submit(tasks.length, made, workers=[user], pure=False)
            assert result_of(used) == 1_000_000


@by_client
def test_a_task_may_be_a_client(client: Any) -> None:
    future = client.submit(tasks.with_worker_client, 1, workers=["a"], pure=False)
    assert result_of(future) == 2


@pytest.fixture
def by_options(secure: Cluster, client: Client) -> Generator[str]:
    """A node that finds nothing in its environment."""
    files = {
        "--token-file": "token",
        "--tls-ca-file": "ca.pem",
        "--tls-cert": "cert.pem",
        "--tls-key": "key.pem",
    }
    options = [part for option, file in files.items() for part in (option, secure.path(file))]
    node = secure.node("by-options", *options, env={})
    client.run(wait_for_workers, *NAMES, "by-options")
    yield node.name
    node.end()
    assert node.exit_code() == 0
    client.run(wait_for_workers, *NAMES)


@by_client
def test_tasks_have_the_credentials_of_their_node(client: Any, by_options: str) -> None:
    future = client.submit(tasks.with_worker_client, 1, workers=[by_options], pure=False)
    assert result_of(future) == 2
    for maker, user in ((by_options, "stock"), ("stock", by_options)):
        counter = client.submit(Counter, actor=True, workers=[maker], pure=False)
        added = client.submit(add_to, counter, 2, workers=[user], pure=False)
        assert result_of(added) == 2


def test_who_has_the_wrong_token_is_not_let_in(client: Client, secure: Cluster) -> None:
    wrong = secure.directory / "wrong"
    wrong.write_text("please\n")
    stranger = secure.node("stranger", "--token-file", str(wrong))
    assert stranger.exit_code() == 4
    assert stranger.said("unauthorized")
    secure.journals.pop()  # it has not come so far as to write one
    client.run(wait_for_workers, *NAMES)
