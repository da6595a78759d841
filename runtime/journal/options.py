"""What users choose about a journal, when they open a worker or a node."""

from pathlib import Path
from typing import TypedDict

import msgspec

from trouper.runtime.journal.writer import Flush

LEAST_NBYTES = 1 << 16


class JournalArguments(TypedDict, total=False):
    """The arguments of `open_worker` about a journal, for those who pass them on."""

    journal: str | Path | None
    journal_max_bytes: int
    journal_flush: Flush
    journal_hash_keys: bool | bytes


class JournalOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How to record; see `open_worker`."""

    path: Path
    max_nbytes: int
    flush: Flush
    hash_keys: bool | bytes

    def __post_init__(self) -> None:
        if self.max_nbytes < LEAST_NBYTES:
            raise ValueError(
                f"a journal needs at least {LEAST_NBYTES} bytes, not {self.max_nbytes}"
            )
        if isinstance(self.flush, str):
            if self.flush not in ("buffered", "fsync"):
                raise ValueError(f"a journal is flushed 'buffered', 'fsync' or every so many "
                                 f"seconds, not {self.flush!r}")  # fmt: skip
        elif not 0 < self.flush < float("inf"):
            raise ValueError(f"a journal cannot be flushed every {self.flush} seconds")
        if isinstance(self.hash_keys, bytes) and not 0 < len(self.hash_keys) <= 64:
            raise ValueError(f"a secret has 1 to 64 bytes, not {len(self.hash_keys)}")


def journal_options(
    journal: str | Path | None,
    journal_max_bytes: int,
    journal_flush: Flush,
    journal_hash_keys: bool | bytes,
) -> JournalOptions | None:
    """What those arguments ask for; None for no journal.

    Raises:
        ValueError: One of them makes no sense.
    """
    if journal is None:
        return None
    return JournalOptions(
        path=Path(journal),
        max_nbytes=journal_max_bytes,
        flush=journal_flush,
        hash_keys=journal_hash_keys,
    )
