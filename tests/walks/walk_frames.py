"""Frames for random walks: each has a number in its source address, by which it is known again.

What arrives is judged by scapy alone: a completed frame is what scapy makes of the packet, a
segment is what scapy makes of the packet with its share of the payload.
"""

from __future__ import annotations

import random
from functools import cache, lru_cache
from typing import Any

from attrs import define, field
from scapy.layers.inet import IP, TCP, UDP, in4_pseudoheader
from scapy.layers.inet6 import IPv6, in6_pseudoheader
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Raw
from scapy.utils import checksum

from xennet.frames import CSUM_BLANK, DATA_VALIDATED

BLANK = CSUM_BLANK | DATA_VALIDATED
#: Kinds of frames. "garbage" says that it is IP and is not; "runt" is no Ethernet frame.
KINDS = ("raw", "runt", "garbage", "group", "udp", "tcp", "gso")
FLOWS = 4
_DESTINATION = bytes.fromhex("021122334455")
_GROUP = bytes.fromhex("01005e000001")
_NOISE = random.Random(1).randbytes(1 << 17)
#: Of the flags of TCP, FIN and PSH stay with the last segment, CWR with the first.
_ONLY_LAST, _ONLY_FIRST = 0x01 | 0x08, 0x80


@define
class Sent:
    """One frame that was given to a driver's outside, and how much of it has arrived.

    ``flow``: frames with an equal one keep their order (None: it may go anywhere). ``payload`` is
    that of its TCP or UDP header.
    """

    number: int
    data: bytes
    flags: int = 0
    gso_size: int = 0
    gso_type: int = 0
    flow: int | None = None
    payload: bytes = b""
    arrived: int = 0
    done: bool = False

    @property
    def address(self) -> bytes:
        """By which it is known again."""
        return self.data[6:12]


def source(number: int) -> bytes:
    return b"\x02\x5a" + number.to_bytes(4, "big")


def noise(number: int, count: int) -> bytes:
    at = number * 97 % (1 << 16)
    return _NOISE[at : at + count]


@cache
def _headers(flow: int, udp: bool) -> Any:
    """IPv4 and IPv6, with one VLAN tag or none. Flows do not differ by their tags."""
    packet = Ether(src="02:00:00:00:00:00", dst=_DESTINATION.hex(":"))
    if flow & 2:
        packet /= Dot1Q(vlan=7)
    if flow & 1:
        packet /= IPv6(src="2001:db8::1", dst=f"2001:db8::{flow + 2:x}")
    else:
        packet /= IP(src="192.0.2.1", dst=f"192.0.2.{flow + 2}", id=0xFFF0, flags="DF")
    return packet / (
        UDP(sport=1000, dport=53) if udp else TCP(sport=1000, dport=80, seq=0xFFFFF000, flags=0x99)
    )


def _ip(packet: Any) -> Any:
    return packet[IP] if IP in packet else packet[IPv6]


def _l4(packet: Any) -> Any:
    return packet[TCP] if TCP in packet else packet[UDP]


def rebuilt(packet: Any) -> bytes:
    """All checksums and length fields as scapy computes them."""
    for layer in (IP, IPv6, TCP, UDP):
        if layer in packet:
            for name in ("chksum", "len", "plen"):
                if name in packet[layer].fields:
                    delattr(packet[layer], name)
    return bytes(packet)


def blanked(data: bytes) -> bytes:
    """A right frame with the sum of the pseudo-header alone in its checksum field."""
    packet = Ether(data)
    ip, l4 = _ip(packet), _l4(packet)
    length = len(bytes(l4))
    if IP in packet:
        pseudo = in4_pseudoheader(ip.proto, ip, length)
    else:
        pseudo = bytes(in6_pseudoheader(ip.nh, ip, length))
    l4.chksum = ~checksum(pseudo) & 0xFFFF
    return bytes(packet)


@lru_cache(maxsize=512)
def _template(flow: int, udp: bool, size: int, is_blank: bool) -> bytes:
    """A frame of ``size`` bytes of payload whose content does not matter: zeros."""
    good = rebuilt(_headers(flow, udp).copy() / Raw(bytes(size)))
    return blanked(good) if is_blank else good


