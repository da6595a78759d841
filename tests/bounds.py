"""Small worlds: what may happen in each. One with everything would be too large to be visited.

In all of them there are two tasks, `x` and `y`, two peers, A and B, and one slot. `x` has no
inputs and `y` has none or `x`, so no world has inputs in a circle. Each world leaves something
out that another one has; what is alive at once needs no bound: a key has one claim, at most one
attempt, and so two specs that make a difference.
"""

from typing import NamedTuple, TypeAlias

from trouper.runtime.ledger import Config, Limits
from trouper.wire.vocabulary import Key, Peer, Priority

HERE = "tcp://h:1"
A, B = "tcp://a:1", "tcp://b:1"
X, Y = "x", "y"

Holders: TypeAlias = tuple[Peer, ...]


class Bounds(NamedTuple):
    """What may happen in a world; whatever is not named here may happen in all of them."""

    config: Config = Config(address=HERE)
    computed: tuple[Key, ...] = (X, Y)
    """What compute-task may ask for."""
    local: bool = True
    """Whether `y` may have `x` as an input that is computed here."""
    remote: tuple[Holders, ...] = ()
    """Whom a compute-task for `y` may name as holders of `x`."""
    holders: tuple[Holders, ...] = ((A,),)
    """Whom acquire-replicas and refresh-who-has may name; (A,) is among them."""
    replicas: tuple[Key, ...] = (X, Y)
    """What may be acquired, refreshed and removed."""
    priorities: tuple[Priority, ...] = ((0,),)
    """Of a computation."""
    resources: tuple[dict[str, float], ...] = ({},)
    """What a computation may take."""
    nbytes: int = 0
    """Size of every value, told beforehand and found."""
    secede: bool = False
    pause: bool = False
    scatter: bool = False
    cancel: bool = False
    """Whether tasks are cancelled, by a client or by the scheduler."""
    refresh: bool = False
    """Whether the scheduler says anything of holders that it was not asked for, such as that a
    worker is gone."""


ONE_AT_A_TIME = Limits(incoming_count=1, incoming_throttle_nbytes=1)
FEW_BYTES = Limits(incoming_nbytes=15, message_nbytes=15)
"""One value of 10 bytes in a message, and in flight."""

WORLDS: dict[str, Bounds] = {
    "first": Bounds(computed=(X,), replicas=(X,), pause=True),
    "one key": Bounds(
        computed=(X,),
        holders=((A,), (B,), ()),
        replicas=(X,),
        secede=True,
        pause=True,
        scatter=True,
        cancel=True,
        refresh=True,
    ),
    "inputs": Bounds(remote=((A,),)),
    "peers": Bounds(
        computed=(Y,),
        remote=((), (A,), (A, B)),
        holders=((A,), (B,), ()),
        replicas=(X,),
        refresh=True,
    ),
    "count": Bounds(
        Config(address=HERE, limits=ONE_AT_A_TIME), computed=(), holders=((A,), (B,)), nbytes=10
    ),
    "bytes": Bounds(
        Config(address=HERE, limits=FEW_BYTES), computed=(), holders=((A,), (A, B)), nbytes=10
    ),
    "pause": Bounds(remote=((A,),), replicas=(X,), pause=True),
    "secede": Bounds(remote=((A,),), replicas=(), secede=True),
    "resource": Bounds(
        Config(address=HERE, resources={"gpu": 1}),
        replicas=(),
        resources=({}, {"gpu": 1}),
        secede=True,
    ),
    "clients": Bounds(remote=((A,),), replicas=(), scatter=True, cancel=True),
    "priorities": Bounds(remote=((A,),), replicas=(X,), priorities=((0,), (2,))),
}
"""By name."""
