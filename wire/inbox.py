"""What has arrived in a session and was not taken, so that no more is read than its user takes."""

from collections import deque
from collections.abc import Collection
from typing import TypeVar

DeliveryT = TypeVar("DeliveryT")

_DELIVERY_NBYTES = 128
"""What a delivery counts beside its bytes, so that empty messages do not come for nothing."""


class Inbox(deque[DeliveryT]):
    """Deliveries; the next one is taken with `popleft`.

    Those that came together count with all their bytes until the last of them is taken: to count
    each would take as long as to hand it over.
    """

    def __init__(self) -> None:
        super().__init__()
        self._arrived = 0
        """How many deliveries there have ever been."""
        self._arrived_nbytes = 0
        """And how many bytes."""
        self._taken_nbytes = 0
        self._batches: deque[tuple[int, int]] = deque()
        """How many deliveries and bytes there had been after each."""

    def put(self, deliveries: Collection[DeliveryT], arrived_nbytes: int) -> None:
        """These have come, and with them there have been so many bytes from the beginning."""
        self.extend(deliveries)
        self._arrived += len(deliveries)
        self._arrived_nbytes = arrived_nbytes
        self._batches.append((self._arrived, arrived_nbytes))

    @property
    def nbytes(self) -> int:
        """How much there is."""
        taken = self._arrived - len(self)
        while self._batches and self._batches[0][0] <= taken:
            _, self._taken_nbytes = self._batches.popleft()
        return self._arrived_nbytes - self._taken_nbytes + _DELIVERY_NBYTES * len(self)
