"""The seed's backend behind the shared Vif and Queue, on the emulator: keys, life (rows C1 to C10)
and what of the rows A and B shows there. ``[size, flags]``: M more_data, E extra_info."""

from __future__ import annotations

import pytest
from xnb_host import XnbHost, gso_extra

from xennet.abi.netif import (
    NETIF_RSP_ERROR,
    NETIF_RSP_NULL,
    NETIF_RSP_OKAY,
    TX_REQUEST,
    NETRXF_extra_info,
    NETRXF_more_data,
)
from xennet.abi.xen import PAGE_SIZE
from xennet.frames import DATA_VALIDATED
from xennet.netback.policies import policy
from xennet.netback.xnb import BackendPanic
from xennet.netback.xnb.keys import STACK_BYTE, read_softc_features, scan_long
from xennet.testing.xnb_world import C, E, M, V
from xennet.xenbus.errors import XenbusError
from xennet.xenbus.nodes import NodeDirectory

OK, ERROR, NULL = NETIF_RSP_OKAY, NETIF_RSP_ERROR, NETIF_RSP_NULL


@pytest.fixture
def fresh() -> XnbHost:
    return XnbHost()


@pytest.fixture
def xnb(fresh: XnbHost) -> XnbHost:
    return fresh.connect()


def softc(host: XnbHost):
    node = f"device/vif/{host.plugged.paths.handle}"
    return read_softc_features(NodeDirectory(host.guest.store, node))


def test_it_advertises_what_the_seed_does_and_no_more(fresh):
    listed = fresh.host.store.directory(fresh.plugged.paths.backend)
    features = {name: fresh.own(name) for name in listed if "-" in name}
    assert {name: value for name, value in features.items() if name.startswith("feature")} == {
        "feature-sg": "1",
        "feature-gso-tcpv4": "1",
        "feature-rx-copy": "1",
        "feature-rx-flip": "0",
    }
    assert "multi-queue-max-queues" not in features


def test_a_packet_crosses_in_each_direction(xnb):
    xnb.put_and_push([60])
    assert xnb.stack.received == [xnb.payload[:60]]
    assert xnb.statuses() == [OK]
    xnb.post(*[xnb.buffer() for _ in range(3)])
    xnb.send(60, PAGE_SIZE + 100)
    assert [rsp.status for rsp in xnb.rx_responses()] == [60, PAGE_SIZE, 100]
    counters = xnb.vif.counters
    assert (counters.tx.packets, counters.rx.packets) == (1, 2)
    assert (counters.tx.bytes, counters.rx.bytes) == (60, PAGE_SIZE + 160)


def test_a_packet_waits_for_ever_for_its_buffers(xnb):
    xnb.send(2 * PAGE_SIZE)
    xnb.post(xnb.buffer())
    xnb.host.machine.run_loop.advance(3600 * 10**9)
    xnb.host.settle()
    assert xnb.rx_responses() == []
    xnb.post(xnb.buffer())
    assert [rsp.status for rsp in xnb.rx_responses()] == [PAGE_SIZE, PAGE_SIZE]


def test_a_ring_full_of_packets_with_little_room_is_taken_bit_by_bit(xnb):
    xnb.stack.room = 10
    xnb.put_and_push(*[[60]] * 256)
    assert len(xnb.stack.received) == 256
    assert xnb.statuses() == [OK] * 256


def test_closing_gives_everything_back(fresh):
    before = fresh.host.machine.leaks()
    fresh.connect()
    fresh.put_and_push([60])
    fresh.state(5)
    after = [str(domain) for domain in fresh.host.machine.leaks().domains if domain.domid == 0]
    assert after == [str(domain) for domain in before.domains if domain.domid == 0]


# -- keys and life ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "ip_csum"), [("0", True), ("1", False), ("256", True), (None, STACK_BYTE == 0)]
)
def test_c1_without_feature_no_csum_offload_a_stack_byte_decides(fresh, said, ip_csum):
    fresh.connect(feature_no_csum_offload=said, feature_sg=None)
    assert (softc(fresh).ip_csum, softc(fresh).can_sg) == (ip_csum, 0)
    # And nobody ever asks for it.
    assert fresh.stack.offload.csum_v4


def test_c2_a_reference_is_cut_to_32_bits(fresh):
    fresh.prepare()
    node, gref = fresh.plugged.paths.frontend_node, fresh.front.queues[0].tx_ref
    fresh.guest.store.write(f"{node}/tx-ring-ref", f" {gref + (1 << 32)} and more")
    fresh.state(4)
    assert fresh.own("state") == "4"
    fresh.put_and_push([60])
    assert fresh.statuses() == [OK]


@pytest.mark.parametrize(
    ("value", "number"), [("-1", 0xFFFFFFFF), ("+7", 7), ("9" * 30, 0xFFFFFFFF), ("0x10", 0)]
)
def test_c2_numbers_are_what_scanf_makes_of_them(fresh, value, number):
    fresh.guest.store.write("data/number", value)
    assert scan_long(NodeDirectory(fresh.guest.store, "data"), "number") == number


