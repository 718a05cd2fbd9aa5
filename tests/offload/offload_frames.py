"""TCP and UDP frames for the offload tests, made and judged by scapy."""

from __future__ import annotations

import gzip
import json
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import (
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    PadN,
)
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Packet, Raw

from xennet.engine.choice import current
from xennet.frames import FrameBatch
from xennet.offload.headers import PLACES

#: With both addresses, so that scapy need not look for one in the network.
ETHER = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
RECORDED = Path(__file__).parents[1] / "data" / "recorded"
TCP_OPTIONS: list[list[tuple[str, Any]]] = [
    [],
    [("NOP", None), ("NOP", None), ("Timestamp", (7, 9))],
    [("MSS", 1460), ("SAckOK", b""), ("WScale", 7)],
]


def memory(frame: bytes, at: int = 0) -> tuple[bytearray, Any, Any, Any, Any]:
    """A buffer with ``frame`` at ``at`` between 0xee bytes; its views, and a place vector."""
    buffer = bytearray(b"\xee" * at + frame + b"\xee" * 9)
    u8 = memoryview(buffer)
    view = current().view
    words = u8[: len(buffer) & ~3].cast("I")
    found = array("q", bytes(8 * PLACES))
    return buffer, view(u8), view(words), view(found), found


def new_batch(size: int = 1 << 20, max_frames: int = 256) -> FrameBatch:
    return FrameBatch(memoryview(bytearray(size)), max_frames)


def rows(batch: FrameBatch, first: int = 0) -> list[tuple[Any, ...]]:
    """(bytes, flags, gso_size, gso_type, timestamp, hash_info, hash_value) of each frame."""
    return [
        (
            bytes(batch.frame(i)),
            batch.flags[i],
            batch.gso_size[i],
            batch.gso_type[i],
            batch.timestamp[i],
            batch.hash_info[i],
            batch.hash_value[i],
        )
        for i in range(first, batch.count)
    ]


def rebuilt(frame: bytes) -> bytes:
    """The frame with all checksums and length fields as scapy computes them."""
    packet = Ether(frame)
    for layer in (IP, IPv6, TCP, UDP):
        if layer in packet:
            for name in ("chksum", "len", "plen"):
                if name in packet[layer].fields:
                    delattr(packet[layer], name)
    return bytes(packet)


def l4_of(frame: bytes) -> Packet:
    packet = Ether(frame)
    return packet[TCP] if TCP in packet else packet[UDP]


@st.composite
def link_layer(draw: st.DrawFn) -> Packet:
    packet = ETHER.copy()
    for _ in range(draw(st.integers(0, 2))):
        packet /= Dot1Q(vlan=draw(st.integers(0, 4095)))
    if Dot1Q in packet and draw(st.booleans()):
        packet[Ether].type = 0x88A8
    return packet


@st.composite
def ipv4(draw: st.DrawFn) -> Packet:
    options = b"\x01" * draw(st.integers(0, 40))
    address = st.integers(1, 2**32 - 1).map(lambda n: ".".join(map(str, n.to_bytes(4, "big"))))
    return IP(
        src=draw(address),
        dst=draw(address),
        id=draw(st.integers(0, 65535)),
        flags=draw(st.sampled_from(["", "DF"])),
        options=[options] if options else [],
    )


@st.composite
def ipv6(draw: st.DrawFn) -> Packet:
    groups = st.lists(st.integers(0x1000, 0xFFFF), min_size=8, max_size=8)
    address = groups.map(lambda words: ":".join(f"{word:x}" for word in words))
    packet = IPv6(src=draw(address), dst=draw(address), fl=draw(st.integers(0, 2**20 - 1)))
    for kind in draw(st.lists(st.sampled_from(["hop", "route", "options"]), max_size=3)):
        if kind == "route":
            stops = draw(st.lists(address, min_size=1, max_size=2))
            left = draw(st.integers(0, len(stops)))
            if IPv6ExtHdrRouting not in packet:
                packet /= IPv6ExtHdrRouting(addresses=stops, segleft=left)
        else:
            header = IPv6ExtHdrHopByHop if kind == "hop" else IPv6ExtHdrDestOpt
            packet /= header(options=[PadN(optdata=bytes(draw(st.integers(0, 20))))])
    return packet


@st.composite
def tcp(draw: st.DrawFn) -> Packet:
    return TCP(
        sport=draw(st.integers(0, 65535)),
        dport=draw(st.integers(0, 65535)),
        seq=draw(st.integers(0, 2**32 - 1) | st.just(2**32 - 5)),
        flags=draw(st.integers(0, 255)),
        options=draw(st.sampled_from(TCP_OPTIONS)),
    )


@st.composite
def udp(draw: st.DrawFn) -> Packet:
    return UDP(sport=draw(st.integers(0, 65535)), dport=draw(st.integers(0, 65535)))


def payloads(most: int) -> st.SearchStrategy[bytes]:
    """Up to ``most`` bytes, odd lengths and ends included, drawn cheaply."""
    return st.tuples(st.integers(0, most), st.integers(0, 2**32)).map(
        lambda drawn: bytes((drawn[1] * (i + 1) >> 7) & 0xFF for i in range(drawn[0]))
    )


@st.composite
def frames(draw: st.DrawFn, l4: Any = None, most: int = 300) -> bytes:
    """A good frame with right checksums; ``l4`` is tcp(), udp() or either."""
    kind = tcp() | udp() if l4 is None else l4
    packet = draw(link_layer()) / draw(ipv4() | ipv6()) / draw(kind)
    return bytes(packet / Raw(draw(payloads(most))))


def with_checksum(frame: bytes, start: int, value: int) -> bytes:
    """The frame with ``value`` in its checksum field at ``start``."""
    return frame[:start] + value.to_bytes(2, "big") + frame[start + 2 :]


def recorded_packets(sample: str) -> Iterator[tuple[bytes, int, bool]]:
    """(frame, gso_size, checksum blank) of packets that a real netfront sent."""
    with gzip.open(RECORDED / f"{sample}.jsonl.gz", "rt") as lines:
        for line in lines:
            event = json.loads(line)
            if event["ev"] == "tx_packet":
                flags = int.from_bytes(bytes.fromhex(event["slots"][0])[6:8], "little")
                frame = bytes.fromhex(event["data"])
                assert len(frame) == event["len"]
                yield frame, event["gso_size"], bool(flags & 1)
