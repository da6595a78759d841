"""What has arrived and was not taken, and how much of it there is."""

from trouper.wire.inbox import Inbox


def test_deliveries_are_taken_in_order() -> None:
    inbox: Inbox[str] = Inbox()
    inbox.put(["a", "b"], 2)
    inbox.put(["c"], 3)
    assert [inbox.popleft() for _ in range(3)] == ["a", "b", "c"]
    assert not inbox


def test_what_came_together_counts_until_the_last_of_it_is_taken() -> None:
    inbox: Inbox[str] = Inbox()
    inbox.put(["a", "b"], 10_000)
    inbox.put(["c"], 30_000)
    entries_nbytes = inbox.nbytes - 30_000
    assert 3 <= entries_nbytes < 1000
    inbox.popleft()
    assert 30_000 < inbox.nbytes < 30_000 + entries_nbytes
    inbox.popleft()
    assert 20_000 < inbox.nbytes < 20_000 + entries_nbytes
    inbox.popleft()
    assert inbox.nbytes == 0


def test_empty_messages_do_not_come_for_nothing() -> None:
    inbox: Inbox[str] = Inbox()
    inbox.put([""] * 100_000, 0)
    assert inbox.nbytes > 1 << 20


def test_nothing_is_left_of_what_was_taken() -> None:
    """Nobody may ask for a long time."""
    inbox: Inbox[int] = Inbox()
    for number in range(1, 1001):
        inbox.put([number], number)
        inbox.popleft()
    assert inbox.nbytes == 0
    inbox.put([1001], 1101)
    assert 100 < inbox.nbytes < 1000
