"""The worked example of runtime/debugging/DEBUGGING.md is what happens."""

from pathlib import Path

import pytest
from debugging import CONFIG, JOURNAL, LIFE, PAGE, make, rewritten, sessions

from trouper.runtime.journal.journal import Journal


def test_the_page_says_what_the_commands_print(tmp_path: Path) -> None:
    page = PAGE.read_text()
    assert len(list(sessions(page))) > 3
    assert rewritten(page, tmp_path) == page
    exported: dict[str, object] = {}
    exec((tmp_path / "test_total.py").read_text(), exported)
    test = exported["test_it_does_not_come_to_this"]
    assert callable(test)
    with pytest.raises(AssertionError):
        test()


def test_the_journal_of_the_example_is_the_one_that_is_made(tmp_path: Path) -> None:
    make(tmp_path / "j")
    journal = Journal.open(JOURNAL)
    assert [found.stimulus for found in journal.records()] == LIFE
    assert list(journal.records()) == list(Journal.open(tmp_path / "j").records())
    assert journal.config == CONFIG
