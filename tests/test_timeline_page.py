"""A timeline as one page: what stands in it, and that nothing of a user's can be more than data."""

import base64
import gzip
import hashlib
import html
import json
import re
from itertools import accumulate
from pathlib import Path
from typing import Any

import msgspec
import pytest
from journals import LOST_PEER, record, told
from timelines import Simulation, spaced

from trouper.runtime.debugging import timeline_page
from trouper.runtime.debugging.story import tell
from trouper.runtime.debugging.timeline import LEVELS, Timeline
from trouper.runtime.debugging.timeline_page import COLUMNS, SCRIPTS, write_page
from trouper.runtime.journal.journal import Journal
from trouper.wire.stimuli import ComputeTask, ExecuteFailure, ExecuteSuccess, Stimulus

MALICIOUS = (
    "</script><img src=x onerror=alert(1)>",
    "<!--<script>",
    "${policy} $data {{data}}",
    "\u2028\u2029\0",
    "日本語 🦊 e\u0301",
    '"; alert(1); //',
)


def page_of(journal: Journal, timeline: Timeline | None = None, **changes: Any) -> str:
    parts: list[bytes] = []
    header = msgspec.structs.replace(journal.header, **changes)
    write_page(timeline or Timeline(journal), header, parts.append)
    return b"".join(parts).decode()


def data_of(page: str) -> str:
    [data] = re.findall(r'<script type="text/plain" id="data">(.*?)</script>', page, re.DOTALL)
    return str(data)


def tables_of(page: str) -> dict[str, Any]:
    """The tables as lists of rows, each a map; and what stands at the end."""
    lines = gzip.decompress(base64.b64decode(data_of(page))).splitlines()
    columns = json.loads(lines[0])["columns"]
    whole: dict[str, dict[str, list[Any]]] = {
        name: {column: [] for column in names} for name, names in columns.items()
    }
    for line in lines[1:-1]:
        name, block = json.loads(line)
        for column, values in zip(columns[name], block, strict=True):
            whole[name][column] += values
    tables: dict[str, Any] = {"about": json.loads(lines[-1])}
    for name, table in whole.items():
        plain = {
            column.lstrip("+="): list(accumulate(values)) if column[0] == "+" else values
            for column, values in table.items()
        }
        tables[name] = [
            dict(zip(plain, row, strict=True)) for row in zip(*plain.values(), strict=True)
        ]
    return tables


def stories_of(tables: dict[str, Any]) -> dict[str, list[tuple[int, str]]]:
    """For each task the records that had to do with it, and its phase after each."""
    texts = [row["text"] for row in tables["texts"]]
    keys = [row["key"] for row in tables["tasks"]]
    stories: dict[str, list[tuple[int, str]]] = {}
    for turn in tables["turns"]:
        n = tables["records"][turn["record"]]["n"]
        stories.setdefault(keys[turn["task"]], []).append((n, texts[turn["phase"]]))
    return stories


def test_what_stands_in_the_tables(tmp_path: Path) -> None:
    tables = tables_of(page_of(spaced(tmp_path / "j", LOST_PEER)))
    texts = [row["text"] for row in tables["texts"]]
    keys = [row["key"] for row in tables["tasks"]]
    assert tables["about"] | {"begun_s": 0} == {
        "trouper": tables["about"]["trouper"], "begun_s": 0, "slots": {"thread": 2},
        "from": 1, "to": 6, "begin": 1000, "end": 6000, "stuck": 3,
    }  # fmt: skip
    [a] = tables["executions"]
    assert (keys[a["task"]], a["begin"], a["duration"]) == ("a", 3000, 2000)
    assert (a["first"], a["last"]) == (2, 5)
    assert (texts[a["outcome"]], a["nbytes"], texts[a["type"]]) == ("success", 28, "int")
    [x] = tables["gathers"]
    assert ([keys[task] for task in x["tasks"]], texts[x["outcome"]]) == (["x"], "network failure")
    assert [(wait["begin"], wait["last"]) for wait in tables["waits"]] == [(4000, 6), (6000, 0)]
    lane = tables["lanes"][x["lane"]]
    assert (texts[lane["group"]], texts[lane["name"]], lane["number"]) == ("peers", "tcp://b:1", 0)
    assert [(mark["n"], texts[mark["what"]]) for mark in tables["marks"]] == [
        (4, "gather-network-failure"), (6, "request-refresh-who-has"),
    ]  # fmt: skip
    assert [level["at"] for level in tables["levels"]] == [1000, 2000, 3000, 4000, 5000, 6000]
    assert set(tables["levels"][0]) == {"at", *LEVELS, "nbytes", "incoming"}


def test_it_tells_why_the_end_is_as_it_is(tmp_path: Path) -> None:
    tables = tables_of(page_of(spaced(tmp_path / "j", LOST_PEER)))
    keys = [row["key"] for row in tables["tasks"]]
    told_of = {
        keys[row["task"]]: (row["stuck"], keys[row["because"]], row["reason"])
        for row in tables["endings"]
        if row["because"] >= 0
    }
    [cause] = [row for row in tables["endings"] if row["because"] < 0]
    assert (keys[cause["task"]], cause["reason"]) == ("x", "no holder is known")
    assert told_of == {
        "y": (1, "x", "it waits for x"),
        "z": (1, "y", "it waits for y"),
    }


