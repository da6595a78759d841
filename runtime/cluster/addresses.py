"""The addresses of Dask's comms, as far as a node has to understand them."""

import socket
from urllib.parse import urlsplit

WEBSOCKETS = {"cws": "ws", "cwss": "wss"}
"""The schemes of trouper's comms, and what they are made of."""


def host_and_port(address: str) -> tuple[str, str, int]:
    """Scheme, host and port.

    Raises:
        ValueError: It is no address of a comm of trouper's.
    """
    parts = urlsplit(address)
    try:
        port = parts.port
    except ValueError as error:
        raise ValueError(f"{address!r} is no address: {error}") from error
    if parts.scheme not in WEBSOCKETS or parts.path.strip("/") or parts.query or parts.username:
        raise ValueError(f"{address!r} is no address: cws://HOST:PORT or cwss://HOST:PORT is one")
    return parts.scheme, parts.hostname or "", port or 0


def websocket_url(address: str) -> str:
    """What to connect to.

    Raises:
        ValueError: It is no address of a comm of trouper's, or has no host or port.
    """
    scheme, host, port = host_and_port(address)
    if not host or not port:
        raise ValueError(f"{address!r} has no host or no port")
    return f"{WEBSOCKETS[scheme]}://{_bracketed(host)}:{port}"


def address_of(scheme: str, host: str, port: int) -> str:
    """The address of a listener."""
    return f"{scheme}://{_bracketed(host)}:{port}"


def host_towards(address: str) -> str:
    """Our own address on the interface that leads to somebody; nothing is sent.

    Raises:
        OSError: Nothing leads there.
    """
    _, host, port = host_and_port(address)
    family, kind, *_, there = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind) as probe:
        probe.connect(there)
        ours: str = probe.getsockname()[0]
        return ours


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
