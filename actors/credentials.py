"""What entitles a node, given to the client that its tasks share. Imports Dask.

A client finds certificates and a token in Dask's configuration. A node has them from its owner, and
its tasks connect as it does itself.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

import ssl
from typing import Any

from distributed import Security


class Credentials(Security):  # type: ignore[misc]
    """Dask's `Security`, with what a node has in the place of what is configured.

    Args:
        tls: Whom to trust, and what to show; None for what Dask's configuration says.
        token: Entitles to come in; None for what is configured.
    """

    __slots__ = ("_tls", "_token")

    def __init__(self, tls: ssl.SSLContext | None, token: str | None) -> None:
        super().__init__()
        self._tls = tls
        self._token = token

    def get_connection_args(self, role: str) -> dict[str, Any]:
        """The arguments of a connection."""
        arguments: dict[str, Any] = super().get_connection_args(role)
        if self._tls is not None:
            arguments["ssl_context"] = self._tls
        if self._token is not None:
            arguments["token"] = self._token  # for connectors of `trouper.wire.dask_comm`
        return arguments
