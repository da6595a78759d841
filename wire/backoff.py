"""How long to wait before a connection is tried again: longer each time, and never in step."""

from collections.abc import Callable


class Backoff:
    """Delays that double up to a cap, each a random part of that ("full jitter").

    So that a thousand nodes that have lost one scheduler do not come back in the same moment.

    Args:
        first_s: The longest that the first delay can be.
        most_s: The longest that any can be.
        chance: Gives numbers from 0 up to 1.
    """

    def __init__(self, first_s: float, most_s: float, chance: Callable[[], float]) -> None:
        self._first_s = first_s
        self._most_s = most_s
        self._chance = chance
        self._ceiling_s = first_s

    def next_delay_s(self) -> float:
        """Before the next attempt."""
        delay_s = self._chance() * min(self._ceiling_s, self._most_s)
        self._ceiling_s = min(self._ceiling_s * 2, self._most_s)
        return delay_s

    def reset(self) -> None:
        """An attempt was a success."""
        self._ceiling_s = self._first_s
