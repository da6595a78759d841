"""What a failed or cancelled task raises, and at whom."""

import gc
import traceback
import weakref
from collections.abc import Callable
from typing import Any, NoReturn

import pytest
import trio
import trio.testing
from endings import Boom, fail, fail_later, raised_by
from gates import Gate, until_empty

from trouper.runtime import TaskCancelled, open_worker
from trouper.runtime.embedded.failure import Failure


def same(value: Any) -> Any:
    return value


def function_names(error: BaseException) -> list[str]:
    """Of the traceback, outermost first."""
    return [frame.name for frame in traceback.extract_tb(error.__traceback__)]


@pytest.mark.parametrize("fn", [fail, fail_later])
async def test_await_raises_the_very_exception_with_its_own_traceback(fn: Any) -> None:
    async with open_worker(threads=1) as worker:
        handle = worker.submit(fn)
        first = await raised_by(handle)
        names = function_names(first)
        second = await raised_by(handle)
        assert first is second
        assert type(first) is Boom
        assert names[0] == "raised_by"
        assert names[-1] == fn.__name__
        assert not hasattr(first, "__notes__") or first.__notes__ == []
        assert handle.phase == "error"
        assert handle.done()


@pytest.mark.parametrize("fn", [fail, fail_later])
async def test_the_traceback_shows_no_frame_of_what_ran_the_function(fn: Any) -> None:
    async with open_worker(threads=1) as worker:
        error = await raised_by(worker.submit(fn))
        frames = traceback.extract_tb(error.__traceback__)
        assert not [frame for frame in frames if "/actors/" in frame.filename]


async def test_repeated_awaits_make_nothing_grow() -> None:
    async with open_worker(threads=1) as worker:
        root = worker.submit(fail)
        leaf = worker.submit(same, root)
        lengths: set[int] = set()
        for _ in range(5):
            error = await raised_by(root)
            lengths.add(len(function_names(error)))
            assert len(getattr(error, "__notes__", [])) == 0
            assert await raised_by(leaf) is error
            lengths.add(len(function_names(error)))
            assert len(error.__notes__) == 1
        assert len(lengths) == 1


async def test_the_context_in_which_it_was_raised_comes_back_each_time() -> None:
    def fail_while_handling() -> int:
        try:
            raise KeyError("the first")
        except KeyError:
            raise Boom("the second")  # noqa: B904 - the context is the point

    async with open_worker(threads=1) as worker:
        handle = worker.submit(fail_while_handling)
        try:
            raise LookupError("of whoever awaits")
        except LookupError:
            await raised_by(handle)
        error = await raised_by(handle)
        assert type(error.__context__) is KeyError


async def test_dependents_raise_the_same_exception_with_a_note_of_the_path() -> None:
    async with open_worker(threads=1) as worker:
        a = worker.submit(fail, key="a")
        b = worker.submit(same, [a], key=("b", 1))
        c = worker.submit(same, {"x": b}, key="c")
        error = await raised_by(c)
        assert type(error) is Boom
        assert error.__notes__ == [
            "task 'c' failed because a task did on which it depends: 'a' -> ('b', 1) -> 'c'"
        ]
        assert function_names(error)[-1] == "fail"
        assert await raised_by(a) is error
        assert error.__notes__ == []


async def test_notes_of_the_user_are_kept() -> None:
    def fail_with_note() -> int:
        error = Boom()
        error.add_note("mine")
        raise error

    async with open_worker(threads=1) as worker:
        root = worker.submit(fail_with_note)
        leaf = worker.submit(same, root)
        for _ in range(2):
            error = await raised_by(leaf)
            assert error.__notes__[0] == "mine"
            assert len(error.__notes__) == 2
        error = await raised_by(root)
        assert error.__notes__ == ["mine"]


