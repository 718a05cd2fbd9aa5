"""A browser for tests of pages: Debian's chromium, driven over its debugging pipe.

One browser serves all tests of a session (fixture `browser`); each page is a tab of its own. It is
asked what the page shows and is given real keys. Nothing here looks at a clock but to give up on a
browser that hangs.
"""

from __future__ import annotations

import base64
import ctypes
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

#: Seconds after which a browser that says nothing is taken for hung.
PATIENCE = 300
_FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync "
    "--disable-background-networking --disable-component-update --disable-default-apps "
    "--disable-extensions --hide-scrollbars --mute-audio --disable-dev-shm-usage "
    "--disable-features=BackForwardCache --remote-debugging-pipe"
)
_PR_SET_PDEATHSIG = 1
#: Keys without a character of their own -> number in Windows, by which chromium knows them.
_NAMED_KEYS = {
    "Tab": 9,
    "Enter": 13,
    "Escape": 27,
    "Backspace": 8,
    "PageUp": 33,
    "PageDown": 34,
    "End": 35,
    "Home": 36,
    "ArrowLeft": 37,
    "ArrowUp": 38,
    "ArrowRight": 39,
    "ArrowDown": 40,
}
_TEXTS = {"Enter": "\r"}
Message = dict[str, Any]


class BrowserError(Exception):
    """The browser refused a command, ended, or said nothing for too long."""


