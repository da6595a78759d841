"""WebSocket frames (RFC 6455), after the upgrade: bytes in, payload out, and the other way round.

Sans-IO. Ours rather than a library's, as masking and copying in pure Python is what bounds the
speed of those that there are for trio, and a session needs little: binary messages whose bytes may
be cut anywhere. So nothing is assembled here, payload is passed on as it comes, and no length of a
frame costs memory. No extension is spoken: nothing is compressed.

A client masks what it sends, a server does not.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import cache

from trouper.wire.cbor import Chunk
from trouper.wire.errors import Code, ProtocolError

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10

NORMAL, BROKEN_RULES = 1000, 1002
"""Codes of a close frame: an orderly end, and a peer that breaks the protocol."""

_FINAL, _RESERVED, _OPCODE = 0x80, 0x70, 0x0F
_MASKED, _LENGTH = 0x80, 0x7F
_JOINED_NBYTES = 1 << 17
"""A frame up to this length is put together: a copy costs less than to write it in parts."""

_FEW_NBYTES = 512
"""Up to here, it takes less time to mask a payload as one large number than as four rows."""

_EXTENDED_NBYTES = {126: 2, 127: 8}
"""How long a length is that does not fit where it belongs."""

_LONGEST_HEAD_NBYTES = 14

_CONTROL_NBYTES = 125
"""Longest payload of a control frame."""


class Framer:
    """The frames of one connection.

    Args:
        new_mask: Gives four bytes that cannot be foreseen, for each frame; None for a server.
    """

    def __init__(self, new_mask: Callable[[], bytes] | None) -> None:
        self._new_mask = new_mask
        self.closed: str | None = None
        """Why the peer has closed the connection; None if it has not."""
        self.reply: Chunk = b""
        """A frame that is owed to the peer: a pong, or its close frame's answer."""
        self._head = b""
        """What is there of a frame's head that has not arrived whole."""
        self._opcode = -1
        """Of the frame whose payload comes; -1 between frames."""
        self._left = 0
        """What is still missing of its payload."""
        self._mask = b""
        """For its next bytes; empty if it is not masked."""
        self._control = bytearray()
        """Payload of a control frame."""
        self._in_message = False
        """Whether a message has begun whose last frame has not come."""

    def read(self, data: Chunk) -> Iterator[Chunk | str]:
        """The payload of messages as it comes, empty text for a text message.

        To be exhausted before the next call. Views are of `data`, where nothing had to be copied.

        Raises:
            ProtocolError: This is no WebSocket. The connection is of no more use.
        """
        view = memoryview(data)
        while self.closed is None:
            if self._opcode < 0:
                if not view:
                    return
                view = self._take_head(view)
                if self._opcode < 0:
                    return
                if self._opcode == TEXT:
                    yield ""
            payload = self._unmasked(view[: self._left])
            view = view[len(payload) :]
            self._left -= len(payload)
            if self._opcode >= CLOSE:
                self._control += payload
            elif payload:
                yield payload
            if self._left:
                return
            if self._opcode >= CLOSE:
                self._take_control()
            self._opcode = -1

    @property
    def payload_left(self) -> int:
        """How many bytes of a message are next, if they do not begin with a frame's head."""
        return self._left if 0 <= self._opcode < CLOSE else 0

    def took(self, payload: memoryview) -> None:
        """The next ones have been read to where they belong; there they are unmasked."""
        if self._mask:
            payload[:] = self._unmasked(payload)
        self._left -= len(payload)
        if not self._left:
            self._opcode = -1

    def frame(self, opcode: int, chunks: Sequence[Chunk]) -> list[Chunk]:
        """One final frame, as chunks to be written one after the other."""
        nbytes = sum(map(len, chunks))
        masked = 0 if self._new_mask is None else _MASKED
        if nbytes <= _CONTROL_NBYTES:
            head = bytes((_FINAL | opcode, masked | nbytes))
        elif nbytes < 1 << 16:
            head = bytes((_FINAL | opcode, masked | 126)) + nbytes.to_bytes(2, "big")
        else:
            head = bytes((_FINAL | opcode, masked | 127)) + nbytes.to_bytes(8, "big")
        if self._new_mask is None:
            if nbytes <= _JOINED_NBYTES:
                return [b"".join((head, *chunks))]
            return [head, *chunks]
        mask = self._new_mask()
        return [b"".join((head, mask, masked_with(mask, b"".join(chunks))))]

    def close_frame(self, code: int, reason: str) -> list[Chunk]:
        """The last frame."""
        cut = reason.encode()[: _CONTROL_NBYTES - 2].decode(errors="ignore").encode()
        return self.frame(CLOSE, [code.to_bytes(2, "big") + cut])

    def _take_head(self, view: memoryview) -> memoryview:
        """When a head is whole, a frame begins. What is left of the view."""
        known = len(self._head)
        head = self._head + view[: _LONGEST_HEAD_NBYTES - known]
        nbytes = _head_nbytes(head)
        if len(head) < nbytes:
            self._head = head
            return view[len(view) :]
        self._head = b""
        self._begin(head[:nbytes])
        return view[nbytes - known :]

    def _begin(self, head: bytes) -> None:
        length, masked = head[1] & _LENGTH, bool(head[1] & _MASKED)
        if masked is not (self._new_mask is None):
            raise _malformed("a client has to mask its frames, and a server must not")
        if head[0] == _FINAL | BINARY and not self._in_message:  # most are
            opcode = BINARY
        else:
            opcode = self._checked_opcode(head[0], length)
        self._opcode = opcode
        self._mask = head[-4:] if masked else b""
        extended = head[2 : len(head) - len(self._mask)]
        self._left = int.from_bytes(extended, "big") if extended else length

    def _checked_opcode(self, first: int, length: int) -> int:
        opcode, final = first & _OPCODE, bool(first & _FINAL)
        if first & _RESERVED:
            raise _malformed("a frame has reserved bits: no extension, say compression, was agreed")
        if opcode not in (CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG):
            raise _malformed(f"unknown opcode {opcode}")
        if opcode >= CLOSE and (length > _CONTROL_NBYTES or not final):
            raise _malformed("a control frame is too long, or in pieces")
        if opcode < CLOSE:
            if (opcode == CONTINUATION) is not self._in_message:
                raise _malformed("a message begins in another one, or goes on without beginning")
            self._in_message = not final
        return opcode

    def _unmasked(self, payload: memoryview) -> Chunk:
        if not self._mask:
            return payload
        mask, turn = self._mask, len(payload) % 4
        self._mask = mask[turn:] + mask[:turn]
        return masked_with(mask, payload)

    def _take_control(self) -> None:
        payload, self._control = bytes(self._control), bytearray()
        if self._opcode == PING:
            self.reply = b"".join(self.frame(PONG, [payload]))
        elif self._opcode == CLOSE:
            code = int.from_bytes(payload[:2], "big")
            said = payload[2:].decode(errors="replace") or "the peer has closed the connection"
            self.closed = f"{said} ({code})" if code else said
            self.reply = b"".join(self.frame(CLOSE, [payload[:2]]))


def _head_nbytes(head: bytes) -> int:
    """How long a head is, as far as is known."""
    if len(head) < 2:
        return 2
    extended = _EXTENDED_NBYTES.get(head[1] & _LENGTH, 0)
    return 2 + extended + (4 if head[1] & _MASKED else 0)


def masked_with(mask: bytes, payload: Chunk) -> bytes | bytearray:
    """Payload, each byte of which is combined with one of the mask's four; or the way back."""
    nbytes = len(payload)
    if nbytes <= _FEW_NBYTES:
        key = (mask * (nbytes // 4 + 1))[:nbytes]
        number = int.from_bytes(payload, "little") ^ int.from_bytes(key, "little")
        return number.to_bytes(nbytes, "little")
    masked = bytearray(payload)
    for i, byte in enumerate(mask):
        masked[i::4] = masked[i::4].translate(_xor_table(byte))
    return masked


@cache
def _xor_table(byte: int) -> bytes:
    return bytes(byte ^ other for other in range(256))


def _malformed(reason: str) -> ProtocolError:
    return ProtocolError(Code.MALFORMED, f"not a WebSocket frame: {reason}")
