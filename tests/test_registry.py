"""Which task has which key: while it runs, when it has failed, when it is nobody's."""

import trio
import trio.testing

from trouper.runtime.embedded.failure import Failure
from trouper.runtime.embedded.handle import Record
from trouper.runtime.embedded.registry import Registry
from trouper.wire.vocabulary import Key


class Freed:
    """A registry, and what it has freed."""

    def __init__(self) -> None:
        self.keys: list[Key] = []
        self.registry = Registry(self.keys.extend)

    def add(self, key: Key, run_id: int, handles: int = 1) -> Record:
        """A task."""
        record = self.registry.records[key] = Record(key, run_id, handles)
        return record


def fail(freed: Freed, record: Record) -> None:
    record.fail(Failure(record.key, None, None))
    freed.registry.fail(record)


async def test_a_task_is_known_until_it_has_ended_and_its_handles_are_gone() -> None:
    freed = Freed()
    record = freed.add("k", 1, handles=2)
    freed.registry.drop(record)
    freed.registry.drop(record)
    await trio.testing.wait_all_tasks_blocked()
    assert freed.registry.get("k") is record  # it has not ended
    assert freed.keys == []
    record.finish(1)
    freed.registry.forget(record)
    freed.registry.flush()
    assert freed.keys == ["k"]
    assert freed.registry.get("k") is None
    freed.registry.forget(record)
    freed.registry.flush()
    assert freed.keys == ["k"]


async def test_dropping_the_last_handle_of_one_that_has_ended_frees_it() -> None:
    freed = Freed()
    record = freed.add("k", 1, handles=2)
    record.finish(1)
    freed.registry.drop(record)
    await trio.testing.wait_all_tasks_blocked()
    assert freed.keys == []
    freed.registry.drop(record)
    freed.registry.sweep()  # sooner than it would by itself
    assert freed.keys == ["k"]
    await trio.testing.wait_all_tasks_blocked()
    assert freed.keys == ["k"]


async def test_one_that_has_failed_belongs_to_its_handles() -> None:
    freed = Freed()
    record = freed.add("k", 1)
    fail(freed, record)
    assert freed.registry.has(record)
    assert freed.registry.get("k") is record
    assert not freed.registry.records
    del record
    assert freed.registry.get("k") is None
    assert "k" in freed.registry.failed  # until its handle is reported as gone


async def test_one_that_fails_without_handles_is_freed() -> None:
    freed = Freed()
    fail(freed, freed.add("k", 1, handles=0))
    freed.registry.flush()
    assert freed.keys == ["k"]
    assert not freed.registry.failed


async def test_a_successor_is_not_freed_with_its_predecessor() -> None:
    freed = Freed()
    old = freed.add("k", 1)
    fail(freed, old)
    del freed.registry.failed["k"]
    new = freed.add("k", 2)
    assert freed.registry.has(new)
    assert not freed.registry.has(old)
    freed.registry.drop(old)
    freed.registry.sweep()
    assert freed.keys == []
    fail(freed, new)
    assert not freed.registry.has(old)
    assert freed.registry.has(new)


def test_a_handle_that_is_dropped_after_the_event_loop() -> None:
    async def main() -> tuple[Freed, Record]:
        freed = Freed()
        return freed, freed.add("k", 1)

    freed, record = trio.run(main)
    freed.registry.drop(record)
    freed.registry.drop(record)
    assert freed.keys == []
