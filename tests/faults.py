"""Machines that are broken on purpose, for those who look for the cause of a failure."""

import pytest

from trouper.runtime.ledger import Ledger
from trouper.runtime.task import Executing


def lose_resources(monkeypatch: pytest.MonkeyPatch) -> None:
    """A task that `is_unlucky` keeps its resources for ever."""
    give_back = Ledger.give_back

    def broken(ledger: Ledger, activity: Executing) -> None:
        if is_unlucky(activity):
            activity.resources = ()
        give_back(ledger, activity)

    monkeypatch.setattr(Ledger, "give_back", broken)


def stumble(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the end of a task that `is_unlucky` the machine raises an error of its own."""
    give_back = Ledger.give_back

    def broken(ledger: Ledger, activity: Executing) -> None:
        if is_unlucky(activity):
            raise ZeroDivisionError
        give_back(ledger, activity)

    monkeypatch.setattr(Ledger, "give_back", broken)


def is_unlucky(activity: Executing) -> bool:
    """Whether a task takes resources, has several inputs, has seceded and is cancelled."""
    takes = bool(activity.resources) and len(activity.inputs) > 1
    return takes and activity.seceded and activity.cancelling
