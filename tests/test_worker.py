"""The embedded API: what may be submitted, what tasks are given, and what is refused."""

import functools
import threading
from collections import Counter, OrderedDict, defaultdict
from contextvars import ContextVar
from typing import Any, NamedTuple

import pytest
import trio
from gates import Gate, until, until_empty

from trouper.runtime import (
    ForeignHandle,
    InvalidKey,
    ResourceError,
    TaskHandle,
    TaskReleased,
    WorkerClosed,
    open_worker,
)


def same(value: Any) -> Any:
    return value


def everything(*args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return args, kwargs


async def async_same(value: Any) -> Any:
    await trio.lowlevel.checkpoint()
    return value


# What may be submitted


class Callables:
    async def method(self, value: int) -> int:
        return value

    def plain(self, value: int) -> int:
        return value

    @staticmethod
    async def static(value: int) -> int:
        return value

    async def __call__(self, value: int) -> int:
        return value


@pytest.mark.parametrize(
    "fn",
    [
        same,
        async_same,
        Callables().method,
        Callables().plain,
        Callables.static,
        Callables(),
        functools.partial(same),
        functools.partial(async_same),
        functools.partial(Callables().method),
        int,
        [5, 6].pop,
    ],
)
async def test_any_callable(fn: Any) -> None:
    async with open_worker(threads=1) as worker:
        handle = worker.submit(fn, 0)
        assert await handle in (0, 5)
        assert isinstance(handle.key, str)


async def test_plain_functions_run_in_threads_and_coroutines_in_the_loop() -> None:
    async def in_loop() -> str:
        return threading.current_thread().name

    async with open_worker(threads=1, name="w") as worker:
        assert await worker.run(in_loop) == threading.current_thread().name
        assert await worker.run(lambda: threading.current_thread().name) == "w-thread-1"


async def test_a_plain_function_that_returns_a_coroutine_has_failed() -> None:
    async with open_worker(threads=1) as worker:
        with pytest.raises(TypeError, match="submit the coroutine function itself"):
            await worker.submit(lambda: async_same(1))


# Inputs


class Point(NamedTuple):
    x: Any
    y: Any


async def test_handles_anywhere_in_the_arguments() -> None:
    async with open_worker(threads=1) as worker:
        a, b = worker.submit(same, 1), worker.submit(async_same, 2)
        default: defaultdict[str, Any] = defaultdict(list, {"a": a})
        args, kwargs = await worker.submit(
            everything,
            a,
            [a, [b, (a, {b})]],
            {"v": a, b: "k", "deep": {"er": [b]}},
            {a, b, 3},
            frozenset([a]),
            Point(a, [b]),
            OrderedDict([("z", a), ("y", b)]),
            default,
            Counter({"n": b}),
            named=a,
            nested=[b],
        )
        assert args[:5] == (
            1,
            [1, [2, (1, {2})]],
            {"v": 1, 2: "k", "deep": {"er": [2]}},
            {1, 2, 3},
            {1},
        )
        assert type(args[4]) is frozenset
        assert args[5] == Point(1, [2])
        assert type(args[5]) is Point
        assert list(args[6].items()) == [("z", 1), ("y", 2)]
        assert type(args[6]) is OrderedDict
        assert args[7] == {"a": 1}
        assert args[7]["new"] == []
        assert args[8] == Counter({"n": 2})
        assert kwargs == {"named": 1, "nested": [2]}
        assert default == {"a": a}


async def test_arguments_without_handles_arrive_as_they_are() -> None:
    async with open_worker(threads=1) as worker:
        value = [object(), {"x": ({1},)}]
        args, _ = await worker.submit(everything, value)
        assert args[0] is value


async def test_the_same_handle_twice() -> None:
    async with open_worker(threads=1) as worker:
        a = worker.submit(same, 1)
        assert await worker.submit(everything, a, a, k=a) == ((1, 1), {"k": 1})


@pytest.mark.parametrize("kind", [set, frozenset, dict])
async def test_an_unhashable_result_in_a_set_fails_the_task_clearly(kind: type) -> None:
    async with open_worker(threads=1) as worker:
        a: TaskHandle[Any] = worker.submit(list)
        with pytest.raises(TypeError, match="unhashable type: 'list'") as caught:
            await worker.submit(everything, {a: 1} if kind is dict else kind([a]))
        assert "when results were put into an argument" in caught.value.__notes__[0]
        assert await a == []


async def test_an_argument_that_contains_itself_is_refused() -> None:
    async with open_worker(threads=1) as worker:
        knot: list[Any] = [worker.submit(same, 1)]
        knot.append(knot)
        with pytest.raises(ValueError, match="contains itself"):
            worker.submit(everything, knot)
        assert await worker.run(same, 2) == 2
        knot.clear()
        await until_empty(worker)


async def test_inputs_are_looked_for_when_the_task_is_submitted() -> None:
    async with open_worker(threads=1) as worker:
        gate = Gate(1)
        argument = [worker.submit(gate)]
        handle = worker.submit(same, argument)
        argument.clear()
        gate.let_go()
        assert await handle == [1]


# Keys


async def test_the_same_key_is_the_same_task() -> None:
    async with open_worker(threads=1) as worker:
        a = worker.submit(same, 1, key=("k", 1))
        b = worker.submit(same, 2, key=("k", 1))
        assert a == b
        assert hash(a) == hash(b)
        assert a is not b
        assert a.key == ("k", 1)
        assert await b == 1
        assert worker.submit(same, 3, key=("k", 1)) == a
        assert a != worker.submit(same, 1, key=("k", 1.0))
        assert a != "k"


async def test_a_failed_key_is_the_same_task_too() -> None:
    async with open_worker(threads=1) as worker:
        a = worker.submit(int, "x", key="k")
        await until(a.done)
        b = worker.submit(same, 2, key="k")
        assert a == b
        with pytest.raises(ValueError, match="invalid literal"):
            await b
        del a, b
        await until_empty(worker)
        assert await worker.submit(same, 2, key="k") == 2


async def test_a_key_is_free_again_when_nobody_has_a_handle() -> None:
    async with open_worker(threads=1) as worker:
        for i in range(3):
            assert await worker.submit(same, i, key="k") == i
            await until_empty(worker)


async def test_keys_that_were_given_and_keys_that_are_made() -> None:
    async with open_worker(threads=1) as worker:
        given = [worker.submit(same, i, key=f"same-{i}") for i in range(1, 8)]
        made = [worker.submit(same, -i) for i in range(4)] + worker.map(same, range(-4, -8, -1))
        assert len({handle.key for handle in given + made}) == 15
        assert [await handle for handle in made] == [-i for i in range(8)]


async def test_keys_that_are_made_of_a_name_that_looks_like_a_key_that_is_no_text() -> None:
    def odd(value: int) -> int:
        return value

    odd.__qualname__ = "~odd"
    async with open_worker(threads=1) as worker:
        handles = [worker.submit(odd, 1), *worker.map(odd, [2, 3])]
        assert [handle.key for handle in handles] == ["task ~odd-1", "task ~odd-2", "task ~odd-3"]
        assert [await handle for handle in handles] == [1, 2, 3]


@pytest.mark.parametrize("key", [["k"], {"k": 1}, object(), ("k", []), float("nan")])
async def test_keys_that_are_none(key: Any) -> None:
    async with open_worker(threads=1) as worker:
        with pytest.raises(InvalidKey):
            worker.submit(same, 1, key=key)


# What is refused


async def test_what_cannot_be_called() -> None:
    async with open_worker(threads=1) as worker:
        coroutine = async_same(1)
        wrongs: list[Any] = [5, None, coroutine]
        for wrong in wrongs:
            with pytest.raises(TypeError, match="cannot be called"):
                worker.submit(wrong)
        coroutine.close()


async def test_resources_that_are_not_there() -> None:
    async with open_worker(threads=1, resources={"gpu": 2, "ram": 0.5}) as worker:
        with pytest.raises(ResourceError, match="no resource 'tpu'; it has gpu, ram"):
            worker.submit(same, 1, resources={"tpu": 1})
        for amount in (3, 0, -1, float("nan"), float("inf")):
            with pytest.raises(ResourceError, match="gpu"):
                worker.submit(same, 1, resources={"gpu": amount})
        assert await worker.run(same, 1, resources={"gpu": 2, "ram": 0.5}) == 1


async def test_a_priority_that_is_no_number() -> None:
    async with open_worker(threads=1) as worker:
        with pytest.raises(ValueError, match="priority"):
            worker.submit(same, 1, priority=float("nan"))
        with pytest.raises(TypeError):
            worker.submit(same, 1, priority="high")  # type: ignore[call-overload]
        assert await worker.run(same, 1, priority=float("-inf")) == 1


async def test_a_handle_of_another_worker() -> None:
    async with open_worker(threads=1) as one, open_worker(threads=1) as two:
        handle = one.submit(same, 1)
        with pytest.raises(ForeignHandle, match="another worker"):
            two.submit(same, [handle])


async def test_a_released_handle() -> None:
    async with open_worker(threads=1) as worker:
        handle = worker.submit(same, 1, key="k")
        handle.release()
        with pytest.raises(TaskReleased, match="'k'"):
            worker.submit(same, handle)
        with pytest.raises(TaskReleased):
            worker.as_completed([handle])


async def test_a_closed_worker() -> None:
    async with open_worker(threads=1, name="w") as worker:
        pass
    with pytest.raises(WorkerClosed, match="'w'"):
        worker.submit(same, 1)
    with pytest.raises(WorkerClosed):
        await worker.run(same, 1)
    with pytest.raises(WorkerClosed):
        worker.map(same, [1])


async def test_use_from_another_thread() -> None:
    async with open_worker(threads=1) as worker:
        handle = worker.submit(trio.sleep_forever)

        def use() -> list[BaseException]:
            errors: list[BaseException] = []
            for call in (
                lambda: worker.submit(same, 1),
                lambda: worker.map(same, [1]),
                handle.cancel,
            ):
                try:
                    call()
                except RuntimeError as error:
                    errors.append(error)
            return errors

        errors = await worker.run(use)
        assert ["thread of its event loop" in str(error) for error in errors] == [True] * 3
        assert not handle.done()
        handle.cancel()


async def test_nothing_is_left_of_what_is_refused() -> None:
    async with open_worker(threads=1) as worker:
        a = worker.submit(same, 1)
        released = worker.submit(same, 2)
        released.release()
        for _ in range(3):
            with pytest.raises(TaskReleased):
                worker.submit(everything, a, released)
        assert await a == 1
        del a, released
        await until_empty(worker)


# Context variables


variable: ContextVar[str] = ContextVar("variable", default="none")


async def test_context_variables_reach_tasks_and_do_not_leave_them() -> None:
    def plain() -> str:
        seen = variable.get()
        variable.set("changed")
        return seen

    async def coroutine() -> str:
        await trio.lowlevel.checkpoint()
        return plain()

    async with open_worker(threads=1) as worker:
        variable.set("one")
        first = [worker.submit(plain), worker.submit(coroutine)]
        variable.set("two")
        second = [worker.submit(plain), worker.submit(coroutine)]
        assert [await handle for handle in first] == ["one", "one"]
        assert [await handle for handle in second] == ["two", "two"]
        assert variable.get() == "two"
