"""`trouper node`: be a worker of a Dask scheduler."""

import logging
import signal
import ssl
import sys
import tomllib
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click
import trio

from trouper.runtime.cli.group import Refused, trouper
from trouper.wire.errors import CannotConnect, SessionRefused
from trouper.wire.tls import client_tls, server_tls
from trouper.wire.version import VERSION

if TYPE_CHECKING:
    from trouper.runtime.cluster.node import Node
    from trouper.runtime.journal.writer import Flush

logger = logging.getLogger(__name__)

CLOSED, USAGE, LOST, REFUSED = 0, 2, 3, 4
"""Exit codes; those of a node that has begun are in `trouper.runtime.cluster.node.ExitCode`."""

_Command = TypeVar("_Command", bound=Callable[..., Any])

TABLE = "node"
"""Of the configuration file."""


def read_config(context: click.Context, parameter: click.Parameter, path: Path | None) -> None:
    """Take the defaults of options from a file."""
    if path is None:
        return
    try:
        table = tomllib.loads(path.read_text()).get(TABLE, {})
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise Refused(f"{path}: {error}") from error
    given = {name.replace("-", "_"): value for name, value in table.items()}
    known = {option.name for option in context.command.params} - {parameter.name}
    unknown = sorted(given.keys() - known)
    if unknown:
        raise Refused(f"{path}: [{TABLE}] has {', '.join(unknown)}; there is no such option")
    context.default_map = given


class Resources(click.ParamType[dict[str, float]]):
    """``GPU=2,MEM=10e9``, or a table of a configuration file."""

    name = "NAME=AMOUNT,..."

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> dict[str, float]:
        """Amounts by name."""
        if isinstance(value, Mapping):
            table = cast("Mapping[str, float]", value)
            return {name: float(amount) for name, amount in table.items()}
        pairs = [pair.partition("=") for pair in str(value).replace(",", " ").split()]
        try:
            return {name: float(amount) for name, _, amount in pairs}
        except ValueError:
            self.fail(f"{value!r} is not of the form GPU=2,MEM=10e9", param, ctx)


class Flushing(click.ParamType["Flush"]):
    """When a journal is written."""

    name = "SECONDS|buffered|fsync"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> "Flush":
        """Seconds, or the word; whether they make sense is seen later."""
        if value in ("buffered", "fsync"):
            return cast("Flush", value)
        try:
            return float(value)
        except ValueError:
            self.fail(f"{value!r} is neither a number of seconds nor buffered or fsync", param, ctx)


def option(name: str, **settings: Any) -> Callable[[_Command], _Command]:
    """An option that the environment may give too, as ``TROUPER_...``."""
    variable = f"TROUPER_{name.removeprefix('--').upper().replace('-', '_')}"
    return click.option(name, envvar=variable, show_envvar=True, **settings)


@trouper.command()
@click.argument("scheduler", envvar="TROUPER_SCHEDULER")
@option("--threads", type=click.IntRange(1), help="Tasks that run at once.  [default: CPUs]")
@option("--name", help="Unique among the scheduler's workers.  [default: the address]")
@option("--resources", type=Resources(), help="What tasks may ask for, say GPU=2,MEM=10e9.")
@option(
    "--memory-limit",
    default="auto",
    show_default=True,
    help="Bytes, say 4GB; 'auto' for this node's share of the machine by its threads; 0 for no "
    "limit. The scheduler is told, and from 80 % on the node starts nothing new. NOT enforced: "
    "nothing is spilled to disk, and a node above its limit is not ended.",
)
@option("--listen", help="cws://HOST:PORT, for others.  [default: a free port]")
@option("--contact-address", help="Where others reach the node, if not where it listens.")
@option("--token-file", type=click.Path(path_type=Path), help="Holds what entitles to connect.")
@option("--tls-ca-file", type=click.Path(path_type=Path), help="Whom to trust.")
@option("--tls-cert", type=click.Path(path_type=Path), help="The certificate to show.")
@option("--tls-key", type=click.Path(path_type=Path), help="Its private key.")
@option("--journal", type=click.Path(path_type=Path), help="Record every decision here.")
@option("--journal-max-bytes", default="64MiB", show_default=True, help="Its oldest part goes.")
@option(
    "--journal-flush",
    type=Flushing(),
    default=0.1,
    show_default=True,
    help="Write within so many seconds, when there is much, or every batch down to the disk.",
)
@option("--journal-hash-keys", is_flag=True, help="Record a hash in place of each key.")
@option("--local-directory", type=click.Path(path_type=Path), help="Where tasks may leave files.")
@option(
    "--connect-timeout",
    type=click.FloatRange(0),
    default=30.0,
    show_default=True,
    help="Seconds in which the scheduler has to be reached, and to take the node.",
)
@option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
)
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    is_eager=True,
    expose_value=False,
    callback=read_config,
    envvar="TROUPER_CONFIG",
    show_envvar=True,
    help="A TOML file with a table [node] of these options; what is said here comes first.",
)
def node(
    scheduler: str,
    *,
    token_file: Path | None,
    tls_ca_file: Path | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    memory_limit: str,
    journal_max_bytes: str,
    connect_timeout: float,
    log_level: str,
    **options: Any,
) -> None:
    """Be a worker of the Dask scheduler at the address SCHEDULER, until it or Ctrl-C ends that.

    SCHEDULER is cws://HOST:PORT, or cwss://HOST:PORT with TLS: an address that a scheduler listens
    at where trouper is installed too.

    \b
    Examples:
        dask scheduler --protocol tcp,cws --port 8786,8787
        trouper node cws://127.0.0.1:8787
        trouper node cws://10.0.0.1:8787 --threads 4 --resources GPU=1 --journal node.journal
        TROUPER_TOKEN_FILE=secret trouper node cwss://10.0.0.1:8787 --tls-ca-file ca.pem \\
            --tls-cert node.pem --tls-key node.key
        trouper node --config node.toml

    \b
    Exit codes:
        0  ended as it was asked to: by the scheduler, which may have retired it, or by a signal
        1  a fault of trouper's; the log says which
        2  an option, a file or an address makes no sense
        3  the scheduler cannot be reached, or not any more
        4  the scheduler does not take the node: its name, its token or its version
    """  # noqa: D301 - click's mark, not an escape of ours
    if find_spec("distributed") is None:
        raise Refused("a node needs distributed; pip install 'trouper[dask]' brings it")
    logging.basicConfig(
        level=log_level.upper(),
        format="%(asctime)s %(levelname)s %(message)s",
        stream=sys.stderr,
    )
    threads = options["threads"]
    client_context, server_context = _tls(scheduler, tls_ca_file, tls_cert, tls_key)
    options |= {
        "memory_limit": _memory_limit(memory_limit, threads),
        "journal_max_bytes": _nbytes("--journal-max-bytes", journal_max_bytes),
        "connect_timeout_s": connect_timeout,
        "token": None if token_file is None else token_file.read_text().strip(),
        "client_tls": client_context,
        "server_tls": server_context,
    }
    sys.exit(trio.run(_run, scheduler, options))


