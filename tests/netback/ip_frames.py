"""Ethernet frames with TCP and UDP in them, made and judged as plainly as possible.

The judge knows IPv4 with options and up to two VLAN tags; it is independent of xennet.offload.
"""

from __future__ import annotations

MACS = bytes.fromhex("00163e5e6c00 fe163e5e6c01")
VLAN = bytes.fromhex("8100 0007")
TCP, UDP = 6, 17


def tcp(sum_: int = 0, port: int = 80) -> bytes:
    """A TCP header of 20 bytes with ``sum_`` in the checksum field."""
    head = (40000).to_bytes(2, "big") + port.to_bytes(2, "big") + bytes(8)
    return head + b"\x50\x10\x20\x00" + sum_.to_bytes(2, "big") + bytes(2)


def udp(sum_: int = 0, size: int = 8) -> bytes:
    """A UDP header with ``sum_`` in the checksum field."""
    return bytes.fromhex("9c400035") + size.to_bytes(2, "big") + sum_.to_bytes(2, "big")


def ipv4(
    payload: bytes, protocol: int = TCP, *, tags: bytes = b"", options: bytes = b"", frag: int = 0
) -> bytes:
    """An Ethernet frame with an IPv4 packet from 10.0.0.2 to 10.0.0.1."""
    head = bytes([0x45 + len(options) // 4, 0])
    head += (20 + len(options) + len(payload)).to_bytes(2, "big") + bytes(2)
    head += frag.to_bytes(2, "big") + bytes([64, protocol, 0, 0])
    head += bytes([10, 0, 0, 2, 10, 0, 0, 1]) + options
    return MACS + tags + b"\x08\x00" + head + payload


def ipv6(payload: bytes, protocol: int = TCP) -> bytes:
    """An Ethernet frame with an IPv6 packet from fd00::2 to fd00::1."""
    source, destination = (bytes([0xFD, *bytes(14), last]) for last in (2, 1))
    head = b"\x60\0\0\0" + len(payload).to_bytes(2, "big") + bytes([protocol, 64])
    return MACS + b"\x86\xdd" + head + source + destination + payload


def pseudo_sum(addresses: bytes, protocol: int, size: int) -> int:
    """The folded ones-complement sum of a pseudo-header."""
    total = protocol + size
    for at in range(0, len(addresses), 2):
        total += addresses[at] << 8 | addresses[at + 1]
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def blanked(frame: bytes) -> bytes | None:
    """The frame with its pseudo-header sum in the checksum field; None if there is no such field
    for sure: not IPv4, a fragment, neither TCP nor UDP, headers that do not fit."""
    at = 12
    while frame[at : at + 2] in (b"\x81\x00", b"\x88\xa8") and at < 20:
        at += 4
    if frame[at : at + 2] != b"\x08\x00":
        return None
    ip = frame[at + 2 :]
    if len(ip) < 20 or ip[0] >> 4 != 4:
        return None
    head, total = 4 * (ip[0] & 15), int.from_bytes(ip[2:4], "big")
    fragment = int.from_bytes(ip[6:8], "big") & 0x3FFF
    if head < 20 or total < head or total > len(ip) or fragment:
        return None
    least, field = {TCP: (20, 16), UDP: (8, 6)}.get(ip[9], (1 << 16, 0))
    if total - head < least:
        return None
    checksum = pseudo_sum(ip[12:20], ip[9], total - head).to_bytes(2, "big")
    where = at + 2 + head + field
    return frame[:where] + checksum + frame[where + 2 :]
