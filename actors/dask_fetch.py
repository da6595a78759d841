"""Fetching values from the workers of a Dask cluster, stock ones and nodes: the request `get_data`.

Imports Dask: for nodes of a cluster only.
"""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import trio

from trouper.actors.dask_link import DaskLink
from trouper.actors.dask_values import load
from trouper.actors.errors import PeerUnreachable
from trouper.actors.fetched import Answer, Fetched, Found, PeerBusy
from trouper.actors.sizeof import sizeof
from trouper.wire.dask_message import Serialized
from trouper.wire.keys import decode_key
from trouper.wire.vocabulary import Key


async def get_data(link: DaskLink, keys: Sequence[Key], us: str) -> Answer:
    """Ask for values once.

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
    if answer.get("status") != "OK" or not isinstance(data, dict):
        said = answer.get("exception_text", reply)
        raise PeerUnreachable(f"the request for {len(keys)} values has failed: {said!r:.200}")
    await link.send("OK")
    sent = cast("dict[Any, object]", data)
    serialized = {wanted[key]: value for key, value in sent.items() if key in wanted}
    return await trio.to_thread.run_sync(_load_all, serialized)


def _load_all(serialized: Mapping[Key, object]) -> Fetched:
    """What was sent, opened; in a thread, as it may be large and is users' code."""
    found: dict[Key, Found] = {}
    unreadable: dict[Key, Exception] = {}
    for key, sent in serialized.items():
        try:
            value = load(sent) if isinstance(sent, Serialized) else sent
            found[key] = Found(value, sizeof(value), type(value).__qualname__)
        except Exception as error:  # noqa: BLE001 - whatever users' classes raise
            unreadable[key] = error
    return Fetched(found, unreadable)
