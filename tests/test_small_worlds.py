"""The exhaustive walk: its names for states, its stimuli, what it proves, and that it can fail."""

import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from random import Random
from typing import cast, get_args

import exhaust
import pytest
from bounds import HERE, WORLDS, A, B, Bounds, X, Y
from canonical import State, canonical
from exhaust import Figures, Violation, Walk, digest_of, expand
from model import TERMINAL, World
from small_world import Small, answers, empty, options, specs

from trouper.runtime import outcomes, requests
from trouper.runtime.ledger import Config, Ledger
from trouper.runtime.machine import HANDLERS
from trouper.runtime.task import Executing
from trouper.wire import stimuli as st
from trouper.wire.instructions import DropData, Instruction
from trouper.wire.stimuli import Stimulus

TINY = Bounds(computed=(X,), replicas=(X,))
REMOTE = Bounds(computed=(Y,), local=False, remote=((A,),), replicas=())


def visit(bounds: Bounds) -> tuple[Walk, Figures]:
    walk = Walk(bounds)
    return walk, walk.run(partial(map, partial(expand, bounds)), silent)


def silent(states: int, waiting: int, transitions: int) -> None:
    """Show no progress."""


def state_after(*stimuli: Stimulus) -> State:
    world = World(Config(address=HERE))
    world.play(*stimuli)
    return canonical(world.machine.snapshot(), world.owed.values())


# Names of states


def test_histories_that_differ_in_numbers_only_have_one_name() -> None:
    y = st.ComputeTask(Y, 1, 1, who_has={X: (A,)})
    later = st.ComputeTask(Y, 9, 5, who_has={X: (A,)})
    before = (st.ComputeTask("z", 1, 1), st.ExecuteSuccess("z", 1, 5, "int"), st.FreeKeys(("z",)))
    assert state_after(y) == state_after(*before, later)
    arrived = (y, st.GatherSuccess(A, 1, {X: (1, "int")}))
    arrived_later = (*before, later, st.GatherSuccess(A, 2, {X: (1, "int")}))
    assert state_after(*arrived) == state_after(*arrived_later)
    assert state_after(y) != state_after(*arrived)


def test_values_put_here_and_computed_here_have_one_name() -> None:
    computed = (st.ComputeTask(X, 1, 1), st.ExecuteSuccess(X, 1, 5, "int"))
    assert state_after(*computed) == state_after(st.UpdateData({X: (5, "int")}, -7))


def test_timers_are_renumbered() -> None:
    missing = st.AcquireReplicas({X: ()})
    busy = (st.AcquireReplicas({Y: (B,)}), st.GatherBusy(B, 2))
    waited = (missing, st.FindMissing(1), st.FindMissing(2))
    assert state_after(missing) == state_after(*waited)
    assert state_after(missing, *busy) == state_after(
        *waited, st.AcquireReplicas({Y: (B,)}), st.GatherBusy(B, 4)
    )


def test_order_of_ages_is_part_of_the_name() -> None:
    x, y = st.ComputeTask(X, 1, 1), st.ComputeTask(Y, 1, 1)
    assert state_after(st.Pause(), x, y) != state_after(st.Pause(), y, x)
    assert state_after(st.Pause(), x, st.FreeKeys((X,)), x, y) == state_after(st.Pause(), x, y)


def test_an_attempt_of_another_spec_has_another_name() -> None:
    first, second = st.ComputeTask(X, 1, 4), st.ComputeTask(X, 2, 9)
    assert state_after(first, second) != state_after(first)
    assert state_after(second, first) == state_after(first, second)


def test_what_the_next_request_overwrites_is_left_out() -> None:
    needed = st.ComputeTask(Y, 1, 1, who_has={X: (A,)})
    computed = (st.ComputeTask(X, 1, 1), st.CancelTask(X), st.ExecuteCancelled(X, 1))
    freed = (*computed, st.ComputeTask(Y, 1, 1, local=(X,)), st.FreeKeys((X, Y)))
    assert state_after(*freed, needed) == state_after(needed)


@pytest.mark.parametrize("name", WORLDS)
def test_a_name_is_a_state_that_can_be_gone_on_from(name: str) -> None:
    """A machine that counts on does what one does that is built anew from each state's name."""
    rng = Random(name)
    own = empty(WORLDS[name])
    for _ in range(60):
        renamed = Small(own.state)
        assert renamed.state == own.state
        own_options = list(options(WORLDS[name], own))
        renamed_options = list(options(WORLDS[name], renamed))
        assert [type(way) for way in own_options] == [type(way) for way in renamed_options]
        choice = rng.randrange(len(own_options))
        said = [type(instruction) for instruction in own.tell(own_options[choice])]
        assert [type(word) for word in renamed.tell(renamed_options[choice])] == said
        assert renamed.state == own.state


# Stimuli


def kinds(bounds: Bounds, states: int) -> set[type[Stimulus]]:
    """What is sent in the first so many states of a walk."""
    found: set[type[Stimulus]] = set()
    known = [empty(bounds).state]
    for state in known:
        for stimulus in options(bounds, Small(state)):
            found.add(type(stimulus))
            if len(known) < states:
                world = Small(state)
                world.tell(stimulus)
                known += [] if world.state in known else [world.state]
    return found


def test_every_kind_of_stimulus_is_sent() -> None:
    found = set[type[Stimulus]]().union(*(kinds(bounds, 30) for bounds in WORLDS.values()))
    assert found == set(get_args(Stimulus))


