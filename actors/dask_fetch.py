"""Fetching values from the workers of a Dask cluster, stock ones and nodes: the request `get_data`.

Imports Dask: for nodes of a cluster only.
"""

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias, cast

import trio

from trouper.actors.dask_values import opened
from trouper.actors.errors import PeerUnreachable, ValueUnreadable
from trouper.actors.fetched import Answer, Fetched, Found, PeerBusy
from trouper.actors.sizeof import sizeof
from trouper.wire.keys import decode_key
from trouper.wire.vocabulary import Key

Sent: TypeAlias = dict[Key, object]
"""Values as they were sent, not opened yet."""


class Link(Protocol):
    """A comm, whatever it is made of."""

    async def send(self, message: object) -> None:
        """Send a message."""
        ...

    async def call(self, op: str, **arguments: Any) -> Any:
        """Ask for something, and wait for the answer."""
        ...


async def ask_for_data(link: Link, keys: Sequence[Key], us: str) -> Sent | PeerBusy:
    """Ask for values once; `load_data` opens what comes, when others may have the link.

    Args:
        link: A comm with the one who holds them.
        keys: What is wanted.
        us: Our own address, which the holder logs.

    Raises:
        PeerUnreachable: The answer is neither data nor busy.
    """
    wanted = {decode_key(key): key for key in keys}
    reply = await link.call("get_data", keys=list(wanted), who=us)
    answer = cast("dict[str, Any]", reply) if type(reply) is dict else {}
    if answer.get("status") == "busy":
        return PeerBusy()
    data = answer.get("data")
    if answer.get("status") != "OK" or type(data) is not dict:
        said = answer.get("exception_text", reply)
        raise PeerUnreachable(f"the request for {len(keys)} values has failed: {said!r:.200}")
    await link.send("OK")
    sent = cast("dict[Any, object]", data)
    return {wanted[key]: value for key, value in sent.items() if key in wanted}


async def load_data(answer: Sent | PeerBusy) -> Answer:
    """What was sent, opened: in a thread, as it may be large and is users' code."""
    if isinstance(answer, PeerBusy):
        return answer
    return await trio.to_thread.run_sync(_load_all, answer)


def _load_all(sent: Sent) -> Fetched:
    found: dict[Key, Found] = {}
    unreadable: dict[Key, Exception] = {}
    for key, item in sent.items():
        try:
            value = opened(item)
            found[key] = Found(value, sizeof(value), type(value).__qualname__)
        except Exception as error:  # noqa: BLE001 - whatever users' classes raise
            unreadable[key] = error
        except BaseException as error:  # noqa: BLE001 - nor do they end this process
            unreadable[key] = ValueUnreadable(
                f"to read the value of {key!r} raises {type(error).__qualname__}"
            )
    return Fetched(found, unreadable)
