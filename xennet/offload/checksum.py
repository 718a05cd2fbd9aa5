"""Internet checksums (RFC 1071) of TCP and UDP: summing, completing, blanking.

Sums are ones-complement sums of big-endian 16-bit words, folded to 16 bits: 0 only when every byte
is 0. Memory comes twice, as bytes (``u8``) and as the same bytes in 32-bit words (``u32``, which
may lack up to three bytes at the end): adding words in one go is the way that is quick both in
CPython and compiled. It makes the sums those of a little-endian machine, as every ring here.
"""

from __future__ import annotations

from xennet.engine.kernel import Bytes, U32Array, Vector
from xennet.offload.headers import (
    FOUND,
    H_CSUM_OFFSET,
    H_CSUM_START,
    H_DESTINATION,
    H_END,
    H_L3,
    H_PROTOCOL,
    H_VERSION,
    IPPROTO_UDP,
    UDP_BYTES,
    load16,
    parse,
    store16,
)

_MASK16 = 0xFFFF
#: Offsets of UDP's length and checksum in its header.
UDP_LENGTH = 4
UDP_SUM = 6


def fold(total: int) -> int:
    """``total`` (not negative) with its carries added in, until 16 bits are left."""
    while total >> 16:
        total = (total & _MASK16) + (total >> 16)
    return total


def ones_sum(u8: Bytes, u32: U32Array, at: int, end: int) -> int:
    """The folded sum of bytes ``at`` to ``end``, padded with a zero to whole 16-bit words."""
    first = (at + 3) >> 2
    last = end >> 2
    total = 0
    head = end
    tail = end
    if first < last:
        total = sum(u32[first:last])
        head = first << 2
        tail = last << 2
    for i in range(at, head):
        total += u8[i] << ((i & 1) << 3)
    for i in range(tail, end):
        total += u8[i] << ((i & 1) << 3)
    total = fold(total)
    # So far the bytes at odd places are the high ones: right for a span that starts at an odd one.
    if at & 1:
        return total
    return (total & 0xFF) << 8 | total >> 8


def pseudo_sum(u8: Bytes, u32: U32Array, at: int, l4_length: int, found: Vector) -> int:
    """The folded sum of the pseudo-header (RFC 9293 3.1, RFC 8200 8.1) of a parsed frame.

    ``l4_length``: bytes of TCP or UDP header and payload.
    """
    size = 4
    source = at + found[H_L3] + 12
    if found[H_VERSION] == 6:
        size = 16
        source = at + found[H_L3] + 8
    destination = at + found[H_DESTINATION]
    total = ones_sum(u8, u32, source, source + size)
    total += ones_sum(u8, u32, destination, destination + size)
    return fold(total + found[H_PROTOCOL] + l4_length)


def is_wrong(u8: Bytes, u32: U32Array, at: int, length: int, found: Vector) -> int:
    """Whether the TCP or UDP checksum of a frame is wrong, 1 or 0.

    0 also if there is none: a fragment, a frame that is not whole, UDP's 0 (RFC 768). ``found`` is
    filled by parse.
    """
    if parse(u8, at, length, found) != FOUND:
        return 0
    start = at + found[H_CSUM_START]
    size = at + found[H_END] - start
    if found[H_PROTOCOL] == IPPROTO_UDP:
        if load16(u8, start + UDP_SUM) == 0:
            return 0
        # UDP has a length of its own, which may be less than what IP carries.
        claimed = load16(u8, start + UDP_LENGTH)
        if claimed < UDP_BYTES or claimed > size:
            return 0
        size = claimed
    total = pseudo_sum(u8, u32, at, size, found) + ones_sum(u8, u32, start, start + size)
    return 1 if fold(total) != _MASK16 else 0


def complete(u8: Bytes, u32: U32Array, at: int, length: int, found: Vector) -> int:
    """Write the right checksum into the TCP or UDP header of a frame, whatever is there.

    Returns FOUND, or why there is no such header; nothing is changed then, and a frame whose
    checksum was said to be blank has to be dropped (hardening rule F17). ``found`` is filled by
    parse.
    """
    verdict = parse(u8, at, length, found)
    if verdict != FOUND:
        return verdict
    start = at + found[H_CSUM_START]
    end = at + found[H_END]
    field = start + found[H_CSUM_OFFSET]
    store16(u8, field, 0)
    total = pseudo_sum(u8, u32, at, end - start, found) + ones_sum(u8, u32, start, end)
    value = _MASK16 - fold(total)
    if value == 0 and found[H_PROTOCOL] == IPPROTO_UDP:
        value = _MASK16  # 0 means that there is no checksum (RFC 768)
    store16(u8, field, value)
    return FOUND


def blank(u8: Bytes, u32: U32Array, at: int, length: int, found: Vector) -> int:
    """Write the sum of the pseudo-header alone into the TCP or UDP header, as csum_blank promises.

    This is Linux' CHECKSUM_PARTIAL; a GSO frame without csum_blank needs it too (hardening rule
    F16). Returns FOUND, or why there is no such header; nothing is changed then.
    """
    verdict = parse(u8, at, length, found)
    if verdict != FOUND:
        return verdict
    start = found[H_CSUM_START]
    store16(
        u8,
        at + start + found[H_CSUM_OFFSET],
        pseudo_sum(u8, u32, at, found[H_END] - start, found),
    )
    return FOUND