class Browser:
    """A running chromium."""

    def __init__(self, program: str, profile: Path) -> None:
        # Its ends of the pipes have to be 3 and 4; ours are high, so that nothing is overwritten.
        pipes = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 100) for end in _two_pipes()]
        commands, self._out, self._in, answers = pipes
        prctl = ctypes.CDLL(None).prctl

        def of_the_child() -> None:
            prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            os.dup2(commands, 3)
            os.dup2(answers, 4)

        self._process = subprocess.Popen(
            [program, *_FLAGS.split(), f"--user-data-dir={profile}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            close_fds=False,
            preexec_fn=of_the_child,
        )
        os.close(commands)
        os.close(answers)
        self._number = 0
        self._received = b""
        self._events: list[Message] = []

    def close(self) -> None:
        """End it, with all its processes."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._out)
        os.close(self._in)

    def call(self, method: str, session: str = "", **params: Any) -> Message:
        """The result of a command. Raises BrowserError."""
        self._number += 1
        message: Message = {"id": self._number, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        self._write(json.dumps(message).encode() + b"\0")
        answer = self._until(lambda one: one.get("id") == message["id"])
        if "error" in answer:
            raise BrowserError(f"{method}: {answer['error']}")
        result: Message = answer["result"]
        return result

    def wait_for(self, method: str, session: str) -> Message:
        """The next event of that name of a tab; one that has come already counts."""

        def wanted(one: Message) -> bool:
            return one.get("method") == method and one.get("sessionId") == session

        for at, one in enumerate(self._events):
            if wanted(one):
                return self._events.pop(at)
        return self._until(wanted)

    def told(self, session: str) -> list[Message]:
        """The events of a tab that nobody has waited for, up to now."""
        return [one for one in self._events if one.get("sessionId") == session]

    def forget(self, session: str) -> None:
        """Drop the events of a tab."""
        self._events = [one for one in self._events if one.get("sessionId") != session]

    def _write(self, raw: bytes) -> None:
        while raw:
            raw = raw[os.write(self._out, raw) :]

    def _until(self, wanted: Callable[[Message], bool]) -> Message:
        end = time.monotonic() + PATIENCE
        while True:
            while b"\0" in self._received:
                raw, self._received = self._received.split(b"\0", 1)
                message: Message = json.loads(raw)
                if wanted(message):
                    return message
                if "method" in message:
                    self._events.append(message)
            if not select.select([self._in], [], [], max(0.0, end - time.monotonic()))[0]:
                raise BrowserError(f"the browser said nothing for {PATIENCE} s")
            came = os.read(self._in, 1 << 20)
            if not came:
                raise BrowserError("the browser has ended")
            self._received += came


def _two_pipes() -> tuple[int, int, int, int]:
    command_in, command_out = os.pipe()
    answer_in, answer_out = os.pipe()
    return command_in, command_out, answer_in, answer_out


class Tab:
    """A page in a tab of its own."""

    def __init__(self, browser: Browser, url: str, width: int = 1280, height: int = 900) -> None:
        self._browser = browser
        target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        self._target = target
        attached = browser.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self._size = width, height
        self.resize()
        self.open(url)

    def call(self, method: str, **params: Any) -> Message:
        """The result of a command to this tab. Raises BrowserError."""
        return self._browser.call(method, self._session, **params)

    def resize(self, width: int | None = None) -> None:
        """Make the window so wide, in CSS pixels, or as wide as it was at first."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=self._size[0] if width is None else width,
            height=self._size[1],
            deviceScaleFactor=1,
            mobile=False,
        )

    def open(self, url: str) -> None:
        """Go to a page and wait until it is loaded."""
        self.call("Page.navigate", url=url)
        self._browser.wait_for("Page.loadEventFired", self._session)

    def reload(self) -> None:
        """Load the page again, with its address as it is."""
        self.call("Page.reload")
        self._browser.wait_for("Page.loadEventFired", self._session)

    def ask(self, expression: str) -> Any:
        """The value of an expression in the page; a promise is waited for. Raises BrowserError with
        what was thrown."""
        answer = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in answer:
            raise BrowserError(str(answer["exceptionDetails"].get("exception")))
        return answer["result"].get("value")

    def until(self, expression: str) -> None:
        """Wait until an expression is true in the page. Raises BrowserError if it never is."""
        self.ask(
            f"new Promise((done, never) => {{ let left = {PATIENCE * 50};"
            f"const look = () => {{ if ({expression}) done(true); "
            "else if (left--) setTimeout(look, 20); else never('it never is'); }; look(); })"
        )

    def press(self, *keys: str) -> None:
        """Press and release keys, by their names in KeyboardEvent.key; "Shift+Tab" as well."""
        for one in keys:
            shift = one.startswith("Shift+")
            key = one.removeprefix("Shift+")
            letter = len(key) == 1 and key.isascii() and key.isalnum()
            number = ord(key.upper()) if letter else _NAMED_KEYS.get(key, 0)
            event: Message = {"key": key, "windowsVirtualKeyCode": number}
            event["modifiers"] = 8 if shift else 0
            text = _TEXTS.get(key, "" if key in _NAMED_KEYS else key)
            self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **event)
            self.call("Input.dispatchKeyEvent", type="keyUp", **event)

    def picture(self, path: Path) -> None:
        """Write what is seen as a PNG."""
        data = self.call("Page.captureScreenshot", format="png")["data"]
        path.write_bytes(base64.b64decode(data))

    def complaints(self) -> list[str]:
        """What the page has logged as an error or warning, and what it threw, up to now."""
        self.ask("0")
        found = []
        for one in self._browser.told(self._session):
            params = one["params"]
            if one["method"] == "Runtime.exceptionThrown":
                found.append(str(params["exceptionDetails"]))
            elif one["method"] == "Log.entryAdded" and params["entry"]["level"] in _LOUD:
                found.append(params["entry"]["text"])
            elif one["method"] == "Runtime.consoleAPICalled" and params["type"] in _LOUD:
                found.append(str(params["args"]))
        return found

    def requests(self) -> list[str]:
        """The addresses that were asked for up to now."""
        self.ask("0")
        return [
            str(one["params"]["request"]["url"])
            for one in self._browser.told(self._session)
            if one["method"] == "Network.requestWillBeSent"
        ]

    def forget(self) -> None:
        """Count complaints and requests from now on only."""
        self.ask("0")
        self._browser.forget(self._session)

    def close(self) -> None:
        """Close the tab."""
        self._browser.call("Target.closeTarget", targetId=self._target)
        self._browser.forget(self._session)


_LOUD = ("error", "warning", "assert")


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A chromium; skips where there is none."""
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("there is no chromium")
    running = Browser(program, tmp_path_factory.mktemp("chromium"))
    try:
        yield running
    finally:
        running.close()
