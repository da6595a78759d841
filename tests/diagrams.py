"""What `runtime/MACHINE.md` shows of the machine: drawn from its tables, and from driving it.

The diagrams are Mermaid text, which many viewers of Markdown draw. Nothing in them is written by
hand: the two tables are those of `transitions`; the names of phases are asked of a `Task` with each
goal and activity; the arrows between phases are what the stories in `tests/scenarios` went through;
and the list of all arrows comes of sending everything that can be sent to the machine as it stands
after each line of each story.

``python tests/diagrams.py`` writes them into the page, each between two comments that name it.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Final, TypeAlias

from model import World, keys_of
from scenario import Scenario, phases, scenarios

from trouper.runtime.errors import StimulusError
from trouper.runtime.machine import Machine
from trouper.runtime.task import Activity, Executing, Fetching, Goal, Place, Task
from trouper.runtime.transitions import OUTCOMES, REQUESTS, Do, Outcome, Request, Standing, Verdict
from trouper.wire import instructions as ins
from trouper.wire import stimuli as st
from trouper.wire.stimuli import Stimulus
from trouper.wire.vocabulary import Key

PAGE: Final = Path(__file__).parents[1] / "runtime" / "MACHINE.md"

STORY: Final = PAGE.parents[1] / "tests" / "scenarios" / "free_meets_need.txt"
"""The one with which the page begins."""

Edges: TypeAlias = Mapping[tuple[str, str], set[str]]
"""What leads from one phase to another: stimuli, by name; "via" those about another task."""


# The tables


def outcomes() -> str:
    """From goals to verdicts; an arrow bears the outcomes that lead that way."""
    arrows = {
        (goal, verdict): [outcome for outcome in Outcome if OUTCOMES[outcome][goal] is verdict]
        for goal in Goal
        for verdict in Verdict
    }
    lines = ["flowchart LR"]
    lines += [f'    goal_{goal.name}(["goal {goal.name}"])' for goal in Goal]
    lines += [f'    {verdict.name}["{verdict.value}"]' for verdict in Verdict]
    for (goal, verdict), leading in arrows.items():
        if leading:
            label = _names([outcome.name for outcome in leading], len(Outcome))
            lines.append(f'    goal_{goal.name} -->|"{label}"| {verdict.name}')
    return _fenced("mermaid", lines)


def requests() -> str:
    """From requests to what they do; an arrow bears the standings in which they do it."""
    arrows = {
        (request, do): [standing for standing in Standing if REQUESTS[request][standing] is do]
        for request in Request
        for do in Do
    }
    lines = ["flowchart LR"]
    lines += [f'    request_{request.name}(["{_words(request.name)}"])' for request in Request]
    lines += [f'    do_{do.name}["{do.value}"]' for do in Do]
    for (request, do), leading in arrows.items():
        if leading:
            label = _names([standing.name for standing in leading], len(Standing))
            lines.append(f'    request_{request.name} -->|"{label}"| do_{do.name}')
    return _fenced("mermaid", lines)


def _names(names: Sequence[str], of: int) -> str:
    """A few names, or how to say that it is all of them but a few."""
    if len(names) == of:
        return "always"
    if len(names) == of - 1:
        return "else"
    return ", ".join(map(_words, names))


def _words(name: str) -> str:
    return name.lower().replace("_", " ")


# The phases


def phase_table() -> str:
    """The derived phase for each goal and activity."""
    executing = Executing(1, 1, "thread", (), ())
    seceded = Executing(1, 1, "thread", (), (), seceded=True)
    fetching = Fetching(1, "tcp://a:1", 1)
    lines = ["| goal | idle | executing | executing, seceded | fetching |", "|---|---|---|---|---|"]
    for goal in Goal:
        busy = [_task(goal, activity=activity) for activity in (executing, seceded, fetching)]
        cells = [_idle_phases(goal), *(task.phase for task in busy)]
        lines.append(f"| {goal.name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _task(
    goal: Goal,
    *,
    activity: Activity | None = None,
    place: Place = Place.NOWHERE,
    resources: tuple[tuple[str, float], ...] = (),
) -> Task:
    return Task("x", 1, claim=goal, activity=activity, place=place, resources=resources)


def _idle_phases(goal: Goal) -> str:
    waiting, ready = _task(goal, place=Place.WAITING), _task(goal, place=Place.READY)
    constrained = _task(goal, place=Place.READY, resources=(("gpu", 1.0),))
    wanted, missing = _task(goal, place=Place.WANTED), _task(goal, place=Place.MISSING)
    by_goal = {
        Goal.NONE: [_task(goal)],
        Goal.COMPUTE: [waiting, ready, constrained],
        Goal.FETCH: [wanted, missing],
    }
    return ", ".join(task.phase for task in by_goal[goal])


# The ways between phases


class Ways:
    """Counts through which phases tasks have come, and by what."""

    def __init__(self) -> None:
        self.edges: defaultdict[tuple[str, str], set[str]] = defaultdict(set)

    def note(
        self, before: dict[Key, str], stimulus: Stimulus, about: set[Key], after: dict[Key, str]
    ) -> None:
        """Take note of every task whose phase a stimulus has changed."""
        name = type(stimulus).__name__
        for key in before.keys() | after.keys():
            edge = (before.get(key, "released"), after.get(key, "released"))
            if edge[0] != edge[1]:
                self.edges[edge].add(name if key in about else f"via {name}")


@cache
def told() -> Edges:
    """The ways that tasks take in the stories."""
    ways = Ways()
    for path in scenarios():
        scenario = Scenario(path)
        world = World(scenario.config)
        for step in scenario.steps:
            before, about = phases(world.machine), keys_of(step.stimulus, world.owed)
            world.send(step.stimulus)
            ways.note(before, step.stimulus, about, phases(world.machine))
    return ways.edges


@cache
def possible() -> Edges:
    """The ways that lead on from anywhere in the stories, one step each."""
    ways = Ways()
    for path in scenarios():
        scenario = Scenario(path)
        world = World(scenario.config)
        for step in scenario.steps:
            _explore(world, [*everything(world), step.stimulus], ways)
            world.send(step.stimulus)
        _explore(world, everything(world), ways)
    return ways.edges


def _explore(world: World, stimuli: Iterable[Stimulus], ways: Ways) -> None:
    """Send each of these to a copy of a machine."""
    snapshot, before = world.machine.snapshot(), phases(world.machine)
    for stimulus in stimuli:
        machine = Machine.from_snapshot(snapshot)
        try:
            machine.handle(stimulus)
        except StimulusError:
            continue  # nobody can say this here, and nothing has changed
        ways.note(before, stimulus, keys_of(stimulus, world.owed), phases(machine))


SOMEBODY = ("tcp://p:1",)


def everything(world: World) -> Iterator[Stimulus]:
    """Every kind of stimulus, about every task and everything that is owed."""
    ledger = world.machine.ledger
    known = sorted(ledger.tasks)
    for key in (*known, "unheard-of"):
        yield st.ComputeTask(key, 99, 99)
        for name in ledger.config.resources:
            yield st.ComputeTask(key, 99, 99, resources={name: 1})
        for other in known:
            yield st.ComputeTask(key, 99, 99, local=(other,))
        yield st.ComputeTask(key, 99, 98, who_has={"an input": SOMEBODY})
        yield st.AcquireReplicas({key: SOMEBODY})
        yield st.AcquireReplicas({key: ()})
        yield st.RefreshWhoHas({key: SOMEBODY})
        yield st.RefreshWhoHas({key: ()})
        yield st.FreeKeys((key,))
        yield st.RemoveReplicas((key,))
        yield st.CancelTask(key)
        yield st.CancelCompute(key)
        yield st.StealRequest(key, "s")
        yield st.UpdateData({key: (1, "int")}, -99)
    for peer in sorted(ledger.peers):
        yield st.RemoveWorker(peer)
    yield st.Pause()
    yield st.Unpause()
    for owed in world.owed.values():
        yield from _endings(owed)


def _endings(
    owed: ins.Execute | ins.Gather | ins.RetryBusyWorkerLater | ins.FindMissingLater,
) -> Iterator[Stimulus]:
    """Every way in which this may end."""
    match owed:
        case ins.Execute(key=key, attempt=attempt):
            yield st.ExecuteSuccess(key, attempt, 1, "int")
            yield st.ExecuteFailure(key, attempt, "ValueError")
            yield st.ExecuteReschedule(key, attempt)
            yield st.ExecuteCancelled(key, attempt)
            yield st.Secede(key, attempt)
        case ins.Gather(peer=peer, attempt=attempt, keys=keys):
            yield st.GatherSuccess(peer, attempt, dict.fromkeys(keys, (1, "int")))
            yield st.GatherSuccess(peer, attempt, {})
            yield st.GatherBusy(peer, attempt)
            yield st.GatherNetworkFailure(peer, attempt)
            yield st.GatherFailure(peer, attempt, "UnpicklingError")
        case ins.RetryBusyWorkerLater():
            yield st.RetryBusyWorker(owed.peer, owed.attempt)
        case ins.FindMissingLater():
            yield st.FindMissing(owed.attempt)


def life(edges: Edges) -> dict[str, str]:
    """Three diagrams of the phases: those that have to do with a copy, and with a changed mind."""
    parts: dict[str, list[str]] = {"computing": [], "fetching": [], "changed-mind": []}
    states: dict[str, set[str]] = {name: set() for name in parts}
    for edge in sorted(edges):
        if any("(" in phase for phase in edge):
            part = "changed-mind"
        elif {"fetch", "missing", "flight"}.intersection(edge):
            part = "fetching"
        else:
            part = "computing"
        before, after = map(_identifier, edge)
        states[part].update(edge)
        parts[part].append(f"    {before} --> {after} : {', '.join(sorted(edges[edge]))}")
    return {
        name: _fenced(
            "mermaid",
            [
                "stateDiagram-v2",
                *(f'    state "{phase}" as {_identifier(phase)}' for phase in sorted(states[name])),
                *arrows,
            ],
        )
        for name, arrows in parts.items()
    }


def _identifier(phase: str) -> str:
    return re.sub(r"\W+", "_", phase).strip("_")


def edge_table(edges: Edges) -> str:
    """All ways as a table."""
    lines = ["| from | to | by |", "|---|---|---|"]
    lines += [
        f"| {before} | {after} | {', '.join(sorted(names))} |"
        for (before, after), names in sorted(edges.items())
    ]
    return "\n".join(lines)


# The page


def drawn() -> dict[str, str]:
    """Everything that the page shows, by name."""
    return {
        "story": _fenced("text", STORY.read_text().splitlines()),
        "outcomes": outcomes(),
        "requests": requests(),
        "phases": phase_table(),
        **life(told()),
        "all-ways": edge_table(possible()),
    }


def _fenced(language: str, lines: Sequence[str]) -> str:
    return "\n".join([f"```{language}", *lines, "```"])


def current(page: str) -> str:
    """The page with what is drawn now between the comments that name it.

    Raises:
        ValueError: A diagram has no place in the page.
    """
    for name, content in drawn().items():
        begin, end = f"<!-- drawn: {name} -->", "<!-- end -->"
        pattern = rf"{begin}\n.*?{end}"
        if len(re.findall(pattern, page, re.DOTALL)) != 1:
            raise ValueError(f"{PAGE.name} has to have {begin} and {end} once")
        before, after = re.split(pattern, page, flags=re.DOTALL)
        page = f"{before}{begin}\n{content}\n{end}{after}"
    return page


if __name__ == "__main__":
    PAGE.write_text(current(PAGE.read_text()))
