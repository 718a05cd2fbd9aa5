"""Classic pcap: microseconds and nanoseconds, both byte orders, the 24-byte "modified" records.

dpkt's tables give the magic numbers and the header layouts. Its Reader is not used for the
records: it drops the original length (so snap-length truncation cannot be seen), turns
microsecond timestamps into floats, yields a record that the file's end cuts short as if it were
whole, and reads as many bytes as a damaged length field says.

Versions are those that libpcap takes (sf-pcap.c): 2.0 to 2.4, and 543.0, as which DG/UX's tcpdump
signs. Before 2.3, and in 543.0, a record has its two lengths in the other order; writers of 2.3 did
it either way, so there the smaller one is what was captured.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct

from dpkt import pcap

from xennet.port.capture import LINKTYPE_ETHERNET, NANOSECONDS, Record, check_length
from xennet.port.window import Window

MAGICS = frozenset(pcap.MAGIC_TO_PKT_HDR)
_NANO = (pcap.TCPDUMP_MAGIC_NANO, pcap.PMUDPCT_MAGIC_NANO)

#: Version -> whether the original length comes first; None: either way.
_SWAPPED = {(2, 0): True, (2, 1): True, (2, 2): True, (2, 3): None, (2, 4): False, (543, 0): True}

#: The link type field (pcap-savefile, LT_* of pcap/pcap.h): the type proper, whether the length of
#: the frame check sequence is told, and that length in units of two bytes.
_LINKTYPE_MASK = 0x03FFFFFF
_FCS_PRESENT = 1 << 26
_FCS_SHIFT = 28
#: Early drafts of the pcap RFC counted bytes. Ethernet's FCS has 4 of them, so that 4 is clear.
_ETHERNET_FCS = 4


def records(window: Window, magic: int) -> Iterator[Record]:
    """Yield the records of a file that starts with ``magic`` (read big-endian).

    Raises CaptureError where the file is damaged.
    """
    packet_header = pcap.MAGIC_TO_PKT_HDR[magic]
    header_size = pcap.FileHdr.__hdr_len__
    if not window.need(header_size):
        raise window.error(f"pcap header cut short, {window.end} of {header_size} bytes", 0)
    order = packet_header.__hdr_fmt__[0]
    header = Struct(order + pcap.FileHdr.__hdr_fmt__[1:])
    _, major, minor, _, _, _, linktype = header.unpack_from(window.view, window.pos)
    if (major, minor) not in _SWAPPED:
        raise window.error(f"pcap version {major}.{minor} is not 2.0 to 2.4", 4)
    if linktype & _LINKTYPE_MASK != LINKTYPE_ETHERNET:
        message = f"link type {linktype & _LINKTYPE_MASK} is not Ethernet ({LINKTYPE_ETHERNET})"
        raise window.error(message, 20)
    swapped, fcs = _SWAPPED[major, minor], _fcs_length(linktype)
    window.pos += header_size

    unit = 1 if magic in _NANO else 1000
    size = packet_header.__hdr_len__
    unpack = Struct(packet_header.__hdr_fmt__).unpack_from
    while window.need(size):
        at = window.offset
        seconds, fraction, captured, wire_length = unpack(window.view, window.pos)[:4]
        if swapped or (swapped is None and captured > wire_length):
            captured, wire_length = wire_length, captured
        if not (captured or wire_length or seconds or fraction) and window.zeros() >= size:
            yield from _blank_records(window, size)
            continue
        check_length(window, captured, at)
        if not window.need(size + captured):
            left = window.end - window.pos - size
            raise window.error(f"record cut short, {left} of {captured} bytes", at)
        start = window.pos + size
        window.pos = start + captured
        data = window.view[start : window.pos]
        yield Record(seconds * NANOSECONDS + fraction * unit, data, wire_length, at, fcs)
    left = window.end - window.pos
    if left:
        raise window.error(f"record header cut short, {left} of {size} bytes", window.offset)


def _blank_records(window: Window, size: int) -> Iterator[Record]:
    """Yield records of nothing but zeros. Raises CaptureError at anything else.

    A crash leaves them in a file whose length was written before its content.
    """
    start, blank = window.offset, 0
    while window.need(size) and (whole := window.zeros() // size):
        blank += whole
        window.pos += whole * size
    if window.end - window.pos < size and window.zeros() == window.end - window.pos:
        raise window.error("only zeros from there on", start)
    for i in range(blank):
        yield Record(0, window.view[:0], 0, start + i * size)


def _fcs_length(linktype: int) -> int:
    """Bytes of each frame's check sequence; 0 if the file does not tell."""
    if not linktype & _FCS_PRESENT:
        return 0
    told = linktype >> _FCS_SHIFT
    return told if told == _ETHERNET_FCS else 2 * told
