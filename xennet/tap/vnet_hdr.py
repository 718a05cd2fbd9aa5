"""struct virtio_net_hdr and the columns of a FrameBatch: two kernels, one for each direction.

    take_headers    headers of frames that were read, to columns
    put_headers     columns of frames that are to be written, to headers

Headers lie in one array of 16-bit words, VNET_WORDS for each frame. netif says of a blank checksum
that it is that of the packet's own TCP or UDP header, and leaves it to the receiver to find that;
struct virtio_net_hdr says where it is, which may be inside of a tunnel. Such a checksum is
completed. The lengths of headers are taken from the frame: hdr_len is none (facts of Linux 6.18).
"""

from __future__ import annotations

from xennet.abi.netif import XEN_NETIF_GSO_TYPE_TCPV4, XEN_NETIF_GSO_TYPE_TCPV6
from xennet.abi.virtio_net import (
    VIRTIO_NET_HDR_F_DATA_VALID,
    VIRTIO_NET_HDR_F_NEEDS_CSUM,
    VIRTIO_NET_HDR_GSO_ECN,
    VIRTIO_NET_HDR_GSO_TCPV4,
    VIRTIO_NET_HDR_GSO_TCPV6,
    VNET_WORDS,
    VNET_H_csum_offset,
    VNET_H_csum_start,
    VNET_H_gso_size,
    VNET_H_hdr_len,
)
from xennet.engine.kernel import Bytes, Frames, U32Array, Vector
from xennet.frames import CSUM_BLANK, DATA_VALIDATED, MIN_FRAME
from xennet.offload.checksum import fold, ones_sum
from xennet.offload.headers import (
    FOUND,
    H_CSUM_OFFSET,
    H_CSUM_START,
    H_END,
    H_PROTOCOL,
    H_VERSION,
    IPPROTO_TCP,
    IPV4_BYTES,
    TCP_BYTES,
    load16,
    parse,
    store16,
    usual_l4,
)

# Indices in the result vector; all count frames, and none is ever set back.
#: Checksums completed that netif cannot call blank.
R_COMPLETED = 0
#: Frames read that netif cannot express even then.
R_INEXPRESSIBLE = 1
#: Frames not written: their headers are not what their columns say (hardening rule F17).
R_ERRORS = 2
RESULTS = 3

_NO_GSO = 0xFF
#: The first word of a header whose frame is not written.
NOT_WRITTEN = _NO_GSO << 8 | VIRTIO_NET_HDR_F_NEEDS_CSUM

_MASK16 = 0xFFFF
_TCP_FIELD, _UDP_FIELD = 16, 6
_TOTAL_LENGTH = MIN_FRAME + 2
_TCP_OFFSET, _TCP_FLAGS = 12, 13
_TCP_CWR = 0x80
_USUAL_START = MIN_FRAME + IPV4_BYTES


def take_headers(
    first: int, count: int, headers: U32Array, frames: Frames, found: Vector, res: Vector
) -> int:
    """Fill the columns flags, gso_size and gso_type of frames ``first`` to ``count`` from their
    headers, that of frame ``first`` being the first.

    Offset and length are there already. Returns the new count: frames that cannot be expressed are
    dropped, and counted.
    """
    u8, u32, offset, length, flags, gso_size, gso_type, hash_info, _ = frames
    kept = first
    for i in range(first, count):
        h = (i - first) * VNET_WORDS
        what = headers[h]
        state = 0
        if what & VIRTIO_NET_HDR_F_NEEDS_CSUM:
            start = headers[h + VNET_H_csum_start]
            state = take_checksum(
                u8, u32, offset[i], length[i], start, headers[h + VNET_H_csum_offset], found, res
            )
        elif what & VIRTIO_NET_HDR_F_DATA_VALID:
            state = DATA_VALIDATED
        kind = what >> 8 & ~VIRTIO_NET_HDR_GSO_ECN  # the frame's CWR says the same
        if kind:
            kind = gso_kind(kind)
            if kind == 0 or not state & CSUM_BLANK:
                state = -1
        if state < 0:
            res[R_INEXPRESSIBLE] += 1
            continue
        offset[kept] = offset[i]
        length[kept] = length[i]
        flags[kept] = state
        gso_type[kept] = kind
        gso_size[kept] = headers[h + VNET_H_gso_size] if kind else 0
        hash_info[kept] = 0
        kept += 1
    return kept


def gso_kind(kind: int) -> int:
    """XEN_NETIF_GSO_TYPE_* of VIRTIO_NET_HDR_GSO_*, without ECN; 0 if netif has none."""
    if kind == VIRTIO_NET_HDR_GSO_TCPV4:
        return XEN_NETIF_GSO_TYPE_TCPV4
    if kind == VIRTIO_NET_HDR_GSO_TCPV6:
        return XEN_NETIF_GSO_TYPE_TCPV6
    return 0


