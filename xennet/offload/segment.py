"""GSO in software: one long TCP frame becomes segments as they would be on a wire.

As Linux' tcp_gso_segment and inet_gso_segment do it: headers, tags and options are repeated; IPv4's
total length, identification and checksum or IPv6's payload length, and TCP's sequence number, flags
and checksum are those of each segment.

    segment         as many segments of one frame as find room in the target
      unfit_for_gso   why a frame cannot be cut
      common_of       what all segments of a frame have in common
      put_segment     one of them
"""

from __future__ import annotations

from typing import TypeAlias

from xennet.abi.netif import XEN_NETIF_GSO_TYPE_TCPV4, XEN_NETIF_GSO_TYPE_TCPV6
from xennet.engine.kernel import Bytes, Frames, U32Array, Vector
from xennet.frames import CSUM_BLANK, DATA_VALIDATED
from xennet.offload.checksum import fold, ones_sum, pseudo_sum
from xennet.offload.headers import (
    FOUND,
    H_CSUM_START,
    H_END,
    H_HDR_LEN,
    H_L3,
    H_PROTOCOL,
    H_VERSION,
    IPPROTO_TCP,
    IPV6_BYTES,
    load16,
    parse,
    store16,
)
from xennet.ring import MASK32

# Why a frame is not segmented, besides what headers.parse says.
#: Not TCP, or TCP whose data offset is impossible.
NO_TCP = 16
#: The GSO type is not that of the frame's IP version.
WRONG_TYPE = 17
#: gso_size is 0.
NO_SIZE = 18
#: Even a segment is longer than the receiver allows.
LONG_SEGMENT = 19

# Indices in the result vector, shared with refit.py. The first three go in and out.
#: Frames in the target and bytes of it that they take.
R_COUNT = 0
R_USED = 1
#: Frame offset of the first payload byte not yet sent; 0 when the frame is done.
R_RESUME = 2
#: Segments made.
R_SEGMENTS = 3

_MASK16 = 0xFFFF
_TCP_FIN = 0x01
_TCP_PSH = 0x08
_TCP_CWR = 0x80
_ONLY_LAST = _TCP_FIN | _TCP_PSH

#: What all segments of a frame have in common. Offsets in the frame: of the IP header, of the TCP
#: header, behind it, behind the IP packet. Segment size in bytes. 1 if checksums stay blank. IPv4's
#: identification (-1: IPv6), TCP's sequence number, its data offset and flags (16 bits). Folded
#: sums of IPv4's header, TCP's pseudo-header, and both TCP headers: each without what differs.
Common: TypeAlias = "tuple[int, int, int, int, int, int, int, int, int, int, int, int]"


def minus(total: int, word: int) -> int:
    """``total`` without one 16-bit word of it, in ones-complement arithmetic."""
    return total + (_MASK16 - word)


def segment(
    blank_types: int,
    max_frame: int,
    max_frames: int,
    source: Frames,
    index: int,
    target: Frames,
    found: Vector,
    res: Vector,
) -> int:
    """Append segments of frame ``index`` of ``source`` to ``target`` while there is room in it.

    ``blank_types``: bit t is set if segments of GSO type t may have blank checksums. ``max_frame``:
    most bytes of a segment; ``max_frames``: frames that the target holds. ``res``: R_COUNT, R_USED
    and R_SEGMENTS are brought forward; if R_RESUME is not 0 at the return, the target is full, and
    the next call, with the same frame, goes on there.

    Returns FOUND, or why this frame cannot be segmented; then nothing is appended.
    """
    u8, u32, offset, length, flags, gso_size, gso_type, _, _ = source
    out, _, out_offset, out_length, out_flags, out_gso_size, out_gso_type, _, _ = target
    at = offset[index]
    mss = gso_size[index]
    kind = gso_type[index]
    verdict = parse(u8, at, length[index], found)
    if verdict == FOUND:
        verdict = unfit_for_gso(max_frame, mss, kind, found)
    if verdict != FOUND:
        return verdict

    blank = blank_types >> kind & 1
    segment_flags = flags[index] & ~CSUM_BLANK
    if blank:
        segment_flags = flags[index] | CSUM_BLANK | DATA_VALIDATED
    common = common_of(u8, u32, at, mss, blank, found)
    header = found[H_HDR_LEN]
    end = found[H_END]
    room = len(out)
    count = res[R_COUNT]
    used = res[R_USED]
    start = res[R_RESUME]
    if start == 0:
        start = header
    done = 0
    while done == 0 and count < max_frames:
        size = min(mss, end - start)
        total = header + size
        if used + total > room:
            break
        put_segment(u8, u32, at, start, size, common, out, used)
        out_offset[count] = used
        out_length[count] = total
        out_flags[count] = segment_flags
        out_gso_size[count] = 0
        out_gso_type[count] = 0
        count += 1
        used += total
        start += size
        # A frame without payload is one segment.
        done = 1 if start == end else 0
    res[R_SEGMENTS] += count - res[R_COUNT]
    res[R_COUNT] = count
    res[R_USED] = used
    res[R_RESUME] = 0 if done else start
    return FOUND


