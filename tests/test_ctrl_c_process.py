"""Ctrl-C sent to a process of its own, once and a second time."""

import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

PROGRAM = """
import sys, threading, time
import trio
from trouper.runtime import open_worker, check_cancelled

def say(word):
    sys.stdout.write(word + "\\n")  # at once, so that two threads' words do not mix
    sys.stdout.flush()

def hang():
    say("ready")
    threading.Event().wait()

def polite():
    say("ready")
    while True:
        check_cancelled()
        time.sleep(0.001)

async def burn():
    say("ready")
    while True:
        pass

async def wait():
    try:
        say("ready")
        await trio.sleep_forever()
    finally:
        say("cleaned up")

async def main():
    try:
        async with open_worker(threads=2) as worker:
            {body}
    finally:
        say("left")

try:
    trio.run(main)
except KeyboardInterrupt:
    say("KeyboardInterrupt")
for thread in threading.enumerate():
    if "-thread-" in thread.name:
        thread.join(0.3)  # it may be about to end
threads = [thread for thread in threading.enumerate() if "-thread-" in thread.name]
say(f"{{len(threads)}} threads")
"""


class Child:
    """A program that is sent Ctrl-C."""

    def __init__(self, body: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-u", "-c", PROGRAM.format(body=body)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parent,
        )
        self._guard = threading.Timer(20, self._process.kill)
        self._guard.start()

    def expect(self, line: str) -> None:
        """Wait for what it says next."""
        assert self._process.stdout is not None
        said = self._process.stdout.readline().strip()
        assert said == line, f"{said!r}, and not {line!r}: {self._said_wrong() if not said else ''}"

    def expect_complaint(self, words: str) -> None:
        """Wait for a line in its log."""
        assert self._process.stderr is not None
        while words not in (line := self._process.stderr.readline()):
            assert line, f"it has not said {words!r}"

    def _said_wrong(self) -> str:
        assert self._process.stderr is not None
        return self._process.stderr.read()

    def interrupt(self) -> None:
        self._process.send_signal(signal.SIGINT)

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *_: object) -> None:
        self._guard.cancel()
        self._process.kill()
        self._process.communicate()

    def end(self, *lines: str) -> None:
        """It ends after these lines, and makes no noise."""
        for line in lines:
            self.expect(line)
        out, noise = self._process.communicate()
        assert (out, noise) == ("", "")
        assert self._process.returncode == 0


BODIES: dict[str, tuple[str, tuple[str, ...]]] = {
    "the body awaits a coroutine": ("await worker.submit(wait)", ("cleaned up",)),
    "the body awaits a thread": ("await worker.submit(polite)", ()),
    "the body awaits something else": (
        "worker.submit(wait); await trio.sleep_forever()",
        ("cleaned up",),
    ),
    "a coroutine uses the CPU, and is awaited": ("await worker.submit(burn)", ()),
    "a coroutine uses the CPU, and nobody awaits it": (
        "worker.submit(burn); await trio.sleep_forever()",
        (),
    ),
    "the block is being left": ("worker.submit(wait)", ("cleaned up",)),
    "the block is being left, and a thread runs": ("worker.submit(polite)", ()),
    "the body uses the CPU": ("say('ready')\n            while True: pass", ()),
}


@pytest.mark.parametrize("when", BODIES)
def test_ctrl_c_while(when: str) -> None:
    body, said = BODIES[when]
    with Child(body) as child:
        child.expect("ready")
        child.interrupt()
        child.end(*said, "left", "KeyboardInterrupt", "0 threads")


@pytest.mark.parametrize(
    "body",
    [
        "await worker.submit(hang)",
        "worker.submit(hang)",
        "worker.submit(hang); await trio.sleep_forever()",
    ],
)
def test_second_ctrl_c_leaves_without_a_thread_that_hangs(body: str) -> None:
    with Child(body) as child:
        child.expect("ready")
        child.interrupt()
        child.expect_complaint("waits for 1 task(s) that do not stop: 'hang-1'")
        child.interrupt()
        child.end("left", "KeyboardInterrupt", "1 threads")


def test_second_ctrl_c_lets_coroutines_clean_up() -> None:
    body = "worker.submit(wait); worker.submit(hang); await trio.sleep_forever()"
    with Child(body) as child:
        child.expect("ready")
        child.expect("ready")
        child.interrupt()
        child.expect("cleaned up")
        child.expect_complaint("waits for 1 task(s) that do not stop: 'hang-2'")
        child.interrupt()
        child.end("left", "KeyboardInterrupt", "1 threads")
