"""Checksums of frames that were captured before an offload: made blank, or completed.

What a stack leaves to an interface that does checksums looks wrong in a capture: TCP's or UDP's
field has the sum of the pseudo-header (of Windows' segmentation offload without the length), or
nothing yet; the one of an IPv4 header may have nothing either.
"""

from __future__ import annotations

from array import array

from xennet.frames import CSUM_BLANK, FrameBatch
from xennet.offload.checksum import blank, complete, fold, is_wrong, ones_sum, pseudo_sum
from xennet.offload.headers import (
    ETH_P_IP,
    FOUND,
    H_CSUM_OFFSET,
    H_CSUM_START,
    H_END,
    IPV4_BYTES,
    PLACES,
    load16,
    network_layer,
    parse,
    store16,
)

#: Where an IPv4 header has its checksum.
_IPV4_SUM = 10
_found = array("q", bytes(8 * PLACES))


def make_blank(batch: FrameBatch, index: int) -> bool:
    """Put the sum of the pseudo-header into the TCP or UDP header of a frame. Returns whether it
    has such a header."""
    words = batch.data[: len(batch.data) & ~3].cast("I")
    return blank(batch.data, words, batch.offset[index], batch.length[index], _found) == FOUND


def complete_offloaded(batch: FrameBatch, index: int) -> bool:
    """Complete the checksums of a frame that an offload was to fill in. Returns whether that
    changed it.

    These are: one that CSUM_BLANK calls blank, which the frame loses; a wrong one of TCP or UDP
    that is the sum of a pseudo-header, or TCP's 0; a wrong one of an IPv4 header that is 0. Other
    wrong checksums stay, as do those of frames that are not whole, of fragments, and of frames that
    wait for segmentation (GSO).
    """
    if batch.gso_size[index]:
        return False
    u8, at, length = batch.data, batch.offset[index], batch.length[index]
    u32 = u8[: len(u8) & ~3].cast("I")
    changed = _complete_ipv4(batch, index)
    if batch.flags[index] & CSUM_BLANK:
        if complete(u8, u32, at, length, _found) != FOUND:
            return changed
        batch.flags[index] &= ~CSUM_BLANK
        return True
    if not is_wrong(u8, u32, at, length, _found) or not _looks_offloaded(u8, u32, at, length):
        return changed
    return complete(u8, u32, at, length, _found) == FOUND


def _looks_offloaded(u8: memoryview, u32: memoryview, at: int, length: int) -> bool:
    if parse(u8, at, length, _found) != FOUND:
        return False
    start = at + _found[H_CSUM_START]
    there = load16(u8, start + _found[H_CSUM_OFFSET])
    size = at + _found[H_END] - start
    return there in (0, *(pseudo_sum(u8, u32, at, counted, _found) for counted in (size, 0)))


def _complete_ipv4(batch: FrameBatch, index: int) -> bool:
    """Fill in the checksum of an IPv4 header in which it is 0 and wrong. Returns whether it was."""
    u8, at, length = batch.data, batch.offset[index], batch.length[index]
    kind, l3 = network_layer(u8, at, length)
    if kind != ETH_P_IP or l3 + IPV4_BYTES > length:
        return False
    ip = at + l3
    header = (u8[ip] & 0xF) << 2
    if u8[ip] >> 4 != 4 or header < IPV4_BYTES or l3 + header > length:
        return False
    if load16(u8, ip + _IPV4_SUM):
        return False
    right = 0xFFFF - fold(ones_sum(u8, u8[: len(u8) & ~3].cast("I"), ip, ip + header))
    store16(u8, ip + _IPV4_SUM, right)
    return right != 0
