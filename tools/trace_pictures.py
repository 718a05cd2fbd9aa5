"""Makes the pictures of docs/trace.md: the page of a trace in a browser.

    python tools/trace_pictures.py

It needs chromium. The pictures depend on its version and fonts, so no test compares them.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from browser import Browser, Tab  # noqa: E402
from lost_wake_up import record_lost_wake_up  # noqa: E402

from xennet.port import open_port  # noqa: E402
from xennet.run.links import run_ports  # noqa: E402
from xennet.run.options import RunOptions  # noqa: E402
from xennet.trace.page import write_html  # noqa: E402
from xennet.trace.recorder import recording  # noqa: E402
from xennet.trace.stream import Event, header_of  # noqa: E402

GUEST, HOST = "tcp:20000x2", "echo:"


def main() -> None:
    """Write the pictures into docs/."""
    program = shutil.which("chromium")
    if program is None:
        sys.exit("there is no chromium")
    with tempfile.TemporaryDirectory() as folder:
        run, lost = Path(folder, "run.html"), Path(folder, "lost.html")
        header, events = _record_run()
        write_html(header, events, run)
        write_html(*record_lost_wake_up(), lost)
        extra = next(e for e in events if (e.get("field"), e["dom"]) == ("slot 1", 0))
        browser = Browser(program, Path(folder, "profile"))
        try:
            _picture(browser, f"{run.as_uri()}#step={extra['n']}", "trace-page.png")
            _picture(browser, lost.as_uri(), "lost-wake-up.png", "t")
        finally:
            browser.close()


def _record_run() -> tuple[Event, list[Event]]:
    events: list[Event] = []
    with recording() as recorder:
        recorder.sink(events.append)

        def made(link: object) -> None:
            recorder.attach(link.host.machine)  # type: ignore[attr-defined]

        run_ports([open_port(GUEST)], [open_port(HOST)], RunOptions(), lambda *_: None, made=made)
        recorder.detach()
    return header_of(["run", "--guest", GUEST, "--host", HOST]), events


def _picture(browser: Browser, url: str, name: str, *keys: str) -> None:
    tab = Tab(browser, url, width=1100, height=1000)
    tab.press(*keys)
    tab.picture(ROOT / "docs" / name)
    tab.close()


if __name__ == "__main__":
    main()
