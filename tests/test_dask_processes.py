"""Processes of tests: what they say is found, and they end."""

import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import dask_processes
import pytest
from dask_processes import Process

Start: TypeAlias = Callable[[str], Process]

STUBBORN = """
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready")
signal.pause()
"""


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Start a program."""
    return lambda program: Process("one", [sys.executable, "-c", program], tmp_path)


def test_what_it_says_is_found_whatever_the_channel(start: Start) -> None:
    with start("import sys; print('one two'); print('three', file=sys.stderr)") as one:
        assert one.wait_for(r"t(hr)ee")[1] == "hr"
        assert one.wait_for(r"o(.*)o")[1] == "ne tw"
        assert one.exit_code() == 0
        assert one.said("e") == ["one two", "three"]
        assert not one.faults


def test_one_that_ends_without_a_word_is_told(start: Start) -> None:
    with (
        start("raise SystemExit('no')") as one,
        pytest.raises(AssertionError, match=r"one has ended, and not said 'yes':\nno\n"),
    ):
        one.wait_for("yes")
    assert one.exit_code() == 1


def test_one_that_says_nothing_is_not_waited_for_for_ever(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dask_processes, "PATIENCE_S", 0.1)
    with (
        start("import signal; signal.pause()") as one,
        pytest.raises(AssertionError, match="it does not come to pass"),
    ):
        one.wait_for("anything")


def test_tracebacks_are_faults(start: Start) -> None:
    with start("1 / 0") as one:
        assert one.exit_code() == 1
        assert one.faults == ["Traceback (most recent call last):"]


def test_all_that_it_has_said_is_printed_if_the_block_fails(
    start: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(KeyError), start("print('so it was')") as one:
        one.wait_for("so")
        raise KeyError
    assert capsys.readouterr().out == "----- one\nso it was\n-----\n"


def test_it_ends_with_its_block(start: Start) -> None:
    with start("import signal; signal.pause()") as one:
        pass
    assert one.exit_code() == -signal.SIGTERM


def test_one_that_does_not_end_when_asked_to_is_killed(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dask_processes, "ENDED_S", 0.1)
    with start(STUBBORN) as one:
        one.wait_for("ready")
    assert one.exit_code() == -signal.SIGKILL
