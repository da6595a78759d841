"""Sessions as comms of Dask's: the schemes ``cws://`` and, with TLS, ``cwss://``.

Loaded by Dask's own processes, through the entry point group ``distributed.comm.backends``. A
listening comm outlives its connection if whoever dialled has asked for that, as a node does for its
stream with the scheduler; a dialled one does if ``trouper.resume`` is set in Dask's configuration.
While a connection is made again, a comm is slow, and nothing else.

Of Dask's configuration (or ``DASK_TROUPER__TOKEN_FILE`` and so on in the environment):

- ``trouper.token-file``: the file with the token that every dialler has to bring; or the
  environment variable ``TROUPER_TOKEN_FILE``. Without one, whoever can connect may come in. A
  dialler may have a token of its own: ``token`` among the arguments that a `Security` gives.
- ``trouper.resume``: whether comms that are dialled here resume. Not by default.
- ``distributed.comm.offload``: messages above this size are serialised in a thread.
"""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false
# pyright: reportUnknownVariableType=false, reportUnknownLambdaType=false
# pyright: reportIncompatibleMethodOverride=false
# What distributed does not say about its types is not known here either; and the abstract methods
# of its comms seem to return None.

import asyncio
import logging
import os
import socket as sockets
import ssl
import weakref
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn, TypeVar

import dask.config
from distributed.comm.addressing import parse_host_port, unparse_host_port
from distributed.comm.core import (
    BaseListener,
    Comm,
    CommClosedError,
    Connector,
    FatalCommClosedError,
)
from distributed.comm.tcp import BaseTCPBackend, set_tcp_timeout
from distributed.comm.utils import OFFLOAD_THRESHOLD, ensure_concrete_host
from distributed.sizeof import safe_sizeof
from distributed.utils import offload
from tornado.netutil import bind_sockets

from trouper.wire.asyncio_connection import AsyncioConnection
from trouper.wire.asyncio_dialling import open_session
from trouper.wire.asyncio_reception import AsyncioReception
from trouper.wire.asyncio_websocket import AsyncioWebSocket
from trouper.wire.dask_markers import Deserializers, decode_for_dask, encode_for_dask
from trouper.wire.dask_message import DASK_COMM
from trouper.wire.endpoint import Endpoint, check_name
from trouper.wire.errors import CannotConnect, Code, ProtocolError, SessionClosed, SessionRefused
from trouper.wire.limits import Limits

logger = logging.getLogger(__name__)

T = TypeVar("T")

TOKEN_FILE_VARIABLE = "TROUPER_TOKEN_FILE"

DASK_LIMITS = Limits(
    silence_s=300.0,
    max_message_nbytes=1 << 40,
    max_sessions=1 << 16,
)
"""What Dask's processes ask of sessions. A worker may be deaf for minutes while a function of its
user's does not let go of the interpreter: over ``tcp://`` the kernel answers in its place, and
after five minutes the scheduler gives it up (``distributed.scheduler.worker-ttl``). The kernel
still finds hosts that are gone, as Dask asks it to. Messages of Dask's are as long as what users
compute; memory is only taken for what has arrived. A scheduler has some comms for each worker."""


