"""When something has to be sent, and when nothing has been heard for too long.

Soft and unpaired: each side sends something every interval, whatever the other does, and believes
in the other until it has been silent. A heartbeat is only due when nothing else was sent.
"""

import math

from trouper.wire.limits import Limits

_INTERVALS = 3
"""A silence is never shorter than so many heartbeats of the other side's."""


class Liveness:
    """The clocks of one connection. All times are of the clock whose `now` is passed in."""

    def __init__(self, limits: Limits, now: float) -> None:
        self._limits = limits
        self._silence_s = limits.silence_s
        self._heard_at = now
        self._sent_at = now
        self._doubted = False
        self._ack_due_at = math.inf
        self._unacknowledged = 0
        self._unacknowledged_nbytes = 0
        self.alive_due = False
        """Whether the next packet has to say that we are alive, and what has arrived."""

    def agree(self, peer_interval_s: float) -> None:
        """The other side says how often it sends."""
        self._silence_s = max(self._limits.silence_s, _INTERVALS * peer_interval_s)

    def heard(self, now: float) -> None:
        """Bytes have arrived, of whatever kind."""
        self._heard_at = now
        self._doubted = False

    def sent(self, now: float) -> None:
        """A packet was handed over."""
        self._sent_at = now

    def received(self, nbytes: int, now: float, *, messages: int = 1) -> None:
        """Messages have arrived that are to be acknowledged."""
        self._unacknowledged += messages
        self._unacknowledged_nbytes += nbytes
        self._ack_due_at = min(self._ack_due_at, now + self._limits.ack_delay_s)
        if (
            self._unacknowledged >= self._limits.ack_messages
            or self._unacknowledged_nbytes >= self._limits.ack_nbytes
        ):
            self.alive_due = True

    @property
    def owes_ack(self) -> bool:
        """Whether something has arrived that was not acknowledged."""
        return self._unacknowledged > 0

    def acknowledged(self) -> None:
        """A packet that says what has arrived was handed over."""
        self.alive_due = False
        self._unacknowledged = self._unacknowledged_nbytes = 0
        self._ack_due_at = math.inf

    @property
    def deadline(self) -> float:
        """When `check` has something to say."""
        silent_at = self._silent_at
        return silent_at if self.alive_due else min(silent_at, self._alive_at)

    @property
    def _silent_at(self) -> float:
        return self._heard_at + self._silence_s

    @property
    def _alive_at(self) -> float:
        return min(self._ack_due_at, self._sent_at + self._limits.heartbeat_interval_s)

    def check(self, now: float) -> float | None:
        """Note what is due; seconds of silence if the other side has to be taken for lost.

        Who was asleep himself does not blame the other: if this is called late by an interval or
        more, what has arrived meanwhile gets an interval to be read, once.
        """
        if now >= self._alive_at:
            self.alive_due = True
        late_s = now - self._silent_at
        if late_s < 0:
            return None
        interval_s = self._limits.heartbeat_interval_s
        if late_s >= interval_s and not self._doubted:
            self._doubted = True
            self._heard_at = now + interval_s - self._silence_s
            return None
        return now - self._heard_at
