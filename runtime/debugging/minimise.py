"""From the journal of a failure to the shortest life of a machine that still shows it. Pure.

Delta debugging (Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", 2002):
stimuli are left out in ever smaller pieces, as long as the failure still shows at the end. What is
left out changes what follows; `lead` keeps a shorter life consistent. None of the stimuli that are
left at last can be left out alone.

The result shows the cause. Whether a scheduler would ever say just this is another question.
"""

import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeAlias

import msgspec

from trouper.runtime.errors import JournalError, StimulusError
from trouper.runtime.journal.format import INSTRUCTIONS, STIMULI, Header, Noted
from trouper.runtime.journal.frames import MAGIC
from trouper.runtime.journal.journal import Journal
from trouper.runtime.journal.records import RecordWriter
from trouper.runtime.machine import Machine
from trouper.runtime.task import Executing
from trouper.wire import stimuli as st
from trouper.wire.instructions import Instruction
from trouper.wire.stimuli import Stimulus
from trouper.wire.version import VERSION


class Said(msgspec.Struct, frozen=True):
    """A stimulus of a life that may be shortened."""

    stimulus: Stimulus
    at_us: int = 0
    stale: bool = False
    """It was about an attempt that was not outstanding any more, and so it is left as it is."""


class Moment(msgspec.Struct, frozen=True):
    """A machine after a stimulus."""

    machine: Machine
    said: Said
    """As the machine was told."""
    instructions: Sequence[Instruction]
    error: Exception | None = None
    """What the machine has raised instead."""

    @property
    def stimulus(self) -> Stimulus:
        """What the machine was told."""
        return self.said.stimulus


Failure: TypeAlias = Callable[[Moment], bool]
"""Whether a failure shows."""


class Life(msgspec.Struct, frozen=True):
    """How a failure comes about: at the last stimulus it shows."""

    before: dict[str, Any]
    """Snapshot of the machine before the first one."""
    said: Sequence[Said]