def test_c2_what_is_no_number_at_all_is_an_error(fresh):
    fresh.guest.store.write("data/number", "eight")
    with pytest.raises(XenbusError, match="is not a number"):
        scan_long(NodeDirectory(fresh.guest.store, "data"), "number")


@pytest.mark.parametrize("said", ["0", None, "nonsense"])
def test_c3_a_frontend_that_does_not_want_copies_is_connected_anyway(fresh, said):
    fresh.connect(request_rx_copy=said)
    assert fresh.own("state") == "4"
    fresh.post(fresh.buffer())
    fresh.send(60)
    assert [rsp.status for rsp in fresh.rx_responses()] == [60]


@pytest.mark.parametrize("room", [1, 0], ids=["room", "no room"])
def test_c4_connected_closing_connected_is_the_end_of_the_host(xnb, room):
    xnb.state(5)
    xnb.stack.room = room
    with pytest.raises(BackendPanic, match="ifp is NULL") as panic:
        xnb.state(4)
    assert panic.value.rule == "C4"
    assert panic.value.__notes__  # the delivery in which it happened


@pytest.mark.parametrize("slot", [[60], [60, 0, 4000], [0]], ids=["frame", "bad grant", "garbage"])
def test_c4_comes_before_any_request_that_the_ring_still_holds(xnb, slot):
    """xnb_recv counts the packet in the interface before it looks at it, and xnb_intr ends in
    xnb_start whatever the ring holds."""
    xnb.state(5)
    ring = xnb.tx.sring
    xnb.put_and_push(slot)
    with pytest.raises(BackendPanic) as panic:
        xnb.state(4)
    assert panic.value.rule == "C4"
    assert (xnb.stack.received, ring.req_prod, ring.rsp_prod) == ([], 1, 0)


def test_c5_closing_early_and_twice_disconnects_each_time(fresh):
    calls = []
    disconnect = fresh.vif.disconnect
    fresh.vif.disconnect = lambda dev: (calls.append(fresh.own("state")), disconnect(dev))
    fresh.state(5)
    fresh.state(5)
    assert len(calls) == 2
    assert fresh.own("state") == "5"


def test_c6_a_second_ring_that_cannot_be_mapped_is_an_error_of_the_device(fresh):
    """The queue around the seed's passes unmaps the first ring, which the seed forgets."""
    fresh.connect(rx_ring_ref="4000")
    assert fresh.own("state") == "5"
    assert "rx-ring-ref" in fresh.said


def test_c7_rings_are_entered_at_0_wherever_they_are(fresh):
    fresh.prepare(start=10)
    fresh.state(4)
    # Stale slot 0 was met as a request of no bytes (A3), and rsp_prod went back from 10.
    assert fresh.vif.queues[0].tx_ring.req_cons == 0
    assert fresh.tx.sring.rsp_prod == 1


@pytest.mark.parametrize("state", [0, 2, 7, 8])
def test_c8_other_states_are_fatal(xnb, state):
    xnb.state(state)
    assert xnb.own("state") == "5"
    assert "at frontend" in xnb.said


def test_c9_a_refused_mapping_leaves_an_error_node(fresh):
    """The seed panics only when the hypercall as such fails, which that of the emulator never does:
    each operation has its status."""
    fresh.connect(tx_ring_ref="4000")
    assert fresh.own("state") == "5"
    assert "tx-ring-ref" in fresh.said


def test_c10_a_pair_of_channels_is_not_understood(fresh):
    fresh.connect(event_channel=None, event_channel_tx="1", event_channel_rx="2")
    assert fresh.own("state") == "5"
    assert "event-channel" in fresh.said


def test_c10_there_is_one_queue_whatever_the_frontend_says(fresh):
    fresh.connect(multi_queue_num_queues="4", ctrl_ring_ref="9", event_channel_ctrl="9")
    assert fresh.own("state") == "4"
    assert len(fresh.vif.queues) == 1
    assert fresh.stack.offload.gso_types == 1 << 1


def test_a_device_without_a_handle_complains_and_connects(fresh):
    fresh.host.store.rm(f"{fresh.plugged.paths.backend}/handle")
    fresh.connect()
    assert fresh.own("state") == "4"
    assert "handle" in fresh.said


# -- rows that end the host: the exception comes out of the run loop -------------------------------


@pytest.mark.parametrize(
    ("slots", "rule"),
    [
        ([[100, M], [200]], "A1/A2"),
        ([[60, M], [40000, M], [25576]], "A1/A2"),
        ([[70, M], *[[1, M]] * 68, [1]], "A9"),
        ([[200, 0, 0xFFFFFFFF]], "A12/A13"),
        ([[65000]], "A12/A13"),
    ],
    ids=["A1", "A2", "A9", "A12", "A13"],
)
def test_a_panic_leaves_the_run_loop_with_the_delivery_it_happened_in(xnb, slots, rule):
    with pytest.raises(BackendPanic) as panic:
        xnb.put_and_push(*slots)
    assert panic.value.rule == rule
    assert "domain 0" in panic.value.__notes__[0]


