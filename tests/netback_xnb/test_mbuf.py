"""Mbuf storage: sizes, places in pages, and the pool."""

from __future__ import annotations

from itertools import pairwise

import pytest

from xennet.netback.xnb import MbufPool, chain, chain_bytes
from xennet.netback.xnb.mbuf import (
    MCLBYTES,
    MHLEN,
    MJUM9BYTES,
    MJUM16BYTES,
    MJUMPAGESIZE,
    MLEN,
)
from xennet.testing.xnb_world import XnbWorld, pattern


@pytest.mark.parametrize(("pkthdr", "size"), [(False, MLEN), (True, MHLEN)])
def test_a_plain_mbuf_holds_less_when_it_carries_the_packet_header(world, pkthdr, size):
    mbuf = world.pool.m_get(pkthdr)
    assert (mbuf.size, mbuf.trailing_space, mbuf.len) == (size, size, 0)
    assert (mbuf.pkthdr is not None) is pkthdr


@pytest.mark.parametrize(
    ("size", "pages"), [(MCLBYTES, 1), (MJUMPAGESIZE, 1), (MJUM9BYTES, 3), (MJUM16BYTES, 4)]
)
def test_a_cluster_lies_in_as_many_consecutive_frames_as_it_needs(world, size, pages):
    mbuf = world.pool.m_getjcl(size)
    frames = {mbuf.frame_at(at) for at in range(0, size, 512)}
    assert frames == set(range(min(frames), min(frames) + pages))
    assert all(world.machine.frames[frame].owner == world.hv.domid for frame in frames)


@pytest.mark.parametrize(("size", "per_page"), [(MCLBYTES, 2), (MJUMPAGESIZE, 1)])
def test_small_storage_shares_pages_without_overlap(world, size, per_page):
    mbufs = [world.pool.m_getjcl(size) for _ in range(6)]
    for i, mbuf in enumerate(mbufs):
        mbuf.len = size
        mbuf.valid()[:] = bytes([i]) * size
    assert all(bytes(mbuf.valid()) == bytes([i]) * size for i, mbuf in enumerate(mbufs))
    assert len({mbuf.frame_at(0) for mbuf in mbufs}) == 6 // per_page


def test_sixteen_plain_mbufs_share_a_page(world):
    mbufs = [world.pool.m_get(i % 2 == 0) for i in range(17)]
    assert len({mbuf.frame_at(0) for mbuf in mbufs}) == 2
    starts = sorted((mbuf.frame_at(0), mbuf.offset_at(0), mbuf.size) for mbuf in mbufs)
    assert all(a[0] != b[0] or a[1] + a[2] <= b[1] for a, b in pairwise(starts))


def test_frame_and_offset_follow_the_data_across_pages(world):
    mbuf = world.pool.m_getjcl(MJUM9BYTES)
    mbuf.data += 10
    first = mbuf.page.first
    assert (mbuf.frame_at(0), mbuf.offset_at(0)) == (first, 10)
    assert (mbuf.frame_at(4085), mbuf.offset_at(4085)) == (first, 4095)
    assert (mbuf.frame_at(4086), mbuf.offset_at(4086)) == (first + 1, 0)


@pytest.mark.parametrize("jumbo", [MJUM9BYTES, MJUM16BYTES])
def test_the_jumbo_size_of_m_getm_can_be_chosen(jumbo):
    pool = XnbWorld(jumbo=jumbo).pool
    assert [mbuf.size for mbuf in chain(pool.m_getm(jumbo + 2049))] == [jumbo, jumbo]


def test_there_are_no_other_clusters(world):
    with pytest.raises(ValueError, match="no clusters of 3000 bytes"):
        MbufPool(world.hv, jumbo=3000)


def test_no_mbuf_for_no_bytes(world):
    assert world.pool.m_getm(0) is None


def test_freed_storage_is_used_again_with_what_is_in_it(world):
    mbuf = world.pool.build(b"secret")
    world.pool.m_freem(mbuf)
    again = world.pool.m_getjcl(MCLBYTES)
    again.len = 6
    assert chain_bytes(again) == b"secret"


def test_freeing_twice_is_refused(world):
    mbuf = world.pool.build(b"x")
    world.pool.m_freem(mbuf)
    with pytest.raises(ValueError, match="freed twice"):
        world.pool.m_freem(mbuf)


def test_a_bounded_pool_says_no_and_recovers():
    pool = XnbWorld(max_pages=1).pool
    first, second = pool.m_getjcl(MCLBYTES), pool.m_getjcl(MCLBYTES)
    assert pool.m_getjcl(MCLBYTES) is None
    assert pool.m_get() is None
    pool.m_freem(first)
    assert pool.m_getjcl(MCLBYTES) is not None
    assert second is not None


def test_closing_the_pool_gives_every_page_back(world):
    before = dict(world.machine.frames)
    pool = MbufPool(world.hv)
    for length in (100, 2000, 20000):
        pool.m_getm(length)
    assert len(world.machine.frames) > len(before)
    pool.close()
    assert world.machine.frames == before


def test_a_packet_is_built_as_it_is_cut(world):
    mbufc = world.pool.build(pattern(100), segments=[10, 0, 90], lead=14)
    assert [mbuf.len for mbuf in chain(mbufc)] == [10, 0, 90]
    assert chain_bytes(mbufc) == pattern(100)
    assert (mbufc.pkthdr.len, mbufc.data - mbufc.start) == (100, 14)


@pytest.mark.parametrize("segments", [[10], [5, 6], [2100, 0]])
def test_segments_that_do_not_hold_the_packet_are_refused(world, segments):
    with pytest.raises(ValueError, match="do not hold"):
        world.pool.build(pattern(100) if sum(segments) != 2100 else bytes(2100), segments=segments)


def test_building_from_an_empty_pool_is_a_memory_error_that_leaks_nothing():
    pool = XnbWorld(max_pages=1).pool
    with pytest.raises(MemoryError, match="no more than 1 pages"):
        pool.build(bytes(3 * 2048))
    assert pool.in_use == 0
