"""What stores and loads mean: slots and extra infos of all rings, grants, event bits, also damaged
ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import cast

import pytest
from consistency import require_consistent
from hypothesis import example, given
from hypothesis import strategies as st
from recorded_run import record_run

from xennet.abi import netif
from xennet.abi.event_channel import EVTCHN_FIFO_PENDING
from xennet.abi.grant_table import (
    GRANT_ENTRY_V2_FULL,
    GRANT_ENTRY_V2_SUB,
    GRANT_ENTRY_V2_TRANSITIVE,
    GTF_permit_access,
    GTF_reading,
    GTF_readonly,
    GTF_sub_page,
    GTF_transitive,
)
from xennet.abi.ring import SRING_HEADER_SIZE
from xennet.testing import VifSetup
from xennet.trace import meanings
from xennet.trace.recorder import recording
from xennet.trace.records import Kind
from xennet.trace.ring_slots import RINGS, RingSlots
from xennet.trace.stream import Event

EXTRA = "netif_extra_info"


class Ring:
    """A ring's page and what is followed of it; ends write to it as drivers do."""

    def __init__(self, what: str) -> None:
        self.held = bytearray(4096)
        self.slots = RingSlots(RINGS[what], self.held)

    def write(self, index: int, raw: bytes, by_frontend: bool = True) -> Kind:
        slot = index % self.slots.count
        at = SRING_HEADER_SIZE + slot * self.slots.ring.slot_size
        self.held[at : at + len(raw)] = raw
        return self.slots.stored(slot, by_frontend)

    def publish(self, word: int, index: int) -> None:
        self.held[4 * word : 4 * word + 4] = (index % 2**32).to_bytes(4, "little")
        self.slots.published()

    def meaning(self, index: int) -> meanings.Meaning:
        slot = index % self.slots.count
        width = self.slots.ring.slot_size
        at = SRING_HEADER_SIZE + slot * width
        return meanings.slot_of_ring(self.slots.kinds[slot], slot, width, self.held, at, width)


def request(flags: int) -> bytes:
    return netif.TX_REQUEST.pack(8, 0, flags, 1, 60)


def extra(more: int, kind: int = netif.XEN_NETIF_EXTRA_TYPE_GSO) -> bytes:
    return bytes((kind, more, 0xB4, 5, 1, 0, 0, 0, 0, 0, 0, 0))


PACKETS = st.lists(st.tuples(st.integers(1, 3), st.integers(0, 3)), max_size=40)


@given(PACKETS, st.integers(0, 2**32 - 1), st.randoms(use_true_random=False))
def test_extras_are_told_from_requests_however_they_are_published(
    packets: list[tuple[int, int]], start: int, random: object
) -> None:
    """(data slots, extra infos) of each packet; the indices go past 2^32."""
    ring, index, wanted, found = Ring("tx ring"), start, [], []
    ring.publish(0, start)
    ring.publish(2, start)
    for data, extras in packets:
        more = netif.NETTXF_more_data if data > 1 else 0
        slots = [(Kind.TX_REQUEST, request(more | (netif.NETTXF_extra_info if extras else 0)))]
        slots += [(Kind.EXTRA_INFO, extra(int(n < extras))) for n in range(1, extras + 1)]
        slots += [
            (Kind.TX_REQUEST, request(netif.NETTXF_more_data if n < data else 0))
            for n in range(2, data + 1)
        ]
        for kind, raw in slots:
            wanted.append(kind)
            found.append(ring.write(index, raw))
            index += 1
            if random.random() < 0.3:  # type: ignore[attr-defined]
                ring.publish(0, index)
                if random.random() < 0.5:  # type: ignore[attr-defined]
                    ring.publish(2, index)  # all is answered
    assert found == wanted


def test_an_answer_is_a_response_and_what_was_answered_can_be_written_again() -> None:
    ring = Ring("tx ring")
    ring.write(0, request(netif.NETTXF_extra_info))
    ring.write(1, extra(0))
    ring.publish(0, 2)
    assert ring.write(1, extra(0)) is Kind.EXTRA_INFO  # once more, while it waits
    raw = netif.TX_RESPONSE.pack(7, netif.NETIF_RSP_NULL)
    assert ring.write(1, raw, by_frontend=False) is Kind.TX_RESPONSE
    assert ring.meaning(1).values == {"id": 7, "status": 1, "status_name": "NULL"}
    ring.publish(2, 2)
    assert ring.write(257, request(0)) is Kind.TX_REQUEST


