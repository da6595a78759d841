"""Failures that nobody has awaited: said once, at the latest when the worker closes."""

import logging

from trouper.runtime.embedded.failure import Failure

logger = logging.getLogger(__name__)

LIMIT = 1000
"""So many are kept for the closing; with more, the oldest is logged at once."""


class Unobserved:
    """Origins of failures; those that are awaited in time are not spoken of."""

    def __init__(self) -> None:
        self._failures: dict[Failure, None] = {}

    def add(self, failure: Failure) -> None:
        """A task has raised."""
        self._failures[failure] = None
        if len(self._failures) > LIMIT:
            self.forget_observed()
        if len(self._failures) > LIMIT:
            oldest = next(iter(self._failures))
            del self._failures[oldest]
            _log(oldest)

    def discard(self, failure: Failure) -> None:
        """Somebody sees it now: keep neither it nor what its traceback knows."""
        self._failures.pop(failure, None)

    def forget_observed(self) -> None:
        """Keep no exception that somebody has seen elsewhere."""
        for failure in [failure for failure in self._failures if failure.observed]:
            del self._failures[failure]

    def log_all(self) -> None:
        """Nobody will await them any more: say what has happened."""
        self.forget_observed()
        for failure in self._failures:
            _log(failure)
        self._failures.clear()


def _log(failure: Failure) -> None:
    logger.error(
        "task %s failed, and nobody awaited it", failure.path(), exc_info=failure.exc_info()
    )