async def test_a_long_path_is_abbreviated() -> None:
    async with open_worker(threads=1) as worker:
        handle = worker.submit(fail, key="k0")
        for i in range(1, 100):
            handle = worker.submit(same, handle, key=f"k{i}")
        error = await raised_by(handle)
        (note,) = error.__notes__
        assert note.endswith(
            "'k0' -> 'k1' -> 'k2' -> 'k3' -> 'k4' -> 'k5' -> 'k6' -> 'k7' -> ... (84 more) ... -> "
            "'k92' -> 'k93' -> 'k94' -> 'k95' -> 'k96' -> 'k97' -> 'k98' -> 'k99'"
        )


async def test_of_two_failed_inputs_one_is_raised() -> None:
    async with open_worker(threads=1) as worker:
        a = worker.submit(fail, key="a")
        b = worker.submit(fail, key="b")
        error = await raised_by(worker.submit(same, [a, b]))
        assert error in (await raised_by(a), await raised_by(b))
        await raised_by(a)
        await raised_by(b)


async def test_input_that_had_failed_before_the_dependent_was_submitted() -> None:
    async with open_worker(threads=1) as worker:
        a = worker.submit(fail)
        error = await raised_by(a)
        assert await raised_by(worker.submit(same, a)) is error


@pytest.mark.parametrize("how", ["failed", "cancelled"])
async def test_handle_of_an_ended_input_that_is_dropped_at_once(how: str) -> None:
    # Dropping and the machine's turn come in either order: try until both have been seen.
    async with open_worker(threads=1) as worker:
        for _ in range(50):
            a = worker.submit(fail)
            if how == "cancelled":
                a.cancel()
            await raised_by(a)
            b = worker.submit(same, a)
            c = worker.submit(same, b)
            del a
            await trio.lowlevel.checkpoint()
            assert type(await raised_by(c)) is (Boom if how == "failed" else TaskCancelled)
            assert type(await raised_by(b)) is (Boom if how == "failed" else TaskCancelled)
            del b, c
        await until_empty(worker)


async def test_cancelled_raises_task_cancelled_and_so_do_dependents() -> None:
    async with open_worker(threads=1) as worker:
        gate = Gate()
        a = worker.submit(gate, key="a")
        b = worker.submit(same, a, key="b")
        c = worker.submit(same, b, key="c")
        await gate.entered.wait()
        assert a.cancel()
        assert str(await raised_by(a)) == "task 'a' was cancelled"
        error = await raised_by(c)
        assert type(error) is TaskCancelled
        assert str(error) == (
            "task 'c' was cancelled, because a task was on which it depends: 'a' -> 'b' -> 'c'"
        )
        assert {a.phase, b.phase, c.phase} == {"cancelled"}
        gate.let_go()


class Base(BaseException):
    pass


@pytest.mark.parametrize(
    "error",
    [Base(), SystemExit(3), GeneratorExit(), KeyboardInterrupt(), ExceptionGroup("", [Boom()])],
)
@pytest.mark.parametrize("executor", ["thread", "coroutine"])
async def test_any_exception_reaches_who_awaits(error: BaseException, executor: str) -> None:
    def plain(_: object) -> int:
        raise error

    async def coroutine(_: object) -> int:
        raise error

    async with open_worker(threads=1) as worker:
        # Held up until somebody awaits: a KeyboardInterrupt that nobody does ends the block.
        gate = Gate()
        first = worker.submit(gate)
        fn: Callable[..., Any] = plain if executor == "thread" else coroutine
        handle = worker.submit(fn, first)
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def _() -> None:
                assert await raised_by(handle) is error

            await gate.entered.wait()
            await trio.testing.wait_all_tasks_blocked()
            gate.let_go()
        assert await raised_by(worker.submit(same, handle)) is error
        assert await worker.run(same, 1) == 1


async def test_stop_iteration_cannot_leave_a_coroutine_and_comes_as_its_cause() -> None:
    async with open_worker(threads=1) as worker:
        error = await raised_by(worker.submit(next, iter(())))
        assert type(error) is RuntimeError
        assert type(error.__cause__) is StopIteration


