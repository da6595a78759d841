"""Reading one segment: what is whole is read, what is not is said in one line."""

from pathlib import Path

import msgspec
import pytest
from journals import frame_spans, header, plain_life, record

from trouper.runtime.errors import CorruptJournal, JournalError
from trouper.runtime.journal.format import Header, Record, pack
from trouper.runtime.journal.frames import MAGIC, FrameReader, FrameWriter
from trouper.runtime.journal.segment import CutHeader, Segment


def write(path: Path, header: object, *rest: bytes) -> Path:
    frames = FrameWriter()
    path.write_bytes(MAGIC + frames.frame(pack(header)) + b"".join(map(frames.frame, rest)))
    return path


def header_nbytes(path: Path) -> int:
    """Where the first record begins."""
    with path.open("rb") as file:
        file.seek(len(MAGIC))
        body = next(FrameReader(file, path.stat().st_size - len(MAGIC)).bodies())
    return len(MAGIC) + len(FrameWriter().frame(body))


def records_in(segment: Segment, following: Header | None = None) -> list[Record]:
    return [record for batch in segment.batches(following) for record in batch.records()]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A segment of 12 records, in two frames."""
    record(tmp_path / "j", plain_life(4), batch=9, flush="fsync")
    return tmp_path / "j"


def test_records_are_read_in_order(path: Path) -> None:
    segment = Segment(path)
    assert [found.stimulus for found in records_in(segment)] == plain_life(4)
    assert [found.n for found in records_in(segment)] == list(range(1, 13))
    assert segment.measure() == (12, 0)


def test_a_segment_without_records(tmp_path: Path) -> None:
    segment = Segment(write(tmp_path / "j", header()))
    assert records_in(segment) == []
    assert segment.measure() == (0, 0)


def test_wherever_it_is_cut_the_whole_batches_are_read(path: Path) -> None:
    data = path.read_bytes()
    begin = header_nbytes(path)
    ends = [end for _, end in frame_spans(path)]
    for end in [*range(0, begin, 50), *range(begin - 1, len(data))]:
        path.write_bytes(data[:end])
        if end < begin:
            with pytest.raises(CutHeader, match="is empty" if end == 0 else "within its header"):
                Segment(path)
            continue
        count, torn_nbytes = Segment(path).measure()
        assert len(records_in(Segment(path))) == count
        whole = sum(frame_end <= end for frame_end in ends) - 1
        assert count == (0, 9, 12)[whole]
        assert torn_nbytes == end - ends[whole]
    assert len(ends) == 3


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"Dear diary, today I", "is no journal"),
        (b"\0" * 100, "is no journal"),
        (b"", "is empty"),
        (MAGIC, "is cut off within its header"),
        (MAGIC[:3], "is cut off within its header"),
        (MAGIC + b"\0\0", "is cut off within its header"),
        (MAGIC + b"\1" * 100, "the header of .* is corrupt: its length is corrupt"),
    ],
)
def test_what_is_no_journal(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "j").write_bytes(data)
    with pytest.raises(JournalError, match=message) as caught:
        Segment(tmp_path / "j")
    assert "\n" not in str(caught.value)
    assert str(tmp_path / "j") in str(caught.value)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="cannot be read: No such file"):
        Segment(tmp_path / "nothing")


@pytest.mark.parametrize("changes", [{}, {"stimuli": "otherwise"}])
def test_a_newer_format_is_refused_whatever_is_in_it(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    fields = msgspec.to_builtins(header()) | {"format": 5} | changes
    with pytest.raises(JournalError, match="has format 5, and this trouper reads format 4"):
        Segment(write(tmp_path / "j", fields))


def test_an_older_format_is_refused_likewise(tmp_path: Path) -> None:
    fields = msgspec.to_builtins(header()) | {"format": 3}
    with pytest.raises(JournalError, match="has format 3, and this trouper reads format 4"):
        Segment(write(tmp_path / "j", fields))


def test_fields_of_a_header_that_came_later_are_ignored(tmp_path: Path) -> None:
    fields = msgspec.to_builtins(header()) | {"mood": "good"}
    assert Segment(write(tmp_path / "j", fields)).header.name == "w"


@pytest.mark.parametrize("fields", [7, {}, {"format": 4}, {"format": "new"}])
def test_a_header_that_makes_no_sense(tmp_path: Path, fields: object) -> None:
    with pytest.raises(CorruptJournal, match=r"the header of .* is corrupt") as caught:
        Segment(write(tmp_path / "j", fields))
    assert caught.value.n == 0


def test_a_record_that_makes_no_sense_is_named(tmp_path: Path) -> None:
    segment = Segment(write(tmp_path / "j", header(first=7), b"\xc1"))
    with pytest.raises(CorruptJournal, match="record 7 cannot be read"):
        records_in(segment)


def test_an_end_that_does_not_agree_with_the_next_segment(path: Path) -> None:
    segment = Segment(path)
    with pytest.raises(CorruptJournal, match=r"record 13 is missing at the end of .*j$") as caught:
        records_in(segment, header(first=14, previous=5))
    assert caught.value.n == 13
    with path.open("ab") as file:
        file.write(b"\0")
    torn = Segment(path)
    with pytest.raises(CorruptJournal, match="record 13 is missing"):
        records_in(torn, header(first=13, previous=_check_at_end(path)))


def _check_at_end(path: Path) -> int:
    with path.open("rb") as file:
        file.seek(len(MAGIC))
        frames = FrameReader(file, path.stat().st_size - len(MAGIC))
        for _ in frames.bodies():
            pass
    return frames.check


def test_what_is_written_after_it_was_opened_is_not_read(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: header_nbytes(path)])
    segment = Segment(path)
    path.write_bytes(data)
    assert records_in(segment) == []
    assert isinstance(segment.header, Header)
