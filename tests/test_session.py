"""A session, call by call; what the network may do to it is in test_session_network."""

from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pair import LIMITS, Pair, all_of, bodies, end, packet_of

from trouper.wire.cbor import Chunk
from trouper.wire.errors import Code, NotEncodable, NotWritable, SessionClosed
from trouper.wire.events import (
    Ended,
    Established,
    IncomingLost,
    LinkLost,
    MessageReceived,
    OutgoingLost,
    Peer,
    Resumed,
    SessionEvent,
)
from trouper.wire.frames import Abort, Alive, Data, Frame, Goodbye, Piece
from trouper.wire.limits import PACKET_NBYTES, Limits
from trouper.wire.packets import packet


def raw(*frames: Frame, tail: tuple[Chunk, ...] = ()) -> bytes:
    return b"".join(packet(frames, tail))


def test_both_sides_learn_who_the_other_is() -> None:
    pair = Pair()
    assert pair.dialled_events == [Established(1, Peer("scheduler", "scheduler-1", 1, ()))]
    assert pair.accepted_events == [Established(1, Peer("worker", "worker-1", 1, ()))]


def test_messages_arrive_in_order_with_their_buffers() -> None:
    pair = Pair()
    assert pair.dialled.send(b"one", [b"x" * 10, b""]) == 1
    assert pair.dialled.send(b"two") == 2
    assert pair.accepted.send(b"back") == 1
    pair.exchange(1.0)
    assert pair.accepted_events[1:] == [
        MessageReceived(1, b"one", (bytearray(b"x" * 10), bytearray())),
        MessageReceived(2, b"two", ()),
    ]
    assert bodies(pair.dialled_events) == [b"back"]
    assert (pair.accepted.received, pair.accepted.received_nbytes) == (2, 16)
    assert (pair.dialled.received, pair.dialled.received_nbytes) == (1, 4)


@patch("trouper.wire.assembly._DIRECT_NBYTES", 50)
@given(
    st.lists(st.lists(st.integers(0, 400), max_size=3), min_size=1, max_size=8),
    st.lists(st.tuples(st.booleans(), st.integers(1, 500))),
)
@settings(deadline=None)
def test_bytes_put_into_buffers_lead_to_the_same_as_bytes_received(
    messages: list[list[int]], cuts: list[tuple[bool, int]]
) -> None:
    events: list[list[SessionEvent]] = []
    for direct_too in (False, True):
        pair = Pair()
        for number, buffers in enumerate(messages):
            pair.dialled.send(b"%d" % number, [bytes([number]) * nbytes for nbytes in buffers])
        data, link = all_of(pair.dialled, 1.0), pair.accepted.link
        for direct, cut in [*cuts, (False, len(data))]:
            buffer = pair.accepted.get_buffer(link) if direct and direct_too else None
            if buffer is None:
                taken = data[:cut]
                pair.accepted_events += pair.accepted.receive_data(link, taken, 1.0)
            else:
                with buffer:
                    taken = data[: min(cut, len(buffer))]
                    buffer[: len(taken)] = taken
                pair.accepted_events += pair.accepted.buffer_updated(link, len(taken), 1.0)
            data = data[len(taken) :]
        pair.down(1.0)
        assert pair.accepted.received == len(messages)
        assert pair.accepted.next_deadline() is not None
        events.append(pair.accepted_events)
    assert events[0] == events[1]


def test_buffer_of_a_link_that_is_over_is_of_no_use() -> None:
    pair = Pair()
    pair.dialled.send(b"", [bytes(100_000)])
    link = pair.accepted.link
    assert pair.accepted.get_buffer(link) is None
    pair.accepted.receive_data(link, packet_of(pair.dialled, 1.0)[:5_000], 1.0)
    buffer = pair.accepted.get_buffer(link)
    assert buffer is not None
    assert len(buffer) == 100_000 - 5_000 + (len(raw(Data(1, ((0, 100_000),), 100_000))))
    pair.cut(2.0)
    assert pair.accepted.get_buffer(link) is None
    assert pair.accepted.buffer_updated(link, 1, 2.0) == []


def test_nothing_is_sent_before_the_session_is_open() -> None:
    pair = Pair()
    fresh = type(pair.dialled)(pair.dialled._us, "id-2")  # pyright: ignore[reportPrivateUsage]
    assert not fresh.writable
    with pytest.raises(NotWritable, match="not open yet"):
        fresh.send(b"x")


