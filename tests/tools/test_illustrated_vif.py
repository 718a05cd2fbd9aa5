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
from captures import columns, needs_tshark

from xennet.abi.netif import netif_extra_info, netif_rx_response, netif_tx_request
from xennet.abi.xen import PAGE_SIZE
from xennet.check.check import all_checks
from xennet.check.rule_book import rule_book
from xennet.host import Host
from xennet.trace.pcapng import write_pcapng
from xennet.trace.stream import header_of

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "illustrated-vif.html"


@pytest.fixture(scope="module")
def tool() -> Iterator[Any]:
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        from illustrated import items as items_of
        from illustrated import life, page

        yield type("Tool", (), {"page": page, "life": life, "items": items_of})
    finally:
        sys.path.remove(str(ROOT / "tools"))


class Eye:
    """Compares whole pages and the store behind each delivery, and knows nothing of accesses.

    ``changed``: bytes that ever differed, of the guest's pages and of all that domain 0 shares;
    ``nodes``: (path, value or None) of the nodes that did.
    """

    def __init__(self) -> None:
        self.changed: set[int] = set()
        self.nodes: set[tuple[str, bytes | None]] = set()
        self._pages: dict[int, bytes] | None = None
        self._tree: dict[str, bytes] = {}

    def look(self, host: Host, events: list[Any]) -> None:
        memory = host.machine.memory
        told = [event for event in events if event["kind"] == "memory" and event["owner"] == 0]
        shared = {frame for one in told if one["what"] != "page" for frame in one["frames"]}
        pages = {
            frame: bytes(memory.u8[frame * PAGE_SIZE : (frame + 1) * PAGE_SIZE])
            for frame in shared.union(memory.owned_by(1))
        }
        tree = dict(nodes(host.service.store.tree.root, ""))
        if self._pages is not None:
            for frame, now in pages.items():
                was = self._pages.get(frame, bytes(PAGE_SIZE))
                if now != was:
                    self.changed |= {frame * PAGE_SIZE + i for i in differing(was, now)}
            for path in tree.keys() | self._tree.keys():
                if tree.get(path) != self._tree.get(path):
                    self.nodes.add((path, tree.get(path)))
        self._pages, self._tree = pages, tree


def differing(one: bytes, other: bytes) -> Iterator[int]:
    return (i for i, (a, b) in enumerate(zip(one, other, strict=True)) if a != b)


def nodes(node: Any, path: str) -> Iterator[tuple[str, bytes]]:
    yield path or "/", bytes(node.value)
    for child in node.children.nodes():
        yield from nodes(child, f"{path}/{child.name}")


@pytest.fixture(scope="module")
def seen() -> Eye:
    return Eye()


@pytest.fixture(scope="module")
def recorded(tool: Any, seen: Eye) -> Any:
    return tool.life.record(seen.look)


@pytest.fixture(scope="module")
def writes(tool: Any, recorded: Any) -> list[Any]:
    return [one for one in tool.items.writes(recorded.events) if isinstance(one, tool.items.Write)]


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


