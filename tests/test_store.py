"""Payloads in and out."""

from contextvars import copy_context

import pytest

from trouper.actors.spec import Spec
from trouper.actors.store import Store


def test_it_knows_how_much_it_holds() -> None:
    store = Store()
    store.specs[1] = Spec(int, (), {}, copy_context())
    store.values["k", 1] = "one"
    store.values["k", 2] = "two"
    assert len(store) == 3


def test_what_is_taken_leaves_its_place() -> None:
    store = Store()
    store.values["k", 1] = "one"
    assert store.take("k", 1) == "one"
    assert store.values["k", 1] is None
    del store.values["k", 1]
    assert len(store) == 0
    with pytest.raises(KeyError):
        store.take("k", 1)
