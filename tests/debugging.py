"""The worked example of runtime/debugging/DEBUGGING.md: its journal, and what its commands print.

``python tests/debugging.py`` records the journal anew, and writes into the page what the commands
print. Read the difference before you keep it.
"""

import os
import re
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from click.testing import CliRunner
from journals import Clock, options, told

from trouper.runtime.cli.commands import trouper
from trouper.runtime.journal.recorder import Recorder
from trouper.runtime.ledger import Config
from trouper.runtime.machine import Machine

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "runtime" / "debugging" / "DEBUGGING.md"
JOURNAL = ROOT / "examples" / "stuck.journal"

CONFIG = Config(slots={"thread": 2}, address="tcp://10.0.0.1:4000")
LIFE = told("""
    compute-task load-1 prefix=load
    compute-task load-2 prefix=load
    compute-task clean priority=1 who-has=raw@tcp://10.0.0.7:4000 nbytes=raw:5000 prefix=clean
    compute-task total priority=2 local=load-1,clean prefix=total
    execute-success load-1 #1 nbytes=800 duration-s=0.4
    gather-network-failure tcp://10.0.0.7:4000 #3
    execute-success load-2 #2 nbytes=700 duration-s=0.7
    compute-task report local=load-2 prefix=report
    find-missing #4
    execute-success report #5 nbytes=90 duration-s=0.3 type-name=str
    free-keys report,load-2
    find-missing #6
""")


def make(path: Path) -> None:
    """Record the journal of the example: a stimulus every tenth of a second."""
    clock = Clock()
    recorder = Recorder(Machine(CONFIG), "node-1", options(path), clock)
    for stimulus in LIFE:
        clock.now_ns += 100_000_000
        recorder.handle(stimulus)
        recorder.commit()
    recorder.close()


def sessions(page: str) -> Iterator[str]:
    """What stands in the blocks in which commands are typed."""
    yield from re.findall(r"(?<=```console\n).*?(?=```)", page, flags=re.DOTALL)


def typed(session: str, folder: Path) -> str:
    """A session as it goes today; its commands run in a folder that has the journal."""
    text = ""
    for line in session.splitlines():
        if line.startswith("$ "):
            text += f"{line}\n{_printed(shlex.split(line[2:]), folder)}"
    return text


def _printed(command: list[str], folder: Path) -> str:
    if command[0] == "cat":
        return (folder / command[1]).read_text()
    assert command[0] == "trouper"
    before = Path.cwd()
    os.chdir(folder)
    try:
        result = CliRunner().invoke(trouper, command[1:])
    finally:
        os.chdir(before)
    assert result.exit_code in (0, 1), result.output
    return "".join(f"{line.rstrip()}\n" for line in result.output.splitlines())


def rewritten(page: str, folder: Path) -> str:
    """The page with what its commands print today."""
    shutil.copy(JOURNAL, folder)
    for session in sessions(page):
        page = page.replace(session, typed(session, folder))
    return page


if __name__ == "__main__":
    JOURNAL.unlink(missing_ok=True)
    make(JOURNAL)
    with tempfile.TemporaryDirectory() as name:
        PAGE.write_text(rewritten(PAGE.read_text(), Path(name)))
