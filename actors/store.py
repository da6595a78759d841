"""The payloads of a worker: specs by spec_id, values and exceptions by key and attempt.

The machine decides what is kept, and knows none of it; actors and the supervisor move payloads in
and out of here. Everything happens in the thread of the event loop.
"""

from typing import Any

from trouper.actors.spec import Runnable
from trouper.wire.vocabulary import Entry, Key


class Store:
    """See the module's text.

    Plain dicts, and not methods, because every task passes here half a dozen times. Getting or
    dropping what is not there is a KeyError: a fault of ours.
    """

    def __init__(self) -> None:
        self.specs: dict[int, Runnable] = {}
        """What to run, by spec_id; each has one of its own."""
        self.values: dict[Entry, Any] = {}
        """Values and exceptions, by key and attempt."""

    def take(self, key: Key, attempt: int) -> object:
        """A value or exception that nobody else will get; its place stays until it is dropped."""
        value = self.values[key, attempt]
        self.values[key, attempt] = None
        return value

    def __len__(self) -> int:
        return len(self.specs) + len(self.values)
