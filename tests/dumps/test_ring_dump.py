"""What a dumped ring page shows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xennet.abi.netif import (
    CTRL_REQUEST,
    EXTRA_GSO,
    EXTRA_MCAST,
    RX_REQUEST,
    RX_RESPONSE,
    TX_REQUEST,
    TX_RESPONSE,
    XEN_NETIF_EXTRA_TYPE_GSO,
    XEN_NETIF_EXTRA_TYPE_MCAST_ADD,
    NETRXF_extra_info,
    NETRXF_gso_prefix,
    NETRXF_more_data,
    NETTXF_extra_info,
    NETTXF_more_data,
)
from xennet.abi.ring import SRING_HEADER
from xennet.dumps.ring_dump import RingKind, RingPage
from xennet.dumps.ring_judge import Judgement, judge
from xennet.dumps.ring_text import guess_kind, ring_json, ring_text

RINGS = Path(__file__).parents[1] / "data" / "rings"
RECORDED = sorted(RINGS.glob("s*/*.bin"))


def page_of(kind: RingKind, slots: list[bytes], rsp_prod: int = 0) -> bytes:
    """A ring in its first round that holds ``slots``, of which the first ``rsp_prod`` are
    answered."""
    room = RingPage(bytes(4096), kind).sring.slot_size
    header = SRING_HEADER.pack(len(slots), len(slots) + 1, rsp_prod, rsp_prod + 1, b"", b"")
    return (header + b"".join(slot.ljust(room, b"\0") for slot in slots)).ljust(4096, b"\0")


def tx(size: int, flags: int = 0, offset: int = 0) -> bytes:
    return TX_REQUEST.pack(8, offset, flags, 1, size)


def judged(kind: RingKind, *slots: bytes, rsp_prod: int = 0) -> Judgement:
    return judge(RingPage(page_of(kind, list(slots), rsp_prod), kind))


def structures(judgement: Judgement) -> list[list[str]]:
    packets = (*judgement.requests, *judgement.responses)
    return [[slot.structure for slot in packet.slots] for packet in packets]


@pytest.mark.parametrize("recorded", RECORDED, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_recorded_ring_is_read_as_it_was_when_it_was_recorded(recorded: Path) -> None:
    wanted = json.loads(recorded.with_suffix(".json").read_text())
    content = recorded.read_bytes()
    kind = RingKind(wanted["ring"])
    assert guess_kind(content) is kind
    shown = ring_json(page := RingPage(content, kind), judge(page))
    assert {key: shown[key] for key in ("req_prod", "req_event", "rsp_prod", "rsp_event")} == {
        key: wanted[key] for key in ("req_prod", "req_event", "rsp_prod", "rsp_event")
    }
    requests = [slot for packet in shown["requests"] for slot in packet["slots"]]
    for seen, recorded_slot in zip(requests, wanted["requests"], strict=True):
        if seen["structure"] != "netif_extra_info":
            assert {key: seen[key] for key in recorded_slot} == recorded_slot
    side = "requests" if kind is RingKind.TX else "responses"
    firsts = {packet["slots"][0]["index"]: packet for packet in shown[side]}
    torn = bool(wanted["chains"]) and "beginning is gone" in shown[side][0]["fate"]
    for chain in wanted["chains"][torn:]:  # of the first one the recorder saw the end only
        packet = firsts[chain["first"]]
        assert len(packet["slots"]) == len(chain.get("slots", chain.get("lens"))) + len(
            chain["extras"]
        )
        assert packet["bytes"] == chain.get("size", sum(chain.get("lens", ())))
    assert shown["problems"] == []


def test_a_packet_is_shown_with_its_extra_infos() -> None:
    gso = EXTRA_GSO.pack(XEN_NETIF_EXTRA_TYPE_GSO, 0, 1448, 1, 0, 0)
    first = tx(3000, NETTXF_more_data | NETTXF_extra_info)
    seen = judged(RingKind.TX, first, gso, tx(1000))
    assert structures(seen) == [["netif_tx_request", "netif_extra_info", "netif_tx_request"]]
    assert seen.requests[0].size == 3000
    assert seen.problems == ()


def test_a_multicast_request_is_no_packet() -> None:
    mcast = EXTRA_MCAST.pack(XEN_NETIF_EXTRA_TYPE_MCAST_ADD, 0, bytes(6))
    seen = judged(RingKind.TX, tx(60, NETTXF_extra_info), mcast, tx(60))
    assert [(packet.size, packet.fate) for packet in seen.requests] == [
        (0, "multicast request"),
        (60, ""),
    ]


def test_a_refused_packet_is_named_with_its_rule_and_the_ring_goes_on() -> None:
    seen = judged(RingKind.TX, tx(100, NETTXF_more_data), tx(200), tx(60))
    assert [problem.rule for problem in seen.problems] == ["F4"]
    assert [packet.size for packet in seen.requests] == [100, 60]


def test_what_is_behind_a_fatal_packet_is_shown_as_not_read() -> None:
    seen = judged(RingKind.TX, tx(60), tx(200, offset=4000), tx(60))
    assert [(problem.rule, problem.index) for problem in seen.problems] == [("F5", 1)]
    assert [packet.fate for packet in seen.requests] == [
        "",
        "not read any more",
        "not read any more",
    ]


def test_a_ring_in_whose_packet_rsp_prod_stands_can_be_read_from_the_next_one() -> None:
    # Linux 7.3 answers the head of a packet first, under TCP.
    page = RingPage((RINGS / "08-tcp-from-guest-01.q0.tx.bin").read_bytes(), RingKind.TX)
    seen = judge(page)
    assert [problem.rule for problem in seen.problems] == ["F4"]
    assert "--start 2254" in seen.problems[0].text
    later = judge(page, 2254)
    assert later.problems == ()
    assert [packet.size for packet in later.requests] == [39162, 36266, 36266]


def test_requests_beyond_a_ring_make_its_slots_unbelievable() -> None:
    page = SRING_HEADER.pack(300, 1, 0, 1, b"", b"").ljust(4096, b"\1")
    seen = judge(RingPage(page, RingKind.TX))
    assert [problem.rule for problem in seen.problems] == ["F1"]
    assert seen.requests == seen.responses == ()


def test_responses_are_packets_as_netfront_takes_them() -> None:
    slots = [
        RX_RESPONSE.pack(0, 0, NETRXF_more_data | NETRXF_extra_info, 4096),
        EXTRA_GSO.pack(XEN_NETIF_EXTRA_TYPE_GSO, 0, 1448, 1, 0, 0),
        RX_RESPONSE.pack(2, 0, 0, 100),
        RX_RESPONSE.pack(3, 4000, 0, 200),  # beyond the page
        RX_RESPONSE.pack(4, 1448, NETRXF_gso_prefix | NETRXF_more_data, 0),
        RX_RESPONSE.pack(5, 0, 0, 100),
        RX_REQUEST.pack(6, 0, 9),
    ]
    seen = judged(RingKind.RX, *slots, rsp_prod=6)
    assert [(packet.size, len(packet.slots)) for packet in seen.responses] == [
        (4196, 3),
        (0, 1),
        (100, 2),
    ]
    assert [(problem.rule, problem.index) for problem in seen.problems] == [("B8", 3)]
    assert [packet.slots[0].values["gref"] for packet in seen.requests] == [9]


def test_a_page_that_was_posted_twice_is_named() -> None:
    seen = judged(RingKind.RX, *(RX_REQUEST.pack(i, 0, gref) for i, gref in enumerate((7, 8, 7))))
    assert [(problem.index, "gref 7" in problem.text) for problem in seen.problems] == [(2, True)]


def test_a_control_ring_shows_its_messages() -> None:
    message = CTRL_REQUEST.pack(1, 2, 15, 0, 0)
    page = RingPage(page_of(RingKind.CTRL, [message]), RingKind.CTRL)
    assert "type SET_HASH_FLAGS" in "\n".join(ring_text(page, judge(page), guessed=False))


@pytest.mark.parametrize(
    ("event", "told"),
    [
        (2, "wants an event, at the next request"),
        (4, "wants an event, at 3 more requests"),
        (1, "passed; the frontend does not notify"),
        (0x8000_0000, "passed; the frontend does not notify"),
    ],
)
def test_an_event_index_is_told_as_what_it_makes_the_other_end_do(event: int, told: str) -> None:
    page = SRING_HEADER.pack(1, event, 1, 2, b"", b"") + TX_RESPONSE.pack(1, 0)
    ring = RingPage(page.ljust(4096, b"\0"), RingKind.TX)
    assert told in "\n".join(ring_text(ring, judge(ring), guessed=False))


@given(st.binary(max_size=200), st.sampled_from(RingKind), st.integers(0, 2**32 - 1))
def test_any_page_is_told(damage: bytes, kind: RingKind, start: int) -> None:
    content = page_of(kind, [damage[i : i + 8] for i in range(0, len(damage), 8)], 2)
    for page in (RingPage(content, kind), RingPage(damage.ljust(4096, b"\xa5"), kind)):
        for judgement in (judge(page), judge(page, start)):
            assert list(ring_text(page, judgement, guessed=True))
            json.dumps(ring_json(page, judgement))