def test_writer_waits_while_the_resend_buffer_is_full() -> None:
    pair = Pair()
    pair.dialled.send(b"x" * 9_000)
    assert pair.dialled.writable
    pair.dialled.send(b"y" * 90_000)  # one message may exceed it
    assert not pair.dialled.writable
    with pytest.raises(NotWritable, match=r"99,256 bytes wait .*; 10,000 are kept"):
        pair.dialled.send(b"z")
    pair.up(0.1)
    assert not pair.dialled.writable
    pair.pass_time(0.2)
    pair.down(0.2)
    assert pair.dialled.writable


def test_what_is_longer_than_the_peer_takes_is_refused_here() -> None:
    pair = Pair(limits=Limits(max_message_nbytes=1000))
    with pytest.raises(NotEncodable, match="a message has 1,001 bytes; the peer takes 1,000"):
        pair.dialled.send(b"x", [b"y" * 1000])


def test_what_was_cut_is_sent_again_once() -> None:
    pair = Pair()
    pair.dialled.send(b"one")
    pair.exchange(0.1)
    pair.dialled.send(b"two")
    pair.accepted.send(b"down")
    pair.cut(1.0)
    pair.dialled.send(b"three")
    pair.connect(2.0)
    pair.exchange(2.0)
    assert bodies(pair.accepted_events) == [b"one", b"two", b"three"]
    assert bodies(pair.dialled_events) == [b"down"]
    assert pair.dialled_events[1:3] == [
        LinkLost(1, Code.DISCONNECTED, "reset", 1.0 + 4.0 + 9.0),
        Resumed(2),
    ]
    assert LinkLost(1, Code.DISCONNECTED, "reset", 7.0) in pair.accepted_events


def test_bulk_that_was_cut_is_reported_as_lost_on_both_sides() -> None:
    pair = Pair()
    pair.accepted.send(b"before")
    number = pair.accepted.send(b"reply", [b"bulk" * 1000], resend=False)
    pair.accepted.send(b"after")
    pair.cut(1.0)
    pair.connect(2.0)
    pair.exchange(2.0)
    assert OutgoingLost(number) in pair.accepted_events
    assert pair.dialled_events[-3:] == [
        MessageReceived(1, b"before", ()),
        IncomingLost(number),
        MessageReceived(3, b"after", ()),
    ]


def test_session_that_does_not_resume_ends_with_its_connection() -> None:
    pair = Pair(resumable=False)
    pair.dialled.send(b"one")
    pair.cut(1.0)
    assert pair.dialled_events[-1] == Ended(Code.DISCONNECTED, "reset", False, 1)
    assert pair.accepted_events[-1] == Ended(Code.DISCONNECTED, "reset", False, 0)
    assert not pair.reception.sessions
    with pytest.raises(SessionClosed, match=r"has ended \(disconnected\): reset"):
        pair.dialled.send(b"x")


def test_heartbeat_goes_before_data_and_between_pieces() -> None:
    pair = Pair(limits=Limits(resend_nbytes=1 << 30))
    pair.dialled.send(b"", [bytes(3 * PACKET_NBYTES)])
    pair.dialled.data_to_send(1, 0.0)
    pair.dialled.handle_timeout(2.5)
    heads = [pair.dialled.data_to_send(1, 2.5)[0] for _ in range(2)]
    assert heads[0] == raw(Alive(0), Piece(PACKET_NBYTES))
    assert heads[1] == raw(Piece(PACKET_NBYTES))


def test_idle_session_costs_one_small_message_per_interval_and_direction() -> None:
    pair = Pair()
    sizes: list[int] = []
    now = 0.0
    while now < 100.0:
        deadlines = (pair.dialled.next_deadline(), pair.accepted.next_deadline())
        now = min(at for at in deadlines if at is not None)
        pair.pass_time(now)
        sizes += [pair.up(now), pair.down(now)]
    sizes = [size for size in sizes if size]
    assert 198 <= len(sizes) <= 200
    assert max(sizes) <= 16
    assert pair.dialled.linked


def test_one_side_that_only_listens_does_not_look_silent() -> None:
    pair = Pair()
    for tenth in range(200):
        now = tenth / 10
        pair.pass_time(now)
        if pair.dialled.writable:
            pair.dialled.send(b"x" * 100)
        pair.exchange(now)
    assert pair.dialled.linked
    assert pair.accepted.linked


def test_silence_loses_the_link_and_waits_longer_than_a_close() -> None:
    pair = Pair()
    pair.accepted_events += pair.accepted.handle_timeout(4.0)
    assert pair.accepted_events[-1] == LinkLost(
        1, Code.TIMEOUT, "nothing was heard for 4 s", 4.0 + 9.0
    )
    assert pair.accepted.next_deadline() == 13.0


