"""Clients in processes of their own: what comes back, what stays there, and what goes wrong."""

import os
import signal
import threading
import warnings
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from dask_client import Client, by_client
from dask_processes import Scheduler


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory: pytest.TempPathFactory) -> Generator[Scheduler]:
    with Scheduler(tmp_path_factory.mktemp("scheduler")) as one:
        yield one


@pytest.fixture(scope="module")
def client(scheduler: Scheduler, tmp_path_factory: pytest.TempPathFactory) -> Generator[Client]:
    with Client(scheduler["tcp"], tmp_path_factory.mktemp("client")) as one:
        yield one


def address_of(client: Any) -> str:
    return str(client.scheduler.address)


def pid_and_next(_: Any, number: int) -> tuple[int, int]:
    return os.getpid(), number + 1


def test_a_function_is_called_there_with_the_client(scheduler: Scheduler, client: Client) -> None:
    assert client.run(address_of) == scheduler["tcp"]
    assert client.run(pid_and_next, 2) == (client.pid, 3)


@by_client
def test_a_whole_test_may_run_there(client: Any, tmp_path: Path) -> None:
    assert threading.current_thread() is threading.main_thread()
    assert address_of(client).startswith("tcp://")
    assert tmp_path.is_dir()


def compare(_: Any, number: int) -> None:
    print("this has been said")
    assert number == 3, "not what it should be"


def test_an_assertion_fails_here_as_pytest_has_rewritten_it(
    client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(AssertionError, match=r"not what it should be\nassert 2 == 3") as caught:
        client.run(compare, 2)
    assert caught.traceback[-1].name == "compare"
    assert "this has been said" in capsys.readouterr().out


def expect_in_vain(_: Any) -> None:
    with pytest.raises(ValueError, match="nobody raises it"):
        pass


def test_what_pytest_says_there_is_raised_here(client: Client) -> None:
    with pytest.raises(BaseException, match="DID NOT RAISE"):
        client.run(expect_in_vain)


def warn(_: Any) -> None:
    warnings.warn("beware", stacklevel=1)


def test_warnings_are_errors_there_too(client: Client) -> None:
    with pytest.raises(UserWarning, match="beware"):
        client.run(warn)


def lock(_: Any) -> Any:
    return threading.Lock()


def acquire(_: Any, there: dict[str, Any]) -> bool:
    return bool(there["lock"].acquire(blocking=False))


def test_what_cannot_come_back_can_be_kept(client: Client) -> None:
    with pytest.raises(TypeError, match="cannot pickle"):
        client.run(lock)
    kept = client.keep(lock)
    assert client.run(acquire, {"lock": kept})
    assert not client.run(acquire, {"lock": kept})


def wait_for_ever(_: Any) -> None:
    threading.Event().wait()


def test_one_that_takes_too_long_says_where_it_is(scheduler: Scheduler, tmp_path: Path) -> None:
    with (
        pytest.raises(AssertionError, match=r"exit code -6:(?s:.*)in serve"),
        Client(scheduler["tcp"], tmp_path) as client,
    ):
        client.run(address_of)
        client.limit_s = 0.1
        client.run(wait_for_ever)


def test_one_that_ends_too_early_is_told(scheduler: Scheduler, tmp_path: Path) -> None:
    with (
        pytest.raises(AssertionError, match=f"exit code -{signal.SIGKILL.value}"),
        Client(scheduler["tcp"], tmp_path) as client,
    ):
        client.send_signal(signal.SIGKILL)
        client.run(address_of)
