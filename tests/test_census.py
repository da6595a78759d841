"""The census counts right, and Ctrl-C ends it cleanly whenever it comes."""

import os
import re
import signal
import subprocess
import sys
import sysconfig
import threading
import tokenize
from pathlib import Path
from textwrap import dedent

import census
import pytest
from census import Census, Count, Function

CENSUS = Path(census.__file__)
LIBRARY = Path(sysconfig.get_path("stdlib"))
JSON = census.source_files(LIBRARY / "json", with_tests=False)

PATIENCE_S = 120
"""For a process that hangs; nothing here waits for it otherwise."""

WATCHED = """
import runpy, sys, threading
script = sys.argv.pop(1)
sys.argv[0] = script
try:
    runpy.run_path(script, run_name="__main__")
finally:
    # The progress bar tells its own thread to end, and does not wait until it has.
    left = [thread for thread in threading.enumerate() if type(thread).__module__ != "rich.live"]
    print("threads left:", len(left) - 1, file=sys.stderr)
"""
"""Runs the census and says what it leaves behind."""

ON_TERMINAL = """
import os, sys
os.login_tty(int(sys.argv[1]))
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""
"""Runs Python with a terminal as its standard streams, and as what sends it Ctrl-C."""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(CENSUS), *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def write(root: Path, files: dict[str, str | bytes]) -> list[Path]:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(dedent(content).encode() if isinstance(content, str) else content)
    return census.source_files(root, with_tests=False)


# What is counted


async def test_counts_functions_classes_lines_and_the_longest_function(tmp_path: Path) -> None:
    files = write(
        tmp_path,
        {
            "alone.py": """\
                class Outer:
                    class Inner:
                        def method(self):
                            def nested():
                                return lambda: 1
                            return nested
                """,
            "package/__init__.py": "",
            "package/latin.py": b"# coding: latin-1\n\nasync def na\xefve(): pass\n",
            "package/deep/last.py": "x = 1",
        },
    )
    advanced: list[int] = []
    found = await census.take_census(files, tmp_path, 2, lambda: advanced.append(1))
    method = Function(4, "method", "alone.py", 3)
    assert found == Census(
        {
            "alone": Count(1, 6, 2, 2, method),
            "package": Count(3, 4, 0, 1, Function(1, "naïve", "package/latin.py", 3)),
        }
    )
    assert found.total == Count(4, 10, 2, 3, method)
    assert len(advanced) == len(files)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("census")]


async def test_files_that_do_not_parse_are_named(tmp_path: Path) -> None:
    files = write(
        tmp_path,
        {
            "good.py": "def f(): pass\n",
            "old.py": "print 'hello'\n",
            "null.py": b"x = 1\0\n",
            "coding.py": b"# coding: uft-8\n",
            "bytes.py": b"x = '\xf6'\n",
            "deep.py": "(" * 10_000 + ")" * 10_000,
        },
    )
    found = await census.take_census(files, tmp_path, 2, lambda: None)
    assert found.total.files == 1
    names = [text.split(":")[0] for text in found.unparsed]
    assert names == ["bytes.py", "coding.py", "deep.py", "null.py", "old.py"]


async def test_of_functions_of_the_same_length_the_first_file_counts(tmp_path: Path) -> None:
    names = [f"m{number:02}.py" for number in range(30)]
    files = write(tmp_path, dict.fromkeys(names, "def f():\n    pass\n"))
    found = await census.take_census(files[::-1], tmp_path, 2, lambda: None)
    assert found.total == Count(30, 60, 0, 30, Function(2, "f", "m00.py", 1))


def test_tests_and_installed_packages_are_left_out(tmp_path: Path) -> None:
    write(tmp_path, dict.fromkeys(["a.py", "test/b.py", "x/tests/c.py", "site-packages/d.py"], ""))
    assert [path.name for path in census.source_files(tmp_path, with_tests=False)] == ["a.py"]
    found = census.source_files(tmp_path, with_tests=True)
    assert [path.name for path in found] == ["a.py", "b.py", "c.py"]


@pytest.mark.parametrize("package", ["asyncio", "email", "multiprocessing"])
def test_the_table_agrees_with_a_count_of_tokens(package: str) -> None:
    files = lines = classes = functions = 0
    for path in (LIBRARY / package).rglob("*.py"):
        files += 1
        with path.open("rb") as source:
            lines += sum(1 for _ in source)
            source.seek(0)
            words = [token.string for token in tokenize.tokenize(source.readline)]
        classes += words.count("class")
        functions += words.count("def")
    result = run("--path", str(LIBRARY / package), "--threads", "2", "--top", "3")
    assert result.returncode == 0
    assert _row(result.stdout, "total")[:4] == [files, lines, classes, functions]
    assert f"census: {files} of {files} files" in result.stderr


def _row(table: str, name: str) -> list[int]:
    (line,) = [line for line in table.splitlines() if line.split()[:1] == [name]]
    return [int(number.replace(",", "")) for number in re.findall(r"[\d,]*\d", line)]


def test_says_what_could_not_be_parsed(tmp_path: Path) -> None:
    write(tmp_path, {"[good].py": "def f(): pass\n", "bad.py": "def :\n"})
    result = run("--path", str(tmp_path))
    assert result.returncode == 0
    assert "[good]" in result.stdout
    assert "1 could not be parsed:\n  bad.py: invalid syntax" in result.stdout


# The command line


def test_help_shows_examples() -> None:
    result = run("--help")
    assert result.returncode == 0
    assert "examples:\n    python examples/census.py" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--path", "nowhere/at/all"), 2, "not a directory"),
        (("--threads", "0"), 2, "at least one thread"),
        (("--top", "0"), 2, "at least one row"),
    ],
)
def test_bad_arguments(arguments: tuple[str, ...], code: int, message: str) -> None:
    result = run(*arguments)
    assert result.returncode == code
    assert message in result.stderr


def test_no_source_at_all(tmp_path: Path) -> None:
    result = run("--path", str(tmp_path))
    assert result.returncode == 1
    assert "no Python source" in result.stderr


# Ctrl-C


def interrupt(*command: str, at: str) -> tuple[int, str]:
    """Run Python, send SIGINT when stderr has a line that contains `at`; exit code and stderr."""
    process = subprocess.Popen(
        [sys.executable, *command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    with process:
        assert process.stderr is not None
        text = ""
        for line in process.stderr:
            text += line
            if at in line:
                process.send_signal(signal.SIGINT)
                break
        else:
            pytest.fail(f"the census never said {at!r}:\n{text}")
        text += process.stderr.read()
        return process.wait(PATIENCE_S), text


@pytest.mark.parametrize("module", ["argparse", "trio", "rich.progress", "trouper.runtime"])
def test_ctrl_c_during_the_imports(module: str) -> None:
    code, text = interrupt("-X", "importtime", str(CENSUS), at=f" {module}\n")
    assert code == 130
    assert "census: interrupted" in text
    assert "Traceback" not in text


@pytest.mark.parametrize("part", [0, 1, 8])
def test_ctrl_c_while_files_are_read(part: int) -> None:
    total = len(census.source_files(LIBRARY, with_tests=False))
    done = part * (total // 20)
    code, text = interrupt("-c", WATCHED, str(CENSUS), at=f"census: {done} of {total} files")
    assert "Traceback" not in text
    assert text.endswith("census: interrupted\nthreads left: 0\n")
    assert code == 130


def test_ctrl_c_when_all_is_done_already() -> None:
    path, total = LIBRARY / "json", len(JSON)
    code, text = interrupt(str(CENSUS), "--path", str(path), at=f"census: {total} of {total} files")
    assert "Traceback" not in text
    assert ("census: interrupted" in text) == (code == 130)
    assert code in (0, 130)


def on_terminal(*arguments: str, press_at: bytes | None) -> tuple[int, bytes]:
    """Run the census on a terminal; press Ctrl-C when it shows `press_at`."""
    master, terminal = os.openpty()
    command = [sys.executable, "-c", ON_TERMINAL, str(terminal), "-c", WATCHED, str(CENSUS)]
    with (
        subprocess.Popen([*command, *arguments], pass_fds=[terminal]) as process,
        open(master, "r+b", buffering=0) as screen,
    ):
        os.close(terminal)
        text = b""
        while True:
            try:
                text += screen.read(1 << 16)
            except OSError:  # EIO: the other end is closed
                break
            if press_at is not None and press_at in text:
                screen.write(b"\x03")
                press_at = None
        return process.wait(PATIENCE_S), text


def test_a_live_bar_and_a_table_on_a_terminal() -> None:
    code, text = on_terminal("--path", str(LIBRARY / "json"), press_at=None)
    assert code == 0
    assert b"reading" in text
    assert f"{len(JSON)}/{len(JSON)}".encode() in text
    assert text.rindex(b"\x1b[?25l") < text.rindex(b"\x1b[?25h")  # the cursor is back
    assert b"longest function" in text


def test_ctrl_c_on_a_terminal() -> None:
    code, text = on_terminal(press_at=b"reading")
    assert code == 130
    assert b"Traceback" not in text
    assert text.rindex(b"\x1b[?25l") < text.rindex(b"\x1b[?25h")
    assert text.endswith(b"census: interrupted\r\nthreads left: 0\r\n")
