"""What a stimulus was to a task, as the clause of a sentence: "when tcp://b:1 was lost". Pure."""

from functools import cache
from typing import Any, TypeAlias, assert_never, cast

from trouper.runtime.debugging.reasons import named
from trouper.wire import stimuli as st
from trouper.wire.stimuli import Stimulus
from trouper.wire.vocabulary import Key, Word

_Gathered: TypeAlias = st.GatherSuccess | st.GatherBusy | st.GatherNetworkFailure | st.GatherFailure
_Request: TypeAlias = (
    st.ComputeTask
    | st.FreeKeys
    | st.CancelTask
    | st.CancelCompute
    | st.AcquireReplicas
    | st.RemoveReplicas
    | st.StealRequest
    | st.RefreshWhoHas
    | st.RemoveWorker
    | st.UpdateData
    | st.Pause
    | st.Unpause
)

FIELDS = ("key", "keys", "local", "who_has", "data", "nbytes", "inputs", "via")
"""Where keys stand in stimuli and instructions."""


@cache
def _fields(word: type[Word]) -> tuple[str, ...]:
    return tuple([name for name in FIELDS if name in word.__struct_fields__])


def mentions(word: Word, key: Key) -> bool:
    """Whether a stimulus or instruction names a key."""
    for name in _fields(type(word)):
        value: Any = getattr(word, name)
        if name == "inputs":
            value = [entry[0] for entry in value]
        if value == key:
            return True
        if value and not isinstance(value, str | int) and key in value:
            return True
    return False


SUBJECTS = ("key", "keys", "who_has", "data")
"""Where the keys stand that a stimulus or instruction is about, and not only names."""


@cache
def _subjects(word: type[Word]) -> tuple[str, ...]:
    return tuple([name for name in SUBJECTS if name in word.__struct_fields__])


def subjects(word: Word) -> tuple[Key, ...]:
    """The keys that a stimulus or instruction is about."""
    found: list[Key] = []
    for name in _subjects(type(word)):
        value: Any = getattr(word, name)
        if name == "key":
            found.append(value)
        else:
            found.extend(value)
    return tuple(found)


def occasion(stimulus: Stimulus, key: Key) -> str:
    """What a stimulus was to a task.

    Args:
        stimulus: Something has changed for the task with it.
        key: The task.
    """
    subject = "it" if getattr(stimulus, "key", key) == key else cast("Any", stimulus).key
    match stimulus:
        case st.ExecuteSuccess(attempt=attempt):
            return f"when attempt {attempt} of {subject} succeeded"
        case st.ExecuteFailure(attempt=attempt, type_name=type_name):
            return f"when attempt {attempt} of {subject} raised {type_name}"
        case st.ExecuteReschedule():
            return f"when {subject} asked to be run elsewhere"
        case st.ExecuteCancelled(attempt=attempt):
            return f"when attempt {attempt} of {subject} had ended, cancelled"
        case st.Secede():
            return f"when {subject} gave its slot back"
        case st.RetryBusyWorker(peer=peer):
            return f"when {peer} could be asked again"
        case st.FindMissing():
            return "when it was time to ask for what is missing"
        case st.GatherSuccess() | st.GatherBusy() | st.GatherNetworkFailure() | st.GatherFailure():
            return _after_gather(stimulus, key)
        case _:
            return _on_request(stimulus, key, subject)


def _after_gather(stimulus: _Gathered, key: Key) -> str:
    peer = stimulus.peer
    match stimulus:
        case st.GatherSuccess(data=data) if key in data:
            return f"when it came from {peer}"
        case st.GatherSuccess(data=data):
            return f"when {peer} sent {named(tuple(data)) or 'nothing'}"
        case st.GatherBusy():
            return f"when {peer} was busy"
        case st.GatherNetworkFailure():
            return f"when {peer} was lost"
        case st.GatherFailure(type_name=type_name):
            return f"when what {peer} sent could not be read: {type_name}"


def _on_request(stimulus: _Request, key: Key, subject: str) -> str:
    match stimulus:
        case st.ComputeTask():
            return f"when {subject} was to be computed"
        case st.FreeKeys(keys=keys) | st.RemoveReplicas(keys=keys):
            freed = "freed" if isinstance(stimulus, st.FreeKeys) else "to be let go"
            return f"when {_were(() if key in keys else keys, 'it')} {freed}"
        case st.CancelTask():
            return f"when {subject} was cancelled"
        case st.CancelCompute() | st.StealRequest():
            return f"when {subject} was to be given up"
        case st.AcquireReplicas():
            return "when a copy was asked for"
        case st.RefreshWhoHas(who_has=who_has):
            return f"when {_were(who_has.get(key, ()), 'nobody')} said to hold it"
        case st.RemoveWorker(peer=peer):
            return f"when {peer} was lost"
        case st.UpdateData(data=data):
            return f"when {_were(() if key in data else tuple(data), 'it')} put here from outside"
        case st.Pause():
            return "when the worker was paused"
        case st.Unpause():
            return "when the worker went on"
        case _:
            assert_never(stimulus)


def _were(names: tuple[str, ...], nobody: str) -> str:
    """Names with their verb; or what stands for none."""
    return f"{named(names) or nobody} {'were' if len(names) > 1 else 'was'}"
