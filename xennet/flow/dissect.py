"""Where the addresses and ports of a frame's flow are. Any bytes are safe to look at.

A flow is what Linux's __skb_flow_dissect makes of a frame, as far as xenvif_set_skb_hash asks for
it: IPv4 with options, IPv6 behind hop-by-hop, routing and destination options; a fragment (in IPv6:
anything with a fragment header) has no ports. One VLAN tag is skipped.
"""

from __future__ import annotations

from xennet.engine.kernel import Bytes
from xennet.offload.headers import (
    DESTINATION_OPTIONS,
    ETH_P_8021Q,
    ETH_P_IP,
    ETH_P_IPV6,
    HOP_BY_HOP,
    IPPROTO_TCP,
    IPPROTO_UDP,
    ROUTING,
)

#: Most extension headers that are skipped (MAX_FLOW_DISSECT_HDRS).
_MAX_EXTENSIONS = 15


def find_flow(data: Bytes, at: int, end: int) -> tuple[int, int, int, int]:
    """The flow of the frame ``data[at]`` ... ``data[end - 1]``.

    Returns (IP version, addresses, ports, protocol). Version 0 stands for no IP packet, or one
    without its whole header. ``addresses`` is the index of the source address; the destination
    address follows it. ``ports`` is the index of the four bytes of both ports, and ``protocol`` is
    TCP or UDP; or both are 0.
    """
    ip = at + 14
    if end - ip < 20:
        return 0, 0, 0, 0
    kind = data[at + 12] << 8 | data[at + 13]
    if kind == ETH_P_8021Q:
        kind = data[at + 16] << 8 | data[at + 17]
        ip += 4
    if kind == ETH_P_IPV6:
        return _ipv6(data, ip, end)
    if kind != ETH_P_IP or end - ip < 20:
        return 0, 0, 0, 0
    first = data[ip]
    ports = ip + ((first & 15) << 2)
    if first >> 4 != 4 or first & 15 < 5 or ports > end:
        return 0, 0, 0, 0
    protocol = data[ip + 9]
    if protocol != IPPROTO_TCP and protocol != IPPROTO_UDP:
        return 4, ip + 12, 0, 0
    # Of the flags beside the fragment's offset, "don't fragment" makes no fragment.
    if data[ip + 6] & 0x3F | data[ip + 7] or ports + 4 > end:
        return 4, ip + 12, 0, 0
    return 4, ip + 12, ports, protocol


def _ipv6(data: Bytes, ip: int, end: int) -> tuple[int, int, int, int]:
    if end - ip < 40 or data[ip] >> 4 != 6:
        return 0, 0, 0, 0
    protocol = data[ip + 6]
    ports = ip + 40
    for _ in range(_MAX_EXTENSIONS):
        if protocol != HOP_BY_HOP and protocol != ROUTING and protocol != DESTINATION_OPTIONS:
            break
        if ports + 8 > end:
            break
        protocol = data[ports]
        ports += (data[ports + 1] + 1) << 3
    if (protocol != IPPROTO_TCP and protocol != IPPROTO_UDP) or ports + 4 > end:
        return 6, ip + 8, 0, 0
    return 6, ip + 8, ports, protocol
