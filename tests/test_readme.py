"""Every Python program in README.md runs, and prints what stands below it."""

import itertools
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

README = Path(__file__).parents[1] / "README.md"


class Block(NamedTuple):
    """A fenced block."""

    line: int
    language: str
    content: str


def blocks() -> list[Block]:
    """All fenced blocks, in their order."""
    text = README.read_text(encoding="utf-8")
    return [
        Block(text.count("\n", 0, match.start()) + 1, match[1], match[2])
        for match in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    ]


def programs() -> list[tuple[Block, Block]]:
    """Each Python program, and the block that follows it."""
    return [
        (block, after)
        for block, after in itertools.pairwise(blocks())
        if block.language == "python"
    ]


@pytest.mark.parametrize(
    ("program", "output"), [pytest.param(*pair, id=f"line-{pair[0].line}") for pair in programs()]
)
def test_programs_print_what_stands_below_them(
    program: Block, output: Block, tmp_path: Path
) -> None:
    assert output.language == "text", f"line {output.line}: the output of the program above"
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", program.content],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=tmp_path,
    )
    assert result.stderr == ""
    assert result.stdout == output.content


def test_there_are_programs() -> None:
    assert len(programs()) == sum(block.language == "python" for block in blocks()) > 3


def test_quick_start_is_two_commands_of_one_line() -> None:
    commands = [block.content for block in blocks() if block.language == "sh"]
    assert len(commands) == 2
    assert all(command.count("\n") == 1 for command in commands)


def test_files_that_are_mentioned_exist() -> None:
    text = README.read_text(encoding="utf-8")
    mentioned = re.findall(r"\b((?:runtime|actors|wire|tests|examples)/[\w/]+\.py)\b", text)
    assert mentioned
    assert not [name for name in mentioned if not (README.parent / name).exists()]
