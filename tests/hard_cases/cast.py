"""The cast of the hard cases: two machines that are told the same story, and who else occurs in it.

A story is a sequence of our stimuli. Ours plays it in a `World`, which verifies every invariant
after each stimulus. Where a case still fails in distributed, a second test tells it to the
`WorkerState` of distributed, configured as in production: it does not validate itself.
"""

from model import World
from reference import Reference

from trouper.runtime.ledger import Config
from trouper.wire.instructions import Instruction
from trouper.wire.stimuli import Stimulus

HERE = "tcp://10.0.0.1:1"
P = "tcp://10.0.0.2:1"
Q = "tcp://10.0.0.3:1"
R = "tcp://10.0.0.4:1"

INT = (5, "int")
"""Size and type name of every value."""

CONFIG = Config(address=HERE)
"""One slot."""


def ours(config: Config = CONFIG) -> World:
    """Our machine, and the world around it."""
    return World(config)


def distributed(config: Config = CONFIG) -> Reference:
    """The machine of distributed as a worker in production runs it, nothing mended."""
    return Reference(config, validate=False)


def tell(reference: Reference, *story: Stimulus) -> list[Instruction]:
    """Let it handle these one after the other; what the last of them leads to."""
    out: list[Instruction] = []
    for stimulus in story:
        out = reference.handle(stimulus)
    return out
