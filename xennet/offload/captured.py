"""Checksums of frames that were captured before an offload: made blank, or completed, as kernels.

What a stack leaves to an interface that does checksums looks wrong in a capture: TCP's or UDP's
field has the sum of the pseudo-header (of Windows' segmentation offload without the length), or
nothing yet; the one of an IPv4 header may have nothing either.
"""

from __future__ import annotations

from array import array

from xennet.engine.choice import current
from xennet.engine.kernel import Bytes, Frames, U32Array, Vector
from xennet.frames import CSUM_BLANK, FrameBatch
from xennet.offload.checksum import (
    UDP_LENGTH,
    blank,
    complete,
    fold,
    ones_sum,
    pseudo_sum,
)
from xennet.offload.headers import (
    ETH_P_IP,
    FOUND,
    H_CSUM_OFFSET,
    H_CSUM_START,
    H_END,
    H_PROTOCOL,
    IPPROTO_UDP,
    IPV4_BYTES,
    PLACES,
    load16,
    network_layer,
    parse,
    store16,
)

#: Where an IPv4 header has its checksum.
_IPV4_SUM = 10
_MASK16 = 0xFFFF


def complete_captured(first: int, count: int, frames: Frames, found: Vector, res: Vector) -> None:
    """Complete the checksums of frames ``first`` ... that an offload was to fill in.

    These are: one that CSUM_BLANK calls blank, which the frame loses; one of TCP or UDP that is the
    sum of a pseudo-header, or TCP's 0; one of an IPv4 header that is 0. Other checksums stay, as do
    those of frames that are not whole, of fragments, and of frames that wait for segmentation.
    Adds the number of frames that this changed to ``res[0]``.
    """
    u8, u32, offset, length, flags, gso_size, _, _, _ = frames
    for i in range(first, count):
        # Segmentation completes checksums as well.
        if gso_size[i]:
            continue
        at = offset[i]
        size = length[i]
        changed = complete_ipv4(u8, u32, at, size)
        if flags[i] & CSUM_BLANK:
            if complete(u8, u32, at, size, found) == FOUND:
                flags[i] = flags[i] ^ CSUM_BLANK
                changed = 1
        elif looks_offloaded(u8, u32, at, size, found):
            field = at + found[H_CSUM_START] + found[H_CSUM_OFFSET]
            there = load16(u8, field)
            complete(u8, u32, at, size, found)
            if load16(u8, field) != there:
                changed = 1
        res[0] += changed


def looks_offloaded(u8: Bytes, u32: U32Array, at: int, length: int, found: Vector) -> int:
    """Whether the TCP or UDP checksum of a frame is what an offload begins with, 1 or 0."""
    if parse(u8, at, length, found) != FOUND:
        return 0
    start = at + found[H_CSUM_START]
    size = at + found[H_END] - start
    there = load16(u8, start + found[H_CSUM_OFFSET])
    if found[H_PROTOCOL] == IPPROTO_UDP:
        # 0 means that there is no checksum (RFC 768); UDP's own length may be another one.
        if there == 0 or load16(u8, start + UDP_LENGTH) != size:
            return 0
    elif there == 0:
        return 1
    if there == pseudo_sum(u8, u32, at, size, found):
        return 1
    return 1 if there == pseudo_sum(u8, u32, at, 0, found) else 0


def complete_ipv4(u8: Bytes, u32: U32Array, at: int, length: int) -> int:
    """Fill in the checksum of an IPv4 header in which it is 0 and wrong. Returns 1 if it was, else
    0."""
    kind, l3 = network_layer(u8, at, length)
    if kind != ETH_P_IP or l3 + IPV4_BYTES > length:
        return 0
    ip = at + l3
    header = (u8[ip] & 0xF) << 2
    if u8[ip] >> 4 != 4 or header < IPV4_BYTES or l3 + header > length:
        return 0
    if load16(u8, ip + _IPV4_SUM) != 0:
        return 0
    right = _MASK16 - fold(ones_sum(u8, u32, ip, ip + header))
    store16(u8, ip + _IPV4_SUM, right)
    return 1 if right != 0 else 0


class CapturedFrames:
    """The kernels for frames of a capture, with the memory that they need."""

    def __init__(self) -> None:
        engine = current()
        self._view = engine.view
        self._res = array("q", bytes(8))
        found = array("q", bytes(8 * PLACES))
        self._found, self._results = engine.view(found), engine.view(self._res)
        self._complete = engine.kernel(complete_captured)
        self._blank = engine.kernel(blank)

    def complete(self, batch: FrameBatch, first: int) -> int:
        """Complete what an offload was to fill in of frames ``first`` ... (complete_captured).
        Returns the number of frames that this changed."""
        self._res[0] = 0
        frames = batch.for_kernels(self._view)
        self._complete(first, batch.count, frames, self._found, self._results)
        return self._res[0]

    def make_blank(self, batch: FrameBatch, index: int) -> bool:
        """Put the sum of the pseudo-header into the TCP or UDP header of a frame. Returns whether
        it has such a header."""
        u8, u32, *_ = batch.for_kernels(self._view)
        at, length = batch.offset[index], batch.length[index]
        return bool(self._blank(u8, u32, at, length, self._found) == FOUND)
