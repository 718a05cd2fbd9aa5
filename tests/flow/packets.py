"""Frames for tests of flows, put together from the headers' definitions."""

from __future__ import annotations

from ipaddress import ip_address

MACS = bytes.fromhex("020000000002 020000000001")
TCP, UDP, ICMP = 6, 17, 1


def ports(source: int, dest: int) -> bytes:
    return source.to_bytes(2, "big") + dest.to_bytes(2, "big")


def tcp(source: int, dest: int) -> bytes:
    return ports(source, dest) + bytes(16)


def ipv4(
    source: str,
    dest: str,
    payload: bytes = b"",
    *,
    protocol: int = TCP,
    fragment: int = 0,
    options: bytes = b"",
) -> bytes:
    """An IPv4 packet; ``fragment`` is the 16-bit word of flags and offset."""
    assert len(options) % 4 == 0
    head = bytes([0x45 + len(options) // 4, 0])
    head += (20 + len(options) + len(payload)).to_bytes(2, "big") + bytes(2)
    head += fragment.to_bytes(2, "big") + bytes([64, protocol, 0, 0])
    return head + ip_address(source).packed + ip_address(dest).packed + options + payload


def ipv6(source: str, dest: str, payload: bytes = b"", *, next_header: int = TCP) -> bytes:
    head = bytes([0x60, 0, 0, 0]) + len(payload).to_bytes(2, "big") + bytes([next_header, 64])
    return head + ip_address(source).packed + ip_address(dest).packed + payload


def frame(packet: bytes, *, vlan: bool = False) -> bytes:
    """An Ethernet frame around an IP packet."""
    kind = b"\x08\x00" if packet[0] >> 4 == 4 else b"\x86\xdd"
    return MACS + (b"\x81\x00\x00\x07" if vlan else b"") + kind + packet


ARP = MACS + b"\x08\x06" + bytes(46)
