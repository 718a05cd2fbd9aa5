"""Reports stay well-formed whatever a hostile peer says, and have all the evidence."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import dpkt
import mock_drivers as mocks
import pytest
from attrs import evolve
from example_check import ID, run, target

from xennet.check.known_failures import KnownFailure
from xennet.check.outcome import Outcome
from xennet.check.reports.as_html import results_html
from xennet.check.reports.as_json import results_json
from xennet.check.reports.as_junit import results_junit
from xennet.check.reports.as_text import result_lines, summary
from xennet.check.reports.evidence_files import write_evidence
from xennet.check.reports.plain_text import fit_for_xml
from xennet.check.runner import Result
from xennet.trace.stream import read

NASTY = evolve(target(mocks.CrashesNastily), name=mocks.NASTY)


@pytest.fixture(scope="module")
def results() -> list[Result]:
    """A pass, an xfail, and a failure whose words are what a hostile driver makes of them."""
    known = KnownFailure(ID, Outcome.CRASHED, "slot 0", f"known {mocks.NASTY}")
    return [
        run(mocks.Refuses, Outcome.REFUSED),
        run(mocks.Crashes, Outcome.REFUSED, known=known),
        run(mocks.CrashesNastily, Outcome.REFUSED, traced=True),
    ]


def test_junit_is_xml_with_a_case_for_each_check(results: list[Result]) -> None:
    root = ElementTree.fromstring(results_junit(NASTY, results))
    (suite,) = root
    assert {suite.get(key) for key in ("tests",)} == {"3"}
    assert (suite.get("failures"), suite.get("skipped")) == ("1", "1")
    names = [[child.tag for child in case] for case in suite.iter("testcase")]
    assert names == [[], ["skipped"], ["failure"]]
    failure = next(suite.iter("failure"))
    assert failure.get("type") == "crashed"
    assert r"\x00\x1b[31m]]></failure><b>&amp;" in str(failure.text)


def test_html_is_xml_and_shows_the_evidence(results: list[Result]) -> None:
    page = results_html(NASTY, results)
    page.encode()
    root = ElementTree.fromstring(page)
    text = "".join(root.itertext())
    assert r"\x00\x1b[31m]]></failure><b>&amp;" in text
    assert "00000008 00000fa0 00c80000 | 00000008 00000000 00c80000" in text
    assert [row.get("class") for row in root.iter("{http://www.w3.org/1999/xhtml}tr")][1:4] == [
        "pass",
        "xfail",
        "FAIL",
    ]


def test_json_is_read_again_as_it_was(results: list[Result]) -> None:
    document = results_json(NASTY, results)
    assert document["not_played"] == []
    assert not results_json(NASTY, [], ["netback.one"])["good"]
    assert json.loads(json.dumps(document)) == document
    assert document["counts"] == {"FAIL": 1, "pass": 1, "xfail": 1}
    assert not document["good"]
    assert set(document["versions"]) == {"suite", "rules", "rules_digest"}
    failed = document["results"][2]
    assert failed["evidence"]["words"] == "00000008 00000fa0 00c80000"
    assert len(failed["slot_diff"]) == 1
    assert failed["evidence"]["path"] is None
    assert document["results"][0]["evidence"] is None


def test_text_cites_the_rule(results: list[Result]) -> None:
    told = "\n".join(result_lines(results[2]))
    assert "rule netif.tx.slot-in-page (MUST, tier memory)" in told
    assert "xen/io/netif.h of Xen 4." in told
    assert list(result_lines(results[0])) == [f"pass        {ID}  refused"]
    assert "1 FAIL, 1 pass, 1 xfail (suite " in summary(NASTY, results)


def test_evidence_has_slots_events_and_frames(results: list[Result], tmp_path: Path) -> None:
    write_evidence(tmp_path, results[2])
    place = tmp_path / ID
    assert json.loads((place / "result.json").read_text())["outcome"] == "crashed"
    assert "wrote queue 0 tx ring, index 0" in (place / "notes.txt").read_text()
    assert (place / "slot-diff.txt").read_text().count("\n") == 1
    header, stream = read(place / "trace.jsonl")
    events = list(stream)
    assert header["format"] == "xennet-trace/1"
    assert [event["n"] for event in events] == list(range(1, len(events) + 1))
    assert {"hypercall", "xenstore", "send", "upcall", "begin"} <= {e["kind"] for e in events}
    assert all({"t", "d", "dom", "cause", "text"} <= set(event) for event in events)
    last = events[-1]
    assert (last["kind"], last["rule"]) == ("check", "netif.tx.slot-in-page")
    assert last["verdict"] == "crashed"
    assert r"\x1b[31m]]></failure>" in last["text"]
    breaks = events[last["cause"] - 1]
    assert (breaks["kind"], breaks["dom"], breaks["field"]) == ("load", 0, "slot 0")
    assert breaks["meaning"]["offset"] == 4000
    control = list(read(place / "control-trace.jsonl")[1])
    assert control[-1]["kind"] != "check"
    with (place / "control-frames.pcap").open("rb") as file:
        frames = [frame for _, frame in dpkt.pcap.Reader(file)]
    assert any(b"probe 0 of queue 0" in frame for frame in frames)


def test_traces_are_not_kept_once_they_are_told(results: list[Result]) -> None:
    play = results[2].without_trace().play
    assert play is not None
    assert play.trace == ()


def test_any_character_can_be_in_xml() -> None:
    for code in (*range(0x120), 0xD800, 0xDFFF, 0xFFFE, 0xFFFF, 0x10FFFF):
        text = fit_for_xml(f"<{chr(code)}>")
        element = ElementTree.Element("a", b=text)
        element.text = text
        again = ElementTree.fromstring(ElementTree.tostring(element, encoding="utf-8"))
        assert (again.text, again.get("b")) == (text, text)
