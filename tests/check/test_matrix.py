"""The matrix of built-in drivers: what is known of them, and the evidence of what is red."""

from __future__ import annotations

import json
from pathlib import Path

import dpkt
import pytest

from xennet.cli import main
from xennet.trace.stream import read


def test_red_cells_are_those_that_are_known(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["--only", "tcp-to-guest", "--evidence", str(tmp_path)]
    assert main(["check", "matrix", "--json", *args]) == 1
    cells = json.loads(capsys.readouterr().out)["cells"]
    red = {(one["frontend"], one["backend"]): one["reasons"][0] for one in cells if not one["good"]}
    assert len(cells) == 6
    # FreeBSD's netback loses more_data (B4), and shows InitWait once only (C3).
    assert "defect B4" in red.pop(("linux", "xnb"))
    assert "defect B4" in red.pop(("freebsd", "xnb"))
    assert "did not connect" in red.pop(("windows", "xnb"))
    assert not red
    place = tmp_path / "linux-xnb-tcp-to-guest"
    with (place / "guest.pcap").open("rb") as file:
        assert list(dpkt.pcap.Reader(file))
    events = list(read(place / "trace.jsonl")[1])
    assert {"packet", "hypercall", "state"} <= {event["kind"] for event in events}
    assert (events[-1]["kind"], events[-1]["verdict"]) == ("check", "FAIL")
    assert "defect B4" in events[-1]["text"]


def test_green_cells_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "matrix", "--only", "small"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines[:4]] == [
        ["linux", "xnb"],
        ["linux", "1/1", "1/1"],
        ["freebsd", "1/1", "1/1"],
        ["windows", "1/1", "0/1"],
    ]
    assert lines[4].startswith("windows with xnb: small: the vif did not connect")
    words = "--guest gen:60x100 --host echo: --frontend windows --backend xnb"
    assert lines[5:] == [f"  again: xennet step {words}"]


def test_a_case_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "matrix", "--only", "udp"]) == 2
    assert "No case is like udp." in capsys.readouterr().err