class SessionComm(Comm):
    """A comm that is a session.

    Args:
        connection: The session at work.
        prefix: The scheme, as ``cws://``.
        deserialize: Whether what users have serialised is opened here.
        peer_address: Of the other side, with the scheme; where its connection comes from if None.
    """

    def __init__(
        self,
        connection: AsyncioConnection,
        prefix: str,
        deserialize: bool,
        peer_address: str | None = None,
    ) -> None:
        super().__init__(deserialize=deserialize)
        socket = connection.first_socket
        assert socket is not None, "a comm is made of an open session"
        _set_timeout(socket)
        connection.prepare = _set_timeout
        self._connection = connection
        peer = prefix + unparse_host_port(*socket.address("peername"))
        self._local_addr: str = prefix + unparse_host_port(*socket.address("sockname"))
        self._peer_addr: str = peer_address or peer
        self._extra_info = {
            key: value
            for key in ("peercert", "cipher")
            if (value := socket.extra_info(key)) is not None
        }
        self._closed = False
        loop = asyncio.get_running_loop()
        self._finalizer = weakref.finalize(self, _let_go, connection, loop, repr(self))
        self._finalizer.atexit = False

    @property
    def local_address(self) -> str:
        """The address of this side."""
        return self._local_addr

    @property
    def peer_address(self) -> str:
        """The other side's; that of its first connection."""
        return self._peer_addr

    @property
    def extra_info(self) -> dict[str, Any]:
        """The other side's certificate, and the cipher, of a comm with TLS."""
        return self._extra_info

    async def read(self, deserializers: Deserializers = None) -> Any:
        """The next message. A cancellation while nothing has come leaves the comm as it is."""
        self._raise_if_closed()
        try:
            message = await self._connection.receive()
        except SessionClosed as error:
            self._raise_closed(error)
        nbytes = sum(map(len, message.buffers), len(message.body))
        try:
            return await self._maybe_offload(
                self.deserialize and nbytes > OFFLOAD_THRESHOLD,
                lambda: decode_for_dask(
                    message.body,
                    message.buffers,
                    deserialize=self.deserialize,
                    deserializers=deserializers,
                ),
            )
        except ProtocolError as error:
            self.abort()
            raise CommClosedError(f"in {self!r}: what came is no message: {error}") from error
        except asyncio.CancelledError:
            self.abort()  # a message is taken, and nobody has it
            raise

    async def write(
        self, msg: Any, serializers: Any = None, on_error: str | None = "message"
    ) -> int:
        """Queue a message, as soon as there is room; how many bytes it has."""
        self._raise_if_closed()
        context = {
            "sender": self.local_info,
            "recipient": self.remote_info,
            **self.handshake_options,
        }
        size = _sizeof(msg) if OFFLOAD_THRESHOLD and self.allow_offload else 0
        body, buffers = await self._maybe_offload(
            size < 0 or size > OFFLOAD_THRESHOLD,
            lambda: encode_for_dask(
                msg, serializers=serializers, on_error=on_error or "message", context=context
            ),
        )
        try:
            await self._connection.send(body, buffers)
        except SessionClosed as error:
            self._raise_closed(error)
        return sum(map(len, buffers), len(body))

    async def close(self) -> None:
        """Say goodbye, and wait until what was written has arrived, if not for long."""
        if not self._closed:
            self._closed = True
            self._finalizer.detach()
            await self._connection.close("the comm is closed")

    def abort(self) -> None:
        """End it at once."""
        self._closed = True
        self._finalizer.detach()
        self._connection.abandon("the comm is aborted")

    def closed(self) -> bool:
        """Whether it was closed here, or has ended and all that came was read."""
        return self._closed or self._connection.drained

    async def _maybe_offload(self, large: bool, work: Callable[[], T]) -> T:
        if large and self.allow_offload and OFFLOAD_THRESHOLD:
            result: T = await offload(work)
            return result
        return work()

    def _raise_if_closed(self) -> None:
        if self._closed:
            raise CommClosedError(f"in {self!r}: {self._connection.end}")

    def _raise_closed(self, error: SessionClosed) -> NoReturn:
        self._closed = True
        self._finalizer.detach()
        raise CommClosedError(f"in {self!r}: {error}") from error


def _sizeof(message: Any) -> int:
    """About how many bytes a message has; -1 if that cannot be told.

    A batch of a stream is reckoned by its last op. Most have some tasks of one kind, and to reckon
    all takes Dask more time than to write them.
    """
    if type(message) is list and message:
        return len(message) * _sizeof(message[-1])
    size: int = safe_sizeof(message, default_size=-1)
    return size


def _let_go(connection: AsyncioConnection, loop: asyncio.AbstractEventLoop, name: str) -> None:
    """A comm is collected that nobody has closed; in any thread."""
    if connection.session.ended is None and not loop.is_closed():
        logger.warning("%s was neither closed nor aborted", name)
        loop.call_soon_threadsafe(connection.abandon, "the comm is forgotten")


class CwsConnector(Connector):
    """Dials."""

    prefix = "cws://"
    encrypted = False

    async def connect(self, address: str, deserialize: bool = True, **connection_args: Any) -> Comm:
        """A comm with whoever listens there. Given up for good if it does not let us in."""
        tls = _tls_of(self, address, connection_args)
        host, port = parse_host_port(address)
        try:
            connection = await open_session(
                (host, port),
                _endpoint(),
                token=connection_args.get("token") or _token() or "",
                tls=tls,
                server_hostname=connection_args.get("server_hostname"),
                resumable=bool(dask.config.get("trouper.resume", False)),
            )
        except CannotConnect as error:
            failed = f"{self.prefix}{address}: {error}"
            if isinstance(error.__cause__, ssl.SSLError):
                raise FatalCommClosedError(failed) from error
            raise CommClosedError(failed) from error
        except SessionRefused as error:
            failed = f"{self.prefix}{address}: {error}"
            if error.code in _PASSING:
                raise CommClosedError(failed) from error
            logger.warning("%s", failed)
            await asyncio.sleep(_REFUSED_S)
            raise FatalCommClosedError(failed) from error
        return SessionComm(connection, self.prefix, deserialize, self.prefix + address)


class CwssConnector(CwsConnector):
    """Dials with TLS."""

    prefix = "cwss://"
    encrypted = True


