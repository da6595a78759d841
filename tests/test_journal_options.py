"""What users choose about a journal."""

from pathlib import Path
from typing import Any

import pytest
from journals import options

from trouper.runtime.journal.options import journal_options


def test_no_journal() -> None:
    assert journal_options(None, 5, 0, b"") is None


def test_a_path_may_be_a_text() -> None:
    made = journal_options("work.journal", 1 << 20, "fsync", True)
    assert made == options(Path("work.journal"), max_nbytes=1 << 20, flush="fsync", hash_keys=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_nbytes": 1000}, "needs at least 65536 bytes, not 1000"),
        ({"flush": "sometimes"}, "not 'sometimes'"),
        ({"flush": 0}, "cannot be flushed every 0 seconds"),
        ({"flush": -1.0}, "cannot be flushed every -1.0 seconds"),
        ({"flush": float("inf")}, "cannot be flushed every inf seconds"),
        ({"flush": float("nan")}, "cannot be flushed every nan seconds"),
        ({"hash_keys": b""}, "a secret has 1 to 64 bytes, not 0"),
        ({"hash_keys": b"x" * 65}, "a secret has 1 to 64 bytes, not 65"),
    ],
)
def test_options_that_make_no_sense(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        options(tmp_path / "j", **changes)