def test_a3_the_second_event_meets_the_answered_request_again(xnb):
    xnb.put_and_push([0])
    assert xnb.statuses() == [ERROR]
    xnb.front.notify()
    with pytest.raises(BackendPanic) as panic:
        xnb.host.settle()
    assert panic.value.rule == "A3/A4"


def test_a4_one_request_gets_two_responses(xnb):
    xnb.put_and_push([60, E])
    assert xnb.tx.sring.rsp_prod == 2
    assert xnb.statuses() == [OK, NULL]


@pytest.mark.parametrize("kind", [2, 3, 4, 0xFF])
def test_a7_packets_with_other_extras_are_dropped(xnb, kind):
    xnb.put_and_push([60, E], gso_extra(kind))
    assert xnb.statuses() == [ERROR, NULL]
    assert (xnb.stack.received, xnb.vif.counters.tx.errors) == ([], 1)


def test_a10_a_good_packet_behind_garbage_waits_for_an_event_that_does_not_come(xnb):
    assert xnb.put_and_push([60, E], gso_extra(0xFF), [60])
    assert xnb.statuses() == [ERROR, NULL]
    assert xnb.tx.sring.req_event == xnb.tx.sring.req_prod == 3
    assert not xnb.put_and_push([60])
    assert xnb.stack.received == []


def test_a11_a_half_pushed_packet_stalls_the_ring(xnb):
    assert xnb.put_and_push([80, M])
    assert not xnb.put_and_push([20])
    assert (xnb.statuses(), xnb.stack.received) == ([], [])


def test_a14_a_producer_that_moved_back_is_followed_until_the_interrupt_counts_as_endless(xnb):
    # An id that is the gref: the response puts back what it overwrites.
    xnb.put_and_push(*[TX_REQUEST.pack(xnb.front.gref, 0, 0, xnb.front.gref, 60)] * 256)
    xnb.vif.queues[0].tx.interrupt_limit = 600
    received = len(xnb.stack.received)
    xnb.tx.sring.req_prod = 255
    xnb.front.notify()
    with pytest.raises(BackendPanic, match="has not returned") as panic:
        xnb.host.settle()
    assert panic.value.rule == "A14/A15"
    assert len(xnb.stack.received) - received >= 500


def test_a19_a_blank_checksum_alone_is_neither_filled_in_nor_told(xnb):
    xnb.put_and_push([60, C], [60, C | V])
    assert [flags for flags, _, _ in xnb.stack.meta] == [0, DATA_VALIDATED]


def test_a20_gso_is_accepted_and_forgotten(xnb):
    xnb.put_and_push([60, C | V | E], gso_extra())
    assert xnb.stack.meta == [(DATA_VALIDATED, 0, 0)]
    assert xnb.statuses() == [OK, NULL]


def test_b1_two_buffers_with_one_gref_get_one_response(xnb):
    gref = xnb.buffer()
    xnb.post(gref, gref)
    xnb.send(PAGE_SIZE + 100)
    (rsp,) = xnb.rx_responses()
    assert (rsp.status, rsp.flags & NETRXF_more_data) == (PAGE_SIZE + 100, NETRXF_more_data)


def test_b3_b5_a_failed_copy_is_one_response_with_the_grefs_bits_and_counts_as_sent(xnb):
    bad = 1 << 16 | 0xC
    xnb.post(bad, xnb.buffer())
    xnb.send(PAGE_SIZE + 100)
    (rsp,) = xnb.rx_responses()
    assert (rsp.status, rsp.flags, rsp.offset) == (ERROR, 0xC, 0xAAAA)
    assert (xnb.vif.counters.rx.packets, xnb.vif.counters.rx.errors) == (1, 0)


def test_b4_tso_of_three_data_slots_loses_more_data(xnb):
    xnb.post(*[xnb.buffer() for _ in range(4)])
    xnb.send(2 * PAGE_SIZE + 100, gso=1448)
    first, _, second, third = xnb.rx_responses()
    assert first.flags & NETRXF_extra_info
    assert [bool(rsp.flags & NETRXF_more_data) for rsp in (first, second, third)] == [
        True,
        False,
        False,
    ]


def test_b6_a_producer_half_the_numbers_ahead_is_negative_room_for_ever(xnb):
    xnb.rx.sring.req_prod = 1 << 31
    xnb.send(60)
    assert xnb.rx_responses() == []
    assert xnb.vif.error is None


def test_b10_many_slots_are_sent_to_those_who_did_not_ask(fresh):
    fresh.connect(feature_sg="0", feature_gso_tcpv4="0")
    fresh.post(*[fresh.buffer() for _ in range(3)])
    fresh.send(PAGE_SIZE + 100, gso=1448)
    assert len(fresh.rx_responses()) == 3


def test_the_policy_is_found_by_its_name():
    assert policy("xnb").name == "xnb"
    with pytest.raises(KeyError):
        policy("windows")