def test_of_too_many_tasks_that_wait_some_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timeline_page, "REASONS", 2)
    tables = tables_of(page_of(spaced(tmp_path / "j", LOST_PEER)))
    assert tables["about"]["stuck"] == 3
    assert [row["reason"] for row in tables["endings"]] == ["it waits for x", "no holder is known"]


@pytest.mark.parametrize("seed", range(2))
def test_its_stories_are_those_of_the_command_line(tmp_path: Path, seed: int) -> None:
    Simulation(tmp_path / "j", seed, trouble=0.1).run(150)
    journal = Journal.open(tmp_path / "j")
    stories = stories_of(tables_of(page_of(journal)))
    for key in list(stories)[::15]:
        turns = [(turn.n, turn.phase) for turn in tell(journal, key).turns]
        before = ["released", *[phase for _, phase in turns]]
        changed = [turn for turn, phase in zip(turns, before, strict=False) if turn[1] != phase]
        assert set(stories[key]) <= set(turns)
        assert set(changed) <= set(stories[key])


def test_who_comes_again_is_another_task_with_the_same_key(tmp_path: Path) -> None:
    life = told("""
        compute-task a
        execute-success a #1 nbytes=8
        free-keys a
        compute-task a
    """)
    tables = tables_of(page_of(spaced(tmp_path / "j", life)))
    assert [row["key"] for row in tables["tasks"]] == ["a", "a"]
    assert [turn["task"] for turn in tables["turns"]] == [0, 0, 0, 1]


def test_a_part_of_a_journal_knows_where_tasks_stood_before(tmp_path: Path) -> None:
    journal = spaced(tmp_path / "j", LOST_PEER)
    tables = tables_of(page_of(journal, Timeline(journal, 4)))
    texts = [row["text"] for row in tables["texts"]]
    before = {row["key"]: texts[row["before"]] for row in tables["tasks"]}
    assert before == {"x": "flight", "a": "executing", "y": "waiting", "z": "waiting"}
    assert tables["executions"][0]["first"] == -1
    assert tables["about"]["from"] == 4


def test_a_key_is_only_ever_data(tmp_path: Path) -> None:
    life: list[Stimulus] = []
    for number, key in enumerate(MALICIOUS, 1):
        life.append(ComputeTask(key, 1, 1, prefix=key))
        if number % 2:
            life.append(ExecuteFailure(key, number, key))
        else:
            life.append(ExecuteSuccess(key, number, 8, key))
    journal = spaced(tmp_path / "j", life)
    worker = MALICIOUS[0]
    page = page_of(journal, name=worker)
    assert [row["key"] for row in tables_of(page)["tasks"]] == list(MALICIOUS)
    assert worker not in page
    assert page.count(html.escape(worker)) == 2
    assert re.fullmatch(r"[A-Za-z0-9+/]*={0,2}", data_of(page))
    assert page.count("</script>") == 2


def test_it_may_load_nothing_and_run_nothing_but_its_own(tmp_path: Path) -> None:
    page = page_of(spaced(tmp_path / "j", LOST_PEER))
    [policy] = re.findall(r'Content-Security-Policy" content="([^"]*)"', page)
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    assert set(rules) == {"default-src", "script-src", "style-src", "base-uri", "form-action"}
    for tag, rule in (("script", "script-src"), ("style", "style-src")):
        [text] = re.findall(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert rules[rule] == f"'sha256-{digest}'"
    assert not re.search(r"""(src|href|url)\s*[=(]""", page)
    assert "http" not in page.replace("http-equiv", "")


def test_it_is_written_in_pieces(tmp_path: Path) -> None:
    Simulation(tmp_path / "j").run(3000)
    journal = Journal.open(tmp_path / "j")
    parts: list[bytes] = []
    write_page(Timeline(journal), journal.header, parts.append)
    sizes = [len(part) for part in parts[1:-1]]
    assert max(sizes) < sum(sizes) / 2


def test_of_too_many_levels_the_higher_ones_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Simulation(tmp_path / "j").run(300)
    journal = Journal.open(tmp_path / "j")
    every = tables_of(page_of(journal))["levels"]
    monkeypatch.setattr("trouper.runtime.debugging.timeline.POINTS", 50)
    some = tables_of(page_of(journal))["levels"]
    assert 50 < len(some) <= 101 < len(every)
    for name in LEVELS:
        assert max(row[name] for row in some) == max(row[name] for row in every)
    assert (some[0]["at"], some[-1] | {"at": 0}) == (every[0]["at"], every[-1] | {"at": 0})


def test_the_page_asks_for_the_columns_that_there_are() -> None:
    folder = Path(timeline_page.__file__).parent / "page"
    script = "".join((folder / name).read_text() for name in SCRIPTS)
    for table, name in re.findall(r"tables\.(\w+)\.(\w+)", script):
        columns = {column.lstrip("+=") for column in COLUMNS.get(table, ())}
        assert table == "about" or name in columns | {"length"}, f"{table}.{name}"
    assert {path.name for path in folder.iterdir()} == {"page.html", "page.css", *SCRIPTS}


def test_hashed_or_not_a_page_is_made_of_any_journal(tmp_path: Path) -> None:
    record(tmp_path / "j", LOST_PEER, hash_keys=True)
    keys = {row["key"] for row in tables_of(page_of(Journal.open(tmp_path / "j")))["tasks"]}
    assert len(keys) == 4
    assert "x" not in keys
