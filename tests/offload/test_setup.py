"""Which packets with a blank checksum Linux's drivers take: skb_checksum_setup."""

from __future__ import annotations

import pytest
from how_many import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from offload_frames import ETHER, frames, memory
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)
from scapy.layers.ipsec import AH
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Packet, Raw

from xennet.engine.choice import current
from xennet.offload.checksum import blank
from xennet.offload.checksum_setup import set_up
from xennet.offload.headers import FOUND, H_END

V4 = ETHER / IP(src="192.0.2.1", dst="192.0.2.2")
V6 = ETHER / IPv6(src="2001:db8::1", dst="2001:db8::2")
BODY = Raw(bytes(range(30)))


def taken(frame: bytes | Packet, *, recalculate: bool = False) -> tuple[bool, bytes]:
    """Whether the field is found, and the frame afterwards."""
    buffer, u8, u32, _, _ = memory(bytes(frame), at=3)
    size = len(bytes(frame))
    found = current().kernel(set_up)(u8, u32, 3, size, int(recalculate))
    assert buffer[:3] + buffer[3 + size :] == b"\xee" * 12
    return bool(found), bytes(buffer[3 : 3 + size])


TAKEN = {
    "tcp": V4 / TCP() / BODY,
    "udp": V4 / UDP(),
    "options": ETHER / IP(options=[b"\1" * 8]) / TCP(),
    "no data behind the header": V4 / TCP(),
    "IP version 5": bytes(ETHER / IP(version=5) / TCP()),
    "total length too large": ETHER / IP(len=999) / UDP(),
    "total length too small": ETHER / IP(len=20) / TCP(),
    "ipv6": V6 / TCP(),
    "hop by hop, routing, destination": V6
    / IPv6ExtHdrHopByHop()
    / IPv6ExtHdrRouting()
    / IPv6ExtHdrDestOpt()
    / UDP(),
    "authentication": V6 / AH(nh=6, payloadlen=4, icv=bytes(12)) / TCP(),
    "a fragment header of a whole packet": V6 / IPv6ExtHdrFragment() / UDP(),
}
DROPPED = {
    "ARP": ETHER / ARP(),
    "ICMP": V4 / ICMP() / BODY,
    "a tag": ETHER / Dot1Q() / IP() / TCP(),
    "an Ethernet header": bytes(V4)[:14],
    "a cut IPv4 header": bytes(V4)[:33],
    "a cut TCP header": bytes(V4 / TCP())[:53],
    "a cut UDP header": bytes(V4 / UDP())[:41],
    "a first fragment": ETHER / IP(flags="MF") / TCP(),
    "a later fragment": ETHER / IP(frag=1) / TCP(),
    "a cut IPv6 header": bytes(V6)[:53],
    "a cut extension header": bytes(V6 / IPv6ExtHdrHopByHop() / TCP())[:55],
    "an IPv6 fragment": V6 / IPv6ExtHdrFragment(m=1) / UDP(),
    "an extension header past the payload": ETHER / IPv6(plen=7) / IPv6ExtHdrHopByHop() / TCP(),
    "no next header": ETHER / IPv6(nh=59) / BODY,
}


@pytest.mark.parametrize("name", TAKEN)
def test_a_checksum_field_is_found(engine: str, name: str) -> None:
    assert taken(TAKEN[name]) == (True, bytes(TAKEN[name]))


@pytest.mark.parametrize("name", DROPPED)
@pytest.mark.parametrize("recalculate", [False, True])
def test_without_a_field_the_packet_is_left_alone(
    engine: str, name: str, recalculate: bool
) -> None:
    assert taken(DROPPED[name], recalculate=recalculate) == (False, bytes(DROPPED[name]))


@settings(max_examples=150, deadline=None)
@given(frames(most=20))
def test_a_recalculated_field_is_what_a_blank_checksum_has(frame: bytes) -> None:
    buffer, u8, u32, _, found = memory(frame)
    assert blank(u8, u32, 0, len(frame), found) == FOUND
    ok, became = taken(frame, recalculate=True)
    packet = Ether(frame)
    if frame[12:14] in (b"\x81\x00", b"\x88\xa8"):
        assert not ok
        return
    assert ok
    # Linux counts padding, and takes the address in the IP header even if it is not the last.
    if found[H_END] == len(frame) and IPv6ExtHdrRouting not in packet:
        assert became == bytes(buffer[: len(frame)])


@settings(max_examples=examples(400), deadline=None)
@given(
    st.binary(min_size=14, max_size=90)
    | st.tuples(frames(most=20), st.integers(12, 90), st.integers(0, 255)).map(
        lambda drawn: drawn[0][: drawn[1]] + bytes([drawn[2]]) + drawn[0][drawn[1] + 1 :]
    ),
    st.booleans(),
)
def test_any_bytes_are_judged_and_at_most_two_are_changed(frame: bytes, recalculate: bool) -> None:
    ok, became = taken(frame, recalculate=recalculate)
    changed = [i for i, (old, new) in enumerate(zip(frame, became, strict=True)) if old != new]
    assert not changed or (ok and recalculate and changed[-1] - changed[0] < 2)
