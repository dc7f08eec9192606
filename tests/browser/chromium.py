"""A headless Chromium that tests drive over pipes, in the words of its DevTools protocol: no driver, no port."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any, Self

PROGRAMS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"),
    *("--no-first-run", "--hide-scrollbars", "--remote-debugging-pipe", "--allow-file-access-from-files"),
)
PATIENCE = 120.0
"""Seconds after which a browser that does not answer is given up: a busy machine takes ten for the first page."""


def browser_program() -> str | None:
    """The first browser of this kind on the machine."""
    return next((path for name in PROGRAMS if (path := shutil.which(name))), None)


class Chromium:
    """One browser with one page; `errors` are what console and exceptions said, `requests` all addresses asked for.

    It is ended with everything that it started when the block is left.
    """

    def __init__(self, program: str, profile: Path, width: int = 1400, height: int = 900) -> None:
        """Start `program` with an empty profile and a window of so many pixels."""
        self.errors: list[str] = []
        self.requests: list[str] = []
        self._number, self._buffer = 0, b""
        self._events: list[dict[str, Any]] = []
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()
        # the protocol is spoken on the file descriptors 3 and 4
        command = f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}'
        size = f"--window-size={width},{height}"
        self._process = subprocess.Popen(
            ["bash", "-c", command, "bash", program, *OPTIONS, size, f"--user-data-dir={profile}", "about:blank"],
            pass_fds=(theirs_in, theirs_out),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._session = self._attach()

    def __enter__(self) -> Self:
        """The browser itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the process and its children, and wait for it."""
        for descriptor in (self._in, self._out):
            os.close(descriptor)
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _attach(self) -> str:
        targets = self.call("Target.getTargets")["targetInfos"]
        (page,) = [target["targetId"] for target in targets if target["type"] == "page"]
        session: str = self.call("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable", session)
        return session

    def call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Send one command and wait for its answer."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._message()
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                result: dict[str, Any] = answer["result"]
                return result
            self._note(answer)

    def _message(self) -> dict[str, Any]:
        deadline = time.monotonic() + PATIENCE
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._in], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, "the browser does not answer"
            part = os.read(self._in, 1 << 20)
            assert part, "the browser has ended"
            self._buffer += part
        text, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        return message

    def _note(self, event: dict[str, Any]) -> None:
        method, told = event.get("method"), event.get("params", {})
        if method == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(told["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and told["type"] in ("error", "warning", "assert"):
            self.errors.append(json.dumps(told["args"]))
        elif method == "Log.entryAdded" and told["entry"]["level"] in ("error", "warning"):
            self.errors.append(told["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            self.requests.append(told["request"]["url"])
        elif method == "Page.loadEventFired":
            self._events.append(event)

    def open(self, path: Path) -> None:
        """Load a file and wait until it is there with its scripts run; what was noted before is forgotten."""
        self.errors.clear()
        self.requests.clear()
        self._events.clear()
        self.call("Page.navigate", self._session, url=path.resolve().as_uri())
        deadline = time.monotonic() + PATIENCE
        while not self._events:
            assert time.monotonic() < deadline, "the page does not load"
            self._note(self._message())

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression in the page; a promise is waited for."""
        found = self.call("Runtime.evaluate", self._session, expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def text(self, selector: str) -> str:
        """The text of the first element that a CSS selector finds, as it is seen."""
        found: str = self.run(f"document.querySelector({json.dumps(selector)}).innerText")
        return found

    def texts(self, selector: str) -> list[str]:
        """The text of every element that a CSS selector finds."""
        elements = f"[...document.querySelectorAll({json.dumps(selector)})]"
        found: list[str] = self.run(f"{elements}.map((element) => element.innerText.trim())")
        return found

    def click(self, selector: str) -> None:
        """Press the mouse in the middle of the first element that a CSS selector finds, after scrolling to it."""
        place = self.run(
            f"(() => {{ const element = document.querySelector({json.dumps(selector)});"
            "element.scrollIntoView({block: 'center', inline: 'center'});"
            "const box = element.getBoundingClientRect();"
            "return [box.x + box.width / 2, box.y + box.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call(
                *("Input.dispatchMouseEvent", self._session),
                **{"type": kind, "x": place[0], "y": place[1], "button": "left", "clickCount": 1},
            )

    def type(self, text: str) -> None:
        """Put text where the cursor is, as a keyboard would."""
        self.call("Input.insertText", self._session, text=text)

    def press(self, key: str) -> None:
        """Press and release a key by its DOM name, such as Enter, Escape, ArrowRight or Tab."""
        code = {"Enter": 13, "Escape": 27, "ArrowLeft": 37, "ArrowRight": 39, "Tab": 9}[key]
        text = {"text": "\r"} if key == "Enter" else {}
        for kind, what in (("keyDown", text), ("keyUp", {})):
            self.call(
                *("Input.dispatchKeyEvent", self._session),
                **{"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code, **what},
            )

    def until(self, script: str) -> None:
        """Wait until a JavaScript expression is true."""
        deadline = time.monotonic() + PATIENCE
        while not self.run(script):
            assert time.monotonic() < deadline, f"never true: {script}"
            time.sleep(0.02)

    def prefer(self, scheme: str) -> None:
        """Let pages see that their reader wants the `light` or the `dark` colours."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", self._session, features=features)

    def resize(self, width: int, height: int) -> None:
        """Change the size of the window (pixels)."""
        self.call(
            *("Emulation.setDeviceMetricsOverride", self._session),
            **{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False},
        )

    def picture(self, path: Path, whole: bool = True) -> None:
        """Save what the page looks like as PNG, all of it or what the window shows."""
        found = self.call("Page.captureScreenshot", self._session, captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(found["data"]))
