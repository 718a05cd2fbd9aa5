"""What a notebook shows of an object: tables in which foreign bytes are never markup."""

from __future__ import annotations

import subprocess
import sys
from html.parser import HTMLParser

import pytest

from xennet import BackRing, FrontRing, Host, VifLink, open_port, tx_ring
from xennet.adversary import Adversary
from xennet.engine.choice import using
from xennet.html_table import MOST_ROWS, html_table
from xennet.trace import Trace

HOSTILE = "<script>alert(1)</script>'\"&\x00\x1b\x9b"


class Elements(HTMLParser):
    """The elements and the text of a fragment, which has to be balanced."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.seen: set[str] = set()
        self.text: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


TABLE = {"table", "caption", "tr", "th", "td"}


def test_cells_are_text_whatever_is_in_them() -> None:
    page = Elements(html_table(HOSTILE, (HOSTILE,), [(HOSTILE, 3)]))
    assert page.seen == TABLE
    shown = "<script>alert(1)</script>'\"&\\x00\\x1b\\x9b"
    assert page.text == [shown, shown, shown, "3"]


def test_a_long_table_tells_how_many_rows_are_not_shown() -> None:
    page = Elements(html_table("", (), ((n,) for n in range(MOST_ROWS + 7))))
    assert len(page.text) == MOST_ROWS + 1
    assert page.text[-1] == "and 7 more"


@pytest.mark.parametrize("end", [FrontRing, BackRing])
def test_a_ring_shows_its_indices_and_the_slots_in_use(end: type[FrontRing | BackRing]) -> None:
    raw = memoryview(bytearray(4096))
    sring = tx_ring(raw, raw.cast("I"))
    sring.init()
    sring.write_slot(2, b"<b>&")
    sring.req_prod = 3
    page = Elements(end(sring)._repr_html_())
    assert page.seen == TABLE
    text = " ".join(page.text)
    assert "req_prod 3 req_event 1 rsp_prod 0 rsp_event 1" in text
    assert "slot bytes 2 3c623e26 00000000 00000000" in text
    assert repr(sring) == "<SharedRing tx: req_prod 3, req_event 1, rsp_prod 0, rsp_event 1>"
    assert repr(end(sring)).startswith(f"<{end.__name__} tx: ")


def test_looking_at_a_ring_is_no_access_that_a_watcher_of_shared_memory_sees() -> None:
    raw, adversary, seen = memoryview(bytearray(4096)), Adversary(), []
    with using(adversary):
        sring = tx_ring(raw, raw.cast("I"))
    with adversary.watching(seen.append):
        repr(sring)
        sring._repr_html_()
        assert not seen
        assert sring.req_prod == 0
    assert seen


def test_a_vif_shows_its_directories_and_its_rings() -> None:
    link = VifLink(open_port("gen:60x2"), open_port("null:"))
    assert Elements(link._repr_html_()).text == ["<VifLink 1 vifs, not open yet>"]
    link.open()
    link.carry()
    page = Elements(link._repr_html_())
    assert page.seen == TABLE
    text = " ".join(page.text)
    assert "vif1.0 frontend /local/domain/1/device/vif/0" in text
    assert "linux to linux, connected" in text
    assert "0 tx 2 3 2 3 0 rx " in text
    link.destroy()


def test_a_store_shows_every_node_and_values_are_no_markup() -> None:
    host = Host()
    host.store.write("/tool/x", HOSTILE.encode())
    page = Elements(host.service.store._repr_html_())
    assert page.seen == TABLE
    after = page.text[page.text.index("/tool/x") + 1]
    assert after.startswith("<script>alert(1)</script>'\"&\\000\\x1b")
    assert repr(host.service.store).startswith("<Store ")
    host.destroy()


def test_a_trace_shows_its_events_and_sentences_are_no_markup() -> None:
    trace = Trace(events=[{"n": 1, "t": 0, "dom": 1, "kind": "xenstore", "text": HOSTILE}])
    page = Elements(trace._repr_html_())
    assert page.seen == TABLE
    assert page.text[0] == repr(trace) == "<Trace 1 events>"
    assert page.text[-2:] == ["xenstore", "<script>alert(1)</script>'\"&\\x00\\x1b\\x9b"]


def test_tables_need_no_notebook() -> None:
    code = "import sys, xennet.ring; print([m for m in ('IPython', 'html') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
