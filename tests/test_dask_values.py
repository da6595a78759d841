"""Values and errors in Dask's form; above all those that do not want to be sent."""

import importlib
import pickle
import sys
from typing import Any

import numpy as np
import pytest

from trouper.actors.dask_values import dump, error_message, load, type_of
from trouper.actors.errors import ValueUnreadable
from trouper.wire.dask_message import Serialized

protocol: Any = importlib.import_module("distributed.protocol.serialize")
tblib: Any = importlib.import_module("tblib")


def opened(message: dict[str, Any]) -> Any:
    """The exception that a client raises."""
    return pickle.loads(load(message["exception"]))  # type: ignore[arg-type]


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:  # noqa: BLE001 - it may be any
        return caught


VALUES: list[Any] = [
    None,
    1,
    "text",
    b"xyz",
    [1, (2, {3})],
    {"a": np.arange(5)},
    np.ones((3, 4)),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("pickle_protocol", [4, 5])
def test_there_and_back(value: Any, pickle_protocol: int) -> None:
    again = load(dump(value, pickle_protocol=pickle_protocol))
    assert type(again) is type(value)
    assert pickle.dumps(again) == pickle.dumps(value)


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_what_another_has_cut_and_compressed_is_opened(compression: str | None) -> None:
    array = np.arange(100_000.0)
    header, frames = protocol.serialize_and_split(protocol.Serialize(array), size=100_000)
    assert len(frames) > 2
    if compression is not None:
        compress = importlib.import_module("zlib").compress
        frames = [compress(frame) for frame in frames]
        header = {**header, "compression": ("zlib",) * len(frames)}
    assert np.array_equal(load(Serialized(header, frames)), array)  # type: ignore[arg-type]


def test_a_value_that_cannot_be_pickled_is_an_error_where_it_is_opened() -> None:
    with pytest.raises(TypeError, match="Could not serialize object of type Unpicklable"):
        load(dump(Unpicklable()))


class Ends:
    """Wants to end whoever pickles it, or opens the pickle."""

    def __init__(self, when: str) -> None:
        self.when = when

    def __reduce__(self) -> Any:
        if self.when == "pickled":
            raise SystemExit(3)
        return sys.exit, (3,)


def test_a_value_that_wants_to_end_whoever_has_to_do_with_it() -> None:
    with pytest.raises(TypeError, match=r"Could not serialize a Ends: SystemExit\(3\)"):
        load(dump(Ends("pickled")))
    with pytest.raises(ValueUnreadable, match="raises SystemExit when it is opened"):
        load(dump(Ends("opened")))


def test_an_error_brings_itself_and_its_traceback() -> None:
    message = error_message(raised(ValueError("no", 5)))
    assert message["status"] == "error"
    assert message["exception_text"] == "ValueError('no', 5)"
    assert "raise error" in message["traceback_text"]
    error = opened(message)
    assert type(error) is ValueError
    assert error.args == ("no", 5)
    frames = pickle.loads(load(message["traceback"]))  # type: ignore[arg-type]
    assert frames.tb_frame.f_code.co_name == "raised"


def test_its_cause_comes_along() -> None:
    error = ValueError("outer")
    error.__cause__ = raised(KeyError("inner"))
    assert repr(opened(error_message(raised(error))).__cause__) == "KeyError('inner')"


@pytest.mark.parametrize("bad", [Exception, KeyError], ids=str)
def test_one_that_is_too_long_is_cut(bad: type[Exception]) -> None:
    message = error_message(raised(bad("x" * 100_000)))
    assert len(repr(opened(message))) < 30_000
    assert len(message["exception_text"]) < 30_000


class Unpicklable:
    def __reduce__(self) -> Any:
        raise TypeError("not me")


class NoPickle(Exception):
    def __reduce__(self) -> Any:
        raise RuntimeError("no pickle")


class NoText(Exception):
    def __repr__(self) -> str:
        raise RuntimeError("no text")

    __str__ = __repr__


class OtherPickle(Exception):
    """Can be pickled, and not opened again."""

    def __reduce__(self) -> Any:
        return int, ("no number",)


class NoTextButAnEnd(Exception):
    def __repr__(self) -> str:
        raise SystemExit(3)


class EqualToNothing(Exception):
    def __eq__(self, other: object) -> bool:
        raise RuntimeError("do not compare me")

    __hash__ = Exception.__hash__


class NoUnicode(Exception):
    def __repr__(self) -> str:
        return "\ud800"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (NoPickle("x"), "NoPickle('x')"),
        (NoText("x"), "<NoText, which cannot be shown as text>"),
        (NoTextButAnEnd("x"), "<NoTextButAnEnd, which cannot be shown as text>"),
        (OtherPickle("x"), "OtherPickle('x')"),
        (SystemExit(3), "SystemExit(3)"),
        (KeyboardInterrupt(), "KeyboardInterrupt()"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_one_that_does_not_want_to_be_sent_becomes_a_plain_one(
    error: BaseException, text: str
) -> None:
    message = error_message(raised(error))
    assert message["exception_text"] == text
    plain = opened(message)
    assert type(plain) is Exception
    assert plain.args == (text,)


def test_causes_are_told_apart_though_they_cannot_be_compared() -> None:
    error = EqualToNothing("outer")
    error.__cause__ = EqualToNothing("inner")
    assert opened(error_message(raised(error))).__cause__.args == ("inner",)


def test_one_at_the_end_of_a_long_chain() -> None:
    error = ValueError(0)
    for n in range(1, 5000):
        error, error.__context__ = ValueError(n), error
    message = error_message(raised(error))
    assert message["exception_text"] == "ValueError(4999)"
    assert opened(message).args == ("ValueError(4999)",)


def test_parts_of_a_group_bring_their_tracebacks() -> None:
    group = raised(BaseExceptionGroup("both", [raised(ValueError(1)), KeyError(2)]))
    first, second = opened(error_message(group)).exceptions
    assert (repr(first), repr(second)) == ("ValueError(1)", "KeyError(2)")
    assert first.__traceback__.tb_frame.f_code.co_name == "raised"


def test_one_that_is_its_own_cause() -> None:
    error = ValueError("no")
    error.__cause__ = error
    assert opened(error_message(raised(error))).args == ("ValueError('no')",)


def test_text_that_is_no_unicode_can_be_sent() -> None:
    message = error_message(raised(NoUnicode()))
    message["exception_text"].encode()
    message["traceback_text"].encode()


class Meta(type):
    def __hash__(cls) -> int:
        raise RuntimeError("no hash")


class Strange(metaclass=Meta):
    pass


def test_types() -> None:
    pickled, name = type_of(np.ndarray)
    assert pickle.loads(pickled) is np.ndarray
    assert name == "numpy.ndarray"
    pickled, name = type_of(Strange)
    assert pickle.loads(pickled) == name == "Strange"
    local = type("Local", (), {})
    assert pickle.loads(type_of(local)[0]).__name__ == "Local"
