"""`trouper node`: its options, where they come from, and how it ends."""

import signal
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from dask_client import Client, wait_for_workers, worker_infos
from dask_cluster import Cluster, cluster
from dask_processes import Process

from trouper.runtime.cli.commands import trouper
from trouper.runtime.cluster import ExitCode

NOWHERE = "cws://127.0.0.1:1"
"""Where nobody listens."""


def run(*arguments: str, **environment: str) -> tuple[int, str]:
    """Run the command; its exit code, and what it says."""
    done = CliRunner().invoke(
        trouper, ["node", "--connect-timeout", "0", *arguments], env=environment
    )
    return done.exit_code, done.output


def test_help_has_examples_and_says_what_is_not_enforced() -> None:
    code, text = run("--help")
    assert code == 0
    assert "trouper node cws://127.0.0.1:8787" in text
    assert "NOT enforced" in " ".join(text.split())
    assert "TROUPER_THREADS" in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Missing argument 'SCHEDULER'"),
        (["tcp://127.0.0.1:8786"], "'tcp://127.0.0.1:8786' is no address: cws://HOST:PORT"),
        (["cws://127.0.0.1"], "has no host or no port"),
        ([NOWHERE, "--threads", "0"], "'--threads'"),
        ([NOWHERE, "--resources", "GPU"], "'GPU' is not of the form GPU=2,MEM=10e9"),
        ([NOWHERE, "--memory-limit", "much"], "--memory-limit"),
        ([NOWHERE, "--memory-limit", "-5"], "cannot be less than 0"),
        ([NOWHERE, "--journal", "x", "--journal-max-bytes", "5"], "at least 65536 bytes, not 5"),
        ([NOWHERE, "--journal", "x", "--journal-flush", "-1"], "flushed every -1.0 seconds"),
        ([NOWHERE, "--journal-flush", "often"], "neither a number of seconds nor buffered"),
        ([NOWHERE, "--tls-cert", "cert.pem"], "--tls-cert and --tls-key come together"),
        ([NOWHERE, "--token-file", "/there/is/none"], "/there/is/none: No such file"),
        ([NOWHERE, "--config", "/there/is/none"], "/there/is/none"),
        ([NOWHERE, "--listen", "cwss://127.0.0.1:0"], "takes a certificate"),
        ([NOWHERE, "--listen", "http://127.0.0.1"], "'http://127.0.0.1' is no address"),
    ],
)
def test_bad_input_is_exit_code_2(
    arguments: list[str], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    code, text = run(*arguments)
    assert code == 2
    assert said in text + caplog.text


def test_nobody_listens(caplog: pytest.LogCaptureFixture) -> None:
    code, _ = run(NOWHERE, "--journal-flush", "fsync", TROUPER_JOURNAL_HASH_KEYS="1")
    assert code == ExitCode.LOST
    assert "cannot connect to ws://127.0.0.1:1" in caplog.text


def test_a_file_gives_options_and_the_command_line_comes_first(tmp_path: Path) -> None:
    config = tmp_path / "node.toml"
    config.write_text(f'[node]\nscheduler = "{NOWHERE}"\nmemory-limit = "much"\nthreads = 2\n')
    assert run("--config", str(config))[0] == 2
    code, _ = run("--config", str(config), "--memory-limit", "1GB")
    assert code == ExitCode.LOST
    code, _ = run(TROUPER_CONFIG=str(config), TROUPER_MEMORY_LIMIT="1GB")
    assert code == ExitCode.LOST


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[node]\nthreds = 2", "[node] has threds; there is no such option"),
        ("[node", "node.toml: "),
    ],
)
def test_a_file_that_makes_no_sense_is_refused(content: str, said: str, tmp_path: Path) -> None:
    config = tmp_path / "node.toml"
    config.write_text(content)
    code, text = run(NOWHERE, "--config", str(config))
    assert code == 2
    assert said in text


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Generator[Cluster]:
    with cluster(tmp_path_factory.mktemp("cluster")) as one:
        yield one


@pytest.fixture(scope="module")
def client(running: Cluster) -> Generator[Client]:
    with running.client() as client:
        yield client


def only_worker(client: Any) -> Any:
    """What the scheduler knows of it."""
    (worker,) = worker_infos(client).values()
    return worker


def retire(client: Any, name: str) -> None:
    client.retire_workers(names=[name])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_in_order(
    running: Cluster, client: Client, number: signal.Signals
) -> None:
    node = running.node(f"ended-by-{number.name}", "--resources", "GPU=1")
    client.run(wait_for_workers, node.name)
    assert client.run(only_worker)["resources"] == {"GPU": 1.0}
    node.send_signal(number)
    assert node.exit_code() == ExitCode.CLOSED
    assert node.said(f"it was sent {number.name}")
    client.run(wait_for_workers)


def test_a_name_that_is_taken_is_asked_for_again_and_refused(
    running: Cluster, client: Client, tmp_path: Path
) -> None:
    first = running.node("twin")
    client.run(wait_for_workers, "twin")
    command = [sys.executable, "-m", "trouper.runtime.cli.main", "node", running.cws]
    options = ["--name", "twin", "--connect-timeout", "3"]
    with Process("the other twin", [*command, *options], tmp_path) as second:
        assert second.exit_code() == ExitCode.REFUSED
        assert len(second.said("name taken, twin")) >= 2
    client.run(retire, "twin")
    assert first.exit_code() == ExitCode.CLOSED