def test_a_type_that_there_is_not_is_said_to_be_unknown() -> None:
    ring = Ring("tx ring")
    ring.write(0, request(netif.NETTXF_extra_info))
    ring.write(1, extra(0, 77))
    meaning = ring.meaning(1)
    assert (meaning.structure, meaning.values["type_name"]) == (EXTRA, "unknown")
    assert meaning.values["pad.0"] == 0x5B4


@pytest.mark.parametrize(
    ("kind", "member"),
    [
        (netif.XEN_NETIF_EXTRA_TYPE_GSO, {"gso.size": 0x5B4, "gso.type_name": "TCPV4"}),
        (netif.XEN_NETIF_EXTRA_TYPE_MCAST_ADD, {"mcast.addr": "b40501000000"}),
        (netif.XEN_NETIF_EXTRA_TYPE_HASH, {"hash.type": 0xB4, "hash.value": "01000000"}),
    ],
)
def test_extras_are_read_by_their_type(kind: int, member: dict[str, object]) -> None:
    ring = Ring("rx ring")
    ring.publish(0, 2)
    ring.write(0, netif.RX_RESPONSE.pack(0, 0, netif.NETRXF_extra_info, 60), by_frontend=False)
    assert ring.write(1, extra(0, kind)[:8], by_frontend=False) is Kind.EXTRA_INFO
    assert member.items() <= ring.meaning(1).values.items()


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 255), st.binary(max_size=12))))
@example([(2, 0, b"\x01"), (1, 0, b"")])  # a request that is written after it was published
def test_no_damage_is_too_much(steps: list[tuple[int, int, bytes]]) -> None:
    for what in RINGS:
        ring = Ring(what)
        for step, index, raw in steps:
            if step < 2:
                slot = index % ring.slots.count
                kind = ring.write(index, raw[: ring.slots.ring.slot_size], by_frontend=bool(step))
                assert ring.slots.kinds[slot] is kind is ring.slots.loaded(slot, bool(step))
                assert ring.meaning(index).structure
            else:
                ring.publish((step - 2) % 4, int.from_bytes(raw[:4], "little"))


@pytest.mark.parametrize(
    ("layout", "values", "wanted"),
    [
        (GRANT_ENTRY_V2_FULL, (GTF_permit_access, 3, 0, 1 << 40), {"domid": 3, "frame": 1 << 40}),
        (
            GRANT_ENTRY_V2_SUB,
            (GTF_permit_access | GTF_sub_page, 3, 100, 60, 9),
            {"page_off": 100, "length": 60, "frame": 9},
        ),
        (
            GRANT_ENTRY_V2_TRANSITIVE,
            (GTF_transitive, 3, 5, 0, 44),
            {"trans_domid": 5, "gref": 44, "type_name": "transitive"},
        ),
    ],
)
def test_entries_of_version_2_are_read_by_their_flags(
    layout: object, values: tuple[int, ...], wanted: dict[str, object]
) -> None:
    held = bytes(16) + layout.pack(*values)  # type: ignore[attr-defined]
    meaning = meanings.grant_entry(2, held, 16, 16)
    assert (meaning.field, meaning.structure) == ("entry 1", "grant_entry_v2")
    assert wanted.items() <= meaning.values.items()
    half = meanings.grant_entry(2, held, 28, 4)  # the upper half of the last field tells all of it
    assert half.values.items() <= meaning.values.items()


def test_entries_of_version_1_and_status_words() -> None:
    entry = (GTF_permit_access | GTF_readonly | 3 << 16).to_bytes(4, "little") + bytes(4)
    assert meanings.grant_entry(1, bytes(8) + entry, 8, 4).values == {
        "flags": 5,
        "flags_set": ["permit_access", "readonly"],
        "domid": 3,
        "type_name": "permit_access",
    }
    status = meanings.grant_status(bytes(4) + bytes((GTF_reading, 0)), 4, 2)
    assert (status.field, status.values["flags_set"]) == ("entry 2", ["reading"])


