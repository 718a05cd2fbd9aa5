"""What the pcap and pcapng parsers share: a record, and the checks every record must pass."""

from __future__ import annotations

from typing import NamedTuple

from xennet.frames import MAX_FRAME
from xennet.port.window import Window

#: LINKTYPE_ETHERNET of the tcpdump link-layer header types.
LINKTYPE_ETHERNET = 1
NANOSECONDS = 10**9


class Record(NamedTuple):
    """One captured frame: ``timestamp`` in ns since the epoch, ``data`` valid until the next one,
    ``wire_length`` bytes it had before the snap length cut it."""

    timestamp: int
    data: memoryview
    wire_length: int


def check_linktype(window: Window, linktype: int, offset: int) -> None:
    """PortError unless frames of ``linktype`` start with an Ethernet header."""
    if linktype != LINKTYPE_ETHERNET:
        raise window.error(f"link type {linktype} is not Ethernet ({LINKTYPE_ETHERNET})", offset)


def check_length(window: Window, captured: int, offset: int) -> None:
    """PortError for a frame that no netif packet can carry; also what garbage usually shows."""
    if captured > MAX_FRAME:
        raise window.error(f"frame of {captured} bytes, the longest is {MAX_FRAME}", offset)
