"""What one side says of itself fits into a hello."""

from typing import Any

import msgspec
import pytest
from pair import greet, packet_of

from trouper.wire.dialling import DialledSession
from trouper.wire.endpoint import Endpoint
from trouper.wire.reception import Admitted, Reception


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"role": ""}, "1 to 256 characters: ''"),
        ({"name": "x" * 257}, "1 to 256 characters: 'xxx"),
        ({"name": "half \ud800 a pair"}, "surrogates not allowed"),
        ({"capabilities": ("",)}, "1 to 256 characters"),
        ({"capabilities": ("x",) * 33}, "more than 32 capabilities"),
        ({"capabilities": ("x" * 256,) * 17}, "longer than 4,096 bytes"),
        ({"required": ("dask/1",)}, r"required that are not offered: \['dask/1'\]"),
    ],
)
def test_endpoint_that_nobody_would_take_is_refused_here(
    fields: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        msgspec.structs.replace(Endpoint(role="worker", name="w"), **fields)


def test_longest_hello_is_taken() -> None:
    us = Endpoint(role="𝄞" * 256, name="w", capabilities=("é" * 256,) * 5 + ("x" * 256,))
    session = DialledSession(us, "𝄞" * 256, token="𝄞" * 256)
    session.connected(0.0)
    reception = Reception(Endpoint(role="s", name="s"), token=None)
    assert isinstance(greet(reception, packet_of(session, 0.0)), Admitted)
    for session_id, token in (("", ""), ("x" * 257, ""), ("x", "y" * 257)):
        with pytest.raises(ValueError, match="1 to 256 characters"):
            DialledSession(us, session_id, token=token)
