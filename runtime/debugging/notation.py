"""Stimuli, instructions and configurations as lines of text that people write and read.

A line is the name of a word, as its tag has it, and then its fields, in any order:

    compute-task y who-has=x@tcp://a:1 nbytes=x:100
    gather tcp://a:1 #1 x nbytes=100

- What every word is about stands by itself, in the order of its struct: the fields `key`, `keys`
  and `peer`, and `who_has` and `data` where they are required.
- `#1` is the field `attempt`.
- Any other field is ``name=value``, the name in kebab case. One that has its default is left out.
  So is one that has its *usual* value, which most stories need not mention: see `USUAL`.

Values look like this:

    x   8   0.5   true          text, numbers, truth
    x,y                         several keys, or the numbers of a priority
    x:100,y:5                   a number for each key, or for each resource
    x:100:int                   size and type of a value
    x@tcp://a:1+tcp://b:1       a key and its holders
    x#3                         a key and the attempt under which the store keeps its value
    -                           nothing: no holder, no key, no text
    "a key, with a comma"       text in which one of ``, : @ # + = "`` or a blank stands: as in JSON

Nothing here knows a particular word: a new one, or a new field, can be written and read at once.
"""

import difflib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeAlias, cast, get_args, get_origin

import msgspec
from msgspec.structs import FieldInfo, fields

from trouper.wire.instructions import Instruction
from trouper.wire.stimuli import Stimulus
from trouper.wire.vocabulary import kebab_case

Words: TypeAlias = Mapping[str, type[msgspec.Struct]]
"""Words by their names."""

STIMULI: Final[Words] = {kebab_case(word.__name__): word for word in get_args(Stimulus)}
INSTRUCTIONS: Final[Words] = {kebab_case(word.__name__): word for word in get_args(Instruction)}

BARE = ("key", "keys", "peer", "who_has", "data")
"""What stands without its name, where it is required."""

USUAL: Mapping[str, object] = {
    "run_id": 1,
    "spec_id": 1,
    "executor": "thread",
    "inputs": (),
    "type_name": "int",
    "compute_duration_s": None,
}
"""Values of required fields that are left out."""

_QUOTED = r'"(?:[^"\\]|\\.)*"'
_PLAIN = re.compile(r'[^\s",:@#+=]+')
_ADDRESS = re.compile(r'[^\s",@#+=]+')
_NAMED = re.compile(r'([^\s",:@#+=]+)=(.*)')
_TOKEN = re.compile(rf'(?:{_QUOTED}|[^\s"])+')


class NotationError(ValueError):
    """A line that says nothing: what is wrong with it."""


# Writing


def write(struct: msgspec.Struct) -> str:
    """A word as a line."""
    parts = [kebab_case(type(struct).__name__)]
    for field in fields(type(struct)):
        value = getattr(struct, field.name)
        if field.name == "attempt":
            parts.append(f"#{value}")
        elif _is_bare(field):
            parts.append(write_value(value, address=field.name == "peer"))
        elif value != _default(field):
            parts.append(f"{_label(field)}={write_value(value)}")
    return " ".join(parts)


def write_value(value: object, *, address: bool = False) -> str:
    """A value of a field."""
    match value:
        case None | ():
            return "-"
        case bool():
            return "true" if value else "false"
        case str():
            plain = _ADDRESS if address else _PLAIN
            is_plain = plain.fullmatch(value) and value != "-"
            return value if is_plain else json.dumps(value)
        case dict():
            pairs = cast(dict[str, object], value)
            return ",".join(_write_pair(key, item) for key, item in pairs.items()) or "-"
        case tuple():
            items = cast(tuple[object, ...], value)
            return ",".join(_write_item(item) for item in items)
        case _:
            return str(value)


def _write_pair(key: str, value: object) -> str:
    """What belongs to a key: its holders, or numbers and text."""
    if isinstance(value, tuple):
        items = cast(tuple[object, ...], value)
        if all(isinstance(item, str) for item in items):
            holders = "+".join(write_value(item, address=True) for item in items) or "-"
            return f"{write_value(key)}@{holders}"
        return ":".join(map(write_value, (key, *items)))
    return f"{write_value(key)}:{write_value(value)}"


def _write_item(value: object) -> str:
    """An element of a tuple: an entry of the store, a part of a resource, or something simple."""
    match value:
        case (str() as key, int() as attempt):
            return f"{write_value(key)}#{attempt}"
        case (str() as name, float() as amount):
            return f"{write_value(name)}:{write_value(amount)}"
        case _:
            return write_value(value)


