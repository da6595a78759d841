"""Send messages both ways through a network that cuts, delays and falls silent; count what it did.

    python tests/soak_session.py --messages 1000000 --cuts 10000 --seed 0

Everything sent arrives exactly once and in order, or both sides learn that the session is lost.
The same seed does the same in every process. A failure names the seed and the session.
"""

import sys
import time
from collections import Counter
from random import Random

from command_line import parser_for
from network import Network, small_packets


def main() -> None:
    """Parse the command line and soak."""
    parser = parser_for(__doc__)
    parser.add_argument("--messages", type=int, default=10_000)
    parser.add_argument("--cuts", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = Random(arguments.seed)
    total: Counter[str] = Counter()
    began = said = time.monotonic()
    while total["delivered"] < arguments.messages or total["cuts"] < arguments.cuts:
        number = total["sessions"]
        try:
            total += soak(rng, number, arguments.messages / max(1, arguments.cuts))
        except BaseException:
            print(f"seed {arguments.seed}, session {number}:", file=sys.stderr)
            raise
        if time.monotonic() - said >= 10:
            said = time.monotonic()
            done = ", ".join(f"{total[what]} {what}" for what in ("delivered", "cuts", "sessions"))
            print(f"{said - began:.0f} s: {done}", flush=True)
    print(f"seed {arguments.seed}, {time.monotonic() - began:.0f} s")
    for what, n in sorted(total.items()):
        print(f"{what:32} {n:10}")


@small_packets
def soak(rng: Random, number: int, messages_per_cut: float) -> Counter[str]:
    """One session with some fifty faults, or until it is lost; what has happened in it."""
    network = Network(rng, session_id=f"session-{number}")
    said = 0
    for _ in range(rng.randint(1, 100)):
        if network.ended:
            break
        for _ in range(10):
            for _ in range(round(rng.expovariate(25 / messages_per_cut)) + 1):
                said += network.say(network.dialler, network.to_listener, said)
                if network.accepted:
                    said += network.say(network.listener, network.to_dialler, said)
            network.advance(network.now + rng.choice((0.0, 0.01, 0.1, 1.0)))
        network.fault()
    network.settle()
    return Counter(
        {
            "sessions": 1,
            "messages sent": said,
            "delivered": network.to_listener.delivered + network.to_dialler.delivered,
            "cuts": network.cuts,
            "silences": network.silences,
            "links opened": network.resumptions,
            "not kept, reported as lost": len(network.to_listener.lost | network.to_dialler.lost),
            **{f"refused: {code}": n for code, n in network.refusals.items()},
            f"ended: {network.ended['dialler'][1].code}": 1,
        }
    )


if __name__ == "__main__":
    main()