def _tls(
    scheduler: str, authority: Path | None, certificate: Path | None, key: Path | None
) -> tuple[ssl.SSLContext | None, ssl.SSLContext | None]:
    """What this side trusts and shows, as a dialler and as a listener."""
    if (certificate is None) is not (key is None):
        raise Refused("--tls-cert and --tls-key come together")
    listening = None
    if certificate is not None and key is not None:
        listening = server_tls(certificate, key, client_authority=authority)
    if not scheduler.startswith("cwss://"):
        return None, listening
    return client_tls(authority, certificate=certificate, key=key), listening


def _memory_limit(text: str, threads: int | None) -> int:
    """In bytes."""
    from dask.system import CPU_COUNT
    from distributed.system import MEMORY_LIMIT

    if text == "auto":
        return int(MEMORY_LIMIT * min(1, (threads or CPU_COUNT) / CPU_COUNT))
    return _nbytes("--memory-limit", text)


def _nbytes(name: str, text: str) -> int:
    """What an option gives in bytes, or in larger units: 64MiB, 4GB."""
    from dask.utils import parse_bytes

    try:
        nbytes = int(parse_bytes(text))
    except ValueError as error:
        raise Refused(f"{name}: {error}") from error
    if nbytes < 0:
        raise Refused(f"{name} is {nbytes}; it cannot be less than 0")
    return nbytes


async def _run(scheduler: str, options: dict[str, Any]) -> int:
    """The life of the process; its exit code."""
    life = _Life()
    async with trio.open_nursery() as nursery:
        await nursery.start(life.listen_for_signals)
        code = await life.live(scheduler, options)
        nursery.cancel_scope.cancel()
    return code


class _Life:
    """A node, and who may end it from outside."""

    def __init__(self) -> None:
        self._node: Node | None = None
        self._scope = trio.CancelScope()

    async def live(self, scheduler: str, options: dict[str, Any]) -> int:
        from trouper.runtime.cluster.opening import open_node
        from trouper.runtime.errors import NodeRefused

        logger.info("trouper %s, for the scheduler at %s", VERSION, scheduler)
        if options["memory_limit"]:
            logger.info(
                "memory limit %.1f GiB: the scheduler is told, and from 80 %% on the node starts "
                "nothing new; nothing is spilled, and a node above it is not ended",
                options["memory_limit"] / 2**30,
            )
        with self._scope:
            try:
                async with open_node(scheduler, **options) as self._node:
                    return (await self._node.wait_ended()).code
            except CannotConnect as error:
                logger.error("%s", error)
                return LOST
            except (SessionRefused, NodeRefused) as error:
                logger.error("%s", error)
                return REFUSED
            except (ValueError, OSError) as error:
                logger.error("%s", error)
                return USAGE
        logger.info("interrupted")
        return CLOSED

    async def listen_for_signals(
        self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """End the node in order at the first signal, and at once at the second."""
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            task_status.started()
            async for number in signals:
                name = signal.Signals(number).name
                if self._node is None or self._node.ending is not None:
                    self._scope.cancel()
                else:
                    logger.info("%s: the node ends; once more ends it at once", name)
                    self._node.close(f"it was sent {name}")
