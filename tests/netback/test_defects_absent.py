"""The defects of FreeBSD's xnb (rows of xennet.netback.xnb): the same rings and keys, played to the
Linux policy, get the right answer. One test or more for each row, named for it.

Each is played to the xnb policy too, where it has to fail; else it would say nothing about the
defect. The few that cannot are in SAME_IN_XNB, with the reason. And each is played to xnb with all
rows known, where it has to hold, but for those in OTHERWISE_SOUND.
"""

from __future__ import annotations

import pytest
from back_world import MUST_FAIL, BackWorld
from ip_frames import ipv4, tcp
from vif_peers import RawBackend, RawFrontend

from xennet.abi.netif import (
    NETIF_RSP_ERROR,
    NETIF_RSP_NULL,
    NETIF_RSP_OKAY,
    RX_RESPONSE,
    TX_REQUEST,
    XEN_NETIF_EXTRA_FLAG_MORE,
    XEN_NETIF_EXTRA_TYPE_GSO,
    XEN_NETIF_EXTRA_TYPE_HASH,
    XEN_NETIF_EXTRA_TYPE_MCAST_ADD,
    XEN_NETIF_GSO_TYPE_TCPV4,
    NETRXF_extra_info,
    NETRXF_more_data,
    NETTXF_csum_blank,
    NETTXF_data_validated,
    NETTXF_extra_info,
    NETTXF_more_data,
)
from xennet.abi.xen import PAGE_SIZE
from xennet.frames import CSUM_BLANK, DATA_VALIDATED, MAX_FRAME
from xennet.netback.policy import LINUX
from xennet.netback.vif_config import C_MCAST_COUNT
from xennet.netback.xnb.known import FIXED
from xennet.netback.xnb.policy import XNB, xnb_policy

#: Tests that hold for both, by the first words of their names.
SAME_IN_XNB = {
    "test_a9_absent_in_linux_many_packets": "xnb's table is new for each packet",
    "test_a15_absent_in_linux_a_pass_ends": "xnb runs in passes of our queue, which are bounded",
    "test_a22_absent_in_linux": "about a frontend",
    "test_b8_absent_in_linux": "the queue's host has no chains of so many mbufs",
    "test_c1_absent_in_linux_a_missing": "xnb does not look at what it has made of it (B10)",
    "test_c6_absent_in_linux": "our queue unmaps for xnb, completely",
}
#: xnb with all its defects known, and the tests that it fails because it is sound in another way.
SOUND = xnb_policy(FIXED)
OTHERWISE_SOUND = {
    **dict.fromkeys(
        (
            "test_a2_absent_in_linux",
            "test_a7_absent_in_linux_an_unknown",
            "test_a8_absent_in_linux",
            "test_a9_absent_in_linux_a_packet",
            "test_a12_absent_in_linux_a_slot",
            "test_a13_absent_in_linux",
            "test_a20_absent_in_linux_impossible",
        ),
        "answers ERROR where Linux gives the frontend up",
    ),
    "test_a4_absent_in_linux": "waits for the extra info where Linux gives the frontend up",
    "test_a11_absent_in_linux_a_half": "waits for the rest where Linux gives the frontend up",
    "test_a6_absent_in_linux": "takes the slot for the extra info that it is",
    "test_a7_absent_in_linux_other_extras_are_understood[sound-2]": "has no multicast list",
    "test_a19_absent_in_linux": "completes the checksum itself",
    "test_b5_absent_in_linux": "tells the frontend of no slot that it was filled",
    "test_b7_absent_in_linux": "the id is where the request has it",
    "test_b10_absent_in_linux": "is told by this peer that everything was negotiated",
    "test_c3_absent_in_linux": "does not connect",
    "test_c8_absent_in_linux_reconfiguring": "passes it over",
}


