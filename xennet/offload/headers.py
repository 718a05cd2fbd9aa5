"""Where the layers of an Ethernet frame lie: VLAN tags, IPv4, IPv6, TCP, UDP.

Any bytes are a legal input: every load is checked against the end of the frame first, and what is
found is noted in a vector (H_*). Two of its values are those of struct virtio_net_hdr (csum_start,
csum_offset), a third is its hdr_len; its gso_type and gso_size travel in the columns of a frame.

The results are used in computations, so headers that contradict each other are refused. Linux's
drivers check less when they judge a packet: xennet.offload.checksum_setup.
"""

from __future__ import annotations

from xennet.engine.kernel import Bytes, Vector, network_words
from xennet.frames import MIN_FRAME

# What parse returns. FOUND: there is a TCP or UDP header.
FOUND = 0
#: Neither IPv4 nor IPv6, or more than two VLAN tags.
NO_IP = 1
#: A wrong IP header: version, header length, total length, an extension header beyond the end.
BAD_IP = 2
#: A fragment: its checksum is that of a datagram that is not here as a whole.
FRAGMENT = 3
#: Neither TCP nor UDP.
NO_L4 = 4
#: The IP packet ends within the TCP or UDP header.
SHORT_L4 = 5

# Indices in the vector, all offsets in bytes from the first byte of the frame; 0 is "not there".
#: The IP header, and its version (4 or 6).
H_L3 = 0
H_VERSION = 1
#: IPPROTO_TCP or IPPROTO_UDP; 0 unless FOUND.
H_PROTOCOL = 2
#: Where checksumming starts (the TCP or UDP header), and the checksum field from there on.
H_CSUM_START = 3
H_CSUM_OFFSET = 4
#: The first byte behind the TCP or UDP header; 0 when TCP's data offset is impossible.
H_HDR_LEN = 5
#: The first byte behind the IP packet; what follows is padding.
H_END = 6
#: The destination address that counts for the checksum: with an IPv6 routing header, the last one.
H_DESTINATION = 7
PLACES = 8

ETH_P_8021Q = 0x8100
ETH_P_8021AD = 0x88A8
ETH_P_IP = 0x0800
ETH_P_IPV6 = 0x86DD
IPPROTO_TCP = 6
IPPROTO_UDP = 17

#: Most tags of a frame: one of the service provider, one of the customer.
MAX_TAGS = 2
#: IPv6 header and extension headers together (Linux' MAX_IPV6_HDR_LEN); it bounds the search.
MAX_IPV6_HEADERS = 256

ETHERTYPE = 12
TAG_BYTES = 4
IPV4_BYTES = 20
IPV6_BYTES = 40
TCP_BYTES = 20
UDP_BYTES = 8

HOP_BY_HOP = 0
ROUTING = 43
FRAGMENT_HEADER = 44
DESTINATION_OPTIONS = 60
#: Routing types whose last 16 bytes are the final destination: source route, Mobile IPv6.
_ROUTE_SOURCE = 0
_ROUTE_MOBILE = 2
#: The routing type (segment routing) whose first address is the final destination.
_ROUTE_SEGMENT = 4
#: More fragments, or an offset.
IPV4_FRAGMENT = 0x3FFF


def load16(u8: Bytes, at: int) -> int:
    """The 16-bit big-endian number at ``at``."""
    return u8[at] << 8 | u8[at + 1]


def store16(u8: Bytes, at: int, value: int) -> None:
    """Store a number below 2**16, big-endian."""
    u8[at] = value >> 8
    u8[at + 1] = value & 0xFF


def tag_bytes(u8: Bytes, at: int, length: int) -> int:
    """Bytes of the VLAN tags of a frame, at most MAX_TAGS of them; 0 without any."""
    tags = 0
    while tags < MAX_TAGS * TAG_BYTES and MIN_FRAME + tags <= length:
        kind = load16(u8, at + ETHERTYPE + tags)
        if kind not in (ETH_P_8021Q, ETH_P_8021AD):
            break
        tags += TAG_BYTES
    return tags


#: Offsets of addresses and ports in a frame for which :func:`usual_l4` finds a protocol.
USUAL_ADDRESSES = MIN_FRAME + 12
USUAL_PORTS = MIN_FRAME + IPV4_BYTES
# What it asks of the 12 bytes from the Ethernet type on (network_words), but for the lengths.
#: The first word: IPv4 without options, of any type of service.
USUAL_FIRST = ETH_P_IP << 16 | 0x4500
USUAL_FIRST_MASK = 0xFFFFFF00
#: The last one, without the time to live: not a fragment, and the protocol.
USUAL_LAST_MASK = IPV4_FRAGMENT << 16 | 0xFF
USUAL_PROTOCOLS = (IPPROTO_TCP, IPPROTO_UDP)
#: Least total length, and least length of the frame.
USUAL_TOTAL = IPV4_BYTES + TCP_BYTES
USUAL_BYTES = MIN_FRAME + USUAL_TOTAL


