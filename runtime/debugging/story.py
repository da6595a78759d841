"""The story of a task: everything that ever happened to it, and why it is where it is.

    y is waiting since #812, when it was to be computed: it waits for x
    x is missing since #790, when tcp://b:1 was lost: no holder is known; nobody has answered
    request-refresh-who-has #791

The journal is replayed twice: the end of it says whose histories matter, and those are followed
then. Pure.
"""

import msgspec

from trouper.runtime.debugging.occasions import mentions, occasion
from trouper.runtime.debugging.reasons import Cause, Reason, Scene
from trouper.runtime.journal.format import op_of
from trouper.runtime.journal.journal import Journal, Step
from trouper.runtime.machine import Machine
from trouper.wire.instructions import Instruction, RequestRefreshWhoHas
from trouper.wire.stimuli import Pause, RefreshWhoHas, Stimulus
from trouper.wire.vocabulary import Key

CHAIN = 7
"""So many tasks of a chain are explained; of a longer one, the first and the last."""


class Turn(msgspec.Struct, frozen=True):
    """A record that had to do with a task."""

    n: int
    at_us: int
    stimulus: Stimulus
    instructions: tuple[Instruction, ...]
    """Those that name the task."""
    before: str
    """Its phase."""
    phase: str
    """After the record."""
    changes: tuple[str, ...]
    """What else has changed for it."""
    error: str = ""
    """Type name of the exception that the machine raised."""


class Why(msgspec.Struct, frozen=True):
    """Why a task is where it is, and since when."""

    key: Key
    phase: str
    since: int | None
    """Number of a record; None for longer than the journal knows."""
    text: str


class Story(msgspec.Struct, frozen=True):
    """See the module's text."""

    key: Key
    turns: list[Turn]
    why: list[Why]
    """Of the task, of the input that it waits for, and so on to the first cause."""
    left_out: int
    """How many links in the middle of that chain are not in it."""


class StuckTasks(msgspec.Struct, frozen=True):
    """A cause, and the tasks that wait behind it."""

    why: Why
    behind: tuple[Key, ...]
    """Oldest first; without the one that the cause is about."""


def tell(journal: Journal, key: Key, until: int | None = None) -> Story:
    """The story of a task up to a record, or to the end.

    Raises:
        JournalError: As `Journal.steps`.
    """
    chain = Scene(journal.replay(until)).chain(key)
    left_out = max(0, len(chain) - CHAIN)
    if left_out:
        chain[CHAIN // 2 : CHAIN // 2 + left_out] = []
    histories = follow(journal, [reason.key for reason in chain], until)
    why = [histories[reason.key].date(reason) for reason in chain]
    return Story(key, histories[key].turns, why, left_out)


def stuck_tasks(journal: Journal, until: int | None = None) -> list[StuckTasks]:
    """What is stuck after a record, or at the end, and on what; oldest first.

    Raises:
        JournalError: As `Journal.steps`.
    """
    causes: list[Cause] = Scene(journal.replay(until)).causes()
    histories = follow(journal, [cause.reason.key for cause in causes], until)
    return [
        StuckTasks(histories[cause.reason.key].date(cause.reason), cause.behind) for cause in causes
    ]


def follow(journal: Journal, keys: list[Key], until: int | None = None) -> dict[Key, "History"]:
    """The histories of some tasks up to a record, or to the end.

    Raises:
        JournalError: As `Journal.steps`.
    """
    machine = journal.replay(until=journal.first - 1)
    histories = {key: History(key, machine) for key in keys}
    for step in journal.steps(until=until):
        for history in histories.values():
            history.go_on(step)
    return histories


class _Standing(msgspec.Struct, frozen=True):
    """Where a task stands, as far as it is told."""

    phase: str
    holders: tuple[str, ...] = ()
    unmet: int = 0


class History:
    """What happened to one task. It is led through the steps of a journal by `go_on`.

    Args:
        key: The task; it need not be known.
        machine: Before the first step.
    """

    def __init__(self, key: Key, machine: Machine) -> None:
        self.key = key
        self.turns: list[Turn] = []
        self._standing = _standing(machine, key)
        self._paused_at: int | None = None

    def go_on(self, step: Step) -> None:
        """Take note of the next step."""
        record, was = step.record, self._standing
        if isinstance(record.stimulus, Pause):
            self._paused_at = record.n
        now = _standing(step.machine, self.key)
        named = tuple([word for word in step.instructions if mentions(word, self.key)])
        if now == was and not named and not mentions(record.stimulus, self.key):
            return
        self._standing = now
        self.turns.append(
            Turn(
                record.n,
                record.at_us,
                record.stimulus,
                named,
                was.phase,
                now.phase,
                _changes(was, now),
                record.error,
            )
        )

    def date(self, reason: Reason) -> Why:
        """Say since when a reason holds, and what has been tried against it."""
        turn = next((turn for turn in reversed(self.turns) if turn.before != turn.phase), None)
        since = None if turn is None else turn.n
        begun = "for longer than the journal knows"
        if turn is not None:
            begun = f"since #{turn.n}, {occasion(turn.stimulus, self.key)}"
        text = f"{self.key} is {reason.phase} {begun}: {reason.text}"
        if reason.phase == "missing":
            text += f"; {self._asked(since or 0)}"
        elif reason.text.endswith("paused") and self._paused_at is not None:
            text += f", since #{self._paused_at}"
        return Why(self.key, reason.phase, since, text)

    def _asked(self, since: int) -> str:
        """Whether it was asked who holds it, and what the answer was."""
        asked = [
            turn.n
            for turn in self.turns
            if turn.n >= since
            and any(isinstance(word, RequestRefreshWhoHas) for word in turn.instructions)
        ]
        if not asked:
            return "nobody has been asked who holds it"
        question = f"{op_of(RequestRefreshWhoHas)} #{asked[0]}"
        answers = [
            turn.n
            for turn in self.turns
            if turn.n > asked[0] and isinstance(turn.stimulus, RefreshWhoHas)
        ]
        again = f", asked {len(asked)} times, last in #{asked[-1]}" if len(asked) > 1 else ""
        if answers:
            return f"the answer #{answers[-1]} to {question}{again} names nobody who does"
        return f"nobody has answered {question}{again}"


def _standing(machine: Machine, key: Key) -> _Standing:
    task = machine.ledger.tasks.get(key)
    if task is None:
        return _Standing("released")
    phase = task.phase
    return _Standing(phase, tuple(task.holders or ()), task.unmet if phase == "waiting" else 0)


def _changes(was: _Standing, now: _Standing) -> tuple[str, ...]:
    changes = [f"{peer} is said to hold it" for peer in now.holders if peer not in was.holders]
    # One that is forgotten altogether has lost nobody.
    if now.phase != "released":
        changes += [f"{peer} holds it no more" for peer in was.holders if peer not in now.holders]
    if now.unmet != was.unmet and now.phase == "waiting":
        changes.append(f"{now.unmet} input{'s' * (now.unmet > 1)} not here yet")
    return tuple(changes)
