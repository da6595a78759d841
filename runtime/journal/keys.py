"""Keys that nobody can read: for journals that leave the house.

A hashed key replaces the key wherever it stands, in stimuli, in instructions and in the snapshot
alike. The machine tells keys apart and never compares which of two is greater, so a machine that is
told of hashed keys does the same as one that was told of the real ones: renaming and deciding may
change places. A test holds that.

The prefix of a task is hashed too, for it often is a part of the key. Type names, addresses, and
the ids of requests stand as they are.
"""

import hashlib
import secrets
from base64 import urlsafe_b64encode
from typing import Any, TypeVar, cast

import msgspec

from trouper.runtime.journal.format import Noted
from trouper.wire.vocabulary import Key, Word

W = TypeVar("W", bound=Word)

NBYTES = 12
"""So long that two keys of one worker do not meet; 16 characters."""

NAMING = frozenset({"key", "keys", "local", "remote", "who_has", "nbytes", "data", "inputs", "via",
                    "prefix"})  # fmt: skip
"""Fields that hold keys, of whatever word or snapshot; or a number, which is left alone."""


class KeyHasher:
    """Hashes keys.

    Args:
        secret: Up to 64 bytes; who has it can tell which hash belongs to a key. Random if None:
            nobody can, ever.
    """

    def __init__(self, secret: bytes | None = None) -> None:
        self._secret = secrets.token_bytes(32) if secret is None else secret

    def key(self, key: Key) -> Key:
        """What stands for a key. Nothing stands for nothing."""
        if not key:
            return key
        digest = hashlib.blake2b(_bytes(key), digest_size=NBYTES, key=self._secret).digest()
        return urlsafe_b64encode(digest).decode()

    def word(self, word: W) -> W:
        """A stimulus or instruction with hashed keys."""
        changes = {
            name: self._hash(getattr(word, name))
            for name in word.__struct_fields__
            if name in NAMING
        }
        return msgspec.structs.replace(word, **changes)

    def noted(self, noted: Noted) -> Noted:
        """Stimuli and instructions with hashed keys."""
        return Noted(
            noted.times_us,
            [*map(self.word, noted.stimuli)],
            [[*map(self.word, answer)] for answer in noted.answers],
            noted.errors,
        )

    def snapshot(self, taken: dict[str, Any]) -> dict[str, Any]:
        """A snapshot with hashed keys."""
        tasks: list[dict[str, Any]] = []
        for task in taken["tasks"]:
            row = self._fields(task)
            if row.get("activity"):
                row["activity"] = self._fields(row["activity"])
            tasks.append(row)
        brevity = [(self.key(prefix), history) for prefix, history in taken["brevity"]]
        return taken | {"tasks": tasks, "brevity": brevity}

    def _fields(self, row: dict[str, Any]) -> dict[str, Any]:
        return {name: self._hash(v) if name in NAMING else v for name, v in row.items()}

    def _hash(self, value: object) -> object:
        if isinstance(value, str):
            return self.key(value)
        if isinstance(value, tuple | list):
            return tuple([self._hash(part) for part in cast("tuple[object, ...]", value)])
        if isinstance(value, dict):
            return {self.key(k): v for k, v in cast("dict[Key, object]", value).items()}
        return value


def _bytes(key: Key) -> bytes:
    return key.encode("utf-8", "surrogatepass")
