"""How the repository is laid out: a test file for each module, and everything fits a screen."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("runtime", "actors", "wire")
MODULES = [
    path.relative_to(ROOT)
    for room in ROOMS
    for path in sorted((ROOT / room).rglob("*.py"))
    if path.name != "__init__.py"
]

FILE_LINES = 450
FUNCTION_LINES = 70

TESTED_ELSEWHERE = {
    "actors/actor.py": "only types; test_execute, test_gather and test_timers drive actors",
    "actors/errors.py": "names, raised by what the others test; and text_of, in test_gather",
    "actors/fetched.py": "only types; test_gather and test_fetch",
    "actors/job.py": "test_execute and test_threads run jobs",
    "runtime/cli/commands.py": "test_cli_main",
    "runtime/cli/group.py": "test_cli_main",
    "runtime/errors.py": "only names; each is raised by what the others test",
    "runtime/embedded/failure.py": "test_failures",
    "runtime/embedded/future.py": "test_executor",
    "runtime/embedded/handle.py": "test_handles",
    "runtime/peers.py": "test_ledger and test_policies",
    "runtime/embedded/results.py": "test_worker and test_failures",
    "runtime/settling.py": "test_transitions",
    "wire/asyncio_connection.py": "test_dask_comm and test_dask_resumption",
    "wire/asyncio_dialling.py": "test_dask_comm and test_dask_resumption",
    "wire/errors.py": "only names; each is raised by what the others test",
    "wire/events.py": "test_session",
    "wire/instructions.py": "test_vocabulary",
    "wire/messages.py": "test_codec",
    "wire/stimuli.py": "test_vocabulary",
    "wire/upgrade.py": "test_websocket and test_listener",
    "wire/version.py": "test_journal_format",
}
"""Modules without a test file of their name, and where or why."""


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_every_module_has_its_tests(module: Path) -> None:
    names = (f"test_{module.name}", f"test_{module.parent.name}_{module.name}")
    has_file = any((ROOT / "tests" / name).exists() for name in names)
    assert has_file or str(module) in TESTED_ELSEWHERE, f"no tests/{' or '.join(names)}"
    assert not (has_file and str(module) in TESTED_ELSEWHERE), "strike it off TESTED_ELSEWHERE"


def test_no_reason_without_a_module() -> None:
    assert set(TESTED_ELSEWHERE) <= {str(module) for module in MODULES}


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_modules_are_short_and_say_what_they_are(module: Path) -> None:
    text = (ROOT / module).read_text()
    assert len(text.splitlines()) <= FILE_LINES
    assert ast.get_docstring(ast.parse(text))


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """All functions in a module, methods and inner ones too."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_functions_fit_a_screen(module: Path) -> None:
    for node in functions(ast.parse((ROOT / module).read_text())):
        assert node.end_lineno is not None
        lines = node.end_lineno - node.lineno + 1
        assert lines <= FUNCTION_LINES, f"{node.name} has {lines} lines"


@pytest.mark.parametrize("word", ["utils", "helpers", "common", "manager"])
def test_no_drawer_for_everything(word: str) -> None:
    assert not [path for path in MODULES if word in path.stem]