def test_every_byte_that_was_written_is_explained_and_no_other(
    seen: Eye, recorded: Any, writes: list[Any], items: list[Any]
) -> None:
    explained = {at for item in items for at in item.bytes_at}
    memories = {event["memory"]: event for event in recorded.events if event["kind"] == "memory"}
    told = set()  # by the stream itself
    for event in recorded.events:
        if event["kind"] in ("store", "update"):
            frames = memories[event["memory"]]["frames"]
            for at in range(event["at"], event["at"] + event["size"]):
                told.add(frames[at // PAGE_SIZE] * PAGE_SIZE + at % PAGE_SIZE)
    assert explained == told == {at for one in writes for at in one.bytes_at}
    # Whole pages compared, which knows nothing of accesses: all pages that the guest ever had.
    assert len(seen.changed) > 3000
    assert seen.changed <= explained


def test_the_items_are_the_writes_in_their_order(
    tool: Any, recorded: Any, writes: list[Any], items: list[Any]
) -> None:
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
    assert left == dict(one for one in written if one[0] // 4096 in rings)


def test_every_memory_has_its_part(writes: list[Any]) -> None:
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
        "page",
    }


def test_every_change_of_the_store_is_explained(seen: Eye, recorded: Any, items: list[Any]) -> None:
    told = [(item.key, *item.node) for item in items if item.node is not None]
    removed = {path for key, path, _ in told if key == "node.RM"}
    made = {path for key, path, _ in told if key != "node.RM"}
    values = {(path, value) for _, path, value in told}
    assert len(seen.nodes) > 50
    for path, value in seen.nodes:
        if value is None:
            assert any(path == one or path.startswith(f"{one}/") for one in removed), path
        elif value:
            assert (path, value.decode()) in values
        else:  # made by itself, or on the way to another
            assert any(one == path or one.startswith(f"{path}/") for one in made), path


@needs_tshark
def test_the_capture_of_the_run_has_the_slots_of_the_page(
    tool: Any, recorded: Any, items: list[Any], tmp_path: Path
) -> None:
    capture = tmp_path / "run.pcapng"
    write_pcapng(header_of(), iter(recorded.events), capture)
    names = {field: f"xennet.{field}" for field in ("kind", "index")}
    for name in ("tx.gref", "tx.offset", "tx.flags", "tx.id", "tx.size", "tx_response.id"):
        names[name] = f"xennet.{name}"
    for name in ("tx_response.status", "rx_request.id", "rx_request.pad", "rx_request.gref"):
        names[name] = f"xennet.{name}"
    for name in ("rx.id", "rx.offset", "rx.flags", "rx.status", "extra.type", "extra.flags"):
        names[name] = f"xennet.{name}"
    for name in ("extra.gso.size", "extra.gso.type", "extra.gso.pad", "extra.gso.features"):
        names[name] = f"xennet.{name}"
    shown = columns(capture, "xennet.kind >= 2 && xennet.kind <= 6", *names.values())
    # The page's fields of the same slots, in the order of its items.
    filters = {"tx.request": "tx", "tx.response": "tx_response", "rx.request": "rx_request"}
    filters |= {"rx.response": "rx", "rx.extra": "extra"}
    wanted = []
    for item in items:
        if item.key in filters:
            line = dict.fromkeys(names, "")
            for span in item.spans:
                name = f"{filters[item.key]}.{span.key.removeprefix(item.key + '.')}"
                line[name] = str(int.from_bytes(span.raw, "little"))
            slot = int(item.title.partition("slot ")[2].partition(":")[0])
            wanted.append([str(slot), *(line[name] for name in names if "." in name)])
    told = []
    for line in shown:
        numbers = [str(int(value, 0)) if value else "" for value in line[1:]]
        numbers[0] = str(int(numbers[0]) % 256)
        told.append(numbers)
    assert len(told) == len(wanted) > 260
    assert told == wanted


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

    sent, answer = tool.life.tx_frame(), tool.life.rx_frame()
    assert raw("tx.buffers") == raw("staging.buffers") == sent
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
        {**one, "value": bad} if one["kind"] == "xenstore" else one for one in recorded.events
    ]
    fields = {
        key: {**entry, "text": bad, "field": bad, "by": bad}
        for key, entry in tool.page.explanations().fields.items()
    }
    said = evolve(tool.page.explanations(), fields=fields)
    page = tool.page.render(evolve(recorded, events=happened), said)
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


def test_no_line_goes_without_a_place_where_its_fields_are_explained(
    tool: Any, recorded: Any
) -> None:
    folded = re.findall(r'<details class="like">.*?</details>', PAGE.read_text(), re.DOTALL)
    targets = set(re.findall(r'<article class="i \w+" id="(n\d+)"', PAGE.read_text()))
    assert len(folded) > 20
    for one in folded:
        if "|" in one:
            links = re.findall(r'href="#(n\d+)"', one)
            assert links
            assert targets.issuperset(links)


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
