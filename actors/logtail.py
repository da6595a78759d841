"""The last lines of the log, for those who ask a node from afar."""

import logging
from collections import deque
from collections.abc import Generator
from contextlib import contextmanager

LINES = 10_000
"""So many are kept."""


class LogTail(logging.Handler):
    """Keeps what is logged, as pairs of a level and a line."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: deque[tuple[str, str]] = deque(maxlen=LINES)
        self.setFormatter(logging.Formatter("%(asctime)s - %(name)s - %(levelname)s - %(message)s"))

    @classmethod
    @contextmanager
    def attached(cls, name: str) -> Generator["LogTail"]:
        """Listen to a logger for the length of a ``with`` block."""
        tail, log = cls(), logging.getLogger(name)
        log.addHandler(tail)
        try:
            yield tail
        finally:
            log.removeHandler(tail)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line. What has no text of its own is said on standard error, and is no harm."""
        try:
            self._lines.append((record.levelname, self.format(record)))
        except Exception:  # noqa: BLE001 - whatever the classes of what is logged raise
            self.handleError(record)

    def last(self, count: int | None = None) -> list[tuple[str, str]]:
        """The last lines, the oldest first; all that are kept if no number is given."""
        lines = list(self._lines)
        return lines if count is None else lines[max(0, len(lines) - count) :]
