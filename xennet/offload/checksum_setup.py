"""skb_checksum_setup: what Linux's drivers do with a packet that came with a blank checksum.

It finds the field by the Ethernet type and the headers behind it; if that fails, the packet is
dropped (hardening rule F17). It is less careful than xennet.offload.headers: neither IP version nor
total length is checked. It does not look behind a VLAN tag: Linux's drivers offload nothing for
VLAN devices.
"""

from __future__ import annotations

from xennet.engine.kernel import Bytes, U32Array
from xennet.frames import MIN_FRAME
from xennet.offload.checksum import fold, ones_sum
from xennet.offload.headers import (
    DESTINATION_OPTIONS,
    ETH_P_IP,
    ETH_P_IPV6,
    ETHERTYPE,
    FRAGMENT_HEADER,
    HOP_BY_HOP,
    IPPROTO_TCP,
    IPPROTO_UDP,
    IPV4_BYTES,
    IPV4_FRAGMENT,
    IPV6_BYTES,
    ROUTING,
    TCP_BYTES,
    UDP_BYTES,
    load16,
    store16,
    usual_l4,
)

_AUTHENTICATION = 51
#: Bytes that are read of an extension header, and those of a fragment header.
_OPTIONS_BYTES, _AUTHENTICATION_BYTES, _FRAGMENT_BYTES = 2, 12, 8
#: More fragments, or an offset.
_IPV6_FRAGMENT = 0xFFF9
#: Where the checksum is in the header.
_TCP_FIELD, _UDP_FIELD = 16, 6


def set_up(u8: Bytes, u32: U32Array, at: int, length: int, recalculate: int) -> int:
    """Whether the field of the frame ``u8[at : at + length]`` (14 bytes or more) is found, 1 or 0.

    With ``recalculate`` the sum of the pseudo-header is written into it (hardening rule F16).
    """
    if not recalculate and usual_l4(u8, at, length):
        return 1
    protocol, l4 = find_l4(u8, at, length)
    if not protocol or l4 + (TCP_BYTES if protocol == IPPROTO_TCP else UDP_BYTES) > length:
        return 0
    if recalculate:
        addresses = at + MIN_FRAME + 12
        end = addresses + 8
        if load16(u8, at + ETHERTYPE) == ETH_P_IPV6:
            addresses = at + MIN_FRAME + 8
            end = addresses + 32
        total = ones_sum(u8, u32, addresses, end) + protocol + length - l4
        field = _TCP_FIELD if protocol == IPPROTO_TCP else _UDP_FIELD
        store16(u8, at + l4 + field, fold(total))
    return 1


def find_l4(u8: Bytes, at: int, length: int) -> tuple[int, int]:
    """(IPPROTO_TCP or IPPROTO_UDP, the frame offset of its header); (0, 0) without one."""
    kind = load16(u8, at + ETHERTYPE)
    ip = at + MIN_FRAME
    protocol = 0
    l4 = MIN_FRAME
    if kind == ETH_P_IP and length >= MIN_FRAME + IPV4_BYTES:
        if not load16(u8, ip + 6) & IPV4_FRAGMENT:
            protocol = u8[ip + 9]
        l4 += (u8[ip] & 0xF) << 2
    elif kind == ETH_P_IPV6 and length >= MIN_FRAME + IPV6_BYTES:
        protocol, l4 = find_ipv6_l4(u8, at, length)
    if protocol in (IPPROTO_TCP, IPPROTO_UDP):
        return protocol, l4
    return 0, 0


def find_ipv6_l4(u8: Bytes, at: int, length: int) -> tuple[int, int]:
    """(the protocol behind all extension headers, its frame offset); (0, 0) if there is none."""
    ip = at + MIN_FRAME
    end = MIN_FRAME + IPV6_BYTES + load16(u8, ip + 4)
    kind = u8[ip + 6]
    l4 = MIN_FRAME + IPV6_BYTES
    fragment = 0
    while kind in (HOP_BY_HOP, ROUTING, DESTINATION_OPTIONS, _AUTHENTICATION, FRAGMENT_HEADER):
        header = at + l4
        needed = _OPTIONS_BYTES
        if kind == _AUTHENTICATION:
            needed = _AUTHENTICATION_BYTES
        elif kind == FRAGMENT_HEADER:
            needed = _FRAGMENT_BYTES
        if l4 > end or l4 + needed > length:
            return 0, 0
        if kind == _AUTHENTICATION:
            l4 += (u8[header + 1] + 2) << 2
        elif kind == FRAGMENT_HEADER:
            fragment |= load16(u8, header + 2) & _IPV6_FRAGMENT
            l4 += _FRAGMENT_BYTES
        else:
            l4 += (u8[header + 1] + 1) << 3
        kind = u8[header]
    if fragment or l4 > end:
        return 0, 0
    return kind, l4
