"""A browser that tests drive: Debian's chromium over its DevTools protocol, spoken through a pipe.

A pipe needs no port and no websocket: messages are JSON with a zero byte after each.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

WAIT = 90.0
"""Seconds for an answer: the machine may have much else to do."""

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-pipe"),
    *("--disable-dev-shm-usage", "--disable-extensions", "--disable-background-networking", "--no-first-run"),
    *("--disable-component-update", "--disable-sync", "--mute-audio", "--no-zygote", "--disable-breakpad"),
)


def program() -> str:
    """Where chromium is; a missing one skips the test, and fails it in CI."""
    found = os.environ.get("WCONV_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if found:
        return found
    if os.environ.get("CI"):
        pytest.fail("chromium is missing in CI")
    pytest.skip("chromium is not installed")


class Browser:
    """A running browser with one tab."""

    def __init__(self, profile: Path) -> None:
        theirs_in, self.out = os.pipe()
        self.inward, theirs_out = os.pipe()
        # the browser reads from its descriptor 3 and writes to 4
        os.set_inheritable(theirs_in, True)
        os.set_inheritable(theirs_out, True)
        script = f'exec "$0" "$@" 3<&{theirs_in} 4>&{theirs_out}'
        words = ["bash", "-c", script, program(), *FLAGS, f"--user-data-dir={profile}", "about:blank"]
        self.process = subprocess.Popen(
            words,
            pass_fds=(theirs_in, theirs_out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self.left = b""
        self.last = 0
        self.session: str | None = None
        self.events: list[dict[str, Any]] = []
        targets = self.call("Target.getTargets")["targetInfos"]
        page = next(one["targetId"] for one in targets if one["type"] == "page")
        self.session = self.call("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """What the browser answers; events that come before are kept in `events`."""
        self.last += 1
        message = {"id": self.last, "method": method, "params": parameters}
        if self.session is not None:
            message["sessionId"] = self.session
        os.write(self.out, json.dumps(message).encode() + b"\0")
        while True:
            got = self._message()
            if got.get("id") == self.last:
                assert "error" not in got, got
                return dict(got["result"])
            self.events.append(got)

    def _message(self) -> dict[str, Any]:
        until = time.monotonic() + WAIT
        while b"\0" not in self.left:
            ready, _, _ = select.select([self.inward], [], [], max(until - time.monotonic(), 0))
            read = os.read(self.inward, 1 << 20) if ready else b""
            assert read, "the browser does not answer"
            self.left += read
        one, _, self.left = self.left.partition(b"\0")
        return dict(json.loads(one))

    def run(self, script: str) -> Any:
        """What an expression of the page gives, as plain data."""
        done = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in done, done
        return done["result"].get("value")

    def until(self, script: str) -> Any:
        """Waits until an expression gives something that is true."""
        end = time.monotonic() + WAIT
        while not (found := self.run(script)):
            assert time.monotonic() < end, f"never true: {script}"
            time.sleep(0.02)
        return found

    def show(self, page: Path, width: int = 1400, height: int = 900, *, dark: bool = False) -> None:
        """Opens a file and waits until its script has run."""
        self.events.clear()
        self.size(width, height)
        theme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", features=theme)
        self.call("Page.navigate", url="about:blank")
        self.call("Page.navigate", url=page.resolve().as_uri())
        self.until("document.readyState === 'complete' && document.body && document.body.dataset.ready || ''")

    def size(self, width: int, height: int) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    def press(self, key: str) -> None:
        """A key, as a keyboard sends it."""
        text = {"text": key} if len(key) == 1 else {"text": "\r"} if key == "Enter" else {}
        code = {"Enter": 13, "ArrowDown": 40, "ArrowUp": 38, "ArrowLeft": 37, "ArrowRight": 39}.get(key, 0)
        event = {"key": key, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown", **event, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", **event)

    def type(self, text: str) -> None:
        """Text into what has the focus."""
        self.call("Input.insertText", text=text)

    def requests(self) -> list[str]:
        """The addresses that were asked for since `show`."""
        self.run("0")
        return [
            one["params"]["request"]["url"]
            for one in self.events
            if one.get("method") == "Network.requestWillBeSent"
        ]

    def complaints(self) -> list[str]:
        """What the page's scripts threw, and what the browser complained of."""
        self.run("0")
        return [
            json.dumps(one["params"])[:600]
            for one in self.events
            if one.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded")
        ]

    def picture(self, path: Path) -> Path:
        """A screenshot."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))
        return path

    def close(self) -> None:
        """Ends the browser."""
        self.session = None
        with contextlib.suppress(AssertionError, OSError):
            self.call("Browser.close")
        os.close(self.out)
        os.close(self.inward)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextlib.contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """A browser for the time of a block."""
    made = Browser(profile)
    try:
        yield made
    finally:
        made.close()
