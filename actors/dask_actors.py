"""Dask's actors: objects that live where a task has made them, and are called from afar.

What such a task leaves under its key is a `HeldActor`. Others only ever get a proxy of Dask's for
it, whose methods are requests to this node. They are called one after the other in one thread, as
on a stock worker; those that are coroutines, on the asyncio side, beside each other.
"""

# pyright: reportUnknownMemberType=false

import asyncio
import contextvars
import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias, cast

import trio
from distributed.actor import Actor

from trouper.actors.dask_values import dump, opened
from trouper.actors.dask_worker import DaskWorker
from trouper.actors.errors import text_of
from trouper.actors.serial import SerialThread, result_of
from trouper.actors.sizeof import sizeof
from trouper.wire.keys import UserKey

Reply: TypeAlias = dict[str, object]
"""What a proxy is told: a result, or an exception, either serialised."""


class HeldActor:
    """An object, and what others know of it. Pickled, it is a proxy."""

    def __init__(self, instance: object, address: str, key: UserKey) -> None:
        self.instance = instance
        self._address = address
        self._key = key

    @property
    def nbytes(self) -> int:
        """What it takes here; as of any value, asked for when it has been made."""
        return sizeof(self.instance)

    def proxy(self, worker: DaskWorker) -> Actor:
        """A new one, for a task: it comes to hold a future, which has to go when the task does.

        Made where no worker is found, it does not look for a client before somebody calls it.
        """
        make = partial(Actor, type(self.instance), self._address, self._key, cast("Any", worker))
        return contextvars.Context().run(make)

    def __reduce__(self) -> tuple[type[Actor], tuple[object, ...]]:
        return Actor, (type(self.instance), self._address, self._key)


class Actors:
    """Calls what is asked for. Of users' code, nothing runs in trio's thread.

    Args:
        worker: What actors get from `distributed.get_worker`.
    """

    def __init__(self, worker: DaskWorker) -> None:
        self._worker = worker
        self._thread = SerialThread("trouper-dask-actors")

    async def call(
        self, held: HeldActor, name: str, args: Sequence[object], kwargs: Mapping[str, object]
    ) -> Reply:
        """What comes of calling a method.

        Who gives ``separate_thread=False`` wants it called on the asyncio side.
        """
        opening = partial(_opened_call, held, name, args, kwargs)
        method = inspect.getattr_static(held.instance, name, None)  # runs no code of users'
        in_loop = inspect.iscoroutinefunction(method)
        if "separate_thread" in kwargs:
            flag = partial(_is_false, kwargs["separate_thread"])
            in_loop |= await trio.to_thread.run_sync(flag, abandon_on_cancel=True)
        if in_loop:
            return await result_of(self._worker.submit_to_loop(self._await(opening)))
        return await result_of(self._thread.submit(partial(self._call, opening)))

    async def look_up(self, held: HeldActor, name: str) -> Reply:
        """An attribute."""
        look = partial(_reply, partial(getattr, held.instance, name))
        return await trio.to_thread.run_sync(look, abandon_on_cancel=True)

    def close(self) -> None:
        """Call nothing more; what runs is left behind."""
        self._thread.close()

    def _call(self, opening: Callable[[], Callable[[], object]]) -> Reply:
        def call() -> Reply:
            self._worker.enter_actor()
            return _reply(lambda: opening()())

        return contextvars.Context().run(call)

    async def _await(self, opening: Callable[[], Callable[[], object]]) -> Reply:
        self._worker.enter_coroutine()
        try:
            work = await asyncio.to_thread(opening)
            result = work()
            if inspect.isawaitable(result):
                result = await cast("Awaitable[object]", result)
        except BaseException as error:  # noqa: BLE001 - see `_failed`
            return _failed(error)
        return _reply(lambda: result)


def _opened_call(
    held: HeldActor, name: str, args: Sequence[object], kwargs: Mapping[str, object]
) -> Callable[[], object]:
    """What is to be called, with arguments that are users' pickles."""
    method: Callable[..., object] = getattr(held.instance, name)
    named = {name: opened(value) for name, value in kwargs.items() if name != "separate_thread"}
    return partial(method, *map(opened, args), **named)


def _is_false(value: object) -> bool:
    try:
        return opened(value) is False
    except BaseException:  # noqa: BLE001 - then it is not
        return False


def _reply(work: Callable[[], object]) -> Reply:
    try:
        result = work()
        dumped = dump(result)
    except BaseException as error:  # noqa: BLE001 - see `_failed`
        return _failed(error)
    if dumped.header.get("serializer") == "error":  # opened, it would cost the caller its comm
        return _failed(TypeError(f"a {type(result).__qualname__} cannot be serialised"))
    return {"status": "OK", "result": dumped}


def _failed(error: BaseException) -> Reply:
    """An actor's exception is for who has called it; `SystemExit` ends neither node nor caller."""
    if not isinstance(error, Exception):
        error = RuntimeError(f"an actor has raised {type(error).__qualname__}: {text_of(error)}")
    return {"status": "error", "exception": dump(error)}