def minimise(
    journal: Journal, failure: Failure, progress: Callable[[int], object] = lambda count: None
) -> Life:
    """The shortest life that still shows a failure, or one that cannot be shortened by a stimulus.

    Args:
        journal: Of which the first part matters, up to where the failure shows first.
        failure: What to look for.
        progress: Told after each attempt how many stimuli are left.

    Raises:
        JournalError: The failure does not show.
    """
    life = first_part(journal, failure)
    empty = Machine(journal.config).snapshot()
    found = relive(empty, life.said, failure)
    if found is not None:  # what the journal begins with has nothing to do with it
        life = Life(empty, found)
    said = list(life.said)
    size = max(1, len(said) // 2)
    while True:
        shortened = False
        end = len(said)
        while end > 0:
            begin = max(0, end - size)
            found = relive(life.before, said[:begin] + said[end:], failure)
            if found is not None:
                said, shortened = found, True
            progress(len(said))
            end = min(begin, len(said))
        if size == 1 and not shortened:
            return Life(life.before, said)
        size = max(1, size // 2)


def first_part(journal: Journal, failure: Failure) -> Life:
    """A journal up to the record with which a failure shows first.

    Raises:
        JournalError: It does not show.
    """
    machine = journal.replay(until=journal.first - 1)
    life: list[Said] = []
    before = machine.snapshot()
    for record in journal.records():
        attempt = outstanding(machine, record.stimulus)
        stale = attempt is not None and attempt != getattr(record.stimulus, "attempt", None)
        said = Said(record.stimulus, record.at_us, stale)
        moment = tell(machine, said)
        if failure(moment):
            return Life(before, [*life, said])
        if moment.error is None:
            life.append(said)
        elif not isinstance(moment.error, StimulusError):
            break
    raise JournalError("the failure does not show in this journal, with this trouper")


def relive(before: dict[str, Any], life: Iterable[Said], failure: Failure) -> list[Said] | None:
    """What of a life could be told, if the failure shows at its end; else None."""
    told: list[Said] = []
    last: Moment | None = None
    for moment in lead(Machine.from_snapshot(before), life):
        if moment.error is None:
            told.append(moment.said)
            last = moment
        elif failure(moment):
            return [*told, moment.said]
        elif not isinstance(moment.error, StimulusError):
            return None  # it fails, and in another way
    return told if last is not None and failure(last) else None


def lead(machine: Machine, life: Iterable[Said]) -> Iterator[Moment]:
    """Lead a machine through a life of which parts may have been left out.

    What ends an attempt, a gather or a timer is told of the one that is outstanding now, and is
    left out if there is none. What the machine refuses changes nothing, and its moment has the
    error. Any other error is raised if it is not the last moment that is asked for.
    """
    for said in life:
        bound = said if said.stale else _bound(machine, said)
        if bound is None:
            continue
        moment = tell(machine, bound)
        yield moment
        if moment.error is not None and not isinstance(moment.error, StimulusError):
            raise moment.error


def tell(machine: Machine, said: Said) -> Moment:
    """Have a machine handle a stimulus, whatever comes of it."""
    try:
        return Moment(machine, said, machine.handle(said.stimulus))
    except Exception as error:  # noqa: BLE001 - it may be the failure that is looked for
        return Moment(machine, said, (), error)


def _bound(machine: Machine, said: Said) -> Said | None:
    attempt = outstanding(machine, said.stimulus)
    if attempt is None:
        return said
    if not attempt:
        return None
    stimulus = msgspec.structs.replace(said.stimulus, attempt=attempt)
    return msgspec.structs.replace(said, stimulus=stimulus)


def outstanding(machine: Machine, stimulus: Stimulus) -> int | None:
    """The attempt that a stimulus would be about; 0 if there is none, None if it is about none."""
    ledger = machine.ledger
    match stimulus:
        case (
            st.ExecuteSuccess(key=key)
            | st.ExecuteFailure(key=key)
            | st.ExecuteReschedule(key=key)
            | st.ExecuteCancelled(key=key)
            | st.Secede(key=key)
        ):
            task = ledger.tasks.get(key)
            activity = None if task is None else task.activity
            return activity.attempt if isinstance(activity, Executing) else 0
        case (
            st.GatherSuccess(peer=peer)
            | st.GatherBusy(peer=peer)
            | st.GatherNetworkFailure(peer=peer)
            | st.GatherFailure(peer=peer)
        ):
            entry = ledger.peers.get(peer)
            return 0 if entry is None else entry.attempt
        case st.RetryBusyWorker(peer=peer):
            entry = ledger.peers.get(peer)
            return 0 if entry is None else entry.busy_attempt
        case st.FindMissing():
            return ledger.missing_attempt
        case _:
            return None


def like_first_error(journal: Journal) -> Failure:
    """The failure that is the first error which the machine raises: of that type, at that place.

    Raises:
        JournalError: The machine raises none.
    """
    machine = journal.replay(until=journal.first - 1)
    for record in journal.records():
        error = tell(machine, Said(record.stimulus)).error
        if error is not None:
            sought = _origin(error)
            return lambda moment: moment.error is not None and _origin(moment.error) == sought
        if record.error:
            raise JournalError(
                f"record {record.n} led to {record.error}, and does not with this trouper"
            )
    raise JournalError("no record of this journal leads to an error")


def _origin(error: Exception) -> tuple[str, str, str]:
    """Type, file and function of an error: the line may move, and the message names a key."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return type(error).__name__, frame.filename, frame.name


def as_journal(header: Header, life: Life) -> bytes:
    """A life as a journal of one segment, with the answers of this trouper.

    Args:
        header: Of the journal from which it comes.
        life: Its times are those of that journal.
    """
    header = msgspec.structs.replace(
        header,
        trouper=VERSION,
        first=1,
        previous=0,
        stimuli=STIMULI,
        instructions=INSTRUCTIONS,
        snapshot=life.before,
    )
    machine = Machine.from_snapshot(life.before)
    writer = RecordWriter(header.at_us)
    begin = MAGIC + writer.header(header)
    noted = Noted()
    for said in life.said:
        moment = tell(machine, said)
        if moment.error is not None:
            noted.errors[len(noted.answers)] = type(moment.error).__name__
        noted.times_us.append(said.at_us)
        noted.stimuli.append(said.stimulus)
        noted.answers.append(moment.instructions)
    records, _, failure = writer.write(noted)
    assert failure is None  # all of it has stood in a journal
    return begin + records
