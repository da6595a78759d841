"""The benchmarks run: with tiny numbers, whose figures mean nothing."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parent / "bench"

WITHOUT_RICH = """
import runpy, sys
sys.modules["rich"] = None
sys.argv.pop(0)
sys.path.insert(0, sys.argv[0].rpartition("/")[0])
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run(*command: str) -> str:
    result = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, timeout=300, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def columns(output: str, contender: str) -> list[list[str]]:
    """The cells of a contender's row in each table."""
    return [line.split() for line in output.splitlines() if line.split()[:1] == [contender]]


def test_embedded_compares_all_contenders_on_all_shapes() -> None:
    output = run(str(BENCH / "embedded.py"), "--tasks", "100", "--rounds", "2")
    shapes = ("independent no-ops", "a chain", "a tree of sums", "no-ops, 2 in flight")
    positions = [output.index(shape) for shape in shapes]
    assert positions == sorted(positions)
    for contender in ("trouper", "ThreadPoolExecutor", "dask.threaded", "LocalCluster"):
        rows = columns(output, contender)
        assert len(rows) == 4, f"{contender} in {output}"
        tenth = 10 if contender == "LocalCluster" else 1
        assert [int(row[1]) for row in rows] == [100 // tenth, 10, 19, 20 // tenth]
        for row in rows:
            low, median, high = (float(row[i].replace(",", "")) for i in (3, 2, 5))
            assert 0 < low <= median <= high
            start, peak = int(row[-1]), int(row[-2])
            assert 5 < start <= peak
    assert output.count("target: at most 1/40 of LocalCluster") == 1
    assert output.count("target: at most 1 of ThreadPoolExecutor") == 1
    assert output.count("target: at most 1/25 of LocalCluster") == 1


def test_embedded_prints_without_rich_too() -> None:
    options = ("--tasks", "50", "--rounds", "1", "--only", "tree", "--without", "LocalCluster")
    output = run("-c", WITHOUT_RICH, str(BENCH / "embedded.py"), *options)
    (row,) = columns(output, "trouper")
    assert row[1] == "9"
    assert row[-3] == "-"  # no LocalCluster to compare with
    assert "LocalCluster" not in [line.split()[0] for line in output.splitlines() if line]


def test_memory_finds_nothing_held() -> None:
    output = run(str(BENCH / "memory.py"), "--tasks", "4000", "--wave", "100")
    for name in ("start", "middle", "end"):
        assert len(columns(output, name)) == 1
    assert "held at the end: 0 tasks, 0 payloads, 0 records, 0 attempts" in output
    assert "flat" in output


MACHINE_SHAPES = ("independent tasks", "one remote", "a chain", "fan-in", "1,000 prefixes", "many")


def test_machine_sets_every_figure_beside_its_target() -> None:
    options = ("--tasks", "20", "--held", "1100", "--rounds", "2")
    output = run(str(BENCH / "machine.py"), *options)
    rows = [line for line in output.splitlines() if line.endswith(("reached", "MISSED"))]
    for shape in MACHINE_SHAPES:
        (row,) = [row for row in rows if row.startswith(shape)]
        theirs, ours, low, _, high, ratio, *_ = row.partition("us/stimulus")[2].split()
        assert 0 < float(low) <= float(ours) <= float(high)
        assert float(ratio.rstrip("x")) == pytest.approx(float(theirs) / float(ours), rel=0.02)
        assert ">= 10x" in row
    (row,) = [row for row in rows if row.startswith("bytes per task held")]
    their_nbytes, our_nbytes = (float(cell.replace(",", "")) for cell in row.split()[4:6])
    assert 100 < our_nbytes < their_nbytes
    assert sum(row.startswith("growth") for row in rows) == 2


def test_machine_prints_json_too() -> None:
    options = ("--tasks", "20", "--held", "1100", "--rounds", "3", "--only", "chain", "--json")
    figures = json.loads(run(str(BENCH / "machine.py"), *options))
    assert set(figures) == {"us_per_stimulus", "nbytes_per_task", "growth"}
    costs_us = figures["us_per_stimulus"]["a chain"]
    assert {name: len(rounds_us) for name, rounds_us in costs_us.items()} == {
        "trouper": 3,
        "distributed": 3,
    }
    assert figures["nbytes_per_task"]["distributed"] > figures["nbytes_per_task"]["trouper"] > 100
    assert figures["growth"] == {}


def test_journal_measures_size_replay_and_recording() -> None:
    command = (str(BENCH / "journal.py"), "--stimuli", "4000", "--tasks", "100", "--rounds", "1")
    result = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, timeout=300, check=False
    )
    assert result.returncode in (0, 1), result.stderr  # the times of so few may be anything
    sizes = re.findall(r"([\d.]+) bytes per stimulus", result.stdout)
    assert len(sizes) == 2
    assert all(20 < float(nbytes) <= 60 for nbytes in sizes)
    assert "x handle alone" in result.stdout
    assert "stimuli replayed" in result.stdout
    assert result.stdout.count("us per task, recorded") == 2


def test_wire_compares_all_contenders_in_all_they_do() -> None:
    output = run(str(BENCH / "wire.py"), "--rounds", "1", "--scale", "0.002")
    for contender in ("raw TCP", "trio-websocket", "tcp://", "ws://", "trouper"):
        rows = [line for line in output.splitlines() if line.strip().startswith(contender)]
        assert len(rows) == 8, f"{contender} in {output}"
        for row in rows:
            median, best, worst = map(float, row.strip()[len(contender) :].replace(",", "").split())
            assert min(best, worst) <= median <= max(best, worst)
            assert median > 0


MAPS = ("60 no-ops (", "60 with inputs (", "60 no-ops, CPU", "60 with inputs, CPU")
NODE_WORK = (*MAPS, "latency, in a row", "latency, at rest", "result", "exchange")


def test_node_compares_workers_in_all_they_do() -> None:
    little = ("--tasks", "60", "--rounds", "1", "--calls", "3", "--transfers", "1")
    output = run(str(BENCH / "node.py"), *little)
    positions = [output.index(work) for work in NODE_WORK]
    assert positions == sorted(positions)
    verdicts = [line for line in output.splitlines() if line.endswith(("reached", "MISSED"))]
    assert len(verdicts) == len(NODE_WORK)
    all_of_it = dict.fromkeys(("node cws", "stock cws", "stock tcp"), len(NODE_WORK))
    for contender, works in {**all_of_it, "ideal cws": len(MAPS)}.items():
        rows = [line for line in output.splitlines() if line.strip().startswith(contender)]
        assert len(rows) == works, f"{contender} in {output}"
        for row in rows:
            median, least, most = (float(n.replace(",", "")) for n in row.split()[2:5])
            assert 0 <= least <= median <= most


def test_node_measures_while_others_compute() -> None:
    little = ("--tasks", "20", "--rounds", "1", "--only", "ideal cws", "--beside", "1")
    assert run(str(BENCH / "node.py"), *little).count("ideal cws") == 4
