"""Checksums that the guest left blank (xnb_add_mbuf_cksum), and the sums that they are made of.

The defects are kept: the driver looks at NETTXF_data_validated only (as CSUM_IP_VALID; a frame with
NETTXF_csum_blank alone crosses unfinished, defect A19), believes the length fields of the IP
header, and expects the transport header 20 bytes behind the start of the IP header (defect A17). A
UDP checksum of 0 stays 0, "none", where RFC 768 asks for 0xffff.
"""

from __future__ import annotations

import struct

from xennet.netback.defects import BackendPanic
from xennet.netback.xnb.defects import HEADER_LEAVES_MBUF
from xennet.netback.xnb.mbuf import CSUM_IP_VALID, Mbuf, chain
from xennet.offload.headers import IPPROTO_TCP, IPPROTO_UDP

ETHER_HDR_LEN = 14
ETHERTYPE_IP = 0x0800
#: Bytes of an IP header without options, the only one that xnb knows.
IP_HDR_LEN = 20

# Byte offsets of fields in their headers.
_ETHER_TYPE = 12
_IP_LEN = 2
_IP_P = 9
_IP_SUM = 10
_IP_SRC = 12
_IP_DST = 16
#: Transport protocol -> offset of the checksum in its header.
_TRANSPORT_SUM = {IPPROTO_TCP: 16, IPPROTO_UDP: 6}


def internet_sum(octets: bytes, start: int = 0) -> int:
    """The folded ones' complement sum of big-endian 16-bit words (RFC 1071), not complemented."""
    if len(octets) % 2:
        octets += b"\0"
    total: int = start + sum(struct.unpack(f">{len(octets) // 2}H", octets))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def in_pseudo(src: bytes, dst: bytes, proto_and_length: int) -> int:
    """The sum of the pseudo header, which a frame with a blank checksum carries in its checksum
    field.

    ``src``, ``dst``: four bytes each; ``proto_and_length`` is cut to 16 bits.
    """
    return internet_sum(src + dst, proto_and_length & 0xFFFF)


def in_cksum_skip(mbufc: Mbuf, length: int, skip: int) -> int:
    """The Internet checksum of bytes ``skip``..``length`` of a chain.

    Ends silently where the chain ends. Returns 0xffff if length <= skip.
    """
    octets = b"".join(segment.valid() for segment in chain(mbufc))
    return ~internet_sum(octets[skip : max(length, skip)]) & 0xFFFF


def add_mbuf_cksum(mbufc: Mbuf) -> None:
    """Fill in the IPv4 header checksum and that of the TCP or UDP behind it, in place.

    xnb_add_mbuf_cksum of netback.c. Only if the frame is IPv4 and the packet header has
    CSUM_IP_VALID, that is if the guest claimed to have validated the data; fragments get a wrong
    UDP checksum, as the driver's own comment says. Raises BackendPanic (A17) where a header would
    lie outside the first mbuf's storage.
    """
    assert mbufc.pkthdr is not None
    if _load(mbufc, _ETHER_TYPE, 2) != ETHERTYPE_IP.to_bytes(2, "big"):
        return
    if not mbufc.pkthdr.csum_flags & CSUM_IP_VALID:
        return

    ip = ETHER_HDR_LEN
    _store_sum(mbufc, ip + _IP_SUM, 0)
    _store_sum(mbufc, ip + _IP_SUM, ~internet_sum(_load(mbufc, ip, IP_HDR_LEN)) & 0xFFFF)

    protocol = _load(mbufc, ip + _IP_P, 1)[0]
    if protocol not in _TRANSPORT_SUM:
        return
    ip_len = int.from_bytes(_load(mbufc, ip + _IP_LEN, 2), "big")
    header_len = (_load(mbufc, ip, 1)[0] & 0x0F) * 4
    at = ip + IP_HDR_LEN + _TRANSPORT_SUM[protocol]
    pseudo = in_pseudo(
        _load(mbufc, ip + _IP_SRC, 4),
        _load(mbufc, ip + _IP_DST, 4),
        protocol + ip_len - IP_HDR_LEN,
    )
    _store_sum(mbufc, at, pseudo)
    _store_sum(mbufc, at, in_cksum_skip(mbufc, ETHER_HDR_LEN + ip_len, ETHER_HDR_LEN + header_len))


def _load(mbuf: Mbuf, at: int, count: int) -> bytes:
    """Bytes of the first mbuf, valid or not: xnb checks no length (defect A17)."""
    place = _place(mbuf, at, count)
    return bytes(mbuf.page.u8[place : place + count])


def _store_sum(mbuf: Mbuf, at: int, value: int) -> None:
    place = _place(mbuf, at, 2)
    mbuf.page.u8[place : place + 2] = value.to_bytes(2, "big")


def _place(mbuf: Mbuf, at: int, count: int) -> int:
    place = mbuf.data + at
    if place + count > mbuf.start + mbuf.size:
        raise BackendPanic(
            f"xnb_add_mbuf_cksum: header bytes {at}..{at + count - 1} lie outside the first mbuf, "
            f"which has room for {mbuf.start + mbuf.size - mbuf.data}",
            HEADER_LEAVES_MBUF,
        )
    return place
