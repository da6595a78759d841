"""The stories in `tests/scenarios` come true; one that does not says where it goes wrong.

``python tests/scenario.py`` writes into them what comes true now: see `scenario`.
"""

import re
from pathlib import Path

import pytest
from scenario import Scenario, ScenarioError, rewrite, scenarios

from trouper.runtime.debugging.notation import INSTRUCTIONS, STIMULI

GOOD = """\
# An independent task
#
# In few words.

config slots=thread:2

> compute-task y
< execute y #1
  y executing

# Some time later.

> execute-success y #1 nbytes=8
< drop-spec y
< task-finished y #1 nbytes=8
  y memory

> compute-task z executor=warp
! task 'z' wants the executor 'warp'; there is thread
"""


@pytest.mark.parametrize("path", scenarios(), ids=lambda path: path.stem)
def test_story_comes_true(path: Path) -> None:
    Scenario(path).check()


@pytest.mark.parametrize("path", scenarios(), ids=lambda path: path.stem)
def test_story_is_written_as_it_would_be_rewritten(path: Path) -> None:
    assert Scenario(path).rewritten() == path.read_text()


@pytest.mark.parametrize("path", scenarios(), ids=lambda path: path.stem)
def test_story_has_a_title_and_says_what_it_is_about(path: Path) -> None:
    title, empty, *rest = path.read_text().splitlines()
    assert re.fullmatch(r"# [A-Z].*[^.]", title)
    assert empty == "#"
    assert rest[0].startswith("# ")


def test_stories_tell_of_every_word() -> None:
    told = "\n".join(path.read_text() for path in scenarios())
    assert set(re.findall(r"^> (\S+)", told, re.MULTILINE)) == set(STIMULI)
    assert set(re.findall(r"^< (\S+)", told, re.MULTILINE)) == set(INSTRUCTIONS)


def test_rewriting_puts_the_truth_in_and_keeps_everything_else(tmp_path: Path) -> None:
    lines = GOOD.splitlines(keepends=True)
    path = tmp_path / "story.txt"
    path.write_text("".join(line for line in lines if line[0] not in "<! "))
    rewrite([path])
    assert path.read_text() == GOOD
    path.write_text(GOOD.replace("y executing", "y asleep").replace("< drop-spec y\n", ""))
    rewrite([path])
    assert path.read_text() == GOOD


def test_an_expectation_may_be_written_in_other_words() -> None:
    story = GOOD.replace("< execute y #1", "<  execute #1 y run-id=1 inputs=-")
    Scenario(Path("story.txt"), story.replace("  y executing", "     y executing")).check()


WRONG = [
    ("config slots=thread:2", "config slot=thread:2", "5: there is no field 'slot'"),
    ("config slots=thread:2", "slots=thread:2", "5: there is no 'slots=thread:2'"),
    ("config slots=thread:2", "config slots=thread:two", "5: config: slots: Expected `int`, got "),
    ("> compute-task y", "> compute-tsak y", "7: there is no 'compute-tsak'; is 'compute-task' "),
    ("< execute y #1", "< exceute y #1", "8: there is no 'exceute'; is 'execute' meant?"),
    (
        "< execute y #1",
        "< execute y #2",
        "8: '< execute y #2' is expected; '< execute y #1' comes here",
    ),
    ("  y executing", "  y waiting", "9: '  y waiting' is expected; '  y executing' comes here"),
    (
        "< execute y #1\n  y executing\n",
        "< execute y #1\n",
        "8: after this comes '  y executing'",
    ),
    ("< execute y #1\n  y executing\n", "", "7: after this comes '< execute y #1'"),
    (
        "  y memory\n",
        "  y memory\n  z memory\n",
        "17: '  z memory' is expected; nothing more comes here",
    ),
    ("  y executing", "y executing", "9: 'y executing' is neither a stimulus (>), nor"),
    ("! task 'z'", "! task 'y'", "19: "),
]


@pytest.mark.parametrize(("right", "wrong", "problem"), WRONG, ids=[wrong[2] for wrong in WRONG])
def test_a_wrong_line_is_named_with_file_number_and_reason(
    right: str, wrong: str, problem: str
) -> None:
    assert right in GOOD
    with pytest.raises(ScenarioError) as caught:
        Scenario(Path("stories/wrong.txt"), GOOD.replace(right, wrong)).check()
    assert str(caught.value).startswith(f"stories/wrong.txt:{problem}")