def unfit_for_gso(max_frame: int, mss: int, gso_type: int, found: Vector) -> int:
    """Why a parsed frame cannot be cut into segments of ``mss`` payload bytes; FOUND if it can."""
    header = found[H_HDR_LEN]
    if found[H_PROTOCOL] != IPPROTO_TCP or header == 0:
        return NO_TCP
    is_v4 = found[H_VERSION] == 4
    if gso_type != (XEN_NETIF_GSO_TYPE_TCPV4 if is_v4 else XEN_NETIF_GSO_TYPE_TCPV6):
        return WRONG_TYPE
    if mss == 0:
        return NO_SIZE
    if header + min(mss, found[H_END] - header) > max_frame:
        return LONG_SEGMENT
    return FOUND


def common_of(u8: Bytes, u32: U32Array, at: int, mss: int, blank: int, found: Vector) -> Common:
    """What all segments of the parsed frame at ``at`` have in common."""
    l3 = found[H_L3]
    l4 = found[H_CSUM_START]
    header = found[H_HDR_LEN]
    ip = at + l3
    tcp = at + l4
    ident = -1
    ip_sum = 0
    if found[H_VERSION] == 4:
        # Without total length, identification and checksum.
        ident = load16(u8, ip + 4)
        ip_sum = ones_sum(u8, u32, ip, ip + ((u8[ip] & 0xF) << 2))
        ip_sum = minus(minus(ip_sum, load16(u8, ip + 2)), ident)
        ip_sum = fold(minus(ip_sum, load16(u8, ip + 10)))
    pseudo = pseudo_sum(u8, u32, at, 0, found)
    # Without sequence number, data offset and flags, and checksum.
    sequence = load16(u8, tcp + 4) << 16 | load16(u8, tcp + 6)
    control = load16(u8, tcp + 12)
    tcp_sum = pseudo + ones_sum(u8, u32, tcp, at + header)
    tcp_sum = minus(minus(tcp_sum, sequence >> 16), sequence & _MASK16)
    tcp_sum = fold(minus(minus(tcp_sum, control), load16(u8, tcp + 16)))
    end = found[H_END]
    return l3, l4, header, end, mss, blank, ident, sequence, control, ip_sum, pseudo, tcp_sum


def put_segment(
    u8: Bytes,
    u32: U32Array,
    at: int,
    start: int,
    size: int,
    common: Common,
    out: Bytes,
    used: int,
) -> None:
    """Write one segment to ``used`` of ``out``: the headers of the frame at ``at``, and ``size``
    payload bytes from frame offset ``start`` on."""
    l3, l4, header, end, mss, blank, ident, sequence, control, ip_sum, pseudo, tcp_sum = common
    total = header + size
    payload = used + header
    source = at + start
    out[used:payload] = u8[at : at + header]
    out[payload : payload + size] = u8[source : source + size]

    to_ip = used + l3
    if ident >= 0:
        number = (ident + (start - header) // mss) & _MASK16
        store16(out, to_ip + 2, total - l3)
        store16(out, to_ip + 4, number)
        store16(out, to_ip + 10, _MASK16 - fold(ip_sum + total - l3 + number))
    else:
        store16(out, to_ip + 4, total - l3 - IPV6_BYTES)

    to_tcp = used + l4
    number = (sequence + start - header) & MASK32
    store16(out, to_tcp + 4, number >> 16)
    store16(out, to_tcp + 6, number & _MASK16)
    bits = control
    if start > header:
        bits &= ~_TCP_CWR  # once, for the first segment (RFC 3168 6.1.2)
    if start + size < end:
        bits &= ~_ONLY_LAST
    out[to_tcp + 13] = bits & 0xFF
    if blank:
        store16(out, to_tcp + 16, fold(pseudo + total - l4))
    else:
        summed = ones_sum(u8, u32, source, source + size)
        summed += tcp_sum + (number >> 16) + (number & _MASK16) + bits + total - l4
        store16(out, to_tcp + 16, _MASK16 - fold(summed))