def take_checksum(
    u8: Bytes,
    u32: U32Array,
    at: int,
    length: int,
    start: int,
    field: int,
    found: Vector,
    res: Vector,
) -> int:
    """The flags of a frame whose checksum is to be filled in from ``start`` on, at ``field`` bytes
    behind that.

    If that is not the frame's own TCP or UDP checksum it is completed here, as Linux's
    skb_checksum_help does it. Returns -1 if it does not lie in the frame.
    """
    protocol = usual_l4(u8, at, length)
    if protocol:
        usual = _TCP_FIELD if protocol == IPPROTO_TCP else _UDP_FIELD
        if start == _USUAL_START and field == usual:
            return CSUM_BLANK | DATA_VALIDATED
    elif parse(u8, at, length, found) == FOUND and (
        start == found[H_CSUM_START] and field == found[H_CSUM_OFFSET]
    ):
        return CSUM_BLANK | DATA_VALIDATED
    if start + field + 2 > length:
        return -1
    # The field holds the sum of the pseudo-header. No sum is written as 0, which may mean "none".
    value = _MASK16 - fold(ones_sum(u8, u32, at + start, at + length))
    store16(u8, at + start + field, value if value else _MASK16)
    res[R_COMPLETED] += 1
    return DATA_VALIDATED


def put_headers(
    first: int, count: int, headers: U32Array, frames: Frames, found: Vector, res: Vector
) -> None:
    """Write the headers of frames ``first`` to ``count``, that of frame ``first`` being the first.

    A frame that is not to be written, which is counted, has NOT_WRITTEN as its first word.
    """
    u8, _, offset, length, flags, gso_size, gso_type, _, _ = frames
    for i in range(first, count):
        h = (i - first) * VNET_WORDS
        what = 0
        start = 0
        field = 0
        linear = 0
        mss = gso_size[i]
        if mss or flags[i] & CSUM_BLANK:
            at = offset[i]
            kind = XEN_NETIF_GSO_TYPE_TCPV4
            protocol = usual_l4(u8, at, length[i])
            if protocol:
                start = _USUAL_START
                end = MIN_FRAME + load16(u8, at + _TOTAL_LENGTH)
            elif parse(u8, at, length[i], found) == FOUND:
                protocol = found[H_PROTOCOL]
                start = found[H_CSUM_START]
                end = found[H_END]
                if found[H_VERSION] == 6:
                    kind = XEN_NETIF_GSO_TYPE_TCPV6
            what = VIRTIO_NET_HDR_F_NEEDS_CSUM
            field = _TCP_FIELD if protocol == IPPROTO_TCP else _UDP_FIELD
            if not protocol or not flags[i] & CSUM_BLANK:
                what = NOT_WRITTEN
            elif mss:
                bits = _NO_GSO
                if protocol == IPPROTO_TCP and kind == gso_type[i]:
                    linear = start + ((u8[at + start + _TCP_OFFSET] >> 4) << 2)
                    bits = gso_bits(kind, u8[at + start + _TCP_FLAGS], start, linear, end, mss)
                what |= bits << 8
            if what == NOT_WRITTEN:
                res[R_ERRORS] += 1
        elif flags[i] & DATA_VALIDATED:
            what = VIRTIO_NET_HDR_F_DATA_VALID
        headers[h] = what
        headers[h + VNET_H_hdr_len] = linear
        # Without GSO this is ignored. 65535 would be GSO_BY_FRAGS; such a frame is one segment.
        headers[h + VNET_H_gso_size] = mss & _MASK16
        headers[h + VNET_H_csum_start] = start
        headers[h + VNET_H_csum_offset] = field


def gso_bits(kind: int, tcp_flags: int, start: int, header: int, end: int, mss: int) -> int:
    """VIRTIO_NET_HDR_GSO_* of a frame that is to be cut into segments of ``mss`` payload bytes; 0
    if it is a single one, _NO_GSO if it cannot be cut.

    ``kind``: XEN_NETIF_GSO_TYPE_*; ``start``, ``header``, ``end``: where the TCP header begins and
    ends, and the IP packet.
    """
    if header < start + TCP_BYTES or header > end:
        return _NO_GSO
    if end - header <= mss:
        return 0
    bits = VIRTIO_NET_HDR_GSO_TCPV4
    if kind == XEN_NETIF_GSO_TYPE_TCPV6:
        bits = VIRTIO_NET_HDR_GSO_TCPV6
    if tcp_flags & _TCP_CWR:
        bits |= VIRTIO_NET_HDR_GSO_ECN
    return bits
