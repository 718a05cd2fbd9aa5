"""Frames with a struct virtio_net_hdr, as Linux 6.18 gave them (headers in hex)."""

from __future__ import annotations

from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet, Raw
from scapy.utils import checksum

from xennet.abi.virtio_net import VNET_HDR

ETHER = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
V4 = IP(src="10.77.0.1", dst="10.77.0.2")
V6 = IPv6(src="fd77::1", dst="fd77::2")
_TIMES = [("NOP", None), ("NOP", None), ("Timestamp", (7, 9))]


def tcp(payload: int = 0, flags: str = "A") -> Packet:
    return TCP(sport=1000, dport=5201, flags=flags, options=_TIMES) / Raw(bytes(payload))


def udp(payload: int) -> Packet:
    return UDP(sport=1000, dport=5201) / Raw(bytes(payload))


def complete(packet: Packet) -> bytes:
    return bytes(packet)


def blank(packet: Packet, start: int, offset: int) -> bytes:
    """The packet with the sum of the pseudo-header in the field ``offset`` behind ``start``."""
    frame = bytearray(bytes(packet))
    right = int.from_bytes(frame[start + offset : start + offset + 2], "big")
    frame[start + offset : start + offset + 2] = bytes(2)
    rest = checksum(bytes(frame[start:]))  # of all but the pseudo-header
    pseudo = (~right & 0xFFFF) + rest  # minus the sum of the rest
    pseudo = (pseudo & 0xFFFF) + (pseudo >> 16)
    frame[start + offset : start + offset + 2] = pseudo.to_bytes(2, "big")
    return bytes(frame)


def header(
    flags: int = 0,
    gso_type: int = 0,
    hdr_len: int = 0,
    gso_size: int = 0,
    csum_start: int = 0,
    csum_offset: int = 0,
) -> bytes:
    return VNET_HDR.pack(flags, gso_type, hdr_len, gso_size, csum_start, csum_offset, 0)


def arp() -> bytes:
    return bytes(ETHER / ARP())


def vxlan_tcp(payload: int = 100) -> bytes:
    """Inner TCP in a VXLAN, its checksum complete."""
    inner = ETHER / V4 / tcp(payload)
    return bytes(ETHER / V4 / UDP(sport=4000, dport=4789) / VXLAN(vni=7) / inner)


def tagged(packet: Packet) -> Packet:
    return ETHER / Dot1Q(vlan=5) / packet
