"""A real browser for tests: Chromium without a window, led through its DevTools protocol."""

import base64
import json
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, open_websocket_url

CHROMIUM = shutil.which("chromium")

START_S = 60
ANSWER_S = 120

FLAGS = (
    "--headless=new",
    "--no-sandbox",  # CI runs as root
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
    "--remote-debugging-port=0",
)


class Tab:
    """One page of the browser. See `open_tab`."""

    def __init__(self, link: WebSocketConnection) -> None:
        self._link = link
        self._session = ""
        self._last = 0
        self._answers: dict[int, dict[str, Any]] = {}
        self._came = trio.Event()
        self.events: list[tuple[str, dict[str, Any]]] = []
        """What the browser has told of the page, unasked."""

    async def listen(self) -> None:
        """Take what the browser says, until it closes."""
        while True:
            try:
                message = json.loads(await self._link.get_message())
            except ConnectionClosed:
                return
            if "id" in message:
                self._answers[message["id"]] = message
            else:
                self.events.append((message["method"], message["params"]))
            self._came.set()
            self._came = trio.Event()

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Ask the browser for something; its answer."""
        self._last += 1
        number = self._last
        message: dict[str, Any] = {"id": number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        with trio.fail_after(ANSWER_S):
            await self._link.send_message(json.dumps(message))
            while number not in self._answers:
                await self._came.wait()
        answer = self._answers.pop(number)
        assert "error" not in answer, f"{method}: {answer['error']}"
        return dict(answer["result"])

    async def attach(self) -> None:
        """Make a page of its own, and look at what it does."""
        made = await self.call("Target.createTarget", url="about:blank")
        attached = await self.call("Target.attachToTarget", targetId=made["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            await self.call(f"{domain}.enable")

    async def size(self, width: int, height: int, ratio: float = 1) -> None:
        """Set the size of the view."""
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=ratio, mobile=False,
        )  # fmt: skip

    async def scheme(self, name: str) -> None:
        """Prefer dark or light colours."""
        features = [{"name": "prefers-color-scheme", "value": name}]
        await self.call("Emulation.setEmulatedMedia", features=features)

    async def go(self, path: Path) -> None:
        """Open a file."""
        await self.call("Page.navigate", url=path.as_uri())

    async def run(self, expression: str) -> Any:
        """What a JavaScript expression gives; promises are waited for."""
        answer = await self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    async def until(self, expression: str, timeout_s: float = 120) -> Any:
        """Wait until an expression is true; what it gives."""
        with trio.fail_after(timeout_s):
            # Nothing would tell of it: the page knows of no waiting.
            while not (found := await self.run(expression)):  # noqa: ASYNC110
                await trio.sleep(0.05)
        return found

    async def drawn(self) -> None:
        """Wait until the page has drawn what it had to."""
        await self.run("new Promise((d) => requestAnimationFrame(() => requestAnimationFrame(d)))")

    async def mouse(self, kind: str, x: float, y: float, **params: Any) -> None:
        """Send an event of the mouse, as ``mouseMoved``."""
        await self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **params)

    async def click(self, x: float, y: float) -> None:
        await self.mouse("mouseMoved", x, y)
        await self.mouse("mousePressed", x, y, button="left", clickCount=1)
        await self.mouse("mouseReleased", x, y, button="left", clickCount=1)

    async def press(self, key: str, text: str = "") -> None:
        """Press a key of the keyboard; with the text that it types."""
        await self.call("Input.dispatchKeyEvent", type="keyDown", key=key, text=text)
        await self.call("Input.dispatchKeyEvent", type="keyUp", key=key)

    async def picture(self, path: Path) -> None:
        """Save what is to be seen, as PNG."""
        answer = await self.call("Page.captureScreenshot", format="png")
        await trio.Path(path).write_bytes(base64.b64decode(answer["data"]))

    def complaints(self) -> list[str]:
        """Errors and warnings on the console, and exceptions that nobody caught."""
        found: list[str] = []
        for method, params in self.events:
            if method == "Runtime.exceptionThrown":
                found.append(str(params["exceptionDetails"]))
            elif method == "Log.entryAdded":
                found.append(str(params["entry"]))
            elif method == "Runtime.consoleAPICalled":
                found.append(str(params["args"]))
        return found

    def requested(self) -> list[str]:
        """All that the page has asked for, the page itself included."""
        return [
            params["request"]["url"]
            for method, params in self.events
            if method == "Network.requestWillBeSent"
        ]


@asynccontextmanager
async def open_tab(folder: Path) -> AsyncGenerator[Tab]:
    """A browser with one page. It ends with the block.

    Args:
        folder: For the browser's own files.
    """
    assert CHROMIUM is not None
    with (folder / "chromium.log").open("wb") as log:
        process = await trio.lowlevel.open_process(
            [CHROMIUM, *FLAGS, f"--user-data-dir={folder / 'profile'}", "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            async with (
                open_websocket_url(
                    await _address(trio.Path(folder) / "profile" / "DevToolsActivePort", process),
                    max_message_size=1 << 28,
                ) as link,
                trio.open_nursery() as nursery,
            ):
                tab = Tab(link)
                nursery.start_soon(tab.listen)
                await tab.attach()
                yield tab
                nursery.cancel_scope.cancel()
        finally:
            with trio.CancelScope(shield=True):
                os.killpg(process.pid, signal.SIGKILL)
                await process.wait()


async def _address(file: trio.Path, process: trio.Process) -> str:
    """Where the browser listens: it says so in a file, once it does."""
    with trio.fail_after(START_S):
        while not await file.exists() or len(lines := (await file.read_text()).split()) < 2:
            assert process.poll() is None, "the browser has ended"
            await trio.sleep(0.02)
    return f"ws://127.0.0.1:{lines[0]}{lines[1]}"