def test_session_that_is_not_resumed_in_time_is_lost() -> None:
    pair = Pair()
    pair.accepted.send(b"x")
    pair.cut(1.0)
    pair.pass_time(7.0)
    lost = pair.accepted_events[-1]
    assert lost == Ended(
        Code.TIMEOUT, "the connection was lost, and none came in its place in time", False, 1
    )
    assert pair.accepted.next_deadline() is None
    assert not pair.dialled.ended
    pair.pass_time(14.0)
    assert end(pair.dialled).code is Code.TIMEOUT


def test_connections_that_fail_do_not_give_a_dialler_more_time() -> None:
    pair = Pair()
    pair.cut(1.0)
    for now in (4.0, 8.0, 12.0):
        link = pair.dialled.connected(now)
        events = pair.dialled.connection_lost(link, "refused", now + 1)
        assert events == [LinkLost(link, Code.DISCONNECTED, "refused", 14.0)]
    assert pair.dialled.next_deadline() == 14.0


def test_goodbye_comes_after_what_was_sent_before() -> None:
    pair = Pair()
    pair.dialled.send(b"last")
    assert pair.dialled.close("the work is done", 1.0) == []
    with pytest.raises(SessionClosed, match="goodbye has been said"):
        pair.dialled.send(b"x")
    pair.exchange(1.0)
    assert bodies(pair.accepted_events) == [b"last"]
    assert end(pair.accepted) == Ended(Code.GOODBYE, "the work is done", True, 0)
    assert end(pair.dialled) == Ended(Code.GOODBYE, "goodbye was said and acknowledged", False, 0)
    assert not pair.reception.sessions


def test_goodbye_survives_a_lost_connection() -> None:
    pair = Pair()
    pair.dialled.close("done", 1.0)
    pair.cut(1.0)
    pair.connect(2.0)
    pair.exchange(2.0)
    assert end(pair.accepted).code is end(pair.dialled).code is Code.GOODBYE


def test_goodbye_whose_acknowledgement_was_lost_is_found_out_by_asking() -> None:
    pair = Pair()
    pair.dialled.close("done", 1.0)
    pair.up(1.0)
    pair.dialled.connection_lost(1, "reset", 1.0)
    link = pair.dialled.connected(2.0)
    answer = pair.reception.greet().receive_data(packet_of(pair.dialled, 2.0), 2.0)
    reply = b"".join(getattr(answer, "reply"))  # noqa: B009
    assert pair.dialled.receive_data(link, reply, 2.0) == [
        Ended(Code.GOODBYE, "the session has ended: done", True, 0)
    ]


def test_goodbye_that_nobody_acknowledges_takes_a_bounded_time() -> None:
    pair = Pair()
    pair.dialled.close("done", 1.0)
    pair.dialled.handle_timeout(6.0)
    assert end(pair.dialled) == Ended(
        Code.TIMEOUT, "goodbye was not acknowledged in time", False, 0
    )


def test_both_may_say_goodbye_at_once() -> None:
    pair = Pair()
    pair.dialled.close("a", 1.0)
    pair.accepted.close("b", 1.0)
    up, down = all_of(pair.dialled, 1.0), all_of(pair.accepted, 1.0)
    pair.dialled.receive_data(1, down, 1.0)
    pair.accepted.receive_data(1, up, 1.0)
    assert end(pair.dialled).reason == "b"
    assert end(pair.accepted).reason == "a"


def test_closing_twice_is_closing_once() -> None:
    pair = Pair()
    pair.dialled.close("a", 1.0)
    assert pair.dialled.close("b", 2.0) == []
    pair.exchange(2.0)
    assert end(pair.accepted).reason == "a"
    assert pair.dialled.close("c", 3.0) == []


def test_abandoned_session_ends_at_once_on_both_sides() -> None:
    pair = Pair()
    pair.dialled.send(b"never sent")
    assert pair.dialled.abandon("the nursery was cancelled") == [
        Ended(Code.ABANDONED, "the nursery was cancelled", False, 1)
    ]
    assert pair.dialled.abandon("again") == []
    pair.up(1.0)
    assert end(pair.accepted) == Ended(Code.ABANDONED, "the nursery was cancelled", True, 0)


def test_session_may_be_abandoned_with_a_code_of_its_own() -> None:
    pair = Pair()
    pair.dialled.abandon("that was no message", Code.MALFORMED)
    pair.up(1.0)
    assert end(pair.accepted) == Ended(Code.MALFORMED, "that was no message", True, 0)


def test_session_may_be_closed_before_it_is_open() -> None:
    pair = Pair()
    fresh = type(pair.dialled)(pair.dialled._us, "id-2")  # pyright: ignore[reportPrivateUsage]
    (ended,) = fresh.close("changed my mind", 0.0)
    assert ended == Ended(Code.GOODBYE, "changed my mind", False, 0)


