"""Ethernet frames for checks, and what is judged of one that came back.

Nothing here is shared with the drivers: checksums are summed as RFC 1071 says, byte by byte.
"""

from __future__ import annotations

from enum import StrEnum
from functools import lru_cache

from attrs import frozen

TCP, UDP = 6, 17
IPV4, IPV6 = 4, 6
ETHERNET_HEADER = 14
#: Bytes of a frame in front of the transport header; of the transport headers; the place of the
#: checksum in those.
NETWORK_END = {IPV4: 34, IPV6: 54}
TRANSPORT_BYTES = {TCP: 20, UDP: 8}
SUM_AT = {TCP: 16, UDP: 6}

MULTICAST = bytes.fromhex("01005e000001")
UNICAST = bytes.fromhex("02584e000002")
BROADCAST = b"\xff" * 6
_SOURCE = bytes.fromhex("02584e000001")
_EXPERIMENTAL = bytes.fromhex("88b5")
_ETHERTYPE = {IPV4: b"\x08\x00", IPV6: b"\x86\xdd"}
_ADDRESSES = {
    IPV4: (bytes([192, 0, 2, 1]), bytes([192, 0, 2, 2])),
    IPV6: tuple(bytes.fromhex("20010db8") + bytes(11) + bytes([last]) for last in (1, 2)),
}


class Sum(StrEnum):
    """What is in the checksum field of a TCP or UDP packet."""

    RIGHT = "right"
    BLANK = "the pseudo-header sum"
    WRONG = "wrong"


@frozen
class Flow:
    """A connection: IP ``version``, ``protocol`` (TCP, UDP) and the two ports."""

    version: int = IPV4
    protocol: int = TCP
    source_port: int = 49152
    dest_port: int = 5001

    @property
    def headers(self) -> int:
        """Bytes of all headers of its frames."""
        return NETWORK_END[self.version] + TRANSPORT_BYTES[self.protocol]

    @property
    def sum_at(self) -> int:
        """The place of the TCP or UDP checksum in its frames."""
        return NETWORK_END[self.version] + SUM_AT[self.protocol]

    @property
    def addresses(self) -> bytes:
        """Source and destination address, as they stand in the header."""
        return b"".join(_ADDRESSES[self.version])

    @property
    def ports(self) -> bytes:
        """Source and destination port, as they stand in the header."""
        return self.source_port.to_bytes(2, "big") + self.dest_port.to_bytes(2, "big")


@lru_cache(256)
def plain(size: int, number: int = 0, *, to: bytes = UNICAST) -> bytes:
    """A frame of ``size`` bytes (14 or more) that is no IP packet; ``number`` tells frames of one
    size apart."""
    body = bytes((number + 1 + 7 * at + (at >> 8)) & 0xFF for at in range(size))
    return to + _SOURCE + _EXPERIMENTAL + body[ETHERNET_HEADER:]


@lru_cache(256)
def packet(size: int, flow: Flow = Flow(), *, blank: bool = False, number: int = 0) -> bytes:
    """A frame of ``flow`` of ``size`` bytes; its checksum is right, or the pseudo-header sum."""
    body = bytes((number + at + (at >> 8)) & 0xFF for at in range(size - flow.headers))
    length = size - NETWORK_END[flow.version]
    if flow.protocol == TCP:
        head = flow.ports + number.to_bytes(4, "big") + bytes(4) + b"\x50\x10\x20\x00" + bytes(4)
    else:
        head = flow.ports + length.to_bytes(2, "big") + bytes(2)
    frame = bytearray(
        UNICAST + _SOURCE + _ETHERTYPE[flow.version] + _network(flow, length) + head + body
    )
    pseudo = _pseudo_sum(flow.addresses, flow.protocol, length)
    value = pseudo if blank else _complement(pseudo + _ones(frame[NETWORK_END[flow.version] :]))
    if flow.protocol == UDP and not value:
        value = 0xFFFF
    frame[flow.sum_at : flow.sum_at + 2] = value.to_bytes(2, "big")
    return bytes(frame)


def judge_sum(frame: bytes, flow: Flow) -> Sum:
    """What is in the checksum field of a whole frame of ``flow``."""
    length = len(frame) - NETWORK_END[flow.version]
    pseudo = _pseudo_sum(flow.addresses, flow.protocol, length)
    field = int.from_bytes(frame[flow.sum_at : flow.sum_at + 2], "big")
    if _complement(pseudo + _ones(frame[NETWORK_END[flow.version] :])) == 0:
        return Sum.RIGHT
    return Sum.BLANK if field == pseudo else Sum.WRONG


def without_sum(frame: bytes, flow: Flow) -> bytes:
    """The frame with zeros for its TCP or UDP checksum."""
    return frame[: flow.sum_at] + bytes(2) + frame[flow.sum_at + 2 :]


def payload(frame: bytes, flow: Flow) -> bytes:
    """What is behind the headers of a frame."""
    return frame[flow.headers :]


def with_header_sum(frame: bytes) -> bytes:
    """The frame with the right checksum of an IPv4 header of 20 bytes."""
    at = ETHERNET_HEADER
    head = frame[at : at + 10] + bytes(2) + frame[at + 12 : at + 20]
    total = _complement(_ones(head)).to_bytes(2, "big")
    return frame[: at + 10] + total + frame[at + 12 :]


def toeplitz(key: bytes, data: bytes) -> int:
    """The hash of ``data``, bit by bit as xen 4.17 netif.h says ("Hash algorithms")."""
    register = int.from_bytes(key.ljust(len(data) + 4, b"\0")[: len(data) + 4], "big")
    width = 8 * (len(data) + 4)
    value = 0
    for bit in range(8 * len(data)):
        if data[bit >> 3] << (bit & 7) & 0x80:
            value ^= register >> (width - 32 - bit) & 0xFFFFFFFF
    return value


def _network(flow: Flow, length: int) -> bytes:
    if flow.version == IPV6:
        return (
            b"\x60\0\0\0" + length.to_bytes(2, "big") + bytes([flow.protocol, 64]) + flow.addresses
        )
    total = (length + 20) & 0xFFFF
    head = bytearray(b"\x45\0" + total.to_bytes(2, "big") + b"\0\0\x40\0")
    head += bytes([64, flow.protocol, 0, 0]) + flow.addresses
    head[10:12] = _complement(_ones(head)).to_bytes(2, "big")
    return bytes(head)


def _pseudo_sum(addresses: bytes, protocol: int, length: int) -> int:
    return _fold(_ones(addresses) + protocol + (length >> 16) + (length & 0xFFFF))


def _ones(data: bytes | bytearray) -> int:
    padded = bytes(data) + bytes(len(data) & 1)
    return _fold(sum(padded[0::2]) << 8) + _fold(sum(padded[1::2]))


def _fold(total: int) -> int:
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def _complement(total: int) -> int:
    return 0xFFFF - _fold(total)
