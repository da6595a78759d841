"""`open_node`: the parts of a node put together, and taken apart again."""

import logging
import os
import ssl
from collections.abc import AsyncGenerator, Mapping
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    closing,
    suppress,
)
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import trio

from trouper.actors.comm import Intake, comm
from trouper.actors.credentials import Credentials
from trouper.actors.dask_actors import Actors
from trouper.actors.dask_link import DaskLink
from trouper.actors.dask_plugins import Plugins
from trouper.actors.dask_worker import DaskWorker
from trouper.actors.execute import THREAD, execute
from trouper.actors.gather import gather
from trouper.actors.heartbeat import heartbeat
from trouper.actors.logtail import LogTail
from trouper.actors.memory import watch_memory
from trouper.actors.metrics import Metrics
from trouper.actors.rpc import Handler, answer_requests
from trouper.actors.timers import timers
from trouper.runtime.cluster.addresses import address_of, host_and_port, host_towards
from trouper.runtime.cluster.dialling import Dialler, open_dialler
from trouper.runtime.cluster.handlers import Handlers
from trouper.runtime.cluster.hosting import Hosting
from trouper.runtime.cluster.node import ExitCode, Node
from trouper.runtime.cluster.registration import Facts, Pulse, register
from trouper.runtime.journal.options import JournalOptions, journal_options
from trouper.runtime.journal.recorder import Recorder
from trouper.runtime.journal.writer import Flush
from trouper.runtime.keeper import RestartPolicy
from trouper.runtime.ledger import Config
from trouper.runtime.machine import Machine
from trouper.runtime.supervisor import Supervisor
from trouper.wire.connection import Connection
from trouper.wire.dask_message import DASK_COMM
from trouper.wire.endpoint import Endpoint
from trouper.wire.errors import ProtocolError, SessionClosed
from trouper.wire.limits import Limits
from trouper.wire.listener import open_listener

logger = logging.getLogger(__name__)

CLOSING_S = 5.0
"""How long an end waits for functions that run; their results are of no use to anybody."""

RUN_AHEAD = 16
"""How many brief functions may wait in the threads' queue, where the scheduler cannot steal them:
to bring them elsewhere would take longer than they do. What ends together is reported together,
which costs scheduler and node a third of what single reports do."""

DASK_NODE = "dask-node"
"""The role of a node in a handshake."""

