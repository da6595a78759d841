"""Everything sent arrives exactly once and in order, or both sides learn that it may not have.

The network is that of tests/network.py; tests/soak_session.py runs it for longer.
"""

from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from network import Network, small_packets
from soak_session import soak


@small_packets
def run(seed: int, rounds: int, *, resumable: bool) -> Network:
    """A session with so many faults."""
    network = Network(Random(seed), resumable=resumable)
    said = 0
    for _ in range(rounds):
        for _ in range(network.rng.randint(1, 20)):
            said += network.say(network.dialler, network.to_listener, said)
            if network.accepted:
                said += network.say(network.listener, network.to_dialler, said)
        network.advance(network.now + network.rng.choice((0.0, 0.05, 1.0, 5.0)))
        network.fault()
    network.settle()
    return network


@given(st.integers(0, 1 << 32), st.integers(0, 20), st.booleans())
@settings(deadline=None)
@example(39184, 2, False)  # a handshake that takes longer than an interval
def test_nothing_is_lost_without_a_word(seed: int, rounds: int, resumable: bool) -> None:
    run(seed, rounds, resumable=resumable)


@pytest.mark.parametrize("seed", range(5))
def test_without_faults_everything_arrives(seed: int) -> None:
    network = run(seed, 0, resumable=True)
    network = Network(Random(seed))
    network.advance(10.0)
    said = 0
    for _ in range(200):
        said += network.say(network.dialler, network.to_listener, said)
        said += network.say(network.listener, network.to_dialler, said)
        network.advance(network.now + 0.1)
    network.advance(network.now + 5)
    assert network.to_listener.delivered + network.to_dialler.delivered == said > 200
    network.settle()


def test_the_soak_sees_what_it_is_meant_to_see() -> None:
    """Cuts, resumptions, stale hellos, bulk that was lost: all of it happens within these seeds."""
    total = soak(Random(1), 0, 60)
    for number in range(1, 6):
        total += soak(Random(number), number, 60)
    for what in ("cuts", "silences", "links opened", "not kept, reported as lost", "delivered"):
        assert total[what] > 0, what
    assert total["refused: stale-resume"] > 0
    assert total["ended: goodbye"] > 0


def test_the_same_seed_does_the_same() -> None:
    assert soak(Random(7), 0, 60) == soak(Random(7), 0, 60)
