"""Where two journals differ first, or a journal and what this trouper would do. Pure.

Times are no difference: two runs never take the same. Nor is where a journal begins, if the older
part of it is gone: what both have is compared.
"""

from itertools import zip_longest

import msgspec

from trouper.runtime.debugging.notation import write
from trouper.runtime.errors import JournalError
from trouper.runtime.journal.format import Record
from trouper.runtime.journal.journal import Journal
from trouper.runtime.journal.replay import ReplayDiverged

NOTHING = "nothing: it ends before"


class Difference(msgspec.Struct, frozen=True):
    """The first difference."""

    n: int
    """Number of the record."""
    what: str
    """"start" (the state before the first record), "stimulus", "answer" or "end"."""
    stimulus: str
    """That both were told; empty if they were told different ones."""
    one: tuple[str, ...]
    other: tuple[str, ...]


def difference_of(one: Journal, other: Journal) -> Difference | None:
    """The first difference of two journals; None if there is none.

    Raises:
        JournalError: They have no record in common.
        CorruptJournal: A record is not as it was written, and there was no difference before it.
    """
    since = max(one.first, other.first) - 1
    if since >= min(one.last, other.last) and one.first != other.first:
        spans = [f"{opened.first} to {opened.last}" for opened in (one, other)]
        raise JournalError(f"one has the records {spans[0]}, the other {spans[1]}")
    if one.first == other.first and one.header.snapshot != other.header.snapshot:
        return Difference(one.first, "start", "", *_states(one, other))
    pairs = zip_longest(one.records(since), other.records(since))
    for n, (a, b) in enumerate(pairs, since + 1):
        if a is None or b is None:
            return Difference(n, "end", "", _told(a), _told(b))
        # As text too: a nan does not equal itself.
        if a.stimulus != b.stimulus and repr(a.stimulus) != repr(b.stimulus):
            return Difference(n, "stimulus", "", _told(a), _told(b))
        if (a.kinds, a.digest, a.error) != (b.kinds, b.digest, b.error):
            return Difference(n, "answer", write(a.stimulus), _answer(a), _answer(b))
    return None


def difference_now(journal: Journal) -> Difference | None:
    """Where this trouper first decides otherwise than the one that wrote a journal.

    Raises:
        CorruptJournal: A record is not as it was written.
    """
    try:
        journal.verify()
    except ReplayDiverged as error:
        record, answer = error.record, error.answer
        now = (
            (f"{type(answer).__name__}: {answer}",)
            if isinstance(answer, Exception)
            else tuple([write(word) for word in answer])
        )
        return Difference(record.n, "answer", write(record.stimulus), _answer(record), now)
    return None


def _states(one: Journal, other: Journal) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The parts of two snapshots that differ."""
    a, b = one.header.snapshot, other.header.snapshot
    names = [name for name in a if a[name] != b.get(name)]
    return tuple(f"{n}: {a[n]}" for n in names), tuple(f"{n}: {b.get(n)}" for n in names)


def _told(record: Record | None) -> tuple[str, ...]:
    return (NOTHING,) if record is None else (write(record.stimulus),)


def _answer(record: Record) -> tuple[str, ...]:
    """What is known of an answer: the kinds of its instructions, and their digest."""
    if record.error:
        return (record.error,)
    if record.digest is None:
        return ()
    return (*record.kinds, f"digest {record.digest:08x}")
