"""Fetching from peers, good ones and those that say what they should not."""

import pickle
from typing import Any, NoReturn

import numpy as np
import pytest
import trio
from exchange import FETCHER, MUCH, Shelf, fetching_from, hear, say
from pair import endpoint
from sides import QUICK, open_cutter, until
from test_connect import url_of

from trouper.actors.errors import PeerUnreachable, ValueUnreadable
from trouper.actors.fetch import PeerFetcher
from trouper.actors.fetched import Fetched, Found, PeerBusy
from trouper.wire.connection import Connection
from trouper.wire.errors import Code, NotEncodable
from trouper.wire.limits import Limits
from trouper.wire.listener import open_listener
from trouper.wire.messages import (
    KEY_LENGTH,
    MAX_KEYS,
    PEER_EXCHANGE,
    Busy,
    DataReply,
    Failed,
    GetData,
    PeerMessage,
    Unreadable,
)
from trouper.wire.messages import Found as FoundMessage
from trouper.wire.pool import open_pool


async def test_what_is_held_comes_and_what_is_not_does_not() -> None:
    shelf = Shelf(a=1, b="two", c=[3])
    async with fetching_from(shelf.server().serve) as fetching:
        fetched = await fetching.fetch("a", "b", "c", "d")
        assert fetched.found == {
            "a": Found(1, 10, "int"),
            "b": Found("two", 10, "str"),
            "c": Found([3], 10, "list"),
        }
        assert not fetched.unreadable
        assert not fetched.left
        assert (await fetching.fetch("d")) == Fetched({}, {})
        assert fetching.pool.connections == 1


def owner_of(array: Any) -> object:
    """Whose memory an array has."""
    while hasattr(array, "base"):
        array = array.base
    return array


async def test_an_array_is_made_of_the_memory_that_it_came_in() -> None:
    array = np.arange(1 << 20)
    async with fetching_from(Shelf(a=array).server().serve) as fetching:
        result: Any = (await fetching.fetch("a")).found["a"].value
        assert np.array_equal(result, array)
        assert isinstance(owner_of(result), (bytearray, memoryview))
        result[0] = 7
        assert array[0] == 0


async def test_an_answer_has_as_much_as_was_wanted() -> None:
    blocks = {key: np.zeros(100_000, "u1") for key in "abcde"}
    async with fetching_from(Shelf(**blocks).server().serve) as fetching:
        fetched = await fetching.fetch(*"abxcde", max_nbytes=250_000)
        assert set(fetched.found) == {"a", "b"}
        assert fetched.left == frozenset("cde")
        fetched = await fetching.fetch(*"cde", max_nbytes=1)
        assert set(fetched.found) == {"c"}
        assert fetched.left == frozenset("de")


async def test_more_keys_than_a_message_may_have_are_asked_for_in_turn() -> None:
    keys = [f"key-{i}" for i in range(MAX_KEYS + 5)]
    async with fetching_from(Shelf(**{keys[0]: 1, keys[-1]: 2}).server().serve) as fetching:
        fetched = await fetching.fetch(*keys)
        assert set(fetched.found) == {keys[0]}
        assert fetched.left == frozenset(keys[MAX_KEYS:])


async def test_keys_that_cannot_be_said_spoil_no_others() -> None:
    too_long, no_text = "x" * (KEY_LENGTH + 1), "\ud800"
    async with fetching_from(Shelf(a=1).server().serve) as fetching:
        fetched = await fetching.fetch(too_long, "a", no_text)
        assert set(fetched.found) == {"a"}
        assert set(fetched.unreadable) == {too_long, no_text}
        assert all(isinstance(error, NotEncodable) for error in fetched.unreadable.values())
        assert set((await fetching.fetch(no_text)).unreadable) == {no_text}


class Stubborn:
    def __reduce__(self) -> NoReturn:
        raise LookupError("I stay here")


class Homesick:
    """Can be sent, and not be read."""

    def __reduce__(self) -> tuple[type[int], tuple[str]]:
        return int, ("not a number",)


async def test_what_cannot_be_sent_or_read_says_why() -> None:
    shelf = Shelf(a=Stubborn(), b=Homesick(), c=1)
    async with fetching_from(shelf.server().serve) as fetching:
        fetched = await fetching.fetch("a", "b", "c")
        assert set(fetched.found) == {"c"}
        assert {key: str(error) for key, error in fetched.unreadable.items()} == {
            "a": f"peer {fetching.url} cannot send the value of 'a': a Stubborn cannot be "
            "serialised: LookupError: I stay here",
            "b": f"the value of 'b', a Homesick of peer {fetching.url}, cannot be read here: "
            "ValueError: invalid literal for int() with base 10: 'not a number'",
        }
        assert all(isinstance(error, ValueUnreadable) for error in fetched.unreadable.values())
        cause = fetched.unreadable["b"].__cause__
        assert isinstance(cause, ValueError)
        assert cause.__traceback__ is None  # of ours; it would keep what came


async def test_an_exit_in_a_pickle_ends_nothing() -> None:
    pickled = b"cbuiltins\nexit\n(tR."
    found = FoundMessage("a", "int", 1, 1)

    async def lie(connection: Connection) -> None:
        await hear(connection)
        await say(connection, DataReply((found,)), pickled)
        await connection.wait_ended()

    with pytest.raises(SystemExit):
        pickle.loads(pickled)
    async with fetching_from(lie) as fetching:
        assert "SystemExit" in str((await fetching.fetch("a")).unreadable["a"])


class NoWords(BaseException):
    def __str__(self) -> NoReturn:
        raise SystemExit(3)


class Mute:
    def __reduce__(self) -> NoReturn:
        raise NoWords


