"""What a node's tasks connect with."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

import ssl
from typing import Any

import dask.config
from distributed import Security

from trouper.actors.credentials import Credentials


def test_what_a_node_has_comes_before_what_is_configured() -> None:
    context = ssl.create_default_context()
    with dask.config.set({"distributed.comm.require-encryption": True}):
        arguments = Credentials(context, "open sesame").get_connection_args("client")
    assert arguments["ssl_context"] is context
    assert arguments["token"] == "open sesame"
    assert arguments["require_encryption"] is True


def test_what_it_has_not_is_as_configured() -> None:
    configured: dict[str, Any] = Security().get_connection_args("client")
    assert Credentials(None, None).get_connection_args("client") == configured