class Hostile(Exception):
    """Everything that may be asked of an exception raises."""

    def __str__(self) -> str:
        raise Boom("__str__")

    def __repr__(self) -> str:
        raise Boom("__repr__")

    def __setattr__(self, name: str, value: object) -> None:
        raise Boom("__setattr__")

    def __eq__(self, other: object) -> bool:
        raise Boom("__eq__")

    def __hash__(self) -> int:
        raise Boom("__hash__")

    def __reduce__(self) -> NoReturn:
        raise Boom("__reduce__")

    def with_traceback(self, tb: object) -> NoReturn:
        raise Boom("with_traceback")

    def add_note(self, note: str) -> NoReturn:
        raise Boom("add_note")


class Lying(Exception):
    """Looks like another one."""

    __notes__ = 5  # type: ignore[assignment]

    def __bool__(self) -> bool:
        raise Boom("__bool__")

    def __getattr__(self, name: str) -> object:
        raise Boom(name)

    def __getattribute__(self, name: str) -> object:
        if name in {"__notes__", "__traceback__", "__context__", "__dict__"}:
            raise Boom(name)
        return super().__getattribute__(name)


@pytest.mark.parametrize("error_type", [Hostile, Lying])
@pytest.mark.parametrize("executor", ["thread", "coroutine"])
async def test_exceptions_that_break_when_they_are_looked_at(
    error_type: type[Exception], executor: str
) -> None:
    error = error_type()

    def plain() -> int:
        raise error

    async def coroutine() -> int:
        raise error

    async with open_worker(threads=1) as worker:
        handle = worker.submit(plain if executor == "thread" else coroutine)
        for _ in range(2):
            assert await raised_by(handle) is error
            assert await raised_by(worker.submit(same, handle)) is error
        assert await worker.run(same, 1) == 1


async def test_exceptions_that_break_are_logged_all_the_same(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def hostile() -> int:
        raise Hostile

    async with open_worker(threads=1) as worker:
        worker.submit(hostile, key="hostile")
    (record,) = caplog.records
    assert "'hostile'" in record.getMessage()


async def test_what_a_failed_task_leaves_behind_is_dropped() -> None:
    class Big:
        pass

    def fail_with(big: Big) -> int:
        raise Boom(big)

    async with open_worker(threads=1) as worker:
        big = Big()
        ref = weakref.ref(big)
        handle = worker.submit(fail_with, big)
        del big
        assert type(await raised_by(handle)) is Boom
        del handle
        await until_empty(worker)
        gc.collect()
        assert ref() is None


async def test_a_chain_ten_thousand_deep_fails_from_its_root_to_its_end() -> None:
    async with open_worker(threads=1) as worker:
        gate = Gate(Boom("root"))
        handle = root = worker.submit(gate)
        for _ in range(10_000):
            handle = worker.submit(same, handle)
        await gate.entered.wait()
        gate.let_go()
        error = await raised_by(handle)
        assert type(error) is Boom
        assert "(9985 more)" in error.__notes__[0]
        assert await raised_by(root) is error
        del handle, root, error, gate  # the gate has the exception, and that its frames
        await until_empty(worker)


async def test_failing_while_the_worker_is_busy_with_thousands() -> None:
    # More stimuli than one batch of the machine takes, and handles that are gone before it.
    async with open_worker(threads=1) as worker:
        for _ in range(2):
            a = worker.submit(fail)
            await raised_by(a)
            for _ in range(1500):
                worker.submit(same, 1)
            leaves = [worker.submit(same, a) for _ in range(1500)]
            del a
            assert type(await raised_by(leaves[-1])) is Boom
            leaves.clear()
        await until_empty(worker)


def test_failure_knows_origin_and_path() -> None:
    origin = Failure("a", Boom(), None)
    leaf = Failure("c", None, Failure("b", None, origin))
    assert leaf.origin is origin
    assert leaf.path() == "'a' -> 'b' -> 'c'"
    assert not leaf.cancelled
    assert leaf.exc_info() is None
    assert origin.exc_info() is not None
    assert Failure("b", None, Failure("a", None, None)).cancelled
