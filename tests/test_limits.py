"""Limits make sense, and the page about the protocol tells them as they are."""

import math
import re
from pathlib import Path
from typing import Any

import pytest

from trouper.actors.gather import ANSWER_NBYTES
from trouper.actors.serve import ServingLimits
from trouper.wire import dask_message, limits, messages, values
from trouper.wire.errors import Code
from trouper.wire.frames import FRAMES
from trouper.wire.limits import Limits
from trouper.wire.pool import PoolLimits

PAGE = (Path(__file__).parent.parent / "wire" / "PROTOCOL.md").read_text()
TAGS = ("SET", "PAIRS", "SERIALIZED", "PICKLED", "ENUM_MEMBER")
CONSTANTS = {
    name: value
    for module in (dask_message, limits, messages, values)
    for name, value in vars(module).items()
    if name.isupper() and isinstance(value, (int, float)) and name not in ("MIN_INT", "MAX_INT")
    if not name.startswith("_") and name not in TAGS
} | {"ANSWER_NBYTES": ANSWER_NBYTES}


@pytest.mark.parametrize("value", [0, -1, math.inf, math.nan])
@pytest.mark.parametrize("name", Limits.__struct_fields__)
def test_limit_has_to_be_positive_and_finite(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{name} has to be positive and finite, not {value}"):
        Limits(**{name: value})


@pytest.mark.parametrize("interval_s", [0.001, 3601.0])
def test_heartbeats_are_neither_a_flood_nor_a_rumour(interval_s: float) -> None:
    with pytest.raises(ValueError, match=r"has to be between 0.01 and 3600.0"):
        Limits(heartbeat_interval_s=interval_s)


@pytest.mark.parametrize("name", ["resume_after_close_s", "resume_after_silence_s"])
def test_lost_connection_is_not_waited_for_for_ever(name: str) -> None:
    limits: dict[str, Any] = {name: 86_401.0}
    with pytest.raises(ValueError, match=r"waited for 86400.0 s at most"):
        Limits(**limits)


def test_message_is_no_longer_than_can_be_counted() -> None:
    with pytest.raises(ValueError, match="max_message_nbytes has to be at most"):
        Limits(max_message_nbytes=1 << 53)


def test_page_has_every_limit_with_its_default() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| ([\d.,]+) \| .+ \|$", PAGE, re.MULTILINE))
    defaults = {
        name: getattr(chosen, name)
        for chosen in (Limits(), ServingLimits(), PoolLimits())
        for name in chosen.__struct_fields__
    }
    assert {name: float(value.replace(",", "")) for name, value in rows.items()} == {
        name: float(value) for name, value in (defaults | CONSTANTS).items()
    }


def test_page_has_every_code_and_every_frame() -> None:
    for code in Code:
        assert f"| `{code}` |" in PAGE
    for number, frame in enumerate(FRAMES):
        assert f"| {number} | `{frame.__name__.lower()}` |" in PAGE
