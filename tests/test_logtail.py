"""The last lines of the log."""

import logging

import pytest

from trouper.actors.logtail import LINES, LogTail

log = logging.getLogger("logtail-test")


def test_it_keeps_what_is_logged_while_it_is_attached() -> None:
    log.setLevel(logging.INFO)
    with LogTail.attached("logtail-test") as tail:
        log.info("first %d", 1)
        log.getChild("below").warning("second")
        log.debug("not this")
    log.info("too late")
    assert [level for level, _ in tail.last()] == ["INFO", "WARNING"]
    assert [line.split(" - ", 1)[1] for _, line in tail.last()] == [
        "logtail-test - INFO - first 1",
        "logtail-test.below - WARNING - second",
    ]
    assert tail.last(1) == tail.last()[1:]
    assert tail.last(0) == []
    assert tail.last(5) == tail.last()


def test_it_forgets_the_oldest() -> None:
    with LogTail.attached("logtail-test") as tail:
        for n in range(LINES + 5):
            log.error("%d", n)
    assert len(tail.last()) == LINES
    assert tail.last()[0][1].endswith(" 5")


def test_what_cannot_be_shown_as_text_is_no_harm_to_who_logs_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Unspeakable:
        def __repr__(self) -> str:
            raise LookupError("no text for it")

    alone = logging.Logger("logtail-test")  # without the handlers of pytest, which let it through
    tail = LogTail()
    alone.addHandler(tail)
    alone.error("%r", Unspeakable())
    assert "no text for it" in capsys.readouterr().err
    alone.error("and on")
    assert len(tail.last()) == 1