def test_whether_something_waits_is_told_without_taking_it() -> None:
    pair = Pair()
    assert not pair.dialled.waiting
    pair.dialled.send(b"message")
    assert pair.dialled.waiting
    assert not pair.accepted.waiting
    pair.up(0.0)
    assert not pair.dialled.waiting
    pair.pass_time(LIMITS.ack_delay_s)
    assert pair.accepted.waiting  # an acknowledgement
    pair.cut(1.0)
    pair.dialled.send(b"another")
    assert not pair.dialled.waiting  # as there is no connection
    pair.dialled.connected(1.0)
    assert pair.dialled.waiting  # a hello
    pair.dialled.abandon("enough")
    assert pair.dialled.waiting  # last words


def test_late_bytes_of_an_older_connection_are_ignored() -> None:
    pair = Pair()
    pair.dialled.send(b"late")
    late = all_of(pair.dialled, 1.0)
    pair.dialled.connection_lost(1, "reset", 1.0)
    pair.connect(2.0)
    assert pair.accepted.receive_data(1, late, 2.0) == []
    assert pair.accepted.connection_lost(1, "closed at last", 2.0) == []
    assert pair.accepted.data_to_send(1, 2.0) == []
    pair.exchange(2.0)
    assert bodies(pair.accepted_events) == [b"late"]


@pytest.mark.parametrize(
    ("data", "code", "sentence"),
    [
        ("text", Code.MALFORMED, "text arrived, where only binary is spoken"),
        (b"\x00\x00\x00\x01\xff", Code.MALFORMED, "bad CBOR: break code"),
        (raw(Data(2, (1,), 1), tail=(b"x",)), Code.SEQUENCE, "message 2 came, where 1 was expec"),
        (raw(Goodbye(3, Code.GOODBYE, "")), Code.SEQUENCE, "message 3 came, where 1 was"),
        (raw(Alive(1)), Code.SEQUENCE, "received 1 messages; it had 0 before, and 0 were sent"),
        (
            raw(Data(1, ((0, 1 << 40),), 0)),
            Code.LIMIT,
            "1,099,511,627,776 bytes; 2,147,483,648 are",
        ),
        (b"\xff\xff\xff\xff", Code.LIMIT, "the head of a packet has 4,294,967,295 bytes"),
    ],
)
def test_what_breaks_the_protocol_ends_the_session_on_both_sides(
    data: Any, code: Code, sentence: str
) -> None:
    pair = Pair()
    (ended,) = pair.accepted.receive_data(1, data, 1.0)
    assert isinstance(ended, Ended)
    assert (ended.code, ended.by_peer) == (code, False)
    assert sentence in ended.reason
    pair.down(1.0)
    assert end(pair.dialled) == Ended(code, ended.reason, True, 0)


def test_handshake_frames_have_no_place_in_a_session_that_is_open() -> None:
    pair = Pair()
    welcome = pair.accepted._welcome(Peer("a", "b", 1, ()))  # pyright: ignore[reportPrivateUsage]
    pair.accepted.receive_data(1, raw(welcome), 1.0)
    assert end(pair.accepted).reason == "frame 'welcome' came in an open session"


def test_messages_before_a_broken_packet_are_delivered() -> None:
    pair = Pair()
    good = raw(Data(1, (1,), 1), tail=(b"x",))
    events = pair.accepted.receive_data(1, good + raw(Abort(Code.BUSY, "no more")) + good, 1.0)
    assert events == [MessageReceived(1, b"x", ()), Ended(Code.BUSY, "no more", True, 0)]


def test_no_event_comes_after_the_end() -> None:
    pair = Pair()
    pair.accepted.abandon("over")
    assert pair.accepted.receive_data(1, raw(Alive(0)), 1.0) == []
    assert pair.accepted.connection_lost(1, "closed", 1.0) == []
    assert pair.accepted.handle_timeout(100.0) == []
    assert pair.accepted.next_deadline() is None
    assert all_of(pair.accepted, 1.0) == raw(Abort(Code.ABANDONED, "over"))
    assert all_of(pair.accepted, 1.0) == b""


def test_acknowledgement_rides_with_a_message() -> None:
    pair = Pair()
    pair.dialled.send(b"question")
    pair.up(0.0)
    pair.accepted.send(b"answer")
    assert packet_of(pair.accepted, 0.0) == raw(Alive(1), Data(1, (6,), 6), tail=(b"answer",))


def test_limits_are_the_defaults_where_nothing_is_said() -> None:
    assert Limits() != LIMITS
    assert Pair(limits=Limits()).accepted.next_deadline() == Limits().heartbeat_interval_s
