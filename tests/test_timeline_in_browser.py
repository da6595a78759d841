"""The page of a timeline in a real browser: drawn, pointed at, clicked, zoomed and filtered."""

from pathlib import Path
from typing import Any

import pytest
import trio
from browser import CHROMIUM, Tab, open_tab
from journals import told
from test_timeline_page import MALICIOUS
from timelines import Simulation, spaced

from trouper.runtime.debugging.timeline import Timeline
from trouper.runtime.debugging.timeline_page import write_page
from trouper.runtime.journal.journal import Journal
from trouper.runtime.ledger import Config
from trouper.wire.stimuli import ComputeTask, ExecuteSuccess, Secede, Stimulus

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium to open pages with")

SLOWEST_MS = 1000
"""A picture takes no longer, on however busy a machine."""


def page_of(journal: Journal, path: Path) -> Path:
    with path.open("wb") as file:
        write_page(Timeline(journal), journal.header, file.write)
    return path


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a worker that had some work."""
    folder = tmp_path_factory.mktemp("worker")
    Simulation(folder / "j", trouble=0.03).run(600)
    return page_of(Journal.open(folder / "j"), folder / "page.html")


async def opened(tab: Tab, page: Path) -> None:
    await tab.size(1440, 900)
    await tab.go(page)
    await tab.until("!!window.timeline")
    await tab.drawn()


async def place_of(tab: Tab, span: str) -> tuple[float, float]:
    """Where a span is drawn that an expression gives, once it is wide enough to be hit."""
    found: Any = await tab.run(
        f"""(() => {{
            const {{ page, model }} = timeline;
            const span = {span};
            page.zoomTo(span);
            const box = page.canvas.getBoundingClientRect();
            const row = model.layout.rows.find((row) => row.lane === model.laneOf(span));
            const x = page.drawing.x((model.spans.begin[span] + model.spans.end[span]) / 2);
            return [box.left + x, box.top + page.drawing.y(row) + row.height / 2];
        }})()"""
    )
    await tab.drawn()
    return found[0], found[1]


async def text_of(tab: Tab, selector: str) -> str:
    return str(await tab.run(f"document.querySelector({selector!r}).innerText"))


async def test_it_opens_without_a_complaint_and_without_a_network(
    worker: Path, tmp_path: Path
) -> None:
    async with open_tab(tmp_path) as tab:
        await opened(tab, worker)
        assert tab.complaints() == []
        assert tab.requested() == [worker.as_uri()]
        refused = await tab.run("fetch('https://example.org').then(() => 'came', () => 'refused')")
        assert refused == "refused"
        about = await text_of(tab, "#about")
        assert "records 1 to " in about
        assert await tab.run("timeline.page.frames.length > 0")
        colours = await tab.run(
            """(() => {
                const { width, height } = timeline.page.canvas;
                const data = timeline.page.drawing.pen.getImageData(0, 0, width, height).data;
                return new Set(new Uint32Array(data.buffer)).size;
            })()"""
        )
        assert colours > 20


async def test_pointing_at_a_task_says_what_it_is(worker: Path, tmp_path: Path) -> None:
    async with open_tab(tmp_path) as tab:
        await opened(tab, worker)
        x, y = await place_of(tab, "model.executionsOf(30)[0]")
        key = await tab.run("timeline.model.keys[30]")
        assert await tab.run("document.getElementById('tooltip').hidden")
        await tab.mouse("mouseMoved", x, y)
        await tab.until("!document.getElementById('tooltip').hidden")
        tooltip = await text_of(tab, "#tooltip")
        assert tooltip.splitlines()[0] == key
        assert "attempt" in tooltip
        assert tab.complaints() == []


async def test_clicking_a_task_tells_its_story(worker: Path, tmp_path: Path) -> None:
    async with open_tab(tmp_path) as tab:
        await opened(tab, worker)
        x, y = await place_of(tab, "model.executionsOf(30)[0]")
        key = await tab.run("timeline.model.keys[30]")
        await tab.click(x, y)
        await tab.until("!document.getElementById('panel').hidden")
        assert await text_of(tab, "#panel h2") == key
        story = await text_of(tab, "#panel .story")
        assert "compute-task" in story
        assert "executing → " in story
        await tab.press("Escape")
        await tab.until("document.getElementById('panel').hidden")
        assert tab.complaints() == []


async def test_the_view_follows_wheel_drag_and_keys(worker: Path, tmp_path: Path) -> None:
    async def view() -> tuple[float, float]:
        await tab.drawn()
        found: Any = await tab.run("[timeline.model.view.begin, timeline.model.view.end]")
        return found[0], found[1]

    async with open_tab(tmp_path) as tab:
        await opened(tab, worker)
        whole = await view()
        await tab.mouse("mouseWheel", 800, 450, deltaX=0, deltaY=-600)
        begin, end = await view()
        assert whole[0] < begin < end < whole[1]
        assert end - begin < 0.5 * (whole[1] - whole[0])
        await tab.mouse("mousePressed", 800, 450, button="left", clickCount=1)
        await tab.mouse("mouseMoved", 700, 450, button="left")
        await tab.mouse("mouseReleased", 700, 450, button="left", clickCount=1)
        dragged = await view()
        assert dragged[0] > begin
        assert dragged[1] - dragged[0] == pytest.approx(end - begin)
        assert await tab.run("document.getElementById('panel').hidden")
        await tab.press("ArrowLeft")
        assert (await view())[0] < dragged[0]
        await tab.press("-")
        assert (await view())[1] - (await view())[0] > end - begin
        await tab.press("0")
        assert await view() == whole
        await tab.press("+")
        assert (await view())[1] - (await view())[0] < whole[1] - whole[0]
        await tab.click(640 + 176 // 2, 80)  # on the overview
        assert tab.complaints() == []


async def test_two_fingers_zoom(worker: Path, tmp_path: Path) -> None:
    async with open_tab(tmp_path) as tab:
        await opened(tab, worker)

        async def touch(kind: str, *places: int) -> None:
            points = [{"x": x, "y": 500, "id": number} for number, x in enumerate(places)]
            await tab.call("Input.dispatchTouchEvent", type=kind, touchPoints=points)

        before = await tab.run("timeline.model.view.end - timeline.model.view.begin")
        await touch("touchStart", 700, 800)
        await touch("touchMove", 600, 900)
        await touch("touchEnd")
        after = await tab.run("timeline.model.view.end - timeline.model.view.begin")
        assert after < before / 2


async def test_the_filter_counts_and_leads_to_its_matches(worker: Path, tmp_path: Path) -> None:
    async with open_tab(tmp_path) as tab:
        await opened(tab, worker)
        await tab.press("/")
        assert await tab.run("document.activeElement.id") == "filter"
        await tab.call("Input.insertText", text="TRAIN-00000")
        await tab.until("document.getElementById('found').textContent === '2 matches'")
        await tab.press("Enter")
        await tab.until("!document.getElementById('panel').hidden")
        assert (await text_of(tab, "#panel h2")).startswith("train-00000")
        await tab.call("Input.insertText", text="?")
        await tab.until("document.getElementById('found').textContent === 'no match'")
        await tab.press("Escape")
        await tab.until("document.getElementById('found').textContent === ''")
        assert tab.complaints() == []


async def test_what_is_stuck_is_said_at_once(tmp_path: Path) -> None:
    life = told("""
        compute-task y who-has=x@tcp://b:1 nbytes=x:100
        compute-task z local=y
        gather-network-failure tcp://b:1 #1
    """)
    page = page_of(spaced(tmp_path / "j", life), tmp_path / "page.html")
    async with open_tab(tmp_path) as tab:
        await opened(tab, page)
        assert await text_of(tab, "#stuck") == "3 stuck tasks"
        await tab.run("document.getElementById('stuck').click()")
        assert "x is missing: no holder is known" in await text_of(tab, "#panel")
        await tab.run("document.querySelector('#panel .go').click()")
        assert "Stuck." in await text_of(tab, "#panel")


async def test_many_lanes_beyond_the_slots_are_folded(tmp_path: Path) -> None:
    life: list[Stimulus] = []
    for number, key in enumerate("abcdefg", 1):
        life += [ComputeTask(key, 1, number), Secede(key, number)]
    journal = spaced(tmp_path / "j", life, Config(slots={"thread": 1}))
    page = page_of(journal, tmp_path / "page.html")
    rows = "timeline.model.layout.rows.filter((row) => row.lane || row.fold).length"
    async with open_tab(tmp_path) as tab:
        await opened(tab, page)
        assert await tab.run(rows) == 2
        x, y = await tab.run(
            """(() => {
                const { page, model } = timeline;
                const row = model.layout.rows.find((row) => row.fold);
                const box = page.canvas.getBoundingClientRect();
                return [box.left + 800, box.top + page.drawing.y(row) + row.height / 2];
            })()"""
        )
        await tab.mouse("mouseMoved", x, y)
        await tab.until("!document.getElementById('tooltip').hidden")
        assert "beyond the slots" in await text_of(tab, "#tooltip")
        await tab.click(x, y)
        assert await tab.run(rows) == 8
        await tab.click(x, y)
        assert await tab.run(rows) == 2
        await tab.run("timeline.page.go(timeline.model.keys.indexOf('g'))")
        assert await tab.run(rows) == 8
        assert tab.complaints() == []


async def test_keys_are_shown_as_they_are(tmp_path: Path) -> None:
    life: list[Stimulus] = []
    for number, key in enumerate(MALICIOUS, 1):
        life += [ComputeTask(key, 1, 1, prefix=key), ExecuteSuccess(key, number, 8, key)]
    page = page_of(spaced(tmp_path / "j", life), tmp_path / "page.html")
    async with open_tab(tmp_path) as tab:
        await opened(tab, page)
        assert await tab.run("timeline.model.keys") == list(MALICIOUS)
        for number, key in enumerate(MALICIOUS):
            await tab.run(f"timeline.page.go({number})")
            await tab.drawn()
            assert await tab.run("document.querySelector('#panel h2').textContent") == key
        assert await tab.run("document.images.length") == 0
        assert tab.complaints() == []
        assert tab.requested() == [page.as_uri()]


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_light_and_dark(worker: Path, tmp_path: Path, scheme: str) -> None:
    async with open_tab(tmp_path) as tab:
        await tab.scheme(scheme)
        await opened(tab, worker)
        shown: Any = await tab.run(
            "Array.from(timeline.page.drawing.pen.getImageData(5, 600, 1, 1).data)"
        )
        assert (sum(shown[:3]) < 3 * 128) == (scheme == "dark")


async def test_a_hundred_thousand_tasks_do_not_freeze_it(tmp_path: Path) -> None:
    folder = trio.Path(tmp_path)
    Simulation(tmp_path / "j", trouble=0).run(100_000)
    page = page_of(Journal.open(tmp_path / "j"), tmp_path / "page.html")
    nbytes = (await (folder / "page.html").stat()).st_size
    assert nbytes < 25_000_000
    async with open_tab(tmp_path) as tab:
        await opened(tab, page)
        assert await tab.run("timeline.model.keys.length") >= 100_000
        assert await tab.run("timeline.model.tables.executions.length") > 99_000
        first_ms = await tab.run(
            "performance.getEntriesByName('first-contentful-paint')[0].startTime"
        )
        for _ in range(12):
            await tab.mouse("mouseWheel", 800, 450, deltaX=0, deltaY=-300)
            await tab.drawn()
        await tab.call("Input.dispatchKeyEvent", type="keyDown", key="0")
        await tab.run("document.getElementById('filter').value = 'train'; timeline.page.filter()")
        await tab.mouse("mouseMoved", 800, 450)
        await tab.drawn()
        await tab.run("timeline.page.go(50_000)")
        await tab.drawn()
        frames: Any = await tab.run("timeline.page.frames")
        opened_ms = await tab.run("timeline.opened_ms")
        print(
            f"{nbytes / 1e6:.1f} MB; first paint after {first_ms:.0f} ms, opened in "
            f"{opened_ms:.0f} ms; {len(frames)} pictures, the slowest {max(frames):.0f} ms, "
            f"the median {sorted(frames)[len(frames) // 2]:.0f} ms"
        )
        assert len(frames) > 12
        assert max(frames) < SLOWEST_MS
        await tab.picture(tmp_path / "picture.png")
        assert (await (folder / "picture.png").stat()).st_size > 10_000
        assert tab.complaints() == []