@define
class Maker:
    """Makes frames with numbers that rise; ``flows`` tell apart what a vif may reorder."""

    number: int = 0
    sequence: dict[int, int] = field(factory=dict)

    def make(self, kind: str, flow: int, size: int, blank: bool) -> Sent:
        """A frame of about ``size`` bytes: payload, or all of it if it is not TCP or UDP."""
        self.number += 1
        number = self.number
        if kind == "runt":
            return Sent(number, noise(number, 1 + size % 13))
        if kind in ("raw", "group"):
            head = (_GROUP if kind == "group" else _DESTINATION) + source(number) + b"\x88\xb5"
            return Sent(number, head + noise(number, max(0, size - 14)), flow=-1)
        if kind == "garbage":
            ether_type = (b"\x08\x00", b"\x86\xdd", b"\x81\x00")[flow % 3]
            rest = b"\x33" + noise(number, min(size, 300))
            head = _DESTINATION + source(number) + ether_type
            return Sent(number, head + rest, BLANK if blank else 0)
        udp = kind == "udp"
        payload = noise(number, max(1, size))
        template = _template(flow, udp, len(payload), blank)
        data = _DESTINATION + source(number) + template[12 : len(template) - len(payload)] + payload
        sent = Sent(number, data, BLANK if blank else 0, flow=2 * flow + udp, payload=payload)
        if kind == "gso":
            sent.gso_size = max(536, min(1448, size), size // 12)
            sent.gso_type = 2 if flow & 1 else 1
            if not blank:
                sent.data = rebuilt(Ether(data))
        return sent


class WrongError(AssertionError):
    """What arrived is not what was sent."""


def _hex(data: bytes) -> str:
    return data[:200].hex()


@define
class Judge:
    """What was sent one way through a vif, and what of it arrived. ``ordered``: the vif has one
    queue, so that all frames keep their order.

    ``frames`` counts what arrived, whole frames and segments.
    """

    sent: dict[bytes, Sent] = field(factory=dict)
    ordered: bool = True
    frames: int = 0
    last: dict[int | None, int] = field(factory=dict)

    def send(self, sent: Sent) -> None:
        self.sent[sent.address] = sent

    def arrives(self, data: bytes, flags: int, gso_size: int, gso_type: int) -> None:
        """WrongError unless it is right, and behind all that came of its flow before."""
        self.frames += 1
        sent = self.sent.get(data[6:12])
        if sent is None or len(data) < 14:
            raise WrongError(f"{data.hex()} was never sent")
        if sent.done:
            raise WrongError(f"frame {sent.number} came twice")
        flow = 0 if self.ordered else sent.flow
        if flow is not None:
            if self.last.get(flow, 0) > sent.number:
                raise WrongError(f"frame {sent.number} came after frame {self.last[flow]}")
            self.last[flow] = sent.number
        if sent.gso_size and not gso_size:
            self._segment(sent, data, flags)
        else:
            sent.done = True
            if (gso_size, gso_type) != (sent.gso_size, sent.gso_type if gso_size else gso_type):
                raise WrongError(f"frame {sent.number}: GSO {sent.gso_size} became {gso_size}")
            if data not in self._forms(sent, flags & CSUM_BLANK):
                raise WrongError(f"frame {sent.number}: {_hex(data)} was {_hex(sent.data)}")

    @staticmethod
    def _forms(sent: Sent, is_blank: int) -> list[bytes]:
        if is_blank == sent.flags & CSUM_BLANK:
            return [sent.data]
        if is_blank:  # repaired (F16): only GSO frames are
            return [blanked(sent.data)] if sent.gso_size else []
        return [rebuilt(Ether(sent.data))] if sent.payload else []

    @staticmethod
    def _segment(sent: Sent, data: bytes, flags: int) -> None:
        packet, got = Ether(sent.data), Ether(data)
        tcp = packet[TCP]
        # Segments before it may have been lost; none comes twice, or late.
        start = (got[TCP].seq - tcp.seq) & 0xFFFFFFFF if TCP in got else 0
        if start < sent.arrived or start % sent.gso_size or start >= len(sent.payload):
            raise WrongError(f"frame {sent.number}: byte {start} came after byte {sent.arrived}")
        share = sent.payload[start : start + sent.gso_size]
        tcp.seq = (tcp.seq + start) & 0xFFFFFFFF
        control = int(tcp.flags)
        sent.arrived = start + len(share)
        sent.done = sent.arrived == len(sent.payload)
        if not sent.done:
            control &= ~_ONLY_LAST
        if start:
            control &= ~_ONLY_FIRST
        tcp.flags = control
        if IP in packet:
            packet[IP].id = (packet[IP].id + start // sent.gso_size) & 0xFFFF
        tcp.remove_payload()
        packet /= Raw(share)
        expected = rebuilt(packet)
        if flags & CSUM_BLANK:
            expected = blanked(expected)
        if data != expected:
            raise WrongError(
                f"frame {sent.number}, byte {start}: {_hex(data)} is not {_hex(expected)}"
            )