LIMITS = Limits(silence_s=30.0, max_message_nbytes=1 << 40, max_sessions=1 << 14)
"""A scheduler may be deaf for a while: in the middle of a large graph it hears nobody. Messages are
as long as what users compute; memory is only taken for what has arrived."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """See `open_node`."""

    scheduler: str
    threads: int
    name: str | int | None
    resources: Mapping[str, float]
    memory_limit: int
    listen: str
    contact_address: str | None
    token: str | None
    client_tls: ssl.SSLContext | None
    server_tls: ssl.SSLContext | None
    local_directory: str | Path | None
    connect_timeout_s: float
    journal: JournalOptions | None
    limits: Limits


def open_node(
    scheduler: str,
    *,
    threads: int | None = None,
    name: str | int | None = None,
    resources: Mapping[str, float] | None = None,
    memory_limit: int = 0,
    listen: str = "",
    contact_address: str | None = None,
    token: str | None = None,
    client_tls: ssl.SSLContext | None = None,
    server_tls: ssl.SSLContext | None = None,
    local_directory: str | Path | None = None,
    connect_timeout_s: float = 30.0,
    journal: str | Path | None = None,
    journal_max_bytes: int = 1 << 26,
    journal_flush: Flush = 0.1,
    journal_hash_keys: bool | bytes = False,
    limits: Limits = LIMITS,
) -> AbstractAsyncContextManager[Node]:
    """Be a worker of a Dask scheduler for the length of an ``async with`` block.

    Leaving the block ends the node: the scheduler is told, and computes elsewhere what only this
    node had. It may have ended before: `Node.wait_ended` says when and why.

    Args:
        scheduler: Its address: ``cws://host:port``, or ``cwss://`` with TLS.
        threads: How many tasks run at once; as many as there are CPUs if None.
        name: Unique among the scheduler's workers; the node's address if None.
        resources: Named capacities, say ``{"gpu": 1}``, that tasks may take a part of.
        memory_limit: In bytes, 0 for none: the scheduler is told, and from four fifths of it on the
            node starts nothing new. Nothing is spilled, and a node that takes more is not ended.
        listen: Where others reach it, ``cws://host:port`` or ``cwss://``; a free port if empty.
        contact_address: Under which others reach it, if that is another one.
        token: What entitles to connect, to the scheduler and to this node; None for nothing.
        client_tls: Whom to trust with ``cwss``, and what to show.
        server_tls: What to show to those who connect with ``cwss``, and whom to ask for what.
        local_directory: Where tasks may leave files; a temporary one if None.
        connect_timeout_s: How long to try, at the start, to reach the scheduler and be taken.
        journal: See `open_worker`.
        journal_max_bytes: See `open_worker`.
        journal_flush: See `open_worker`.
        journal_hash_keys: See `open_worker`.
        limits: Of sessions: how long a lost connection is waited for, and so on.

    Raises:
        CannotConnect, SessionRefused, NodeRefused: On entering the block: the scheduler could not
            be reached in time, or does not take the node; the text says why.
        OSError: On entering the block: the node cannot listen where it should.
        ValueError: An address cannot be one, `threads` is not positive, or an option of the journal
            makes no sense.
    """
    options = Options(
        scheduler=scheduler,
        threads=_positive(threads),
        name=name,
        resources=resources or {},
        memory_limit=memory_limit,
        listen=listen,
        contact_address=contact_address,
        token=token,
        client_tls=client_tls,
        server_tls=server_tls,
        local_directory=local_directory,
        connect_timeout_s=connect_timeout_s,
        journal=journal_options(journal, journal_max_bytes, journal_flush, journal_hash_keys),
        limits=limits,
    )
    return _opened(options)


def _positive(threads: int | None) -> int:
    """A number of threads."""
    threads = (os.cpu_count() or 1) if threads is None else threads
    if threads < 1:
        raise ValueError(f"a node needs at least one thread, not {threads}")
    return threads


@asynccontextmanager
async def _opened(options: Options) -> AsyncGenerator[Node]:
    """The parts, put together in their order; taken apart in the opposite one."""
    async with AsyncExitStack() as stack:
        door = _Door()
        address = await _listen(stack, options, door)
        us, token = _endpoint(options, address), options.token or ""
        dialler = await stack.enter_async_context(
            open_dialler(us, address, token, options.client_tls)
        )
        deadline = trio.current_time() + options.connect_timeout_s
        link = await dialler.dial_patiently(stack, options.scheduler, deadline)
        node, facts = _assemble(stack, options, address, dialler)
        log = stack.enter_context(LogTail.attached("trouper"))
        plugins = Plugins(node.site.worker)
        stack.push_async_callback(_end_plugins, plugins)
        actors = stack.enter_context(closing(Actors(node.site.worker)))
        door.open(Handlers(node, log, facts, plugins, actors).table())
        await stack.enter_async_context(
            _living(node, link, dialler, options, facts, plugins, deadline)
        )
        yield node


def _endpoint(options: Options, address: str) -> Endpoint:
    """What a node says of itself in every session."""
    return Endpoint(
        role=DASK_NODE,
        name=str(address if options.name is None else options.name),
        capabilities=(DASK_COMM,),
        required=(DASK_COMM,),
        limits=options.limits,
    )


class _Door:
    """Where others come in. Those who come early wait until somebody can answer them."""

    def __init__(self) -> None:
        self._handlers: Mapping[str, Handler] = {}
        self._opened = trio.Event()

    def open(self, handlers: Mapping[str, Handler]) -> None:
        self._handlers = handlers
        self._opened.set()

    async def receive(self, connection: Connection) -> None:
        await self._opened.wait()
        await answer_requests(DaskLink(connection), self._handlers)


async def _listen(stack: AsyncExitStack, options: Options, door: _Door) -> str:
    """Listen where others can reach the node; the address."""
    if options.listen:
        scheme, host, port = host_and_port(options.listen)
    else:
        scheme, _, _ = host_and_port(options.scheduler)
        host, port = host_towards(options.scheduler), 0
    if (scheme == "cwss") is not (options.server_tls is not None):
        raise ValueError(
            f"to listen at {scheme}:// "
            + ("takes a certificate" if scheme == "cwss" else "takes no certificate")
        )
    listener = await stack.enter_async_context(
        open_listener(
            _endpoint(options, "a node that begins"),
            door.receive,
            token=options.token,
            host=host,
            port=port,
            tls=options.server_tls,
        )
    )
    if options.contact_address is not None:
        host_and_port(options.contact_address)
        return options.contact_address
    known = host if host not in {"", "0.0.0.0", "::"} else host_towards(options.scheduler)
    return address_of(scheme, known, listener.port)


def _assemble(
    stack: AsyncExitStack, options: Options, address: str, dialler: Dialler
) -> tuple[Node, Facts]:
    """Machine, supervisor, and what the node's tasks see of it; nothing runs yet."""
    name = address if options.name is None else options.name
    directory = options.local_directory or stack.enter_context(TemporaryDirectory("-trouper"))
    facts = Facts(
        nthreads=options.threads,
        memory_limit=options.memory_limit,
        resources=options.resources,
        local_directory=str(directory),
    )
    worker = DaskWorker(
        name=name,
        address=address,
        scheduler_address=options.scheduler,
        nthreads=options.threads,
        local_directory=str(directory),
        security=Credentials(options.client_tls, options.token),
    )
    # In a thread: the client may have comms with this very node, which take part in their end.
    close_client = partial(trio.to_thread.run_sync, worker.close, abandon_on_cancel=True)
    stack.push_async_callback(close_client)
    config = Config(
        slots={THREAD: options.threads},
        resources=dict(options.resources),
        address=address,
        run_ahead={THREAD: RUN_AHEAD},
    )
    machine = Machine(config)
    recorder = None
    if options.journal is not None:
        recorder = Recorder(machine, str(name), options.journal)
        stack.callback(recorder.close)
    node = Node(name, address, worker, dialler.forget)
    worker.host = Hosting(node)
    node.supervisor = Supervisor(
        machine,
        node.store,
        node,
        name=str(name),
        execute=execute,
        gather=partial(gather, fetch=dialler.fetch),
        timers=timers,
        restart_policy=RestartPolicy(),
        recorder=recorder,
    )
    stack.callback(node.supervisor.threads.close)  # of a node that is refused it is never run
    return node, facts


