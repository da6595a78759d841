"""Frames are kept whole: whatever is torn off or changed is noticed, in the right frame."""

import io
from pathlib import Path

import pytest

from trouper.runtime.journal.frames import BrokenFrame, FrameReader, FrameWriter, head

BODIES = [b"first", b"", b"x" * 300, bytes(range(256)), b"last"]


def framed(bodies: list[bytes]) -> tuple[bytes, list[int]]:
    """The frames, and where each begins."""
    writer = FrameWriter()
    data = b""
    starts: list[int] = []
    for body in bodies:
        starts.append(len(data))
        data += writer.frame(body)
    return data, starts


DATA, STARTS = framed(BODIES)


def read(data: bytes) -> tuple[list[bytes], int, bool]:
    """What can be read, how many bytes are torn, and whether something is broken."""
    reader = FrameReader(io.BytesIO(data), len(data))
    bodies: list[bytes] = []
    try:
        for body in reader.bodies():
            bodies.append(body)
    except BrokenFrame:
        return bodies, 0, True
    return bodies, reader.torn_nbytes, False


def test_frames_are_read_as_they_were_written() -> None:
    assert read(DATA) == (BODIES, 0, False)


def test_any_change_of_a_byte_of_a_length_is_noticed() -> None:
    # The guard is linear: whether a change is noticed does not depend on the length that it meets.
    plain = head(0)
    for place in range(4):
        for change in range(1, 256):
            length = change << (8 * (3 - place))
            assert head(length)[4] != plain[4]


def test_wherever_it_is_torn_the_whole_frames_are_read() -> None:
    for end in range(len(DATA)):
        whole = sum(start <= end for start in [*STARTS[1:], len(DATA)])
        torn_nbytes = end - [*STARTS, len(DATA)][whole]
        assert read(DATA[:end]) == (BODIES[:whole], torn_nbytes, False)


@pytest.mark.parametrize("change", [0x01, 0x80, 0xFF, 0x37])
def test_wherever_a_byte_is_changed_that_frame_is_broken(change: int) -> None:
    for place in range(len(DATA)):
        changed = bytearray(DATA)
        changed[place] ^= change
        before = sum(start <= place for start in STARTS) - 1
        assert read(bytes(changed)) == (BODIES[:before], 0, True)


def test_frames_that_are_missing_doubled_or_moved_are_noticed() -> None:
    a, b, c = DATA[: STARTS[1]], DATA[STARTS[1] : STARTS[2]], DATA[STARTS[2] : STARTS[3]]
    assert read(a + c) == (BODIES[:1], 0, True)
    assert read(a + a) == (BODIES[:1], 0, True)
    assert read(b + a) == ([], 0, True)


@pytest.mark.parametrize("nbytes", [1, 4, 5, 100, 1 << 17])
def test_zeros_at_the_end_are_torn_and_not_broken(nbytes: int) -> None:
    assert read(DATA + bytes(nbytes)) == (BODIES, nbytes, False)
    if nbytes >= 5:
        assert read(DATA + bytes(nbytes) + b"x") == (BODIES, 0, True)


def test_what_is_written_later_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "frames"
    path.write_bytes(DATA)
    with path.open("rb") as file:
        reader = FrameReader(file, STARTS[1])
        assert list(reader.bodies()) == BODIES[:1]


def test_a_file_that_becomes_shorter_is_broken() -> None:
    reader = FrameReader(io.BytesIO(DATA[:-1]), len(DATA))
    with pytest.raises(BrokenFrame, match="shorter"):
        list(reader.bodies())


@pytest.mark.parametrize("block_nbytes", [1, 7, 100, 600])
def test_frames_may_be_longer_than_what_is_read_at_once(
    block_nbytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trouper.runtime.journal.frames._BLOCK_NBYTES", block_nbytes)
    assert read(DATA) == (BODIES, 0, False)
    assert read(DATA[:-1]) == (BODIES[:-1], len(DATA) - 1 - STARTS[-1], False)
    assert read(DATA + bytes(1000)) == (BODIES, 1000, False)
    assert read(DATA + bytes(1000) + b"x") == (BODIES, 0, True)
