"""Who waits for copies hears of each that comes, and of each that will not."""

from trouper.runtime.cluster.arrivals import Arrivals
from trouper.wire.instructions import AddKeys, RequestRefreshWhoHas, TaskErred


def test_copies_come_one_after_the_other() -> None:
    arrivals = Arrivals()
    wait = arrivals.expect(["a", "b"])
    arrivals.on_report(AddKeys(("a", "c")))
    assert not wait.over.is_set()
    arrivals.on_report(AddKeys(("b",)))
    assert wait.over.is_set()
    assert wait.failed == []
    arrivals.forget(wait)


def test_what_nobody_has_fails_or_is_not_wanted_any_more_will_not_come() -> None:
    arrivals = Arrivals()
    wait = arrivals.expect(["a", "b", "c"])
    arrivals.on_report(RequestRefreshWhoHas(("a",)))
    arrivals.on_report(TaskErred("b", 0, 1, None, False))
    arrivals.give_up(["c", "d"])
    assert wait.over.is_set()
    assert wait.failed == ["a", "b", "c"]


def test_several_wait_for_the_same_and_one_gives_up() -> None:
    arrivals = Arrivals()
    one, other = arrivals.expect(["a"]), arrivals.expect(["a"])
    arrivals.forget(one)
    arrivals.on_report(AddKeys(("a",)))
    assert other.over.is_set()
    assert not one.over.is_set()
    arrivals.forget(other)
    arrivals.on_report(AddKeys(("a",)))
    arrivals.give_up(["a"])


def test_nothing_to_wait_for_is_over_at_once() -> None:
    wait = Arrivals().expect([])
    assert wait.over.is_set()
