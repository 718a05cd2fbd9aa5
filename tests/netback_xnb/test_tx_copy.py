"""pkt2mbufc, txpkt2gnttab, update_mbufc and recv: from the guest's pages to the host's stack."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xennet.abi.grant_table import GNTCOPY_source_gref
from xennet.abi.netif import NETIF_RSP_ERROR, NETIF_RSP_NULL, NETIF_RSP_OKAY
from xennet.abi.xen import DOMID_SELF
from xennet.netback.xnb import (
    GnttabCopyTable,
    Ifnet,
    Pkt,
    chain,
    chain_bytes,
    pkt2mbufc,
    ring2pkt,
    txpkt2gnttab,
    update_mbufc,
)
from xennet.netback.xnb.mbuf import (
    CSUM_DATA_VALID,
    CSUM_IP_CHECKED,
    CSUM_IP_VALID,
    CSUM_PSEUDO_HDR,
    MHLEN,
)
from xennet.testing.xnb_world import FIRST_ID, FRONT, E, M, V, XnbWorld, extra, pattern


def plan(world, *slots):
    """(packet, chain, table, number of copies) for the packet in ``slots``."""
    world.put_and_push(*slots)
    pkt = Pkt()
    ring2pkt(pkt, world.txb, 0)
    mbufc = pkt2mbufc(pkt, world.xnb.ifp, world.pool)
    table = GnttabCopyTable()
    return pkt, mbufc, table, txpkt2gnttab(pkt, mbufc, table, world.txb, FRONT)


# pkt2mbufc


@pytest.mark.parametrize(
    ("size", "segments"),
    [
        (1, [168]),
        (168, [168]),
        (169, [2048]),
        (2048, [2048]),
        (2049, [4096]),
        (4096, [4096]),
        (4097, [4096, 224]),
        (4264, [4096, 224]),
        (4265, [4096, 2048]),
        (65535, [4096] * 16),
    ],
)
def test_the_chain_is_built_of_the_clusters_that_m_getm_takes(world, size, segments):
    mbufc = pkt2mbufc(Pkt(size=size), world.xnb.ifp, world.pool)
    assert [mbuf.size for mbuf in chain(mbufc)] == segments
    assert [mbuf.len for mbuf in chain(mbufc)] == [0] * len(segments)


def test_only_the_first_mbuf_has_a_packet_header_naming_the_interface(world):
    ifp = Ifnet("xnb7.0")
    first, second = chain(pkt2mbufc(Pkt(size=5000), ifp, world.pool))
    assert first.pkthdr.rcvif is ifp
    assert second.pkthdr is None


def test_data_validated_means_that_everything_was_checked(world):
    header = pkt2mbufc(Pkt(size=60, flags=V), world.xnb.ifp, world.pool).pkthdr
    assert header.csum_flags == CSUM_IP_CHECKED | CSUM_IP_VALID | CSUM_DATA_VALID | CSUM_PSEUDO_HDR
    assert header.csum_data == 0xFFFF


def test_without_data_validated_nothing_is_claimed(world):
    header = pkt2mbufc(Pkt(size=60), world.xnb.ifp, world.pool).pkthdr
    assert (header.csum_flags, header.csum_data) == (0, 0)


def test_no_chain_when_the_pool_is_exhausted_and_nothing_is_kept():
    world = XnbWorld(max_pages=2)
    assert pkt2mbufc(Pkt(size=3 * 4096), world.xnb.ifp, world.pool) is None
    assert world.pool.in_use == 0


# txpkt2gnttab


def test_one_request_in_one_mbuf_is_one_copy(world):
    _, mbufc, table, count = plan(world, [100, 0, world.data, 24])
    assert count == 1
    entry = table[0]
    assert (entry.source_ref, entry.source_domid, entry.source_offset) == (world.data, FRONT, 24)
    assert (entry.dest_gmfn, entry.dest_offset) == (mbufc.frame_at(0), mbufc.offset_at(0))
    assert (entry.dest_domid, entry.len, entry.flags) == (DOMID_SELF, 100, GNTCOPY_source_gref)


def test_a_request_larger_than_the_mbuf_is_split_at_the_mbufs_end(world):
    # 4200 bytes: a page cluster and a plain mbuf; the slot crosses the page, which nobody checks.
    _, mbufc, table, count = plan(world, [4200, 0, world.data, 0])
    assert [table[i].len for i in range(count)] == [4096, 104]
    assert [table[i].source_offset for i in range(count)] == [0, 4096]
    assert table[1].dest_gmfn == mbufc.next.frame_at(0)


def test_several_requests_fill_one_mbuf_one_behind_the_other(world):
    _, mbufc, table, count = plan(world, [600, M], [200, M, world.data, 8], [300])
    assert [table[i].len for i in range(count)] == [100, 200, 300]
    start = mbufc.offset_at(0)
    assert [table[i].dest_offset - start for i in range(count)] == [0, 100, 300]


def test_the_slot_of_the_extra_info_is_not_copied(world):
    other = world.buffer()
    _, _, table, count = plan(world, [600, M | E], extra(), [200, 0, other])
    assert [table[i].source_ref for i in range(count)] == [world.data, other]


def test_copies_are_split_at_ends_of_slots_and_of_mbufs(world):
    # slots end at 3000, 6000, 9000; clusters of 4096, 4096 and 2048 at 4096, 8192
    _, _, table, count = plan(world, [9000, M], [3000, M], [3000])
    assert [table[i].len for i in range(count)] == [3000, 1096, 1904, 2192, 808]


def test_a_slot_of_no_bytes_costs_an_empty_copy(world):
    _, _, table, count = plan(world, [100, M], [0, M], [40])
    assert [table[i].len for i in range(count)] == [60, 0, 40]


def test_indices_wrap_with_the_ring(world):
    world.start_at(0xFFFFFFFF)
    grefs = [world.buffer() for _ in range(3)]
    world.put_and_push(
        *(
            [size, flags, gref]
            for (size, flags), gref in zip([(300, M), (100, M), (100, 0)], grefs, strict=True)
        )
    )
    pkt, table = Pkt(), GnttabCopyTable()
    ring2pkt(pkt, world.txb, 0xFFFFFFFF)
    mbufc = pkt2mbufc(pkt, world.xnb.ifp, world.pool)
    assert txpkt2gnttab(pkt, mbufc, table, world.txb, FRONT) == 3
    assert [table[i].source_ref for i in range(3)] == grefs


def test_planning_leaves_old_statuses_and_later_elements_alone(world):
    world.xnb.tx_gnttab[0].status = -9
    world.xnb.tx_gnttab[5].len = 77
    world.put_and_push([100])
    pkt = Pkt()
    ring2pkt(pkt, world.txb, 0)
    mbufc = pkt2mbufc(pkt, world.xnb.ifp, world.pool)
    txpkt2gnttab(pkt, mbufc, world.xnb.tx_gnttab, world.txb, FRONT)
    assert world.xnb.tx_gnttab[0].status == -9
    assert world.xnb.tx_gnttab[5].len == 77


# update_mbufc


def test_lengths_follow_the_copies(world):
    _, mbufc, table, count = plan(world, [9000, M], [3000, M], [3000])
    update_mbufc(mbufc, table, count)
    assert [mbuf.len for mbuf in chain(mbufc)] == [4096, 4096, 808]
    assert mbufc.pkthdr.len == 9000


def test_several_copies_into_one_mbuf_add_up(world):
    _, mbufc, table, count = plan(world, [600, M], [200, M], [300])
    update_mbufc(mbufc, table, count)
    assert (mbufc.len, mbufc.pkthdr.len, mbufc.next) == (600, 600, None)


def test_a_chain_that_is_exactly_full_ends_where_it_should(world):
    _, mbufc, table, count = plan(world, [MHLEN])
    update_mbufc(mbufc, table, count)
    assert (mbufc.len, mbufc.trailing_space) == (MHLEN, 0)


# recv


def test_nothing_to_receive(world):
    assert world.recv() == (0, None)
    assert world.xnb.ifp.ipackets == 0


def test_a_packet_arrives_with_its_bytes_and_is_answered(world):
    world.put_and_push([1500, 0, world.data, 100])
    error, mbufc = world.recv()
    assert error == 0
    assert chain_bytes(mbufc) == pattern(4096)[100:1600]
    assert world.tx_responses(1) == [(FIRST_ID, NETIF_RSP_OKAY)]
    assert list(world.txb.pvt) == [1, 1]
    assert world.tx.sring.rsp_prod == 0  # publishing is the interrupt's business


def test_a_packet_of_many_pages_arrives_in_order(world):
    grefs = [world.buffer(pattern(4096, seed)) for seed in range(16)]
    slots = [[4096, M, gref] for gref in grefs]
    slots[0][0], slots[-1][:2] = 65000, [65000 - 15 * 4096, 0]
    world.put_and_push(*slots)
    _, mbufc = world.recv()
    assert chain_bytes(mbufc) == b"".join(pattern(4096, seed) for seed in range(16))[:65000]
    assert mbufc.pkthdr.len == 65000


def test_garbage_is_answered_error_consumed_and_counted(world):
    world.put_and_push([60, E], extra(type=9), [70])
    assert world.recv() == (errno.EINVAL, None)
    assert [status for _, status in world.tx_responses(2)] == [NETIF_RSP_ERROR, NETIF_RSP_NULL]
    assert list(world.txb.pvt) == [2, 2]
    assert (world.xnb.ifp.ipackets, world.xnb.ifp.ierrors) == (1, 1)
    assert any("garbage packet of 2 slots" in line for line in world.console)


def test_without_mbufs_the_packet_is_answered_error_and_counted_as_dropped():
    world = XnbWorld(max_pages=0)
    world.put_and_push([60])
    assert world.recv() == (errno.ENOMEM, None)
    assert world.tx_responses(1) == [(FIRST_ID, NETIF_RSP_ERROR)]
    assert world.xnb.ifp.iqdrops == 1


def test_a_half_published_packet_is_not_touched(world):
    world.put_and_push([100, M])
    assert world.recv() == (0, None)
    assert list(world.txb.pvt) == [0, 0]


def test_only_the_granted_bytes_that_the_slot_names_are_read(world):
    gref = world.buffer(b"x" * 4096)
    world.put_and_push([4096, 0, gref, 0], [96, 0, gref, 4000])
    assert chain_bytes(world.recv()[1]) == b"x" * 4096
    assert chain_bytes(world.recv()[1]) == b"x" * 96


@given(
    cuts=st.lists(st.integers(0, 4096), min_size=1, max_size=18).filter(
        lambda cuts: 0 < sum(cuts) < 65536
    ),
    offsets=st.lists(st.integers(0, 4096), min_size=18, max_size=18),
    with_extra=st.booleans(),
    start=st.integers(0, 0xFFFFFFFF),
)
@settings(max_examples=100, deadline=None)
def test_every_honest_packet_arrives_as_it_was_cut_up(cuts, offsets, with_extra, start):
    world = XnbWorld()
    world.start_at(start)
    total, expected, slots = sum(cuts), b"", []
    for i, (length, wish) in enumerate(zip(cuts, offsets, strict=False)):
        offset = min(wish, 4096 - length)
        page = pattern(4096, i)
        expected += page[offset : offset + length]
        flags = (M if i < len(cuts) - 1 else 0) | (E if with_extra and i == 0 else 0)
        slots.append([length if i else total, flags, world.buffer(page), offset])
        if with_extra and i == 0:
            slots.append(extra())
    world.put_and_push(*slots)
    error, mbufc = world.recv()
    assert (error, chain_bytes(mbufc), mbufc.pkthdr.len) == (0, expected, total)
    assert list(world.txb.pvt) == [world.tx.sring.req_prod] * 2
    statuses = [status for _, status in world.tx_responses(len(slots), start)]
    assert statuses.count(NETIF_RSP_NULL) == with_extra
    assert statuses.count(NETIF_RSP_OKAY) == len(cuts)