class CwsListener(BaseListener):
    """Listens, and gives each comm to its handler, in a task of its own."""

    prefix = "cws://"
    encrypted = False

    def __init__(
        self,
        address: str,
        comm_handler: Callable[[Comm], Awaitable[None]],
        deserialize: bool = True,
        allow_offload: bool = True,
        default_host: str | None = None,
        default_port: int = 0,
        **connection_args: Any,
    ) -> None:
        super().__init__()
        self._tls = _tls_of(self, address, connection_args)
        host_port: tuple[str, int] = parse_host_port(address, default_port)
        self._host, self._port = host_port
        self._default_host = default_host
        self._comm_handler = comm_handler
        self._deserialize = deserialize
        self._allow_offload = allow_offload
        self._reception: AsyncioReception | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: It cannot, say because somebody else does there.
            ValueError: The token's file has none.
        """
        reception = AsyncioReception(_endpoint(), self._take, token=_token(), tls=self._tls)
        backlog = int(dask.config.get("distributed.comm.socket-backlog"))
        bound = bind_sockets(self._port, address=self._host, backlog=backlog)
        chosen = min(bound, key=lambda one: one.family is not sockets.AF_INET)
        self._host, self._port = chosen.getsockname()[:2]
        self._reception = reception
        await reception.listen(bound, backlog)

    def stop(self) -> None:
        """Take no more connections; comms that are established go on."""
        reception, self._reception = self._reception, None
        if reception is not None:
            reception.stop()
        self.abort_handshaking_comms()

    def get_host_port(self) -> tuple[str, int]:
        """Where it listens."""
        if self._reception is None:
            raise ValueError(f"the listener of {self.prefix} has not started, or was stopped")
        return self._host, self._port

    @property
    def listen_address(self) -> str:
        """Where it listens, with the scheme."""
        return f"{self.prefix}{unparse_host_port(*self.get_host_port())}"

    @property
    def contact_address(self) -> str:
        """Where it can be reached, with the scheme."""
        bound, port = self.get_host_port()
        host: Any = ensure_concrete_host(bound, default_host=self._default_host)
        return f"{self.prefix}{unparse_host_port(host, port)}"

    def _take(self, connection: AsyncioConnection) -> None:
        """A session has begun."""
        comm = SessionComm(connection, self.prefix, self._deserialize)
        comm.allow_offload = self._allow_offload
        task = asyncio.create_task(self._handle(comm))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _handle(self, comm: Comm) -> None:
        try:
            await self.on_connection(comm)
        except CommClosedError as error:
            logger.info("%s was closed before its handshake was done: %s", comm, error)
            return
        try:
            await self._comm_handler(comm)
        except Exception:
            logger.exception("the handler of %s has failed", comm)
            comm.abort()


class CwssListener(CwsListener):
    """Listens with TLS."""

    prefix = "cwss://"
    encrypted = True


class CwsBackend(BaseTCPBackend):
    """What the scheme ``cws`` stands for."""

    _connector_class = CwsConnector
    _listener_class = CwsListener


class CwssBackend(BaseTCPBackend):
    """What the scheme ``cwss`` stands for."""

    _connector_class = CwssConnector
    _listener_class = CwssListener


_PASSING = (Code.BUSY, Code.DISCONNECTED, Code.TIMEOUT, Code.ABANDONED, Code.GOODBYE)
"""Refusals after which it makes sense to try again."""

_REFUSED_S = 1.0
"""Who is refused for good is told after this: a stock worker tries again all the same, ten times a
second, and would fill the logs of both sides."""


def _endpoint() -> Endpoint:
    return Endpoint(
        role="dask",
        name=f"{sockets.gethostname()[:200]}/{os.getpid()}",
        capabilities=(DASK_COMM,),
        required=(DASK_COMM,),
        limits=DASK_LIMITS,
    )


def _token() -> str | None:
    """What entitles to come in, from the file that is configured; None if there is none.

    Raises:
        ValueError: The file has no token in it.
        OSError: It cannot be read.
    """
    file = dask.config.get("trouper.token-file", None) or os.environ.get(TOKEN_FILE_VARIABLE)
    if not file:
        return None
    token = Path(file).expanduser().read_text().strip()
    try:
        check_name(token)
    except ValueError:
        raise ValueError(f"{file} has to contain a token of 1 to 256 characters") from None
    return token


def _tls_of(
    who: CwsConnector | CwsListener, address: str, connection_args: dict[str, Any]
) -> ssl.SSLContext | None:
    """What Dask's `Security` has for this side, if the scheme has TLS.

    Raises:
        RuntimeError: Encryption is required, and the scheme has none.
        TypeError: The scheme has TLS, and there is nothing for it.
    """
    context = connection_args.get("ssl_context")
    if not who.encrypted:
        if connection_args.get("require_encryption"):
            raise RuntimeError(
                f"Dask's configuration requires encryption, and {who.prefix}{address} has none: "
                "cwss:// has"
            )
        return None
    if not isinstance(context, ssl.SSLContext):
        raise TypeError(
            f"{who.prefix}{address} needs certificates, see Security and distributed.comm.tls in "
            f"Dask's documentation; ssl_context is {context!r}"
        )
    return context


def _set_timeout(socket: AsyncioWebSocket) -> None:
    """Let the kernel find out that a host is gone, as Dask has it done for ``tcp://``."""
    plain = socket.extra_info("socket")
    if plain is not None:
        set_tcp_timeout(SimpleNamespace(socket=plain, closed=lambda: False))
