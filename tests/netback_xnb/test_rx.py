"""mbufc2pkt, rxpkt2gnttab, rxpkt2rsp and send: from the host's stack to the guest's buffers."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xennet.abi.grant_table import GNTCOPY_dest_gref
from xennet.abi.netif import (
    EXTRA_GSO,
    NETIF_RSP_ERROR,
    XEN_NETIF_EXTRA_TYPE_GSO,
    XEN_NETIF_GSO_TYPE_TCPV4,
    NETRXF_csum_blank,
    NETRXF_data_validated,
    NETRXF_extra_info,
    NETRXF_more_data,
)
from xennet.abi.xen import DOMID_SELF
from xennet.netback.xnb import (
    BackendPanic,
    GnttabCopyTable,
    Pkt,
    mbufc2pkt,
    rxpkt2gnttab,
    rxpkt2rsp,
)
from xennet.netback.xnb.mbuf import CSUM_DELAY_DATA, CSUM_TCP, CSUM_TSO, MJUM9BYTES, MJUMPAGESIZE
from xennet.testing.xnb_world import FIRST_ID, FRONT, XnbWorld, pattern

CHECKED = NETRXF_csum_blank | NETRXF_data_validated


def plan(world, mbufc, space=256):
    pkt, table = Pkt(), GnttabCopyTable()
    assert mbufc2pkt(mbufc, pkt, 0, space) == 0
    return pkt, table, rxpkt2gnttab(pkt, mbufc, table, world.rxb, FRONT)


def received(world, count, start=0):
    """The bytes of ``count`` responses without extra info, one behind the other."""
    data = b""
    for i, rsp in enumerate(world.rx_responses(count, start)):
        data += bytes(world.granted(world.posted[start + i])[: rsp.status])
    return data


def post(world, count):
    world.posted = [world.buffer() for _ in range(count)]
    world.post(*world.posted)


# mbufc2pkt


@pytest.mark.parametrize(
    ("length", "slots"), [(1, 1), (4095, 1), (4096, 1), (4097, 2), (8192, 2), (65535, 16)]
)
def test_a_slot_for_each_page_of_data(world, length, slots):
    pkt = Pkt()
    assert mbufc2pkt(world.packet(length), pkt, 9, 99) == 0
    assert (pkt.list_len, pkt.size, pkt.car, pkt.cdr) == (slots, length, 9, 10)
    assert pkt.flags == (NETRXF_more_data if slots > 1 else 0)


def test_the_first_size_is_that_of_the_first_mbuf(world):
    pkt = Pkt()
    mbufc2pkt(world.packet(3000, segments=[1000, 2000]), pkt, 0, 9)
    assert (pkt.car_size, pkt.size) == (1000, 3000)


def test_a_checksum_left_to_the_hardware_is_left_blank(world):
    mbufc, pkt = world.packet(60), Pkt()
    mbufc.pkthdr.csum_flags = CSUM_TCP
    mbufc2pkt(mbufc, pkt, 0, 9)
    assert pkt.flags == CHECKED


def test_tso_takes_an_extra_slot_and_says_the_segment_size(world):
    mbufc, pkt = world.packet(9000), Pkt()
    mbufc.pkthdr.csum_flags, mbufc.pkthdr.tso_segsz = CSUM_TSO, 1448
    assert mbufc2pkt(mbufc, pkt, 0xFFFFFFFF, 4) == 0
    assert pkt.flags == CHECKED | NETRXF_extra_info | NETRXF_more_data
    assert (pkt.car, pkt.cdr, pkt.list_len) == (0xFFFFFFFF, 1, 3)
    assert (pkt.extra.type, pkt.extra.gso_type) == (
        XEN_NETIF_EXTRA_TYPE_GSO,
        XEN_NETIF_GSO_TYPE_TCPV4,
    )
    assert (pkt.extra.gso_size, pkt.extra.flags) == (1448, 0)


@pytest.mark.parametrize(("tso", "slots"), [(False, 3), (True, 4)])
def test_too_few_buffers_means_try_again(world, tso, slots):
    mbufc, pkt = world.packet(9000), Pkt()
    mbufc.pkthdr.csum_flags = CSUM_TSO if tso else 0
    assert mbufc2pkt(mbufc, pkt, 0, slots - 1) == errno.EAGAIN
    assert not pkt.is_valid
    assert mbufc2pkt(mbufc, pkt, 0, slots) == 0
    assert pkt.is_valid


def test_what_is_no_packet_is_refused(world):
    headless, empty = world.packet(60), world.packet(60)
    headless.pkthdr, empty.pkthdr.len = None, 0
    for mbufc in (None, headless, empty):
        pkt = Pkt()
        assert mbufc2pkt(mbufc, pkt, 0, 9) == errno.EINVAL
        assert not pkt.is_valid


# rxpkt2gnttab


def test_one_mbuf_into_one_buffer_is_one_copy(world):
    post(world, 1)
    mbufc = world.packet(60)
    _, table, count = plan(world, mbufc)
    entry = table[0]
    assert count == 1
    assert (entry.dest_ref, entry.dest_domid, entry.dest_offset) == (world.posted[0], FRONT, 0)
    assert (entry.source_gmfn, entry.source_offset) == (mbufc.frame_at(0), mbufc.offset_at(0))
    assert (entry.source_domid, entry.len, entry.flags) == (DOMID_SELF, 60, GNTCOPY_dest_gref)


def test_mbufs_are_packed_into_full_buffers(world):
    post(world, 2)
    _, table, count = plan(world, world.packet(5000, segments=[2000, 2000, 1000]))
    assert [table[i].len for i in range(count)] == [2000, 2000, 96, 904]
    assert [table[i].dest_offset for i in range(count)] == [0, 2000, 4000, 0]
    first, second = world.posted
    assert [table[i].dest_ref for i in range(count)] == [first, first, first, second]


def test_an_empty_mbuf_costs_an_empty_copy(world):
    post(world, 1)
    _, table, count = plan(world, world.packet(50, segments=[30, 0, 20]))
    assert [table[i].len for i in range(count)] == [30, 0, 20]


def test_the_buffer_of_the_extra_info_is_passed_over(world):
    post(world, 3)
    mbufc = world.packet(5000)
    mbufc.pkthdr.csum_flags = CSUM_TSO
    _, table, count = plan(world, mbufc)
    used = dict.fromkeys(table[i].dest_ref for i in range(count))
    assert list(used) == [world.posted[0], world.posted[2]]


def test_a_packet_in_error_is_not_copied(world):
    post(world, 1)
    pkt = Pkt(size=60, error=True)
    assert rxpkt2gnttab(pkt, world.packet(60), GnttabCopyTable(), world.rxb, FRONT) == 0


def test_a_chain_shorter_than_its_header_says_is_the_end(world):
    post(world, 1)
    mbufc = world.packet(60)
    mbufc.pkthdr.len = 61
    with pytest.raises(BackendPanic, match="the mbuf chain ends with 1 bytes to go") as panic:
        plan(world, mbufc)
    assert panic.value.rule == "mbuf"


# rxpkt2rsp


def test_a_response_names_its_request_and_counts_its_bytes(world):
    post(world, 1)
    pkt, table, count = plan(world, world.packet(60))
    assert rxpkt2rsp(pkt, table, count, world.rxb) == 1
    assert world.rx_responses(1) == [(FIRST_ID, 0, 0, 60)]
    assert list(world.rxb.pvt) == [1, 1]


def test_all_buffers_but_the_last_say_more_data(world):
    post(world, 3)
    pkt, table, count = plan(world, world.packet(9000, segments=[2000] * 4 + [1000]))
    assert rxpkt2rsp(pkt, table, count, world.rxb) == 3
    flags_and_status = [(rsp.flags, rsp.status) for rsp in world.rx_responses(3)]
    assert flags_and_status == [(NETRXF_more_data, 4096), (NETRXF_more_data, 4096), (0, 808)]


def test_extra_info_takes_the_second_slot_and_all_of_it(world):
    world.post(world.buffer(), 0xFFFFFFFF)
    mbufc = world.packet(3000)
    mbufc.pkthdr.csum_flags, mbufc.pkthdr.tso_segsz = CSUM_TSO, 1000
    pkt, table, count = plan(world, mbufc)
    assert rxpkt2rsp(pkt, table, count, world.rxb) == 2
    assert world.rx_responses(1)[0].flags == CHECKED | NETRXF_extra_info
    info = EXTRA_GSO.unpack_from(world.rx.sring.copy_slot(1))
    assert info == (XEN_NETIF_EXTRA_TYPE_GSO, 0, 1000, XEN_NETIF_GSO_TYPE_TCPV4, 0, 0)


def test_checksum_flags_stand_on_the_first_response_only(world):
    post(world, 2)
    mbufc = world.packet(5000)
    mbufc.pkthdr.csum_flags = CSUM_DELAY_DATA
    pkt, table, count = plan(world, mbufc)
    rxpkt2rsp(pkt, table, count, world.rxb)
    assert [rsp.flags for rsp in world.rx_responses(2)] == [CHECKED | NETRXF_more_data, 0]


def test_a_failed_copy_gives_one_error_response(world):
    post(world, 2)
    pkt, table, count = plan(world, world.packet(5000))
    table[1].status = -1
    assert rxpkt2rsp(pkt, table, count, world.rxb, world.console.append) == 1
    assert world.rx_responses(1)[0].status == NETIF_RSP_ERROR
    assert world.console == ["xnb(xnb_rxpkt2rsp): copy 1 has status -1"]


def test_no_copies_no_responses(world):
    assert rxpkt2rsp(Pkt(), GnttabCopyTable(), 0, world.rxb) == 0


# send


def test_a_packet_lands_in_the_posted_buffer(world):
    post(world, 1)
    assert world.send(world.packet(60)) == 0
    assert received(world, 1) == pattern(60)
    assert world.rx.sring.rsp_prod == 0  # publishing is the caller's business


def test_a_guest_without_buffers_gets_nothing(world):
    assert world.send(world.packet(60)) == errno.EAGAIN
    assert list(world.rxb.pvt) == [0, 0]


def test_not_a_packet_is_not_sent(world):
    post(world, 1)
    assert world.send(None) == errno.EINVAL
    assert list(world.rxb.pvt) == [0, 0]


def test_a_readonly_buffer_cannot_be_filled(world):
    world.post(world.buffer(readonly=True))
    assert world.send(world.packet(60)) == 0
    assert world.rx_responses(1)[0].status == NETIF_RSP_ERROR


def test_unaligned_jumbo_clusters_cross_pages_and_are_refused(world):
    """A case that the defect list does not have: copies are not split at the mbuf's pages."""
    post(world, 6)
    aligned = world.packet(9000, segments=[9000], cluster=MJUM9BYTES)
    assert world.send(aligned) == 0
    assert received(world, 3) == pattern(9000)
    shifted = world.packet(9000, segments=[9000], cluster=MJUM9BYTES, lead=2)
    assert world.send(shifted) == 0
    assert world.xnb.rx_gnttab[0].status == -10
    assert world.rx_responses(1, 3)[0].status == NETIF_RSP_ERROR


@given(
    lengths=st.lists(st.integers(0, 2000), min_size=1, max_size=25).filter(lambda cut: sum(cut)),
    lead=st.integers(0, 48),
    cluster=st.sampled_from([2048, MJUMPAGESIZE]),
    start=st.integers(0, 0xFFFFFFFF),
)
@settings(max_examples=100, deadline=None)
def test_every_chain_arrives_whole_in_full_pages(lengths, lead, cluster, start):
    world = XnbWorld()
    world.start_at(start)
    total = sum(lengths)
    slots = -(-total // 4096)
    grefs = [world.buffer() for _ in range(slots)]
    world.post(*grefs)
    assert world.send(world.packet(total, segments=lengths, cluster=cluster, lead=lead)) == 0
    responses = world.rx_responses(slots, start)
    assert b"".join(
        bytes(world.granted(gref)[: rsp.status]) for gref, rsp in zip(grefs, responses, strict=True)
    ) == pattern(total)
    more = [bool(rsp.flags & NETRXF_more_data) for rsp in responses]
    assert more == [True] * (slots - 1) + [False]
    assert world.rxb.req_cons == world.rxb.rsp_prod_pvt == world.rx.req_prod_pvt
