"""Which task has which key, and which keys nobody has a handle of any more.

A task that has not failed belongs to the registry until it has ended and all its handles are gone.
One that has failed belongs to its handles alone: its exception knows, through the traceback, the
frames that have awaited it, and these know the handle. If the registry held on to it, the handle
would never be garbage.
"""

import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress

import trio

from trouper.runtime.embedded.handle import FINISHED, PENDING, Record
from trouper.wire.vocabulary import Key


class Registry:
    """See the module's text.

    Args:
        free: Called in the event loop with keys of tasks that have ended and are nobody's.
    """

    def __init__(self, free: Callable[[tuple[Key, ...]], None]) -> None:
        self.records: dict[Key, Record] = {}
        """Of tasks that have not failed."""
        self.failed: dict[Key, tuple[int, weakref.ref[Record]]] = {}
        """The others, with their run_id. A key is in one of the two at most."""
        self.freed: list[Key] = []
        """To be passed on by `flush`."""
        self._free = free
        self._dropped: deque[Record] = deque()
        self._sweeping = False
        self._token = trio.lowlevel.current_trio_token()

    def get(self, key: Key) -> Record | None:
        """The task of this key, if there is one and somebody could have a handle of it."""
        known = self.failed.get(key)
        return known[1]() if known is not None else self.records.get(key)

    def has(self, record: Record) -> bool:
        """Whether this is the task that has its key now."""
        failed = self.failed.get(record.key)
        if failed is not None:
            return failed[0] == record.run_id
        return self.records.get(record.key) is record

    def fail(self, record: Record) -> None:
        """It has failed, or was cancelled: from now on it is its handles'."""
        if record.handles:
            del self.records[record.key]
            self.failed[record.key] = (record.run_id, weakref.ref(record))
        else:
            self.forget(record)

    def forget(self, record: Record) -> None:
        """It has ended, and nobody has a handle of it."""
        if self.has(record):
            self.records.pop(record.key, None)
            self.failed.pop(record.key, None)
            self.freed.append(record.key)

    def flush(self) -> None:
        """Pass on what was freed. In time: a key that is submitted anew must not be freed after."""
        if self.freed:
            self._free(tuple(self.freed))
            self.freed.clear()

    def drop(self, record: Record) -> None:
        """A handle is gone. Called by finalisers: in any thread, at any moment."""
        self._dropped.append(record)
        if not self._sweeping:
            self._sweeping = True
            with suppress(trio.RunFinishedError):  # else all that it held is gone already
                self._token.run_sync_soon(self.sweep)

    def sweep(self) -> None:
        """Take note of the handles that are gone."""
        self._sweeping = False
        dropped, records, freed = self._dropped, self.records, self.freed
        while dropped:
            record = dropped.popleft()
            record.handles = handles = record.handles - 1
            if handles:
                continue
            outcome = record.outcome
            if outcome is FINISHED:  # `forget`, in plain: what becomes of most tasks
                key = record.key
                del records[key]
                freed.append(key)
            elif outcome is not PENDING:
                self.forget(record)
        self.flush()
