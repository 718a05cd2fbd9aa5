"""The page of a trace: what it refuses, what foreign text cannot do, what a browser shows."""

from __future__ import annotations

import json
import random
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from xennet.trace.page import MOST_EVENTS, write_html

HEADER = {"format": "xennet-trace/1", "run": {"command": ["run", "--guest", "</script><b>"]}}
HOSTILE = "</script><!--<script>\u2028\\x00<img src=x onerror=alert(1)>&"


def _event(n: int, kind: str, dom: int, **members: Any) -> dict[str, Any]:
    return {"n": n, "t": n, "d": 1, "dom": dom, "kind": kind, "cause": None, "text": kind} | members


def _lost_wake_up(rounds: int) -> tuple[list[dict[str, Any]], bytes, list[int], tuple[int, int]]:
    """A tx ring that is written at random; a backend sleeps after an early check.

    Returns the events, the bytes at the end, who wrote each last, and the steps of the avoided
    notification and of the check.
    """
    chance, ring, writer = random.Random(16), bytearray(4096), [0] * 4096
    events = [_event(1, "memory", 1, memory=1, what="tx ring", owner=1, frames=[7], bytes=4096)]

    def add(kind: str, dom: int, **members: Any) -> int:
        events.append(_event(len(events) + 1, kind, dom, **members))
        return len(events)

    def store(dom: int, at: int, data: bytes, field: str) -> int:
        n = add("store", dom, memory=1, at=at, size=len(data), bytes=data.hex(), field=field)
        ring[at : at + len(data)] = data
        writer[at : at + len(data)] = [n] * len(data)
        return n

    add("xenstore", 1, who=1, op="WRITE", path="/a" + HOSTILE, value=HOSTILE, tx=0, error=None)
    for _ in range(rounds):
        size = chance.choice((1, 2, 4, 8, 12, 40))
        store(1, chance.randrange(64, 4096 - size), chance.randbytes(size), HOSTILE)
    early = add("load", 0, memory=1, at=0, size=4, bytes="00000000", field="req_prod")
    store(1, 0, b"\1\0\0\0", "req_prod")
    setter = store(0, 4, b"\x02\0\0\0", "req_event")
    avoided = add("notify", 1, ring="tx", sent=False, old=0, new=1, event=2, event_set_by=setter)
    return events, bytes(ring), writer, (avoided, early)


def test_too_many_events_are_refused_and_the_other_form_is_named(tmp_path: Path) -> None:
    events = (_event(n, "lost", 0) for n in range(1, MOST_EVENTS + 2))
    with pytest.raises(ValueError, match=r"more than 50000 events.* FILE\.json .*Perfetto"):
        write_html(HEADER, events, tmp_path / "x.html")
    assert not (tmp_path / "x.html").exists()


def test_foreign_text_cannot_end_the_element_it_is_in(tmp_path: Path) -> None:
    events = _lost_wake_up(3)[0]
    page = tmp_path / "x.html"
    write_html(HEADER, events, page)
    text = page.read_text("utf-8")
    found = re.search(r'<script type="application/json" id="trace">([^<>&]*)</script>', text)
    assert found
    assert json.loads(found[1])["events"] == events
    assert text.count("</script>") == 2
    # A namespace of SVG is the only address.
    assert re.findall("https?://[^\"']*", text) == ["http://www.w3.org/2000/svg"]


def test_a_browser_tells_the_same_and_goes_from_the_lost_wake_up_to_the_check(
    tmp_path: Path,
) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("there is no chromium")
    events, ring, writer, steps = _lost_wake_up(1000)
    page = tmp_path / "x.html"
    write_html(HEADER, events, page)
    probe = f"""<pre id="out"></pre><script>
    const ring = "{ring.hex()}", writer = {writer}, steps = [], wrong = [];
    for (let at = 0; at < 4096; at++)
      if (explorer.byteAt(1, at, 1e9) !== parseInt(ring.substr(2 * at, 2), 16)
          || explorer.writtenBy(1, at, 1e9) !== writer[at]) wrong.push(at);
    for (const key of ["End", "w", "w", "Backspace", "Home", "ArrowRight"]) {{
      dispatchEvent(new KeyboardEvent("keydown", {{key}}));
      steps.push(explorer.step);
    }}
    document.getElementById("out").textContent =
      JSON.stringify({{wrong, steps, images: document.images.length}});
    </script></body>"""
    # The page's own policy would refuse the probe.
    text = re.sub("<meta http-equiv[^>]*>", "", page.read_text("utf-8"))
    page.write_text(text.replace("</body>", probe), "utf-8")
    flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync"
    flags += " --disable-background-networking --disable-component-update --dump-dom"
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    run = subprocess.run(
        [chromium, *flags.split(), profile, page.as_uri()],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    found = re.search('<pre id="out">(.*)</pre>', run.stdout)
    assert found, run.stderr
    avoided, early = steps
    assert json.loads(found[1]) == {
        "wrong": [],
        "steps": [avoided, avoided - 1, early, avoided - 1, 1, 2],
        "images": 0,
    }
