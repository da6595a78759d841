"""The asyncio example answers right, runs to its end, and Ctrl-C ends it cleanly."""

import asyncio
import json
import signal
import socket
import subprocess
import sys
import tokenize
from pathlib import Path

import asyncio_service
import pytest

from trouper.runtime import WorkerExecutor

EXAMPLE = Path(asyncio_service.__file__)
PATIENCE_S = 60


def test_the_demonstration_runs_to_its_end() -> None:
    result = subprocess.run(
        [sys.executable, str(EXAMPLE)],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines[:-1]] == [
        "error:" if module == "nonsense" else module for module in asyncio_service.ASKED
    ]
    assert lines[0] == lines[4]
    assert "nonsense" in lines[6]
    assert "9 clients served" in lines[-1]


def test_the_answers_are_right() -> None:
    [source] = asyncio_service.sources("ast")
    text = source.read_text()

    async def ask() -> dict[str, object]:
        with WorkerExecutor(threads=2, resources=asyncio_service.PARSER) as executor:
            service = asyncio_service.Service(executor)
            with pytest.raises(ValueError, match="no Python source"):
                await service.ask("sys")
            first, second = await asyncio.gather(service.ask("ast"), service.ask("ast"))
            assert first == second
            return first

    answer = asyncio.run(ask())
    assert answer["files"] == 1
    assert answer["lines"] == text.count("\n")
    with source.open("rb") as file:
        names = [token.string for token in tokenize.tokenize(file.readline)]
    assert (answer["functions"], answer["classes"]) == (names.count("def"), names.count("class"))
    assert answer["words"] == [word for word, _ in asyncio_service.count_words(text).most_common(3)]


def test_ctrl_c_ends_the_server_cleanly_with_a_client_connected() -> None:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    with subprocess.Popen(
        [sys.executable, str(EXAMPLE), "--serve", str(port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdout is not None
        assert "serving" in server.stdout.readline()
        with socket.create_connection(("localhost", port)) as client, client.makefile("rw") as link:
            link.write("json\nno.such.module\n")
            link.flush()
            assert json.loads(link.readline())["module"] == "json"
            assert "error" in json.loads(link.readline())
            link.write("email\n")
            link.flush()
            server.send_signal(signal.SIGINT)
            out, err = server.communicate(timeout=PATIENCE_S)
    assert (server.returncode, out, err) == (130, "", "interrupted\n")
