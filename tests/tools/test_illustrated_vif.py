"""docs/illustrated-vif.html: every byte that changed is explained, by rules and checks that there
are, and the page is what a new run makes of it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from xennet.abi.netif import netif_extra_info, netif_rx_response, netif_tx_request
from xennet.check.check import all_checks
from xennet.check.rule_book import rule_book

pytest.importorskip("jinja2", reason="the page is rendered by jinja2")

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "illustrated-vif.html"


@pytest.fixture(scope="module")
def tool() -> Iterator[Any]:
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        from illustrated import items as items_of
        from illustrated import page, recording

        yield type("Tool", (), {"page": page, "recording": recording, "items": items_of})
    finally:
        sys.path.remove(str(ROOT / "tools"))


@pytest.fixture(scope="module")
def recorded(tool: Any) -> Any:
    return tool.recording.record()


@pytest.fixture(scope="module")
def items(tool: Any, recorded: Any) -> list[Any]:
    return [item for some in tool.items.chapters(recorded).values() for item in some]


def test_the_page_is_up_to_date_wherever_it_is_built(tool: Any, recorded: Any) -> None:
    elsewhere = subprocess.run(
        [sys.executable, ROOT / "tools" / "illustrated_vif.py", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert elsewhere.returncode == 0, elsewhere.stderr
    assert tool.page.render(recorded, tool.page.explanations()) == PAGE.read_text()


def test_every_byte_that_changed_is_explained(tool: Any, recorded: Any, items: list[Any]) -> None:
    explained = {at for item in items for at in item.bytes_at}
    writes = [one for one in recorded.happened if isinstance(one, tool.recording.Write)]
    written = {at for one in writes for at in one.bytes_at}
    assert written <= explained
    # Whole pages compared, which knows nothing of accesses: all pages that the guest ever had.
    assert len(recorded.changed) > 3000
    assert recorded.changed <= explained
    # And nothing is explained that is no write, but for bytes of messages of the store that were
    # the same before.
    rings = {at // 4096 for one in writes if one.what == "store ring" for at in one.bytes_at}
    assert {at // 4096 for at in explained - written} <= rings


def test_the_items_are_the_writes_in_their_order(
    tool: Any, recorded: Any, items: list[Any]
) -> None:
    writes = [one for one in recorded.happened if isinstance(one, tool.recording.Write)]
    written = [(at, b) for one in writes for at, b in zip(one.bytes_at, one.new, strict=True)]
    told = [
        (at, b)
        for item in items
        for at, b in zip(item.bytes_at, b"".join(s.raw for s in item.spans), strict=True)
    ]
    # The store's messages are told when their index is published: there it is what is left that
    # counts.
    rings = {one.frame for one in writes if one.what == "store ring"}
    assert [one for one in told if one[0] // 4096 not in rings] == [
        one for one in written if one[0] // 4096 not in rings
    ]
    left = dict(one for one in told if one[0] // 4096 in rings)
    assert {at: left.get(at) for at, _ in written if at // 4096 in rings} == dict(
        one for one in written if one[0] // 4096 in rings
    )


def test_every_memory_has_its_part(tool: Any, recorded: Any) -> None:
    writes = [one for one in recorded.happened if isinstance(one, tool.recording.Write)]
    assert {one.what for one in writes} == {
        "tx ring",
        "rx ring",
        "grant table",
        "tx buffers",
        "rx buffers",
        "shared info",
        "event array",
        "control block",
        "store ring",
    }


def test_every_change_of_the_store_is_explained(recorded: Any, items: list[Any]) -> None:
    told = [(item.key, *item.node) for item in items if item.node is not None]
    removed = {path for key, path, _ in told if key == "node.RM"}
    made = {path for key, path, _ in told if key != "node.RM"}
    values = {(path, value) for _, path, value in told}
    assert len(recorded.nodes) > 50
    for path, value in recorded.nodes:
        if value is None:
            assert any(path == one or path.startswith(f"{one}/") for one in removed), path
        elif value:
            assert (path, value.decode()) in values
        else:  # made by itself, or on the way to another
            assert any(one == path or one.startswith(f"{path}/") for one in made), path


class _Seen(HTMLParser):
    """The numbers of the items that a page shows, and the bytes of each."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers: list[int] = []
        self.hex: dict[int, str] = {}
        self.tags: set[str] = set()
        self._in = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        have = dict(attrs)
        if tag == "article":
            self.numbers.append(int((have["id"] or "").removeprefix("n")))
        if tag == "span":
            self._in = "hex" if have.get("class", "") in {f"k{i}" for i in range(6)} else ""
        elif tag == "pre":
            self._in = "pre"

    def handle_endtag(self, tag: str) -> None:
        self._in = ""

    def handle_data(self, data: str) -> None:
        if self._in == "hex":
            number = self.numbers[-1]
            self.hex[number] = self.hex.get(number, "") + data.replace(" ", "")
        elif self._in == "pre":
            self.numbers += [int(line.split()[0]) for line in data.splitlines()]


def test_the_page_shows_every_item_and_its_bytes(items: list[Any]) -> None:
    seen = _Seen()
    seen.feed(PAGE.read_text())
    assert sorted(seen.numbers) == [item.number for item in items]
    by_number = {item.number: item for item in items}
    for number, raw in seen.hex.items():
        assert raw == b"".join(span.raw for span in by_number[number].spans).hex()
    assert len(seen.hex) > 50


