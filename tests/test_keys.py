"""Users' keys as text and back: nothing is confused, nothing is lost."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trouper.wire.errors import InvalidKey, TrouperError
from trouper.wire.keys import UserKey, decode_key, encode_key

atoms = (
    st.text()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.booleans()
    | st.none()
    | st.binary()
)
keys: st.SearchStrategy[Any] = st.recursive(
    atoms, lambda parts: st.lists(parts, max_size=3).map(tuple), max_leaves=6
)


def identity(key: UserKey) -> object:
    """What distinguishes keys: 1, 1.0 and True are three."""
    if isinstance(key, tuple):
        return (tuple, *[identity(part) for part in key])
    return (type(key), repr(key))


@given(keys)
def test_there_and_back(key: UserKey) -> None:
    assert identity(decode_key(encode_key(key))) == identity(key)


@given(keys, keys)
def test_different_keys_have_different_texts(one: UserKey, other: UserKey) -> None:
    assert (encode_key(one) == encode_key(other)) == (identity(one) == identity(other))


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("k", "k"),
        ("", ""),
        ("~", "~'~'"),
        ("~('x', 1)", "~\"~('x', 1)\""),
        (("x", 1), "~('x', 1)"),
        (1, "~1"),
        (1.0, "~1.0"),
        (True, "~True"),
        (None, "~None"),
        (b"k", "~b'k'"),
        ((), "~()"),
        (("a",), "~('a',)"),
        (-1.5, "~-1.5"),
    ],
)
def test_examples(key: UserKey, text: str) -> None:
    assert encode_key(key) == text
    assert identity(decode_key(text)) == identity(key)


class Text(str):
    __slots__ = ()


@pytest.mark.parametrize(
    "key",
    [
        *([], {}, {1}, object(), 1j, Text("k"), bytearray(b"k")),
        *(float("nan"), float("inf"), (1, float("nan")), (1, ["x"]), ((Text("x"),),)),
    ],
)
def test_what_is_no_key(key: Any) -> None:
    with pytest.raises(InvalidKey) as caught:
        encode_key(key)
    assert isinstance(caught.value, TypeError)
    assert isinstance(caught.value, TrouperError)


@pytest.mark.parametrize("text", ["~", "~k", "~'k'", "~1 ", "~[1]", "~( 1,)", "~0x1", "~1j", "~{}"])
def test_what_no_key_is_encoded_as(text: str) -> None:
    with pytest.raises(InvalidKey, match="a key"):
        decode_key(text)