@pytest.mark.parametrize(
    "begin",
    [
        (st.ComputeTask(X, 1, 1),),
        (st.AcquireReplicas({X: (A,)}),),
        (st.AcquireReplicas({X: (A,)}), st.GatherBusy(A, 1)),
        (st.AcquireReplicas({X: ()}),),
    ],
)
def test_what_is_owed_ends_in_every_way_there_is(begin: tuple[Stimulus, ...]) -> None:
    world = World(Config(address=HERE))
    world.play(*begin)
    (owed,) = world.owed.values()
    ways = {way for way, ended in TERMINAL.items() if ended is type(owed)}
    assert {type(answer) for answer in answers(Bounds(), owed)} == ways


def test_a_gather_may_bring_any_part_of_what_was_asked() -> None:
    world = World(Config(address=HERE))
    world.send(st.AcquireReplicas({X: (A,), Y: (A,)}))
    (owed,) = world.owed.values()
    brought = [
        set(way.data) for way in answers(Bounds(), owed) if isinstance(way, st.GatherSuccess)
    ]
    assert brought == [set(), {X}, {Y}, {X, Y}]


def test_specs_that_make_a_difference_are_the_wanted_the_running_and_a_new_one() -> None:
    world = World(Config(address=HERE))
    assert specs(None) == [1]
    world.play(st.ComputeTask(X, 1, 1), st.ComputeTask(X, 2, 2))
    assert specs(world.machine.ledger.tasks[X]) == [2, 1, 3]
    world.send(st.FreeKeys((X,)))
    assert specs(world.machine.ledger.tasks[X]) == [1, 2]


# Walks


@pytest.mark.parametrize(
    "bounds",
    [
        Bounds(computed=(X,), replicas=(X,), pause=True),
        Bounds(replicas=()),
        REMOTE,
    ],
    ids=["replica", "local", "remote"],
)
def test_nothing_is_wrong_in_a_small_world(bounds: Bounds) -> None:
    walk, figures = visit(bounds)
    assert figures.states == len(walk.numbers) == len(walk.kind) == len(walk.ends)
    assert figures.states > 100
    assert figures.transitions > 10 * figures.states
    assert 0 < figures.ends < figures.states


def test_a_walk_goes_where_a_story_goes() -> None:
    """A copy turns out not to be readable: reached, by name."""
    walk, _ = visit(REMOTE)
    assert REMOTE.nbytes == 0
    y = st.ComputeTask(Y, 1, 1, REMOTE.priorities[0], who_has={X: (A,)})
    state = state_after(y, st.GatherFailure(A, 1, "ValueError"))
    assert digest_of(state) in walk.numbers
    assert digest_of(state_after(y, st.Pause())) not in walk.numbers


def command_line(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(Path(exhaust.__file__)), *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


def test_command_line_says_what_it_visited() -> None:
    done = command_line("first", "--jobs", "2")
    assert done.returncode == 0, done.stderr
    figures = re.findall(r"[\d,]+ states, [\d,]+ transitions, \d+ deep, [\d,]+ ends", done.stdout)
    assert len(figures) == 2, "of the world, and in all"
    assert figures[0] == figures[1]
    assert "computed=('x',)" in done.stdout, "its bounds"
    assert "of them new" in done.stderr, "how far it is"


def test_command_line_refuses_a_world_that_is_not() -> None:
    done = command_line("second")
    assert done.returncode == 2
    assert "no such world: second" in done.stderr


def test_command_line_ends_with_the_way_to_a_violation(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def violated(name: str, jobs: int) -> Figures:
        raise Violation(f"something is wrong in {name}")

    monkeypatch.setattr(exhaust, "walk", violated)
    monkeypatch.setattr(sys, "argv", ["exhaust.py", "first"])
    with pytest.raises(SystemExit) as ended:
        exhaust.main()
    assert ended.value.code == 1
    assert "something is wrong in first" in capsys.readouterr().err


# Machines that are broken on purpose


def test_a_slot_that_is_not_given_back_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def keep(ledger: Ledger, activity: Executing) -> None:
        pass

    monkeypatch.setattr(Ledger, "give_back", keep)
    with pytest.raises(Violation, match=r"wrong count of slots") as caught:
        visit(TINY)
    story = str(caught.value).splitlines()
    assert len(story) == 3, "the shortest way: begin, and end"
    assert "ComputeTask(key='x'" in story[1]
    assert "Execute" in story[2]


def test_an_answer_that_leads_round_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every state is sound, and the task is computed again and again."""

    def forget(ledger: Ledger, ev: st.ExecuteSuccess, out: list[Instruction]) -> None:
        out.append(DropData(ev.key, ev.attempt))
        outcomes.execute_cancelled(ledger, st.ExecuteCancelled(ev.key, ev.attempt), out)

    monkeypatch.setitem(cast(dict[object, object], HANDLERS), st.ExecuteSuccess, forget)
    with pytest.raises(Violation, match="kind answers lead round"):
        visit(TINY)


def test_an_old_run_id_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def keep_run_id(ledger: Ledger, ev: st.ComputeTask, out: list[Instruction]) -> None:
        task = ledger.tasks.get(ev.key)
        run_id = task.run_id if task else 0
        requests.compute_task(ledger, ev, out)
        ledger.tasks[ev.key].run_id = run_id

    monkeypatch.setitem(cast(dict[object, object], HANDLERS), st.ComputeTask, keep_run_id)
    with pytest.raises(Violation, match="the newest run_id is forgotten"):
        visit(TINY)


def test_an_attempt_that_is_over_and_counts_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def any_timer(ledger: Ledger, ev: st.FindMissing, out: list[Instruction]) -> None:
        outcomes.find_missing(ledger, st.FindMissing(ledger.missing_attempt), out)

    monkeypatch.setitem(cast(dict[object, object], HANDLERS), st.FindMissing, any_timer)
    with pytest.raises(Violation, match="attempt=1"):
        visit(Bounds(computed=(Y,), local=False, remote=((),), replicas=()))