@asynccontextmanager
async def _living(
    node: Node,
    link: DaskLink,
    dialler: Dialler,
    options: Options,
    facts: Facts,
    plugins: Plugins,
    deadline: float,
) -> AsyncGenerator[None]:
    """Everything that runs, from registration to the last word."""
    metrics = Metrics()
    pulse = Pulse(node, metrics)
    welcome = await register(link, node, pulse, facts, deadline)
    logger.info("node %s at %s works for %s", node.name, node.address, options.scheduler)
    await trio.to_thread.run_sync(plugins.add_all, welcome.plugins, abandon_on_cancel=True)
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(node.supervisor.run)
        try:
            async with trio.open_nursery() as conversing:
                conversing.start_soon(_converse, link, node)
                dial = partial(dialler.dial, options.scheduler)
                conversing.start_soon(heartbeat, dial, pulse, welcome.interval_s)
                if facts.memory_limit:
                    look = metrics.resident_nbytes
                    conversing.start_soon(watch_memory, facts.memory_limit, look, node.pause)
                try:
                    yield
                except Exception as error:  # noqa: BLE001 - is raised below
                    failure = error
                conversing.cancel_scope.cancel()
        except Exception as fault:
            node.end(ExitCode.FAILED, f"the node has failed: {fault!r}")
            raise
        finally:
            node.close("its owner has closed it")
            await _take_leave(node, link)
    assert node.ending is not None
    logger.info("node %s has ended: %s", node.name, node.ending.reason)
    if failure is not None:  # not from within the nursery, which would make a group of it
        raise failure


async def _end_plugins(plugins: Plugins) -> None:
    """Whatever users do at the end, it has to be done in time."""
    with trio.move_on_after(CLOSING_S) as scope:
        await trio.to_thread.run_sync(plugins.close, abandon_on_cancel=True)
    if scope.cancelled_caught:
        logger.warning("plugins do not end, and are left behind")


async def _converse(link: DaskLink, node: Node) -> None:
    """The stream between scheduler and node, until one of both ends it."""
    try:
        await comm(link, node.outbox, Intake(node, node.store, node.site))
    except* (SessionClosed, ProtocolError) as errors:
        node.end(ExitCode.LOST, f"the scheduler is lost: {errors.exceptions[0]}")


async def _take_leave(node: Node, link: DaskLink) -> None:
    """Tell the scheduler, and wait a moment for what runs; a cancellation ends it at once."""
    try:
        with trio.move_on_after(CLOSING_S):
            with suppress(SessionClosed):
                await link.send([*node.outbox.rest(), {"op": "close-stream"}])
            await node.wind_down()
    finally:
        keys = [job.key for job in node.supervisor.owed]
        if keys:
            logger.warning("node %s leaves %d task(s): %s", node.name, len(keys), keys[:10])
        if node.supervisor.is_idle():
            node.supervisor.close()
        else:
            node.supervisor.abandon()
