"""A headless Chromium, driven over its DevTools protocol by a few blocking calls."""

from __future__ import annotations

import base64
import itertools
import json
import shutil
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any

from websockets.sync.client import ClientConnection, connect

#: No wait of a test takes longer; reached only when something is broken.
PATIENCE_S = 20.0

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-default-apps",
    "--remote-debugging-port=0",
)

_KEYS = {
    "Enter": ("Enter", 13, "\r"),
    "Tab": ("Tab", 9, ""),
    " ": ("Space", 32, " "),
    "ArrowDown": ("ArrowDown", 40, ""),
    "ArrowUp": ("ArrowUp", 38, ""),
    "End": ("End", 35, ""),
    "Home": ("Home", 36, ""),
}
_SHIFT = 8


def find_chromium() -> str | None:
    """The path of a Chromium on this computer."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class ScriptError(Exception):
    """An expression threw; the text is what it threw."""


class Browser:
    """A Chromium process with a profile of its own in ``folder``."""

    def __init__(self, program: str, folder: Path) -> None:
        self._log = (folder / "chromium.log").open("wb")
        profile = folder / "profile"
        self._process = subprocess.Popen(
            [program, *_FLAGS, f"--user-data-dir={profile}", "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.PIPE,
        )
        self._ids = itertools.count(1)
        self._pages: dict[str, Page] = {}
        self._replies: dict[int, Any] = {}
        self._socket = self._connect()

    def _connect(self) -> ClientConnection:
        stderr = self._process.stderr
        assert stderr is not None
        for line in stderr:
            words = line.decode(errors="replace").split()
            if words[:2] == ["DevTools", "listening"]:
                return connect(words[3], max_size=None, compression=None)
        raise RuntimeError(f"Chromium ended with {self._process.wait()}")

    def call(self, method: str, session: str | None = None, **parameters: Any) -> Any:
        """The result of a DevTools method."""
        number = next(self._ids)
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        self._socket.send(json.dumps(message))
        while number not in self._replies:
            self._read(json.loads(self._socket.recv(timeout=PATIENCE_S + 10)))
        reply = self._replies.pop(number)
        if "error" in reply:
            raise RuntimeError(f"{method}: {reply['error']['message']}")
        return reply["result"]

    def _read(self, message: dict[str, Any]) -> None:
        if "id" in message:
            self._replies[message["id"]] = message
        elif message.get("sessionId") in self._pages:
            self._pages[message["sessionId"]].happened(message["method"], message["params"])

    def new_page(self) -> Page:
        """An empty page that shares nothing with others."""
        context = self.call("Target.createBrowserContext")["browserContextId"]
        target = self.call("Target.createTarget", url="about:blank", browserContextId=context)
        attached = self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        page = Page(self, attached["sessionId"], context)
        self._pages[attached["sessionId"]] = page
        page.enable()
        return page

    def close(self) -> None:
        self._socket.close()
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stderr is not None:
            self._process.stderr.close()
        self._log.close()

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class Page:
    """One tab. ``problems`` are the errors its console has told, ``requests`` what it has asked
    the network for, ``request_headers`` the headers that really went out."""

    def __init__(self, browser: Browser, session: str, context: str) -> None:
        self._browser = browser
        self._session = session
        self._context = context
        self.problems: list[str] = []
        self.requests: list[str] = []
        self.request_headers: list[dict[str, str]] = []

    def call(self, method: str, **parameters: Any) -> Any:
        return self._browser.call(method, self._session, **parameters)

    def enable(self) -> None:
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def happened(self, method: str, what: dict[str, Any]) -> None:
        if method == "Runtime.exceptionThrown":
            self.problems.append(_thrown(what["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and what["type"] in ("error", "warning"):
            self.problems.append(" ".join(str(one.get("value")) for one in what["args"]))
        elif method == "Log.entryAdded" and what["entry"]["level"] in ("error", "warning"):
            self.problems.append(what["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            self.requests.append(what["request"]["url"])
        elif method == "Network.requestWillBeSentExtraInfo":
            self.request_headers.append(what["headers"])

    def close(self) -> None:
        self._browser.call("Target.disposeBrowserContext", browserContextId=self._context)

    def open(self, url: str) -> None:
        """Go there and wait until the console has its data."""
        self.call("Page.navigate", url=url)
        self.wait("performance.getEntriesByName('console-ready').length")

    def run_first(self, script: str) -> None:
        """Run this before every document's own scripts."""
        self.call("Page.addScriptToEvaluateOnNewDocument", source=script)

    def evaluate(self, expression: str) -> Any:
        """The value of an expression, awaited if it is a promise."""
        done = self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in done:
            raise ScriptError(_thrown(done["exceptionDetails"]))
        return done["result"].get("value")

    def wait(self, expression: str, patience_s: float = PATIENCE_S) -> Any:
        """The first true value of an expression."""
        quoted = json.dumps(f"not within {patience_s:g} s: {expression}")
        return self.evaluate(
            "(async () => { const began = performance.now(); for (;;) {"
            f" const value = ({expression}); if (value) return value;"
            f" if (performance.now() - began > {patience_s * 1000}) throw {quoted};"
            " await new Promise((go) => setTimeout(go, 30)); } })()"
        )

    def text(self, selector: str) -> str:
        """The text of the first element that is there."""
        return str(self.evaluate(f"document.querySelector({json.dumps(selector)}).innerText"))

    def click(self, selector: str) -> None:
        """Press the mouse on the middle of an element, which must be what is seen there."""
        quoted = json.dumps(selector)
        self.wait(f"document.querySelector({quoted})")
        x, y = self.evaluate(
            f"(() => {{ const it = document.querySelector({quoted});"
            " it.scrollIntoView({block: 'nearest'});"
            " const {left, top, width, height} = it.getBoundingClientRect();"
            " const [x, y] = [left + width / 2, top + height / 2];"
            " const hit = document.elementFromPoint(x, y);"
            f" if (!it.contains(hit)) throw {quoted} + ' is covered by ' + hit?.outerHTML;"
            " return [x, y]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def choose(self, selector: str, value: str) -> None:
        """Choose an option of a select."""
        self.evaluate(
            f"(() => {{ const it = document.querySelector({json.dumps(selector)});"
            f" it.value = {json.dumps(value)}; if (it.value !== {json.dumps(value)}) throw 'no such"
            " option'; it.dispatchEvent(new Event('change', {bubbles: true})); })()"
        )

    def type(self, text: str) -> None:
        """Type into what has the focus, instead of what is there."""
        self.evaluate("document.activeElement.select?.()")
        self.call("Input.insertText", text=text)

    def press(self, key: str, shift: bool = False) -> None:
        """Press and release a key."""
        code, number, text = _KEYS[key]
        common: dict[str, Any] = {"key": key, "code": code, "windowsVirtualKeyCode": number}
        if shift:
            common["modifiers"] = _SHIFT
        kind = "keyDown" if text else "rawKeyDown"
        self.call("Input.dispatchKeyEvent", type=kind, text=text, **common)
        self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    def resize(self, width: int, height: int) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )

    def use_theme(self, theme: str) -> None:
        """``dark`` or ``light``, as the user's system would say."""
        feature = {"name": "prefers-color-scheme", "value": theme}
        self.call("Emulation.setEmulatedMedia", features=[feature])

    def screenshot(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        shot = self.call("Page.captureScreenshot", format="png")
        path.write_bytes(base64.b64decode(shot["data"]))


def _thrown(details: dict[str, Any]) -> str:
    thrown = details.get("exception", {})
    return str(thrown.get("description") or thrown.get("value") or details["text"])