def test_event_bits_of_both_abis() -> None:
    word = (1 << EVTCHN_FIFO_PENDING | 9).to_bytes(4, "little")
    fifo = meanings.event_word(1, bytes(8) + word, 8)
    assert (fifo.field, fifo.values["pending"], fifo.values["link"]) == ("port 1026", 1, 9)
    held = bytearray(4096)
    at = meanings._SHARED_INFO["evtchn_pending"][0] + 8
    held[at : at + 8] = (0b11101).to_bytes(8, "little")
    two_level = meanings.shared_info_page(held, bytes((1,)) + bytes(7), at, 8)
    assert two_level.field == "evtchn_pending[1]"
    assert two_level.values == {"ports": "64, 66..68", "set": "66..68", "cleared": ""}
    assert meanings.shared_info_page(held, b"", 64, 1).field == "vcpu_info[1].evtchn_upcall_pending"
    assert meanings.control_block(128, bytes(4096), 128 + 8 + 28, 4).field == "head[7]"


def stored(
    events: list[Event], wanted: Callable[[Event], bool] = lambda event: True
) -> Counter[str]:
    what = {event["memory"]: event["what"] for event in events if event["kind"] == "memory"}
    return Counter(
        f"{what[event['memory']]}: {event['structure']}"
        for event in events
        if event["kind"] in ("store", "update") and "structure" in event and wanted(event)
    )


def test_a_run_with_segments_has_extras_on_both_rings_and_entries_of_version_2() -> None:
    _, events = record_run("tcp:20000x2@2", "echo:", grant_version=2, evtchn="2l")
    seen = stored(events)
    packets = sum(event["kind"] == "frame" for event in events) // 4
    extras = stored(events, lambda event: event.get("meaning", {}).get("type_name") == "GSO")
    assert extras == {f"tx ring: {EXTRA}": packets, f"rx ring: {EXTRA}": packets}
    for name in (
        "tx ring: netif_tx_request",
        "tx ring: netif_tx_response",
        "rx ring: netif_rx_request",
        "rx ring: netif_rx_response",
        "grant table: grant_entry_v2",
        "grant status: grant_status_t",
        "shared info: shared_info",
        "shared info: vcpu_info",
    ):
        assert seen[name], name
    null = [event for event in events if event.get("meaning", {}).get("status_name") == "NULL"]
    assert {event["structure"] for event in null} == {"netif_tx_response"}
    assert len({event["n"] for event in null if event["kind"] == "store"}) == packets


def test_a_frontend_with_hashes_has_messages_on_its_control_ring() -> None:
    _, events = record_run("tcp:3000x3@3", "echo:", frontend="windows", queues=2)
    seen = stored(events)
    assert seen["ctrl ring: xen_netif_ctrl_request"] == seen["ctrl ring: xen_netif_ctrl_response"]
    messages = [
        event["meaning"] for event in events if event.get("structure", "")[:8] == "xen_neti"
    ]
    assert {"SET_HASH_ALGORITHM", "SET_HASH_KEY"} <= {one.get("type_name") for one in messages}
    assert {"SUCCESS"} == {one["status_name"] for one in messages if "status_name" in one}
    assert stored(events, lambda event: event.get("meaning", {}).get("type_name") == "HASH")


def test_a_peer_that_acts_outside_of_deliveries_is_the_end_that_it_is() -> None:
    events: list[Event] = []
    with recording() as recorder:
        recorder.sink(events.append)
        setup = VifSetup.make(frontend="raw")
        recorder.attach(setup.host.machine)
        front = setup.frontend
        assert front.connect()
        front.post_rx(2)
        front.push_rx()
        for _ in range(2):
            front.send(bytes(range(60)))
            front.push_tx()
            front.settle()
            assert front.responses()
        page = front.shared("tx").u8
        raw = cast(memoryview, page._raw)  # type: ignore[attr-defined]
        raw[100] ^= 0xFF  # past the view
        assert page[100] == raw[100]
        recorder.detach()
    require_consistent(events)
    outside = [event for event in events if event["kind"] in ("store", "load") and not event["d"]]
    seen = Counter(
        f"{event['kind']} {event['structure']}"
        for event in outside
        if event.get("field", "").startswith("slot ")
    )
    assert seen["store netif_tx_request"] == 2
    assert seen["load netif_tx_response"] == 2 + 1
    assert seen["store netif_rx_request"] == 2
    assert seen.total() == 7
    found, load = (event for event in events if event.get("at") == 100 and event["size"] == 1)
    assert (found["kind"], found["by"], load["kind"]) == ("store", "unseen", "load")
    assert found["bytes"] == load["bytes"]
