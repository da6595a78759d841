"""An asyncio service that runs a graph of tasks for each request.

It answers questions about Python modules over TCP, a line each way: ``json`` gets the numbers of
files, lines, functions and classes of the package `json`, and the words that it uses most. For each
source file one task reads it and two look at it; one task more puts all of them together. The
event loop of asyncio only waits for futures, so it answers everybody else meanwhile:

    python examples/asyncio_service.py              a server and clients that ask it, then the end
    python examples/asyncio_service.py --serve 8765 a server, until Ctrl-C;  try: nc localhost 8765

Two requests for the same module at the same time share their tasks, because these have keys.
"""

import argparse
import ast
import asyncio
import importlib.util
import json
import re
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from trouper.runtime import WorkerExecutor, WorkerFuture

ASKED = ["json", "asyncio", "email", "logging", "json", "ast", "nonsense", "unittest", "asyncio"]
"""What the clients ask for, all at once."""

PARSER = {"parser": 1}
"""The worker has one parser, and each task that parses takes it: in CPython 3.11, two threads that
build syntax trees at once now and then fail (python/cpython#106905)."""


# The tasks: plain functions that know nothing of asyncio, nor of trouper.


def sources(module: str) -> list[Path]:
    """The source files of a module or package, in the order of their paths."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        raise ValueError(f"there is no Python source of a module {module!r}")
    origin = Path(spec.origin)
    if spec.submodule_search_locations is None:
        return [origin]
    return sorted(origin.parent.rglob("*.py"))


def read(path: Path) -> str:
    """The text of a source file."""
    return path.read_text(encoding="utf-8", errors="replace")


def measure(text: str) -> Counter[str]:
    """Lines, functions and classes of a source text."""
    found = Counter(lines=text.count("\n"), functions=0, classes=0)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            found["functions"] += 1
        elif isinstance(node, ast.ClassDef):
            found["classes"] += 1
    return found


def count_words(text: str) -> Counter[str]:
    """How often each word of more than three letters stands in a text."""
    return Counter(word.lower() for word in re.findall(r"[A-Za-z]{4,}", text))


def put_together(
    module: str, measures: list[Counter[str]], words: list[Counter[str]]
) -> dict[str, Any]:
    """The answer about a module."""
    total: Counter[str] = Counter()
    for part in measures:
        total.update(part)
    used: Counter[str] = Counter()
    for part in words:
        used.update(part)
    most_used = [word for word, _ in used.most_common(3)]
    return {"module": module, "files": len(measures), **total, "words": most_used}


# The service


class Service:
    """Answers lines over TCP.

    Args:
        executor: Runs the tasks; it has the resource `PARSER`.
    """

    def __init__(self, executor: WorkerExecutor) -> None:
        self._executor = executor

    async def ask(self, module: str) -> dict[str, Any]:
        """Run the graph for a module.

        Raises:
            ValueError: There is no source of such a module.
        """
        executor = self._executor
        loop = asyncio.get_running_loop()
        # Looking for files takes a while too: as any executor, this one takes single functions.
        paths = await loop.run_in_executor(executor, sources, module)
        measures: list[WorkerFuture[Counter[str]]] = []
        words: list[WorkerFuture[Counter[str]]] = []
        for path in paths:
            name = str(path)
            text = executor.submit_task(read, path, key=("read", name))
            measures.append(
                executor.submit_task(measure, text, key=("measure", name), resources=PARSER)
            )
            words.append(executor.submit_task(count_words, text, key=("words", name)))
        answer = executor.submit_task(
            put_together, module, measures, words, key=("answer", module), priority=1
        )
        return await asyncio.wrap_future(answer)

    async def serve_client(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Answer one client's lines, until it hangs up."""
        try:
            while line := await reader.readline():
                try:
                    answer = await self.ask(line.decode("utf-8", "replace").strip())
                except (ValueError, ImportError, SyntaxError) as error:
                    answer = {"error": str(error)}
                writer.write(json.dumps(answer).encode() + b"\n")
                await writer.drain()
        except (ConnectionError, asyncio.CancelledError):
            pass  # the client has gone, or the service ends: either way it is over
        finally:
            writer.close()


async def serve(executor: WorkerExecutor, port: int) -> None:
    """Serve until cancelled."""
    server = await asyncio.start_server(Service(executor).serve_client, "localhost", port)
    print(f"serving on localhost:{port}; Ctrl-C ends it", flush=True)
    try:
        await asyncio.Event().wait()
    finally:
        server.close()


# The demonstration


async def request(port: int, module: str) -> dict[str, Any]:
    """Be a client with one question."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(module.encode() + b"\n")
    answer: dict[str, Any] = json.loads(await reader.readline())
    writer.close()
    await writer.wait_closed()
    return answer


async def count_turns() -> int:
    """How often the event loop comes round, at most once a millisecond, until cancelled."""
    turns = 0
    try:
        while True:
            await asyncio.sleep(0.001)
            turns += 1
    except asyncio.CancelledError:
        return turns


async def demonstrate(executor: WorkerExecutor) -> None:
    """Start a server, have clients ask it all at once, and print what they are told."""
    server = await asyncio.start_server(Service(executor).serve_client, "127.0.0.1", 0)
    port: int = server.sockets[0].getsockname()[1]
    start = time.perf_counter()
    turning = asyncio.create_task(count_turns())
    try:
        for answer in await asyncio.gather(*[request(port, module) for module in ASKED]):
            print(describe(answer))
    finally:
        turning.cancel()
        server.close()
    took_s = time.perf_counter() - start
    print(
        f"{len(ASKED)} clients served in {took_s:.2f} s; "
        f"the event loop came round {await turning} times meanwhile"
    )


def describe(answer: dict[str, Any]) -> str:
    """An answer as a line of text."""
    if "error" in answer:
        return f"error: {answer['error']}"
    numbers = [f"{answer[what]:6} {what}" for what in ("files", "lines", "functions", "classes")]
    return f"{answer['module']:9}{'  '.join(numbers)}   {' '.join(answer['words'])}"


def main() -> int:
    """Run the demonstration, or a server."""
    parser = argparse.ArgumentParser(description="An asyncio service on a trouper worker.")
    parser.add_argument("--serve", type=int, metavar="PORT", help="serve until Ctrl-C")
    port: int | None = parser.parse_args().serve
    executor = WorkerExecutor(name="service", resources=PARSER)
    try:
        asyncio.run(demonstrate(executor) if port is None else serve(executor, port))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    finally:
        executor.shutdown(cancel_futures=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