def test_rules_and_checks_are_those_that_there_are(tool: Any) -> None:
    rules, checks = rule_book(), {one.id: one for one in all_checks()}
    for key, entry in tool.page.explanations().fields.items():
        assert set(entry) <= {"field", "by", "text", "rule", "check"}, key
        rule = rules[entry["rule"]]
        if "check" in entry:
            assert checks[entry["check"]].rule == rule.id, key
        else:
            assert rule.unseen, f"{key}: there are checks of {rule.id}"


def test_what_is_shown_is_what_the_structures_say(
    tool: Any, recorded: Any, items: list[Any]
) -> None:
    def raw(key: str) -> bytes:
        first = next(item for item in items if item.key == key)
        return b"".join(span.raw for span in first.spans)

    sent, answer = tool.recording.tx_frame(), tool.recording.rx_frame()
    assert raw("tx.buffers") == sent
    assert raw("rx.buffers") == answer
    to_guest, to_host = recorded.received
    assert to_guest == [answer]
    # What came out at the host's end is the frame as it was sent, blank checksum and all.
    assert to_host == [sent]
    request = netif_tx_request.parse(raw("tx.request"))
    assert (request.size, request.flags, request.offset) == (len(sent), 3, 0)
    response = netif_rx_response.parse(raw("rx.response"))
    assert (response.status, response.flags) == (len(answer), 11)
    extra = netif_extra_info.parse(raw("rx.extra"))
    assert (extra.type, extra.flags, extra.u.gso.size, extra.u.gso.type) == (1, 0, 32, 1)
    shown = {
        span.key: span.meaning for item in items if item.key == "tx.request" for span in item.spans
    }
    assert shown["tx.request.gref"] == str(request.gref)
    assert shown["tx.request.id"] == str(request.id)


def test_hostile_text_stays_text(tool: Any, recorded: Any) -> None:
    bad = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&"
    happened = [
        evolve(one, value=bad.encode()) if isinstance(one, tool.recording.NodeChange) else one
        for one in recorded.happened
    ]
    fields = {
        key: {**entry, "text": bad, "field": bad, "by": bad}
        for key, entry in tool.page.explanations().fields.items()
    }
    said = evolve(tool.page.explanations(), fields=fields)
    page = tool.page.render(evolve(recorded, happened=happened), said)
    assert page.count("<script") == page.count("</script") == 1
    assert "<img" not in page
    seen = _Seen()
    seen.feed(page)
    ours = _Seen()
    ours.feed(PAGE.read_text())
    assert seen.tags == ours.tags


def test_the_page_needs_nothing_else() -> None:
    page = PAGE.read_text()
    assert len(page) < 600_000
    assert re.findall(r"(?:src|href)=\"(?!#)", page) == []
    for one in ("url(", "@import", "://"):
        assert one not in page
    assert "default-src 'none'" in page
    targets = set(re.findall(r'id="([^"]+)"', page))
    assert set(re.findall(r'href="#([^"]+)"', page)) <= targets


def test_no_field_goes_without_an_explanation_and_none_is_idle(tool: Any, recorded: Any) -> None:
    said = tool.page.explanations()
    fields = dict(said.fields)
    del fields["tx.request.gref"]
    with pytest.raises(tool.page.ExplanationError, match=r"nobody explains tx\.request\.gref"):
        tool.page.render(recorded, evolve(said, fields=fields))
    fields = {**said.fields, "tx.request.colour": said.fields["tx.request.gref"]}
    with pytest.raises(tool.page.ExplanationError, match=r"never written: tx\.request\.colour"):
        tool.page.render(recorded, evolve(said, fields=fields))
    moments = [*said.moments, {"chapter": "attach", "at": "tx.request", "text": "?"}]
    with pytest.raises(tool.page.ExplanationError, match="no such moment"):
        tool.page.render(recorded, evolve(said, moments=moments))


#: Run in a browser behind the page's own script: opens everything by the button, then tells.
_TRY = """<script>
document.getElementById("all").click();
const open = [...document.querySelectorAll("details")].every((one) => one.open);
location.hash = "#sum";
document.title = `open ${open}, items ${document.querySelectorAll("article").length}`;
</script></body>"""


def _dump(chromium: str, page: Path, profile: Path) -> tuple[str, str]:
    """The document as a browser has it in the end, and what it logs."""
    options = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync"
    options += " --disable-background-networking --disable-component-update"
    done = subprocess.run(
        [
            chromium,
            *options.split(),
            "--enable-logging=stderr",
            f"--user-data-dir={profile}",
            "--dump-dom",
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return done.stdout, done.stderr


def test_a_browser_has_nothing_to_complain_of(tmp_path: Path) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("there is no chromium")
    page = tmp_path / "page.html"
    page.write_text(PAGE.read_text().replace("</body>", _TRY))
    document, log = _dump(chromium, page, tmp_path / "profile")
    count = PAGE.read_text().count("<article")
    assert f"<title>open true, items {count}</title>" in document
    assert "CONSOLE" not in log
    # The log would say so: this page may load nothing.
    page.write_text(PAGE.read_text().replace("</body>", '<img src="data:image/gif,x"></body>'))
    assert "CONSOLE" in _dump(chromium, page, tmp_path / "profile")[1]
