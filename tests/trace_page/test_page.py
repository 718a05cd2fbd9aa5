"""The page of a trace as a file: what it refuses, what foreign text cannot do, what it knows."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from construct import Int16ul, Struct

from xennet.abi import netif
from xennet.check.rule_book import rule_book
from xennet.trace import page
from xennet.trace.page import MOST_EVENTS, write_html
from xennet.trace.page.structures import STEP_RULES, memories, rules, states, structures

HEADER = {"format": "xennet-trace/1", "run": {"command": ["run", "--guest", "</script><b>"]}}
HOSTILE = "</script><!--<script>\u2028\\x00<img src=x onerror=alert(1)>&"


def _events(count: int) -> Iterator[dict[str, Any]]:
    for n in range(1, count + 1):
        yield {"n": n, "t": 0, "d": 0, "dom": 0, "kind": "lost", "cause": None, "text": HOSTILE}


def test_too_many_events_are_refused_and_the_other_form_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match=r"more than 50000 events.* FILE\.json .*Perfetto"):
        write_html(HEADER, _events(MOST_EVENTS + 1), tmp_path / "x.html")
    monkeypatch.setattr(page, "MOST_BYTES", 1000)
    with pytest.raises(ValueError, match=r"more than 1000 bytes.* FILE\.json"):
        write_html(HEADER, _events(20), tmp_path / "x.html")
    assert not (tmp_path / "x.html").exists()


def test_foreign_text_cannot_end_the_element_it_is_in(tmp_path: Path) -> None:
    events = list(_events(3))
    out = tmp_path / "x.html"
    write_html(HEADER, events, out)
    text = out.read_text("utf-8")
    found = re.search(r'<script type="application/json" id="trace">([^<>&]*)</script>', text)
    assert found
    assert json.loads(found[1]) == {"header": HEADER, "events": events}
    assert text.count("</script>") == 3
    policy = re.search('http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    assert policy
    assert re.fullmatch(
        "default-src 'none'; script-src 'sha256-[^' ]*'; style-src 'sha256-[^' ]*'; "
        "base-uri 'none'; form-action 'none'",
        policy[1].replace("&#39;", "'"),
    )
    # A namespace of SVG is the only address.
    assert re.findall("https?://[^\"']*", text) == ["http://www.w3.org/2000/svg"]


STORE = {"kind": "store", "memory": 1, "at": 0, "size": 2, "bytes": "0102", "old": "0000"}
MEMORY = {"kind": "memory", "memory": 1, "what": "tx ring", "owner": 1, "bytes": 4096}


@pytest.mark.parametrize(
    "damaged",
    [
        {**STORE, "at": "x"},
        {**STORE, "at": -1},
        {**STORE, "at": 4095},
        {**STORE, "size": 1 << 70},
        {**STORE, "size": True},
        {**STORE, "bytes": "01"},
        {**STORE, "bytes": "01zz"},
        {**STORE, "bytes": 5},
        {**STORE, "old": "0 00"},
        {**STORE, "kind": "load", "bytes": "010203"},
        {**MEMORY, "bytes": 1 << 70},
        {**MEMORY, "initial": "zz"},
        {**MEMORY, "memory": [1]},
    ],
)
def test_an_access_that_cannot_be_is_refused_with_its_event(
    damaged: dict[str, Any], tmp_path: Path
) -> None:
    good = [MEMORY, STORE, {**STORE, "kind": "load"}, {**STORE, "kind": "update", "memory": 9}]
    write_html(HEADER, [{"n": n, **one} for n, one in enumerate(good, 1)], tmp_path / "x.html")
    with pytest.raises(ValueError, match=r"event 7 is not as docs/trace\.md says"):
        write_html(HEADER, [{"n": 1, **MEMORY}, {"n": 7, **damaged}], tmp_path / "x.html")


def test_rules_that_steps_follow_are_in_the_book() -> None:
    cited = {one for ids in STEP_RULES.values() for one in ids}
    assert cited <= rule_book().keys()
    for one, said in rules(["netif.tx.layout", "F3", "no rule"]).items():
        assert said["text"] == rule_book()[one].text
    assert rules(["netif.tx.layout"]).keys() - cited == {"netif.tx.layout"}


def test_structures_are_those_of_the_abi(monkeypatch: pytest.MonkeyPatch) -> None:
    (fields,) = structures()["TX_REQUEST"]["variants"].values()
    assert [(one["name"], one["at"], one["size"]) for one in fields] == [
        (name, netif.TX_REQUEST.offsets[name], netif.TX_REQUEST.sizes[name])
        for name in netif.TX_REQUEST.fields
    ]
    assert memories()["tx ring"]["unit"] == netif.TX_REQUEST.size
    assert states()[4] == "Connected"
    longer = "netif_tx_request" / Struct(*netif.netif_tx_request.subcons, "colour" / Int16ul)
    monkeypatch.setattr(netif, "netif_tx_request", longer)
    changed = structures()["TX_REQUEST"]
    assert changed["size"] == 14
    assert changed["variants"]["-1"][-1] == {"name": "colour", "at": 12, "size": 2}