@pytest.fixture(autouse=True, params=[LINUX, XNB, SOUND], ids=["linux", "xnb", "sound"])
def policy(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose backend it is that the peers of a test meet."""
    for peer in (RawFrontend, BackWorld):
        monkeypatch.setitem(peer.__init__.__kwdefaults__, "policy", request.param)
    if request.param is XNB and not request.node.name.startswith(tuple(SAME_IN_XNB)):
        request.node.stash[MUST_FAIL] = "xnb has the defect"
    if request.param is SOUND and request.node.name.startswith(tuple(OTHERWISE_SOUND)):
        request.node.stash[MUST_FAIL] = "xnb is sound in another way"


OKAY, ERROR, NULL = NETIF_RSP_OKAY, NETIF_RSP_ERROR, NETIF_RSP_NULL
C, V, M, E = NETTXF_csum_blank, NETTXF_data_validated, NETTXF_more_data, NETTXF_extra_info
GSO = XEN_NETIF_EXTRA_TYPE_GSO


def played(*slots: tuple[int, int] | tuple[int, int, int]) -> RawFrontend:
    """A frontend that pushed ``slots`` (size, flags, offset) together."""
    front = RawFrontend()
    for ident, (size, flags, *offset) in enumerate(slots):
        front.tx(size, flags, ident=ident, offset=offset[0] if offset else 0)
    front.push()
    return front


def assert_goes_on(front: RawFrontend) -> None:
    """A good packet is still delivered and answered."""
    assert not front.fatal
    front.statuses()
    before = len(front.stack.received)
    front.tx(60, ident=99)
    assert front.push()
    assert front.responses() == [(99, OKAY)]
    assert len(front.stack.received) == before + 1


def sent(front: RawFrontend, *lengths: int, gso: int = 0) -> list[object]:
    """The responses to packets of the host."""
    front.stack.gso = (gso, XEN_NETIF_GSO_TYPE_TCPV4 if gso else 0)
    front.stack.to_send += [bytes(length) for length in lengths]
    front.run()
    return [RX_RESPONSE.read(raw) for raw in front.rx_responses()]


# -- guest transmit --------------------------------------------------------------------------------


def test_a1_absent_in_linux_a_later_slot_larger_than_the_packet_is_an_error():
    front = played((100, M), (200, 0))
    assert front.statuses() == [ERROR, ERROR]
    assert front.stack.received == []
    assert_goes_on(front)


def test_a2_absent_in_linux_sizes_do_not_wrap():
    front = played((60, M), (40000, M), (25576, 0))
    assert (front.fatal[0].rule, front.stack.received) == ("F5", [])
    # The same sum in slots that fit their pages.
    front = played((60, M), *[(4096, M)] * 15, (4096, M), (40, 0))
    assert front.statuses() == [ERROR] * 18
    assert_goes_on(front)


def test_a3_absent_in_linux_a_packet_of_no_bytes_is_consumed():
    front = played((0, 0))
    assert front.statuses() == [ERROR]
    assert front.queue.tx_ring.req_cons == front.queue.tx_ring.rsp_prod_pvt == 1
    assert_goes_on(front)


def test_a4_absent_in_linux_extra_info_without_a_slot_is_fatal_and_not_answered():
    front = played((60, E))
    assert (front.fatal[0].rule, front.statuses()) == ("F8", [])


def test_a5_absent_in_linux_a_second_extra_belongs_to_its_packet():
    front = RawFrontend()
    frame = ipv4(tcp())
    front.page.u8[: len(frame)] = frame
    front.tx(len(frame), E | C | V)
    front.extra(flags=XEN_NETIF_EXTRA_FLAG_MORE, size=1448, gso=XEN_NETIF_GSO_TYPE_TCPV4)
    front.extra(XEN_NETIF_EXTRA_TYPE_HASH)
    front.tx(60)
    front.push()
    assert front.statuses() == [OKAY, NULL, NULL, OKAY]
    assert [len(received) for received in front.stack.received] == [len(frame), 60]


def test_a6_absent_in_linux_extra_info_on_a_later_slot_costs_one_error():
    """Linux does not look at the flag there either; what follows is a request, and a bad one."""
    front = RawFrontend()
    front.tx(100, M)
    front.tx(40, E)
    front.extra(GSO, size=1448, gso=XEN_NETIF_GSO_TYPE_TCPV4)
    front.push()
    assert front.statuses() == [OKAY, OKAY, ERROR]
    assert [len(received) for received in front.stack.received] == [100]
    assert_goes_on(front)


@pytest.mark.parametrize("kind", [XEN_NETIF_EXTRA_TYPE_MCAST_ADD, XEN_NETIF_EXTRA_TYPE_HASH])
def test_a7_absent_in_linux_other_extras_are_understood(kind):
    front = RawFrontend()
    front.tx(60, E)
    front.extra(kind)
    front.push()
    assert front.statuses() == [OKAY, NULL]
    added = kind == XEN_NETIF_EXTRA_TYPE_MCAST_ADD
    assert front.config[C_MCAST_COUNT] == int(added)
    assert len(front.stack.received) == int(not added)
    assert_goes_on(front)


def test_a7_absent_in_linux_an_unknown_extra_is_fatal():
    front = RawFrontend()
    front.tx(60, E)
    front.extra(0xFF)
    front.push()
    assert front.fatal[0].rule == "F9"


@pytest.mark.parametrize("start", [0, 0xFFFFFFF0 - 256])
def test_a8_absent_in_linux_a_ring_full_of_more_data_is_fatal(start):
    front = RawFrontend(start=start & 0xFFFFFFFF)
    for _ in range(256):
        front.tx(60, M)
    front.push()
    assert front.fatal[0].rule == "F3"


def test_a9_absent_in_linux_a_packet_of_70_slots_is_fatal():
    front = played((70, M), *[(1, M)] * 68, (1, 0))
    assert (front.fatal[0].rule, front.stack.received) == ("F3", [])


def test_a9_absent_in_linux_many_packets_of_many_slots_share_a_pass():
    front = played(*([(118, M), *[(1, M)] * 17, (1, 0)] * 13))
    assert [len(received) for received in front.stack.received] == [118] * 13
    assert front.statuses() == [OKAY] * 13 * 19


def test_a10_absent_in_linux_a_good_packet_behind_a_bad_one_is_taken():
    front = RawFrontend()
    front.machine.run()
    front.tx(60, ident=1, gref=0)
    front.tx(4, ident=2)
    front.tx(60, ident=3)
    assert front.push()
    assert front.responses() == [(1, ERROR), (2, ERROR), (3, OKAY)]
    assert front.tx_ring.sring.req_event == 4
    assert_goes_on(front)


def test_a10_absent_in_linux_a_good_packet_behind_one_that_xnb_refuses_is_taken():
    front = RawFrontend()
    front.machine.run()
    front.tx(60, E)
    front.extra(XEN_NETIF_EXTRA_TYPE_HASH)
    front.tx(61, ident=2)
    assert front.push()
    assert front.responses()[2:] == [(2, OKAY)]
    assert len(front.stack.received[-1]) == 61
    assert front.tx_ring.sring.req_event == 4
    assert_goes_on(front)


def test_a11_absent_in_linux_a_half_pushed_packet_is_fatal_not_a_stall():
    front = RawFrontend()
    front.machine.run()
    front.tx(60, M)
    assert front.push()
    assert front.fatal[0].rule == "F2"


def test_a11_absent_in_linux_req_event_is_behind_what_was_seen():
    front = played((60, 0), (0, 0), (60, 0))
    assert front.tx_ring.sring.req_event == front.tx_ring.sring.req_prod + 1


def test_a12_absent_in_linux_a_slot_beyond_its_page_is_fatal():
    assert played((200, 0, 4000)).fatal[0].rule == "F5"


@pytest.mark.parametrize("gref", [0xFFFFFFFF, 1000, 0])
def test_a12_absent_in_linux_a_bad_gref_is_an_error(gref):
    front = RawFrontend()
    front.tx(60, gref=gref)
    front.push()
    assert (front.statuses(), front.stack.received) == ([ERROR], [])
    assert_goes_on(front)


def test_a13_absent_in_linux_a_slot_of_65000_bytes_is_fatal():
    front = played((65000, 0))
    assert (front.fatal[0].rule, front.stack.received) == ("F5", [])


def test_a14_absent_in_linux_req_prod_that_moves_back_is_fatal():
    front = RawFrontend(start=10)
    front.tx_ring.sring.req_prod = 9
    front.notify()
    assert (front.fatal[0].rule, front.stack.received) == ("F1", [])


def test_a15_absent_in_linux_a_pass_ends_while_the_frontend_goes_on():
    front = RawFrontend()
    front.machine.run()
    push = front.stack.push

    def produce_more(batch):
        push(batch)
        for _ in range(256):
            front.tx(60)
        front.tx_ring.push_requests()

    front.stack.push = produce_more
    for _ in range(256):
        front.tx(60)
    front.tx_ring.push_requests()
    for passes in range(1, 4):
        assert front.queue.poll_tx()  # there is more: later, after everybody else
        assert len(front.stack.received) == 256 * passes
        front.statuses()


def test_a16_absent_in_linux_a_slot_is_read_once():
    front = RawFrontend()
    front.tx(60, ident=1, offset=100)
    copy = front.host.grant_copy

    def rewrite(ops, count):
        front.tx_ring.sring.write_slot(0, b"\xff" * 12)
        copy(ops, count)

    front.host.grant_copy = rewrite
    front.push()
    assert front.stack.received == [front.data[100:160]]
    assert front.responses() == [(1, OKAY)]


def test_a17_absent_in_linux_less_than_an_ethernet_header_is_an_error():
    front = played((4, 0))
    assert (front.statuses(), front.stack.received) == ([ERROR], [])


@pytest.mark.parametrize("flags", [V, C, C | V])
def test_a17_absent_in_linux_lying_ip_headers_hurt_nobody(flags):
    front = RawFrontend()
    lie = bytearray(ipv4(tcp()))
    lie[14] = 0x4F  # a header of 60 bytes
    lie[16:18] = b"\xff\xff"  # a packet of 65535
    front.page.u8[: len(lie)] = lie
    front.tx(len(lie), flags)
    front.push()
    assert front.statuses() == [OKAY]
    # A checksum that is said to be blank has no place there; one that is not is nobody's business.
    blank = flags & C
    assert front.stack.received == ([] if blank else [lie])
    assert front.counters.bad_csum == int(bool(blank))
    assert_goes_on(front)


def test_a18_absent_in_linux_bad_slots_are_counted_not_printed(capfd):
    front = played(*[(4, 0)] * 200)
    assert front.counters.tx.errors == 200
    assert capfd.readouterr() == ("", "")


def test_a19_absent_in_linux_csum_blank_alone_reaches_the_host():
    front = RawFrontend()
    frame = ipv4(tcp())
    front.page.u8[: len(frame)] = frame
    front.tx(len(frame), C)
    front.push()
    assert front.stack.meta[0][0] & CSUM_BLANK


@pytest.mark.parametrize(("size", "gso"), [(0, XEN_NETIF_GSO_TYPE_TCPV4), (1448, 9)])
def test_a20_absent_in_linux_impossible_gso_is_fatal(size, gso):
    front = RawFrontend()
    front.tx(60, E)
    front.extra(GSO, size=size, gso=gso)
    front.push()
    assert (front.fatal[0].rule, front.stack.received) == ("F10", [])


def test_a20_absent_in_linux_gso_reaches_the_host():
    front = RawFrontend()
    frame = ipv4(tcp())
    front.page.u8[: len(frame)] = frame
    front.tx(len(frame), C | V | E)
    front.extra(GSO, size=1448, gso=XEN_NETIF_GSO_TYPE_TCPV4)
    front.push()
    assert front.stack.meta == [(CSUM_BLANK | DATA_VALIDATED, 1448, XEN_NETIF_GSO_TYPE_TCPV4)]


def test_a21_absent_in_linux_a_failed_packet_is_answered_slot_by_slot():
    front = RawFrontend()
    front.tx(4, E, ident=7)
    front.extra(GSO, size=1448, gso=XEN_NETIF_GSO_TYPE_TCPV4)
    front.push()
    assert front.statuses() == [ERROR, NULL]
    assert_goes_on(front)


@pytest.mark.parametrize("ident", [0, 1, 0x0101, 0xFFFF])
def test_a22_absent_in_linux_nobody_reads_the_id_of_a_null_response(ident):
    """Linux leaves the extra's bytes there as well: it is the frontend that must not look."""
    back = RawBackend()
    frame = ipv4(tcp() + bytes(2000))
    back.stack.gso = (1448, XEN_NETIF_GSO_TYPE_TCPV4)
    back.stack.flags = [C | V]
    back.stack.to_send = [frame]
    back.run()
    first, extra, *rest = back.requests()
    assert extra[0] == GSO
    for number, raw in enumerate((first, extra, *rest)):
        own = TX_REQUEST.unpack_from(raw)[3]
        back.answer(*((ident, NULL) if number == 1 else (own, OKAY)))
    back.push_tx()
    assert back.broken == []
    assert back.queue.tx_ring.unconsumed_responses == 0


# -- guest receive ---------------------------------------------------------------------------------


def posted(*grefs: int | None, **how: bool) -> RawFrontend:
    """A frontend with these receive buffers; None is one of its own."""
    front = RawFrontend(**how)
    for gref in grefs:
        front.post_rx(gref=gref)
    front.push_rx()
    return front


def test_b1_absent_in_linux_buffers_with_one_gref_are_answered_one_by_one():
    front = posted()
    for _ in range(2):
        front.post_rx(gref=front.rx_grefs[5])
    front.push_rx()
    first, second = sent(front, 4196)
    assert (first.status, first.flags & NETRXF_more_data) == (PAGE_SIZE, NETRXF_more_data)
    assert (second.status, second.flags & NETRXF_more_data) == (100, 0)


def test_b2_absent_in_linux_an_earlier_packet_leaves_nothing_in_a_status():
    front = posted()
    for _ in range(6):
        front.post_rx(gref=front.rx_grefs[5])
    front.push_rx()
    assert [rsp.status for rsp in sent(front, 3 * PAGE_SIZE)] == [PAGE_SIZE] * 3
    assert [rsp.status for rsp in sent(front, 60)] == [60]


@pytest.mark.parametrize("gref", [0xC, 42])
def test_b3_absent_in_linux_an_error_response_has_no_bits_of_the_gref(gref):
    front = posted()
    front.guest.grants.words[gref << 1] = 0  # a grant of nothing
    front.post_rx(gref=gref)
    front.push_rx()
    (rsp,) = sent(front, 60)
    assert rsp.status < 0
    assert (rsp.offset, rsp.flags & (NETRXF_more_data | NETRXF_extra_info)) == (0, 0)


def test_b4_absent_in_linux_all_but_the_last_data_slot_have_more_data():
    front = RawFrontend(rx_buffers=8)
    first, extra, second, third = sent(front, 2 * PAGE_SIZE + 100, gso=1448)
    assert first.flags & NETRXF_extra_info
    assert extra.id & 0xFF == GSO
    more = [bool(rsp.flags & NETRXF_more_data) for rsp in (first, second, third)]
    assert more == [True, True, False]


def test_b5_absent_in_linux_a_failed_copy_answers_every_slot_and_is_counted():
    front = posted(None, 1 << 20, None)
    first, second, third = sent(front, 2 * PAGE_SIZE + 100)
    assert (first.status, third.status) == (PAGE_SIZE, 100)
    assert second.status < 0
    assert front.counters.rx.errors == 1


@pytest.mark.parametrize("ahead", [1000, 1 << 31, (1 << 32) - 1])
def test_b6_absent_in_linux_more_buffers_than_the_ring_has_slots_are_fatal(ahead):
    front = RawFrontend()
    front.rx_ring.sring.req_prod = ahead
    front.stack.to_send.append(bytes(60))
    front.run()
    assert (front.fatal[0].rule, front.rx_responses()) == ("F1", [])


def test_b7_absent_in_linux_a_gref_rewritten_meanwhile_changes_nothing():
    front = RawFrontend(rx_buffers=4)
    copy = front.host.grant_copy

    def rewrite(ops, count):
        front.rx_ring.sring.write_slot(0, b"\xff" * 8)
        copy(ops, count)

    front.host.grant_copy = rewrite
    (rsp,) = sent(front, 60)
    assert (rsp.id, rsp.status) == (0, 60)


def test_b8_absent_in_linux_packets_of_one_pass_may_take_more_than_64_copies():
    front = RawFrontend(rx_buffers=256)
    responses = sent(front, *[MAX_FRAME] * 6)
    assert len(responses) == 96
    assert sum(rsp.status for rsp in responses) == 6 * MAX_FRAME


@pytest.mark.parametrize("beyond", [1, 101])
def test_b9_absent_in_linux_a_length_of_more_than_16_bits_is_not_cut(beyond):
    front = RawFrontend(rx_buffers=17)
    *others, last = sent(front, MAX_FRAME + beyond)
    assert sum(rsp.status for rsp in (*others, last)) == MAX_FRAME + beyond
    assert all(rsp.flags & NETRXF_more_data for rsp in others)
    assert not last.flags & NETRXF_more_data
    assert front.counters.rx.bytes == MAX_FRAME + beyond


@pytest.mark.parametrize(
    ("how", "length", "gso"),
    [({"can_sg": False}, 4196, 0), ({"gso_types": 0}, 3000, 1448)],
    ids=["sg", "gso"],
)
def test_b10_absent_in_linux_nothing_is_sent_that_was_not_negotiated(how, length, gso):
    front = RawFrontend(rx_buffers=8, **how)
    assert sent(front, length, gso=gso) == []
    assert front.counters.rx.errors == 1
    assert [rsp.status for rsp in sent(front, 60)] == [60]


# -- life ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("said", [None, "0"])
def test_c1_absent_in_linux_a_missing_feature_has_its_default(said):
    world = BackWorld()
    world.prepare()
    if said is not None:
        world.publish(feature_no_csum_offload=said)
    world.state(4)
    assert world.stack.offload.csum_v4


def test_c1_absent_in_linux_a_frontend_that_wants_no_blank_checksums_gets_none():
    world = BackWorld()
    world.connect(feature_no_csum_offload="1")
    assert not world.stack.offload.csum_v4


def test_c2_absent_in_linux_a_reference_of_more_than_32_bits_is_refused():
    world = BackWorld()
    world.prepare()
    world.publish(tx_ring_ref=str(world.queues[0].tx_ref + (1 << 32)))
    world.state(4)
    assert world.own_state == "5"
    assert "tx-ring-ref" in world.error


def test_c3_absent_in_linux_without_rx_copy_no_feature_is_believed():
    world = BackWorld()
    world.connect(request_rx_copy="0")
    assert (world.stack.offload.sg, world.stack.offload.gso_types) == (False, 0)


def test_c4_absent_in_linux_connecting_again_after_closing_works():
    world = BackWorld()
    world.connect()
    world.state(5)
    world.connect()
    assert world.own_state == "4"
    world.queues[0].send()
    assert world.queues[0].statuses() == [OKAY]


def test_c5_absent_in_linux_closing_early_or_twice_unmaps_nothing_that_is_not_mapped():
    world = BackWorld()
    held = world.held()
    world.state(5)
    world.state(5)
    world.state(6)
    assert (world.held(), world.error) == (held, "")
    world.state(1)
    world.connect()
    assert world.own_state == "4"


@pytest.mark.parametrize("node", ["tx_ring_ref", "rx_ring_ref"])
def test_c6_absent_in_linux_nothing_stays_mapped_when_a_ring_cannot_be(node):
    world = BackWorld()
    held = world.held()
    world.connect(**{node: "4000"})
    assert (world.own_state, world.held()) == ("5", held)


def test_c7_absent_in_linux_a_ring_is_entered_where_it_is():
    front = RawFrontend(start=77)
    assert front.queue.tx_ring.req_cons == 77
    front.machine.run()
    assert_goes_on(front)


def test_c8_absent_in_linux_reconfiguring_is_answered():
    world = BackWorld()
    world.connect()
    world.state(7)
    assert (world.own_state, world.error) == ("8", "")


def test_c8_absent_in_linux_a_frontend_without_a_state_has_gone():
    world = BackWorld()
    world.connect()
    world.state(0)
    assert (world.own_state, world.error, world.backend.removed) == ("6", "", True)


def test_c9_absent_in_linux_a_refused_mapping_is_an_error_of_this_device_alone():
    world = BackWorld()
    world.connect(tx_ring_ref="4000")
    assert "tx-ring-ref" in world.error
    world.state(6)
    world.state(1)
    world.connect()
    assert world.own_state == "4"


def test_c10_absent_in_linux_queues_split_channels_and_a_control_ring_are_understood():
    assert int(BackWorld().own("feature-ctrl-ring")) == 1
    world = BackWorld()
    world.add_ctrl_ring()
    world.connect(split=True)
    queue = world.vif.queues[0]
    assert queue.tx_port != queue.rx_port
    world.queues[0].send()
    assert world.queues[0].statuses() == [OKAY]
