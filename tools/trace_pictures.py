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
from recorded_run import record_run  # noqa: E402

from xennet.trace.page import write_html  # noqa: E402


def main() -> None:
    """Write the pictures into docs/."""
    program = shutil.which("chromium")
    if program is None:
        sys.exit("there is no chromium")
    with tempfile.TemporaryDirectory() as folder:
        run, lost = Path(folder, "run.html"), Path(folder, "lost.html")
        header, events = record_run("tcp:20000x2", "echo:")
        write_html(header, events, run)
        write_html(*record_lost_wake_up(), lost)
        extra = next(e for e in events if (e.get("field"), e["dom"]) == ("slot 1", 0))
        browser = Browser(program, Path(folder, "profile"))
        try:
            _picture(browser, f"{run.as_uri()}#step={extra['n']}", "trace-page.png")
            _picture(browser, lost.as_uri(), "lost-wake-up.png", "t")
        finally:
            browser.close()


def _picture(browser: Browser, url: str, name: str, *keys: str) -> None:
    tab = Tab(browser, url, width=1100, height=1000)
    tab.press(*keys)
    tab.picture(ROOT / "docs" / name)
    tab.close()


if __name__ == "__main__":
    main()
