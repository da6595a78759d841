"""The RPC actor: answers the requests that come on one Dask comm, one after the other.

What is asked is looked up among handlers; what they raise is sent back and raised again over there.
A request that nobody handles gets an error that says so, never an answer that looks like one.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias, cast

from trouper.actors.dask_link import DaskLink
from trouper.actors.dask_values import error_message
from trouper.actors.errors import NotSupported
from trouper.wire.errors import Code, NotEncodable, ProtocolError, SessionClosed

logger = logging.getLogger(__name__)


Handler: TypeAlias = Callable[..., Awaitable[object]]
"""Is given what the request says by name, and a `Request` first."""


class Request:
    """What a handler may want to know of the one who asks."""

    def __init__(self, op: str, link: DaskLink, families: tuple[str, ...] | None) -> None:
        self.op = op
        self.pickle_protocol = link.pickle_protocol
        self.families = families
        """How the answer's values may be serialised; None for the usual."""


async def answer_requests(link: DaskLink, handlers: Mapping[str, Handler]) -> None:
    """Answer until the other side closes the comm, or says something that is no request."""
    who = link.connection.peer.name
    try:
        await link.shake_hands()
        while await _answer_one(link, handlers):
            pass
    except ProtocolError as error:
        logger.warning("the comm with %s is closed: %s", who, error)
        link.connection.abandon(error.reason)
    except SessionClosed as error:
        logger.debug("the comm with %s: %s", who, error)


async def _answer_one(link: DaskLink, handlers: Mapping[str, Handler]) -> bool:
    """Answer one request; whether there may be another."""
    message = await link.receive()
    arguments = dict(cast("dict[str, Any]", message)) if type(message) is dict else {}
    op = arguments.pop("op", None)
    if type(op) is not str:
        raise ProtocolError(Code.UNEXPECTED, f"no request, but {message!r:.200}")
    wants_reply = arguments.pop("reply", True)
    closes = arguments.pop("close", False)
    families = arguments.pop("serializers", None)
    if op == "close":
        if wants_reply:
            await link.send("OK")
        return False
    reply = await _reply_to(Request(op, link, families), handlers, arguments)
    if wants_reply:
        try:
            await link.send(reply)
        except NotEncodable as error:
            logger.warning("the answer to request %r cannot be sent: %s", op, error)
            reply = error_message(error, "uncaught-error")
            await link.send(reply)
        if op == "get_data" and gave_data(reply):
            await link.receive()  # who got data says so
    return not closes


def gave_data(reply: object) -> bool:
    """Whether this answers a request for data with some."""
    return type(reply) is dict and cast("dict[str, object]", reply).get("status") == "OK"


async def _reply_to(
    request: Request, handlers: Mapping[str, Handler], arguments: dict[str, Any]
) -> object:
    try:
        if request.op not in handlers:
            raise NotSupported(f"a trouper node does not know the request {request.op!r}")
        return await handlers[request.op](request, **arguments)
    except Exception as error:  # noqa: BLE001 - the one who asked gets it
        answer = error_message(error, "uncaught-error")
        logger.warning("request %r has failed: %s", request.op, answer["exception_text"])
        return answer
