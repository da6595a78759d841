"""Of a batch that is torn or corrupt, what is whole is found."""

import pytest

from trouper.runtime.journal.batches import (
    Summary,
    join,
    numbers_from_bytes,
    numbers_to_bytes,
    rescue,
    split,
)

ROWS = [b"first", b"second", b"", b"x" * 300, b"last"]
SUMMARY = Summary(
    [7, 0, 9, 0, 1], [len(row) for row in ROWS], bytes(20), [0, 2, 0, 0, 1], b"abc", {3: "Oops"}
)
PREVIOUS = 0xDEADBEEF
BODY = join(SUMMARY, ROWS, PREVIOUS)
ROWS_BEGIN = len(BODY) - sum(map(len, ROWS))
ENDS = [ROWS_BEGIN + sum(map(len, ROWS[:count])) for count in range(len(ROWS) + 1)]


def rescued(torn: bytes, previous: int = PREVIOUS) -> list[bytes]:
    """The rows that are whole."""
    body = rescue(torn, previous)
    if body is None:
        return []
    assert body.summary == SUMMARY
    assert body.nbytes == ENDS[body.count]
    assert b"".join(body.each_row()) == body.rows
    return body.each_row()


def test_a_batch_comes_back() -> None:
    body = split(BODY)
    assert (body.summary, body.count, body.nbytes) == (SUMMARY, 5, len(BODY))
    assert body.each_row() == ROWS


def test_numbers_come_back() -> None:
    numbers = (0, 1, 0xFFFF_FFFF)
    assert tuple(numbers_from_bytes(numbers_to_bytes(numbers))) == numbers


def test_wherever_it_is_torn_the_whole_rows_are_found() -> None:
    for end in range(len(BODY) + 1):
        whole = sum(row_end <= end for row_end in ENDS[1:-1])
        assert rescued(BODY[:end]) == ROWS[:whole]


@pytest.mark.parametrize("change", [0x01, 0x80, 0xFF])
def test_wherever_a_byte_is_changed_the_rows_before_it_are_found(change: int) -> None:
    checks = ROWS_BEGIN - 4 * len(ROWS)
    for place in range(len(BODY)):
        changed = bytearray(BODY)
        changed[place] ^= change
        if place < checks:
            whole = 0  # what is told of all
        elif place < ROWS_BEGIN:
            whole = (place - checks) // 4
        else:
            whole = sum(row_end <= place for row_end in ENDS[1:])
        assert rescued(bytes(changed)) == ROWS[:whole]


def test_if_all_rows_are_whole_the_last_one_does_not_count() -> None:
    assert rescued(BODY) == ROWS[:-1]


def test_nothing_is_whole_in_another_place() -> None:
    assert rescued(BODY, PREVIOUS + 1) == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\0" * 5,
        BODY[:-1],
        BODY + b"x",
        join(Summary([], [], b"", [], b"", {}), [], 0),
        join(Summary([0], [1], b"", [0], b"", {}), [b"x"], 0),
        join(Summary([], [1], bytes(4), [0], b"", {}), [b"x"], 0),
        join(Summary([0], [1], bytes(4), [0, 0], b"", {}), [b"x"], 0),
        join(Summary([0], [1], bytes(4), [1], b"", {}), [b"x"], 0),
        join(Summary([0], [2], bytes(4), [0], b"", {}), [b"x"], 0),
    ],
)
def test_parts_that_do_not_fit_together(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        split(body)
