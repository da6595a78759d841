"""Addresses of Dask's comms, as far as a node has to understand them."""

import pytest

from trouper.runtime.cluster.addresses import (
    address_of,
    host_and_port,
    host_towards,
    websocket_url,
)


def test_there_and_back() -> None:
    for address in ("cws://10.0.0.1:8787", "cwss://[::1]:8787", "cws://some.host:1"):
        assert address_of(*host_and_port(address)) == address


def test_what_to_connect_to() -> None:
    assert websocket_url("cws://a:1") == "ws://a:1"
    assert websocket_url("cwss://[::1]:2") == "wss://[::1]:2"


def test_a_listener_may_leave_out_host_and_port() -> None:
    assert host_and_port("cws://") == ("cws", "", 0)
    assert host_and_port("cws://0.0.0.0") == ("cws", "0.0.0.0", 0)


@pytest.mark.parametrize(
    "address",
    ["tcp://a:1", "a:1", "", "cws://a:port", "cws://a:99999", "cws://a:1/path", "cws://u@a:1",
     "cws://a:1?q"],
)  # fmt: skip
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(ValueError, match="is no address"):
        host_and_port(address)


@pytest.mark.parametrize("address", ["cws://", "cws://a", "cws://:1"])
def test_nobody_can_be_reached_without_host_and_port(address: str) -> None:
    with pytest.raises(ValueError, match="no host or no port"):
        websocket_url(address)


def test_our_own_address_towards_somebody() -> None:
    assert host_towards("cws://127.0.0.1:8787") == "127.0.0.1"
    with pytest.raises(OSError, match=r"(?i)name|address|resolution"):
        host_towards("cws://no-such-host.invalid:1")
