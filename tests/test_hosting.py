"""What tasks ask of the node that runs them, from their threads."""

import operator
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import pytest
import trio
from bare_node import BareNode, bare_node
from fake_scheduler import compute
from gates import PATIENCE_S

from trouper.actors.dask_parts import Data
from trouper.actors.fetched import Found
from trouper.actors.sizeof import sizeof
from trouper.runtime.cluster.hosting import Hosting

T = TypeVar("T")
KEY, TEXT = ("x", 1), "~('x', 1)"


def hosting(bare: BareNode) -> Hosting:
    host = bare.node.site.worker.host
    assert isinstance(host, Hosting)
    return host


async def in_thread(function: Callable[..., T], *args: Any) -> T:
    """In a thread that trio knows nothing of, as those of tasks are."""
    done = trio.Event()
    token = trio.lowlevel.current_trio_token()
    results: list[T] = []
    errors: list[Exception] = []

    def work() -> None:
        try:
            results.append(function(*args))
        except Exception as error:  # noqa: BLE001 - is raised below
            errors.append(error)
        trio.from_thread.run_sync(done.set, trio_token=token)

    threading.Thread(target=work).start()
    with trio.fail_after(PATIENCE_S):
        await done.wait()
    if errors:
        raise errors[0]
    return results[0]


async def test_what_is_put_is_there() -> None:
    async with bare_node() as bare:
        host = hosting(bare)
        await in_thread(host.put, {KEY: [1, 2], "y": None})
        assert await in_thread(host.keys) == [KEY, "y"]
        assert await in_thread(host.value_of, KEY) == [1, 2]
        assert await in_thread(host.value_of, "y") is None
        found = bare.node.supervisor.value_of(TEXT)
        assert found is not None
        assert (found.nbytes, found.type_name) == (sizeof([1, 2]), "list")


async def test_what_is_not_there_is_a_key_error_of_the_users_key() -> None:
    async with bare_node() as bare:
        bare.say(compute("erred", int, "no number"))
        await bare.hear("task-erred")
        for key in (KEY, "erred"):
            with pytest.raises(KeyError) as raised:
                await in_thread(hosting(bare).value_of, key)
            assert raised.value.args == (key,)


async def test_what_cannot_be_a_key_is_refused_where_it_is_used() -> None:
    async with bare_node() as bare:
        host, nan = hosting(bare), float("nan")
        with pytest.raises(TypeError, match="nan cannot be a key"):
            await in_thread(host.value_of, nan)
        with pytest.raises(TypeError, match="nan cannot be a key"):
            await in_thread(host.put, {"x": 1, nan: 2})
        assert await in_thread(host.keys) == []
        assert not len(bare.node.store)


async def test_data_is_a_mapping_of_all_this() -> None:
    async with bare_node() as bare:
        data = Data(hosting(bare))
        assert await in_thread(len, data) == 0
        await bare.node.put({TEXT: Found(5, 28, "int")})
        assert await in_thread(dict, data) == {KEY: 5}
        assert await in_thread(data.get, "no", "nothing") == "nothing"
        assert await in_thread(data.__contains__, KEY)


async def test_events_leave_in_their_order() -> None:
    async with bare_node() as bare:
        host = hosting(bare)

        def log() -> None:
            for n in range(3):
                host.send_event(("topic",), n)

        await in_thread(log)
        said = [await bare.hear("log-event") for _ in range(3)]
        assert [(op["topic"], op["msg"]) for op in said] == [(["topic"], n) for n in range(3)]


async def test_who_secedes_leaves_the_slot_to_others() -> None:
    async with bare_node() as bare:
        bare.say(compute("first", secede_until_go), compute("second", operator.neg, 1))
        assert (await bare.hear("long-running"))["key"] == "first"
        assert (await bare.hear("task-finished"))["key"] == "second"
        GO.set()
        assert (await bare.hear("task-finished"))["key"] == "first"
        assert "long-running" not in [op["op"] for op in bare.node.outbox.rest()]


GO = threading.Event()


def secede_until_go() -> None:
    from distributed import rejoin, secede

    secede()
    assert GO.wait(PATIENCE_S)
    rejoin()
    secede()  # as `worker_client` does when it is used once more
    rejoin()
