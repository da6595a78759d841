"""From the story of a divergence to the shortest one that still ends in it.

Stimuli are left out in ever smaller pieces, for as long as the machines still differ in the same
way. What ends an attempt is bound anew to the attempt that runs in the shorter story, and is left
out where there is none. The result shows the cause; that a scheduler could tell just this story is
not certain any more.
"""

import msgspec
from duel import Divergence, Duel
from model import TERMINAL, Owed

from trouper.runtime.ledger import Config
from trouper.wire import instructions as ins
from trouper.wire import stimuli as st
from trouper.wire.stimuli import Stimulus


def shrink(config: Config, told: list[Stimulus], divergence: Divergence) -> list[Stimulus]:
    """A shorter story with the same end; none of its stimuli can be left out."""
    story = told
    size = len(story) // 2
    while size:
        start = 0
        while start < len(story):
            found = replay(config, story[:start] + story[start + size :])
            if found is not None and _is_alike(found[1], divergence):
                story, _ = found
            else:
                start += size
        size //= 2
    return story


def _is_alike(one: Divergence, other: Divergence) -> bool:
    return one.kind == other.kind and type(one.theirs) is type(other.theirs)


def replay(config: Config, told: list[Stimulus]) -> tuple[list[Stimulus], Divergence] | None:
    """What of this could be told, up to the divergence in which it ends; None without one."""
    duel = Duel(config)
    for stimulus in told:
        bound = _bind(stimulus, duel.owed)
        if bound is None:
            continue
        if duel.exempt(bound):
            return None
        try:
            duel.send(bound)
        except Divergence as divergence:
            return duel.told, divergence
    return None


def _bind(stimulus: Stimulus, owed: dict[int, Owed]) -> Stimulus | None:
    """The stimulus with the attempt that it would have in this story."""
    asked = TERMINAL.get(type(stimulus))
    if isinstance(stimulus, st.Secede):
        asked = ins.Execute
    if asked is None:
        return stimulus
    for attempt, owing in owed.items():
        if type(owing) is asked and all(
            getattr(owing, name, None) == getattr(stimulus, name, None) for name in ("key", "peer")
        ):
            bound = msgspec.structs.replace(stimulus, attempt=attempt)
            if isinstance(bound, st.GatherSuccess) and isinstance(owing, ins.Gather):
                data = {key: value for key, value in bound.data.items() if key in owing.keys}
                return msgspec.structs.replace(bound, data=data)
            return bound
    return None


def told_as_text(told: list[Stimulus]) -> str:
    """One line for each stimulus, without what is as usual."""
    lines: list[str] = []
    for stimulus in told:
        usual = {field.name: field.default for field in msgspec.structs.fields(stimulus)}
        said = [
            f"{name}={value!r}"
            for name, value in msgspec.structs.asdict(stimulus).items()
            if value != usual[name] and value != {}
        ]
        lines.append(f"    {type(stimulus).__name__}({', '.join(said)}),")
    return "\n".join(lines)