def usual_l4(u8: Bytes, at: int, length: int) -> int:
    """IPPROTO_TCP or IPPROTO_UDP for most frames of a busy network, else 0: then :func:`parse`
    tells.

    A quick look: no tag, IPv4 without options, not a fragment, with a whole TCP or UDP header.
    """
    if length < USUAL_BYTES:
        return 0
    word, total, _, last = network_words(u8, at + ETHERTYPE)
    if word & USUAL_FIRST_MASK != USUAL_FIRST or not USUAL_TOTAL <= total <= length - MIN_FRAME:
        return 0
    last &= USUAL_LAST_MASK
    return last if last in USUAL_PROTOCOLS else 0


def network_layer(u8: Bytes, at: int, length: int) -> tuple[int, int]:
    """(the Ethernet type behind VLAN tags, the frame offset of its header).

    (0, 0) for more than MAX_TAGS tags, or if the frame (14 bytes or more) ends within them.
    """
    l3 = MIN_FRAME + tag_bytes(u8, at, length)
    if l3 > length:
        return 0, 0
    kind = load16(u8, at + l3 - 2)
    if kind in (ETH_P_8021Q, ETH_P_8021AD):
        return 0, 0
    return kind, l3


def parse(u8: Bytes, at: int, length: int, found: Vector) -> int:
    """Find the layers of the frame ``u8[at : at + length]``.

    Returns FOUND, or why there is no TCP or UDP. ``found`` has PLACES places; unless FOUND is
    returned, H_PROTOCOL, H_CSUM_START and H_HDR_LEN are 0.
    """
    found[H_VERSION] = 0
    found[H_PROTOCOL] = 0
    found[H_CSUM_START] = 0
    found[H_HDR_LEN] = 0
    if length < MIN_FRAME:
        return NO_IP
    kind, l3 = network_layer(u8, at, length)
    if l3 == 0:
        return NO_IP
    found[H_L3] = l3
    if kind == ETH_P_IP:
        return parse_ipv4(u8, at, length, l3, found)
    if kind == ETH_P_IPV6:
        return parse_ipv6(u8, at, length, l3, found)
    return NO_IP


def parse_ipv4(u8: Bytes, at: int, length: int, l3: int, found: Vector) -> int:
    """:func:`parse` from an IPv4 header at frame offset ``l3`` on."""
    if l3 + IPV4_BYTES > length:
        return BAD_IP
    ip = at + l3
    header = (u8[ip] & 0xF) << 2
    total = load16(u8, ip + 2)
    if u8[ip] >> 4 != 4 or header < IPV4_BYTES or total < header or l3 + total > length:
        return BAD_IP
    found[H_VERSION] = 4
    found[H_DESTINATION] = l3 + 16
    if load16(u8, ip + 6) & IPV4_FRAGMENT:
        return FRAGMENT
    return parse_l4(u8, at, l3 + header, l3 + total, u8[ip + 9], found)


def parse_ipv6(u8: Bytes, at: int, length: int, l3: int, found: Vector) -> int:
    """:func:`parse` from an IPv6 header at frame offset ``l3`` on."""
    if l3 + IPV6_BYTES > length or u8[at + l3] >> 4 != 6:
        return BAD_IP
    end = l3 + IPV6_BYTES + load16(u8, at + l3 + 4)
    if end > length:
        return BAD_IP
    found[H_VERSION] = 6
    found[H_DESTINATION] = l3 + 24
    kind = u8[at + l3 + 6]
    l4 = l3 + IPV6_BYTES
    while kind in (HOP_BY_HOP, ROUTING, DESTINATION_OPTIONS):
        if l4 + 8 > end:
            return BAD_IP
        extension = at + l4
        size = (u8[extension + 1] + 1) << 3
        if l4 + size > end or l4 + size > l3 + MAX_IPV6_HEADERS:
            return BAD_IP
        # With segments left, the header has the next stop, not the end of the way (RFC 8200, 8.1).
        if kind == ROUTING and u8[extension + 3] != 0 and size >= 24:
            route = u8[extension + 2]
            if route == _ROUTE_SEGMENT:
                found[H_DESTINATION] = l4 + 8
            elif route in (_ROUTE_SOURCE, _ROUTE_MOBILE):
                found[H_DESTINATION] = l4 + size - 16
        kind = u8[extension]
        l4 += size
    if kind == FRAGMENT_HEADER:
        return FRAGMENT
    return parse_l4(u8, at, l4, end, kind, found)


def parse_l4(u8: Bytes, at: int, l4: int, end: int, protocol: int, found: Vector) -> int:
    """:func:`parse` from a TCP or UDP header at frame offset ``l4`` on."""
    if protocol == IPPROTO_TCP:
        if l4 + TCP_BYTES > end:
            return SHORT_L4
        header = (u8[at + l4 + 12] >> 4) << 2
        if header >= TCP_BYTES and l4 + header <= end:
            found[H_HDR_LEN] = l4 + header
        found[H_CSUM_OFFSET] = 16
    elif protocol == IPPROTO_UDP:
        if l4 + UDP_BYTES > end:
            return SHORT_L4
        found[H_HDR_LEN] = l4 + UDP_BYTES
        found[H_CSUM_OFFSET] = 6
    else:
        return NO_L4
    found[H_PROTOCOL] = protocol
    found[H_CSUM_START] = l4
    found[H_END] = end
    return FOUND