# Reading


def read(text: str, words: Words) -> Any:
    """The word that a line says.

    Raises:
        NotationError: What is wrong with it.
    """
    if _TOKEN.sub("", text).strip():
        raise NotationError("a quotation mark is left open")
    name, *tokens = _TOKEN.findall(text) or [""]
    word = words.get(name)
    if word is None:
        raise NotationError(f"there is no {name!r}{_hint(name, words)}")
    said = _values(word, tokens)
    made: dict[str, object] = {}
    for field in fields(word):
        try:
            if field.name in said:
                made[field.name] = msgspec.convert(said[field.name], field.type, strict=False)
            elif field.required:
                raise NotationError(f"{name}: {_label(field)} is missing")
        except msgspec.ValidationError as error:
            raise NotationError(f"{name}: {_label(field)}: {error}") from None
    return word(**made)


def _values(word: type[msgspec.Struct], tokens: list[str]) -> dict[str, object]:
    """The fields of a word, their scalars still as text, from what follows its name."""
    usual = {field.name: USUAL[field.name] for field in fields(word) if _is_usual(field)}
    bare = [field for field in fields(word) if _is_bare(field)]
    named = {_label(field): field for field in fields(word) if not _is_bare(field)}
    said: dict[str, object] = {}
    value: object
    for token in tokens:
        if token.startswith("#") and "attempt" in word.__struct_fields__:
            name, value = "attempt", token[1:]
        elif token.startswith("#"):
            raise NotationError(f"{token!r} is an attempt, and there is none to be named")
        elif is_named := _NAMED.fullmatch(token):
            label, text = is_named.groups()
            if label not in named:
                raise NotationError(f"there is no field {label!r}{_hint(label, named)}")
            name, value = named[label].name, read_value(text, named[label].type)
        elif bare:
            field = bare.pop(0)
            name, value = field.name, read_value(token, field.type)
        else:
            raise NotationError(f"{token!r} is one too many; other fields are written name=value")
        if name in said:
            raise NotationError(f"{token!r} says again what has been said")
        said[name] = value
    return usual | said


def read_value(text: str, hint: Any) -> object:
    """A value of a field, its scalars still as text: what it is converted to next says the type."""
    if text == "-":
        empty: dict[object, Any] = {dict: {}, tuple: ()}
        return empty.get(get_origin(hint))
    if get_origin(hint) is dict:
        return dict(_read_pair(pair, get_args(hint)[1]) for pair in _split(text, ","))
    if get_origin(hint) is tuple:
        return [_read_item(item, get_args(hint)[0]) for item in _split(text, ",")]
    return _unquote(text)


def _read_pair(text: str, hint: Any) -> tuple[str, object]:
    if get_args(hint)[1:] == (...,):
        key, *holders = _split(text, "@")
        if len(holders) != 1:
            raise NotationError(f"{text!r} is not a key and its holders, as in x@tcp://a:1")
        listed = [] if holders == ["-"] else _split(holders[0], "+")
        return _unquote(key), [_unquote(peer) for peer in listed]
    key, *values = _split(text, ":")
    plain = [_unquote(value) for value in values]
    if len(plain) != max(1, len(get_args(hint))):
        raise NotationError(f"{text!r} is not a key and what belongs to it, with colons between")
    return _unquote(key), plain if get_args(hint) else plain[0]


def _read_item(text: str, hint: Any) -> object:
    if get_origin(hint) is tuple:
        return [_unquote(part) for part in _split(text, "#:")]
    return _unquote(text)


def _split(text: str, separators: str) -> list[str]:
    """The parts between separators that stand outside of quotation marks."""
    return re.findall(rf'(?:{_QUOTED}|[^"{separators}])+', text)


def _unquote(text: str) -> str:
    if not text.startswith('"'):
        return text
    try:
        return str(json.loads(text))
    except ValueError:
        raise NotationError(f"{text} is not a text in quotation marks") from None


# Fields


def _is_bare(field: FieldInfo) -> bool:
    return field.required and field.name in BARE


def _is_usual(field: FieldInfo) -> bool:
    return field.required and field.name in USUAL


def _default(field: FieldInfo) -> object:
    if field.default_factory is not msgspec.NODEFAULT:
        return field.default_factory()
    return USUAL[field.name] if _is_usual(field) else field.default


def _label(field: FieldInfo) -> str:
    return field.name.replace("_", "-")


def _hint(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; is {close[0]!r} meant?" if close else ""
