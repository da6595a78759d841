"""What `runtime/MACHINE.md` shows is drawn from the machine as it is."""

import re

import pytest
from diagrams import PAGE, current, drawn, edge_table, life, outcomes, possible, requests, told

from trouper.runtime.machine import HANDLERS
from trouper.runtime.transitions import OUTCOMES, REQUESTS, Do, Verdict


def test_page_shows_the_machine_as_it_is() -> None:
    page = PAGE.read_text()
    is_current = current(page) == page  # not in the assert: the difference is pages long
    assert is_current, "runtime/MACHINE.md is out of date: run python tests/diagrams.py"


def test_a_diagram_without_a_place_in_the_page_is_an_error() -> None:
    page = PAGE.read_text().replace("<!-- drawn: outcomes -->", "")
    with pytest.raises(ValueError, match=r"has to have <!-- drawn: outcomes --> .* once"):
        current(page)


def test_every_cell_of_a_table_is_drawn() -> None:
    assert {verdict for row in OUTCOMES.values() for verdict in row} == set(Verdict)
    for verdict in Verdict:
        assert f'{verdict.name}["{verdict.value}"]' in outcomes()
        assert f"| {verdict.name}\n" in outcomes()
    for row, do in ((row, do) for row, cells in REQUESTS.items() for do in set(cells)):
        assert re.search(rf'request_{row.name} -->\|"[a-z, ]+"\| do_{do.name}\n', requests())
    assert requests().count("-->") == sum(len(set(cells)) for cells in REQUESTS.values())
    assert {do for cells in REQUESTS.values() for do in cells} == set(Do)


def test_stories_take_only_ways_that_are_possible() -> None:
    found = possible()
    assert all(names <= found[edge] for edge, names in told().items())


def test_every_stimulus_that_can_change_a_phase_is_found_to_do_so() -> None:
    names = {name.removeprefix("via ") for names in possible().values() for name in names}
    without = {"Pause", "FindMissing"}  # the one stops nothing, the other only asks
    assert names == {word.__name__ for word in HANDLERS} - without


def test_every_arrow_is_drawn_once() -> None:
    arrows = "".join(life(told()).values()).count(" --> ")
    assert arrows == len(told())
    assert len(edge_table(possible()).splitlines()) == 2 + len(possible())


ARROW = re.compile(r'    \w+ -->\|"[\w ,]+"\| \w+|    \w+ --> \w+ : [\w ,]+')
NODE = re.compile(r'    (\w+)(?:\["[^"\[\]]+"\]|\(\["[^"\[\]]+"\]\))|    state "[^"]+" as (\w+)')


@pytest.mark.parametrize("name", ["outcomes", "requests", "computing", "fetching", "changed-mind"])
def test_mermaid_is_made_of_plain_lines_between_declared_nodes(name: str) -> None:
    fence, kind, *lines, end = drawn()[name].splitlines()
    assert (fence, end) == ("```mermaid", "```")
    assert kind in ("flowchart LR", "stateDiagram-v2")
    declared = {match[1] or match[2] for line in lines if (match := NODE.fullmatch(line))}
    arrows = [line for line in lines if ARROW.fullmatch(line)]
    assert len(declared) + len(arrows) == len(lines)
    for arrow in arrows:
        ends = re.sub(r'-->\|"[^"]*"\|', "-->", arrow).partition(" : ")[0].split("-->")
        assert {end.strip() for end in ends} <= declared


def test_page_names_files_that_exist() -> None:
    root = PAGE.parents[1]
    named = re.findall(r"`((?:runtime|wire|tests)/[\w/.]+)`", PAGE.read_text())
    assert len(named) > 10
    assert not [name for name in named if not (root / name).exists()]
