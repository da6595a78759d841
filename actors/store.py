"""The payloads of a worker: specs by key and spec_id, values and exceptions by key and attempt.

The machine decides what is kept, and knows none of it; actors and the supervisor move payloads in
and out of here. Everything happens in the thread of the event loop.
"""

from trouper.actors.spec import Spec
from trouper.wire.vocabulary import Entry, Key


class Store:
    """See the module's text. Getting what is not there is a KeyError: a fault of ours."""

    def __init__(self) -> None:
        self._specs: dict[tuple[Key, int], Spec] = {}
        self._values: dict[Entry, object] = {}

    def put_spec(self, key: Key, spec_id: int, spec: Spec) -> None:
        """Keep a spec until `drop_spec`."""
        self._specs[key, spec_id] = spec

    def spec(self, key: Key, spec_id: int) -> Spec:
        """The spec to run."""
        return self._specs[key, spec_id]

    def drop_spec(self, key: Key, spec_id: int) -> None:
        """Forget a spec."""
        del self._specs[key, spec_id]

    def put(self, key: Key, attempt: int, value: object) -> None:
        """Keep a value or exception until `drop`."""
        self._values[key, attempt] = value

    def get(self, key: Key, attempt: int) -> object:
        """A value or exception."""
        return self._values[key, attempt]

    def drop(self, key: Key, attempt: int) -> None:
        """Forget a value or exception."""
        del self._values[key, attempt]

    def __len__(self) -> int:
        return len(self._specs) + len(self._values)
