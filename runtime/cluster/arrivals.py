"""Who waits until copies have come that the machine was asked to fetch."""

from collections.abc import Iterable

import trio

from trouper.wire.instructions import AddKeys, Report, RequestRefreshWhoHas, TaskErred
from trouper.wire.vocabulary import Key


class Arrivals:
    """Learns of copies from the machine's reports."""

    def __init__(self) -> None:
        self._awaited: dict[Key, list[_Wait]] = {}

    def on_report(self, report: Report) -> None:
        """Look whether somebody waits for what is reported."""
        if not self._awaited:
            return
        if isinstance(report, AddKeys):
            self._settle(report.keys, came=True)
        elif isinstance(report, RequestRefreshWhoHas):  # nobody is known to have them
            self._settle(report.keys, came=False)
        elif isinstance(report, TaskErred):
            self._settle((report.key,), came=False)

    def give_up(self, keys: Iterable[Key]) -> None:
        """Nobody wants these any more, so they will not come."""
        if self._awaited:
            self._settle(keys, came=False)

    def expect(self, keys: Iterable[Key]) -> "_Wait":
        """Begin to wait, before they are asked for."""
        wait = _Wait(set(keys))
        for key in wait.pending:
            self._awaited.setdefault(key, []).append(wait)
        return wait

    def forget(self, wait: "_Wait") -> None:
        """Stop waiting."""
        for key in wait.pending:
            waits = self._awaited[key]
            waits.remove(wait)
            if not waits:
                del self._awaited[key]

    def _settle(self, keys: Iterable[Key], *, came: bool) -> None:
        for key in keys:
            for wait in self._awaited.pop(key, ()):
                wait.settle(key, came=came)


class _Wait:
    """Of one who waits: for which keys, and which will not come."""

    def __init__(self, keys: set[Key]) -> None:
        self.pending = keys
        self.failed: list[Key] = []
        self.over = trio.Event()
        if not keys:
            self.over.set()

    def settle(self, key: Key, *, came: bool) -> None:
        """A key has come, or will not."""
        self.pending.discard(key)
        if not came:
            self.failed.append(key)
        if not self.pending:
            self.over.set()