async def test_what_cannot_be_sent_and_does_not_say_why_ends_nothing() -> None:
    async with fetching_from(Shelf(a=Mute(), b=1).server().serve) as fetching:
        fetched = await fetching.fetch("a", "b")
        assert set(fetched.found) == {"b"}
        assert str(fetched.unreadable["a"]).endswith("NoWords: (which cannot be shown as text)")


async def test_busy() -> None:
    async def busy(connection: Connection) -> None:
        await hear(connection)
        await say(connection, Busy())
        await connection.wait_ended()

    async with fetching_from(busy) as fetching:
        assert await fetching.fetcher.fetch(fetching.url, ["a"], MUCH) == PeerBusy()


async def test_as_many_sessions_as_there_may_be_is_busy_too() -> None:
    shelf = Shelf(a=1)
    async with (
        fetching_from(shelf.server().serve, Limits(max_sessions=1)) as fetching,
        fetching.pool.lease(fetching.url),
    ):
        assert await fetching.fetcher.fetch(fetching.url, ["a"], MUCH) == PeerBusy()


async def test_a_holder_that_could_not_answer_says_why() -> None:
    async def fail(connection: Connection) -> None:
        await hear(connection)
        await say(connection, Failed("out of order"))
        await connection.wait_ended()

    async with fetching_from(fail) as fetching:
        fetched = await fetching.fetch("a", "b")
        assert set(fetched.unreadable) == {"a", "b"}
        assert str(fetched.unreadable["a"]) == f"peer {fetching.url} could not answer: out of order"


@pytest.mark.parametrize(
    ("message", "buffers", "code", "why"),
    [
        (GetData(("a",), 1), (), Code.UNEXPECTED, "a holder asks a fetcher"),
        (DataReply(), (), Code.MALFORMED, "does not tell once of each key"),
        (DataReply(missing=("a", "b", "c")), (), Code.MALFORMED, "does not tell once"),
        (DataReply(missing=("a", "a")), (), Code.MALFORMED, "does not tell once"),
        (DataReply(missing=("a", "b"), left=("a",)), (), Code.MALFORMED, "does not tell once"),
        (
            DataReply(missing=("a",), unreadable=(Unreadable("c", ""),)),
            (),
            Code.MALFORMED,
            "does not tell once",
        ),
        (DataReply(missing=("a", "b")), (b"x",), Code.MALFORMED, "0 buffers and came with 1"),
    ],
)
async def test_a_holder_that_talks_nonsense_is_left(
    message: PeerMessage, buffers: tuple[bytes, ...], code: Code, why: str
) -> None:
    ended: list[Code] = []

    async def talk_nonsense(connection: Connection) -> None:
        await hear(connection)
        await say(connection, message, *buffers)
        await connection.wait_ended()
        assert connection.session.ended is not None
        ended.append(connection.session.ended.code)

    async with fetching_from(talk_nonsense) as fetching:
        with pytest.raises(PeerUnreachable, match=f"peer {fetching.url} gives no answer: .*{why}"):
            await fetching.fetch("a", "b")
        await until(lambda: ended == [code])
        assert not fetching.pool.idle


async def test_bytes_that_are_no_message() -> None:
    async def babble(connection: Connection) -> None:
        await hear(connection)
        await connection.send(b"\xff")
        await connection.wait_ended()

    async with fetching_from(babble) as fetching:
        with pytest.raises(PeerUnreachable, match="gives no answer"):
            await fetching.fetch("a")


async def test_a_holder_that_closes_the_session() -> None:
    async def close(connection: Connection) -> None:
        await hear(connection)

    async with fetching_from(close) as fetching:
        with pytest.raises(PeerUnreachable, match="gives no answer: the session has ended"):
            await fetching.fetch("a")


async def test_nobody_listens() -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    await listener.aclose()
    async with open_pool(FETCHER) as pool:
        with pytest.raises(PeerUnreachable, match="gives no answer: cannot connect"):
            await PeerFetcher(pool).fetch(url_of(port), ["a"], MUCH)
        with pytest.raises(PeerUnreachable, match="'tcp://a:1' has no address to connect to"):
            await PeerFetcher(pool).fetch("tcp://a:1", ["a"], MUCH)


async def test_who_may_not_come_in() -> None:
    holder = endpoint("holder", QUICK, capabilities=(PEER_EXCHANGE,))
    async with (
        open_listener(holder, Shelf().server().serve, token="secret") as listener,
        open_pool(FETCHER, token="wrong") as pool,
    ):
        with pytest.raises(PeerUnreachable, match=r"lets nobody in: .*wrong token"):
            await PeerFetcher(pool).fetch(url_of(listener.port), ["a"], MUCH)


async def test_a_connection_that_is_cut_in_the_middle_of_a_transfer() -> None:
    shelf = Shelf(a=np.zeros(1 << 22, "u1"))
    async with (
        fetching_from(shelf.server().serve) as fetching,
        open_cutter(fetching.listener.port, seed=0, cuts=1, most_nbytes=1 << 20) as cutter,
    ):
        with pytest.raises(PeerUnreachable, match="the session is lost"):
            await fetching.fetcher.fetch(url_of(cutter.port), ["a"], MUCH)
        answer = await fetching.fetcher.fetch(url_of(cutter.port), ["a"], MUCH)
        assert isinstance(answer, Fetched)
        assert set(answer.found) == {"a"}


async def test_a_fetch_that_is_cancelled_leaves_nothing() -> None:
    async def hang(connection: Connection) -> None:
        await hear(connection)
        await connection.wait_ended()

    async with fetching_from(hang) as fetching:
        with trio.move_on_after(0.1) as scope:
            await fetching.fetch("a")
        assert scope.cancelled_caught
        await until(lambda: fetching.pool.connections == 0)
        await until(lambda: fetching.listener.sessions == 0)
