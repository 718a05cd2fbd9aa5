"""A recorded run as a capture: what tshark shows with the dissector is what the stream says."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from captures import LIMIT_S, columns, decoded, needs_tshark, packets, require_same
from click.testing import CliRunner

from xennet.abi import netif
from xennet.abi.ring import SRING_HEADER_SIZE
from xennet.cli import group
from xennet.trace.pcapng import write_pcapng
from xennet.trace.record_decoder import Fields, decode
from xennet.trace.records import Role
from xennet.trace.stream import header_of, read
from xennet.trace.writers import write

BAD = "_ws.lua.error or xennet.expert.cut or xennet.expert.unknown or xennet.expert.rule"


def events(*some: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for n, one in enumerate(some, 1):
        yield {"n": n, "t": 7, "d": 0, "dom": 1, "cause": None, "text": f"number {n}", **one}


def tx_requests(stream: Path) -> list[list[int]]:
    """gref, size of each tx request, by what the frontend stored before it published."""
    stored: dict[tuple[int, int], dict[str, int]] = {}
    told = []
    for event in read(stream)[1]:
        if event["kind"] == "store" and {"gref", "size"} & event.get("meaning", {}).keys():
            slot = event["memory"], int(event["field"].removeprefix("slot "))
            stored.setdefault(slot, {}).update(event["meaning"])
        if event["kind"] == "publish" and (event["ring"], event["index"]) == ("tx", "req_prod"):
            slots = [stored[event["memory"], i] for i in range(event["old"], event["new"])]
            told += [[slot["gref"], slot["size"]] for slot in slots]
    return told


@needs_tshark
def test_a_recorded_run_is_shown_with_the_requests_of_the_stream(tmp_path: Path) -> None:
    stream, capture, at_once = (tmp_path / one for one in ("a.jsonl", "b.pcapng", "c.pcapng"))
    run = ["trace", "run", "--guest", "gen:60x2", "--host", "null:", "-o"]
    for arguments in (
        [*run, str(stream)],
        ["trace", "show", str(stream), "-o", str(capture)],
        [*run, str(at_once)],
    ):
        assert CliRunner().invoke(group, arguments).exit_code == 0
    assert capture.read_bytes() == at_once.read_bytes()
    fields = ("xennet.tx.gref", "xennet.tx.size")
    lines = columns(capture, "xennet.kind == 2", *fields)
    assert [[int(value, 0) for value in line] for line in lines] == tx_requests(stream)
    assert len(lines) == 2
    assert columns(capture, BAD, "frame.number") == []
    states = [event for event in read(stream)[1] if event["kind"] == "state"]
    lines = columns(capture, 'xennet.text contains ": state "', "xennet.sequence", "frame.comment")
    assert [[int(line[0], 0), line[1]] for line in lines] == [[e["n"], e["text"]] for e in states]
    assert columns(capture, 'xennet.xs.string contains "feature-sg"', "frame.number")
    require_same(decoded(capture), [decode(data) for data in packets(capture, interface=1)])
    # Each request to the store has its answer, behind it.
    requests = [event for event in read(stream)[1] if event["kind"] == "xenstore"]
    said: dict[int | str, dict[int | str, Fields]] = {Role.TO_STORE: {}, Role.FROM_STORE: {}}
    for shown in map(decode, packets(capture, interface=1)):
        if "xennet.xs" in shown:
            said[shown["xennet.role"][0]][shown["xennet.xs.req_id"][0]] = shown
    asked, answers = said.values()
    assert [*asked] == [*answers] == [event["n"] for event in requests]
    for event in requests:
        question, answer = asked[event["n"]], answers[event["n"]]
        assert question.get("xennet.xs.path", [event["path"]]) == [event["path"]]
        assert answer.get("xennet.xs.error", [""]) == [event["error"]]
        if event["op"] == "READ" and event["value"]:
            assert answer["xennet.xs.value"] == [event["value"]]
        if event["op"] == "WRITE":
            assert question.get("xennet.xs.value", [""]) == [event["value"]]
            assert answer["xennet.xs.answer"] == ["OK"]
        if event["op"] == "TRANSACTION_START":
            assert answer["xennet.xs.transaction"] == [event["value"]] == [str(event["tx"])]


def ethernet(capture: Path) -> list[tuple[str, str]]:
    """(direction, bytes) of each frame of interface 0, as tshark reads them."""
    done = subprocess.run(
        ["tshark", "-r", str(capture), "-Y", "frame.interface_id == 0", "-T", "json", "-x"],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=True,
    )
    layers = [packet["_source"]["layers"] for packet in json.loads(done.stdout)]
    ways = {"0x00000001": "inbound", "0x00000002": "outbound"}
    return [(ways[layer["frame"]["frame.packet_flags"]], layer["frame_raw"][0]) for layer in layers]


@needs_tshark
@pytest.mark.parametrize("guest", ["gen:60x3", "tcp:9000x2"])
def test_frames_are_shown_once_whole_and_with_their_direction(tmp_path: Path, guest: str) -> None:
    stream, capture = tmp_path / "a.jsonl", tmp_path / "b.pcapng"
    run = ["trace", "run", "--guest", guest, "--host", "echo:", "-o", str(stream)]
    assert CliRunner().invoke(group, run).exit_code == 0
    assert (
        CliRunner().invoke(group, ["trace", "show", str(stream), "-o", str(capture)]).exit_code == 0
    )
    told: dict[tuple[str, str], list[str]] = {}
    for event in read(stream)[1]:
        if event["kind"] == "frame":
            told.setdefault((event["end"], event["direction"]), []).append(event["bytes"])
    there, back = told["guest", "in"], told["guest", "out"]
    assert there == told["host", "out"] == told["host", "in"] == back
    assert len(there) >= 2
    found = ethernet(capture)
    assert [data for way, data in found if way == "inbound"] == there
    assert [data for way, data in found if way == "outbound"] == back
    assert len(found) == 2 * len(there)


@needs_tshark
def test_without_a_backend_of_ours_frames_are_those_of_the_frontend(tmp_path: Path) -> None:
    one = {"kind": "frame", "vif": "vif1.0", "queue": 0, "end": "guest"}
    kept = {**one, "end": "host", "direction": "filtered", "bytes": "ee" * 14}
    netback = {"kind": "post", "name": "netback tx pass vif2.0 q0"}
    write_pcapng(
        header_of(),
        events(
            netback,
            {**one, "direction": "in", "bytes": "aa" * 14},
            {**one, "direction": "out", "bytes": "bb" * 14},
            {**one, "direction": "out", "bytes": "cc" * 14, "vif": "vif2.0"},
            kept,
        ),
        tmp_path / "a.pcapng",
    )
    assert ethernet(tmp_path / "a.pcapng") == [("inbound", "aa" * 14), ("outbound", "bb" * 14)]
    assert columns(tmp_path / "a.pcapng", "xennet", "xennet.sequence") == [["1"], ["5"]]


@needs_tshark
def test_extras_are_told_from_requests_by_the_chain_of_flags(tmp_path: Path) -> None:
    first = netif.TX_REQUEST.pack(8, 0, netif.NETTXF_extra_info | netif.NETTXF_more_data, 1, 90)
    extra = bytes([netif.XEN_NETIF_EXTRA_TYPE_GSO, netif.XEN_NETIF_EXTRA_FLAG_MORE])
    other = bytes([netif.XEN_NETIF_EXTRA_TYPE_HASH, 0])
    slots = [first, extra, other, netif.TX_REQUEST.pack(9, 0, 0, 2, 40)]
    slots = [slot.ljust(netif.TX_REQUEST.size, b"\0") for slot in slots]
    ring = {"memory": 1, "ring": "tx", "index": "req_prod"}
    whole = b"".join(slots)
    write_pcapng(
        header_of(),
        events(
            {"kind": "memory", "memory": 1, "what": "tx ring", "bytes": 4096},
            {"kind": "store", "memory": 1, "at": SRING_HEADER_SIZE, "bytes": whole.hex()},
            {"kind": "publish", **ring, "old": 0, "new": 2},  # in the middle of the packet
            {"kind": "publish", **ring, "old": 2, "new": 4},
            {"kind": "publish", **ring, "old": 4, "new": 4000},  # to where no slots are
        ),
        tmp_path / "a.pcapng",
    )
    lines = columns(tmp_path / "a.pcapng", "xennet", "xennet.kind", "xennet.index")
    kinds = [[int(value, 0) for value in line] for line in lines]
    assert kinds == [[2, 0], [6, 1], [1, 2], [6, 2], [2, 3], [1, 4], [1, 4000]]


@pytest.mark.parametrize(
    "bad",
    [
        {"kind": "store", "memory": 1, "at": 4090, "bytes": "00" * 8},
        {"kind": "store", "memory": 1, "at": "x", "bytes": "00"},
        {"kind": "memory", "memory": 2, "what": "rx ring", "bytes": 1 << 60},
        {"kind": "publish", "memory": 1, "ring": "tx", "index": "req_prod", "old": 0},
        {"kind": "send", "port": "x"},
        {"kind": "copy", "length": 1, "status": 0, "source": 5},
        {"kind": "xenstore", "op": "READ", "path": 5},
        {"kind": "state", "t": "now"},
        {"kind": "state", "t": -1},
        {"kind": "state", "dom": 1 << 40},
    ],
)
def test_an_event_of_another_form_is_named(tmp_path: Path, bad: dict[str, Any]) -> None:
    ring = {"kind": "memory", "memory": 1, "what": "tx ring", "bytes": 4096}
    with pytest.raises(ValueError, match="event 2"):
        write(header_of(), events(ring, bad), tmp_path / "a.pcapng")
