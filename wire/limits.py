"""Every window, interval and limit of a session, with its default and the reason for it.

What both sides must agree on is a constant, part of the version of the protocol. What each side
chooses for itself is a field of `Limits`. wire/PROTOCOL.md shows the same as one table.
"""

import math

import msgspec

PROTOCOL_VERSIONS = (1,)
"""Spoken here, the best last."""

PACKET_NBYTES = 1 << 20
"""Most bytes after the head of a packet. A piece this large costs next to nothing to frame, and an
acknowledgement or heartbeat waits for no more than one."""

HEAD_NBYTES = 1 << 18
"""Most bytes in the head of a packet: enough for `PACKET_PARTS` lengths."""

HELLO_NBYTES = 1 << 13
"""Most bytes in the head of a first packet: strangers are given no more."""

ENDPOINT_NBYTES = 1 << 12
"""Most bytes in role, name and capabilities together, so that a hello has room for them."""

PACKET_FRAMES = 64
"""Most frames in a head."""

PACKET_MESSAGES = 1024
"""Most messages that begin in one packet."""

PACKET_PARTS = 16_384
"""Most parts (bodies and buffers) that begin in one packet, and so in one message."""

BODY_NBYTES = 1 << 26
"""Longest body of a message, which is decoded as a whole. Bulk belongs in buffers."""

HEAD_DEPTH = 8
"""Deepest nesting in a head, and in a typed message."""

HEAD_ITEMS = 1 << 15
"""Most CBOR items in a head: twice what a head can need."""

NAME_LENGTH = 256
"""Longest role, name, session id, token or capability, in characters."""

REASON_LENGTH = 512
"""Longest reason, in characters; longer ones are cut by their sender."""

CAPABILITIES = 32
"""Most capabilities."""

MAX_INTERVAL_S = 3600.0
"""Longest heartbeat interval that may be asked for."""

MAX_WINDOW_S = 86_400.0
"""Longest time for which a lost connection may be waited for."""

MAX_SEQUENCE = (1 << 53) - 1
"""Last sequence number and largest length: what every language counts exactly."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What one side chooses. Seconds and bytes."""

    heartbeat_interval_s: float = 2.0
    """Something is sent this often, if only a heartbeat: 20 bytes cost nobody anything."""
    silence_s: float = 10.0
    """A connection that brought nothing for so long is lost: five heartbeats, so that a pause of
    the other side's garbage collector, or a burst of lost segments, is not a death. Never less
    than three intervals of the other side's."""
    handshake_s: float = 10.0
    """A new connection has to be agreed on in this time: a few round trips on the worst network."""
    resume_after_close_s: float = 5.0
    """How long the listening side waits for a dialler whose connection was closed or reset. The
    process is probably dead, and what it had to do waits for this to be certain."""
    resume_after_silence_s: float = 20.0
    """The same after a silence: the network is probably down, the process probably well. With
    `silence_s` still far below the five minutes after which Dask's scheduler gives up a worker
    that sends no heartbeat (``distributed.scheduler.worker-ttl``)."""
    goodbye_s: float = 5.0
    """How long an orderly end may take: what was sent before has to arrive first."""
    ack_delay_s: float = 0.05
    """An acknowledgement waits this long for a message to ride with."""
    ack_messages: int = 256
    """So many messages are acknowledged at once, whatever the delay."""
    ack_nbytes: int = 1 << 19
    """So many bytes are acknowledged at once: an eighth of a resend buffer, so that whoever sends
    without a pause does not come to wait."""
    resend_nbytes: int = 1 << 22
    """What is kept until it is acknowledged, or sent. When full, writers wait; a single message
    may exceed it. Covers 40 ms at 100 MB/s."""
    max_message_nbytes: int = 1 << 31
    """Longest message taken, body and buffers."""
    inbox_nbytes: int = 1 << 22
    """What has arrived and was not taken by whoever it is for. When full, nothing more is read from
    the connection, until the other side's writers wait."""
    retry_first_s: float = 0.1
    """A lost connection is tried again after a random part of this at first, doubled each time."""
    retry_most_s: float = 1.0
    """And after a random part of this at most: whatever the dice say, several tries fit into the
    other side's `resume_after_close_s`, the last of them near its end."""
    max_greetings: int = 256
    """Most connections that have not said hello; others wait until they are accepted."""
    max_sessions: int = 4096
    """Most sessions of one listening side."""
    ended_remembered: int = 1024
    """So many ended sessions are remembered, so that who comes late is told how it ended."""

    def __post_init__(self) -> None:
        """Whoever sets a limit that makes no sense learns it here, not in the night.

        Raises:
            ValueError: A limit is not positive and finite, or two contradict each other.
        """
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} has to be positive and finite, not {value!r}")
        if not 0.01 <= self.heartbeat_interval_s <= MAX_INTERVAL_S:
            raise ValueError(
                f"heartbeat_interval_s has to be between 0.01 and {MAX_INTERVAL_S}, "
                f"not {self.heartbeat_interval_s!r}"
            )
        if max(self.resume_after_close_s, self.resume_after_silence_s) > MAX_WINDOW_S:
            raise ValueError(f"a lost connection may be waited for {MAX_WINDOW_S} s at most")
        if self.max_message_nbytes > MAX_SEQUENCE:
            raise ValueError(f"max_message_nbytes has to be at most {MAX_SEQUENCE}")
