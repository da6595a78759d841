"""Structs whose fields are assigned to all the time."""

import gc

import msgspec
import pytest

from trouper.actors.job import Job
from trouper.runtime.embedded.handle import Record
from trouper.runtime.peers import PeerEntry
from trouper.runtime.task import Executing, Fetching, Task
from trouper.wire.mutable import mutable


@mutable
class Point(msgspec.Struct):
    x: int
    y: int = 0


def test_fields_are_assigned_and_nothing_else_is() -> None:
    point = Point(1)
    point.y = 2
    assert point == Point(1, 2)
    with pytest.raises(AttributeError):
        point.z = 3  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]


def test_what_may_be_part_of_a_cycle_is_known_to_the_collector_from_the_start() -> None:
    assert gc.is_tracked(Task("x", 1))
    assert gc.is_tracked(Record("x", 1))
    assert gc.is_tracked(PeerEntry("tcp://10.0.0.1:1", remote=True))
    for kind in (Job, Executing, Fetching):
        assert not kind.__struct_config__.gc
