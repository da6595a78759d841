"""Delays before a connection is tried again."""

from collections.abc import Iterator
from itertools import accumulate, count, takewhile

from trouper.wire.backoff import Backoff
from trouper.wire.limits import Limits


def test_delays_double_up_to_the_cap() -> None:
    backoff = Backoff(0.1, 1.0, lambda: 1.0)
    assert [backoff.next_delay_s() for _ in range(6)] == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]


def test_each_is_a_random_part_of_it() -> None:
    chances = count(1)
    backoff = Backoff(1.0, 8.0, lambda: next(chances) / 10)
    assert [round(backoff.next_delay_s(), 9) for _ in range(5)] == [0.1, 0.4, 1.2, 3.2, 4.0]


def test_success_begins_again() -> None:
    backoff = Backoff(0.1, 1.0, lambda: 1.0)
    assert [backoff.next_delay_s(), backoff.next_delay_s()] == [0.1, 0.2]
    backoff.reset()
    assert backoff.next_delay_s() == 0.1


def test_first_delay_does_not_pass_the_cap_either() -> None:
    assert Backoff(3.0, 1.0, lambda: 1.0).next_delay_s() == 1.0


def test_who_has_bad_luck_comes_back_within_the_shortest_window() -> None:
    limits = Limits()
    backoff = Backoff(limits.retry_first_s, limits.retry_most_s, lambda: 1.0)
    tries_s = list(takewhile(limits.resume_after_close_s.__gt__, accumulate(delays_s(backoff))))
    assert len(tries_s) >= 5
    assert tries_s[-1] > limits.resume_after_close_s * 0.75, "a network that is back is missed"


def delays_s(backoff: Backoff) -> Iterator[float]:
    while True:
        yield backoff.next_delay_s()
