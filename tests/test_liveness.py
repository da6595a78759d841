"""When a heartbeat is due, and when the other side is taken for lost."""

from trouper.wire.limits import Limits
from trouper.wire.liveness import Liveness

LIMITS = Limits(heartbeat_interval_s=1.0, silence_s=5.0, ack_delay_s=0.1, ack_messages=3)


def test_heartbeat_is_due_an_interval_after_the_last_packet() -> None:
    liveness = Liveness(LIMITS, 0.0)
    assert liveness.deadline == 1.0
    liveness.sent(0.5)
    assert liveness.deadline == 1.5
    assert liveness.check(1.4) is None
    assert not liveness.alive_due
    liveness.check(1.5)
    assert liveness.alive_due


def test_writer_that_is_stuck_does_not_make_the_timer_spin() -> None:
    liveness = Liveness(LIMITS, 0.0)
    liveness.check(1.0)
    assert liveness.deadline == 5.0


def test_silence_is_told_in_seconds() -> None:
    liveness = Liveness(LIMITS, 0.0)
    assert liveness.check(4.9) is None
    assert liveness.check(5.0) == 5.0


def test_whatever_arrives_breaks_the_silence() -> None:
    liveness = Liveness(LIMITS, 0.0)
    liveness.heard(4.0)
    assert liveness.check(8.9) is None
    assert liveness.check(9.0) == 5.0


def test_silence_is_never_shorter_than_three_intervals_of_the_peer() -> None:
    liveness = Liveness(LIMITS, 0.0)
    liveness.agree(peer_interval_s=4.0)
    assert liveness.check(11.9) is None
    assert liveness.check(12.0) == 12.0


def test_who_was_asleep_himself_does_not_blame_the_other_at_once() -> None:
    liveness = Liveness(LIMITS, 0.0)
    assert liveness.check(60.0) is None
    assert liveness.deadline == 61.0
    assert liveness.check(61.0) == 5.0


def test_who_is_always_late_gets_no_second_excuse() -> None:
    liveness = Liveness(LIMITS, 0.0)
    assert liveness.check(60.0) is None
    assert liveness.check(120.0) is not None


def test_acknowledgement_waits_for_a_moment() -> None:
    liveness = Liveness(LIMITS, 0.0)
    liveness.received(10, 0.5)
    liveness.received(10, 0.55)
    assert liveness.owes_ack
    assert not liveness.alive_due
    assert liveness.deadline == 0.6
    liveness.check(0.6)
    assert liveness.alive_due
    liveness.acknowledged()
    assert not liveness.owes_ack
    assert liveness.deadline == 1.0


def test_many_messages_or_bytes_are_acknowledged_at_once() -> None:
    liveness = Liveness(LIMITS, 0.0)
    for _ in range(3):
        assert not liveness.alive_due
        liveness.received(1, 0.0)
    assert liveness.alive_due
    liveness = Liveness(LIMITS, 0.0)
    liveness.received(LIMITS.ack_nbytes, 0.0)
    assert liveness.alive_due
