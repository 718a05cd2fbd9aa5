"""Classic pcap: microseconds and nanoseconds, both byte orders, the 24-byte "modified" records.

dpkt's tables give the magic numbers and the header layouts. Its Reader is not used for the
records: it drops the original length (so snap-length truncation cannot be seen), turns
microsecond timestamps into floats, yields a record that the file's end cuts short as if it were
whole, and reads as many bytes as a damaged length field says.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct

from dpkt import pcap

from xennet.port.capture import NANOSECONDS, Record, check_length, check_linktype
from xennet.port.window import Window

MAGICS = frozenset(pcap.MAGIC_TO_PKT_HDR)
_NANO = (pcap.TCPDUMP_MAGIC_NANO, pcap.PMUDPCT_MAGIC_NANO)
_VERSION = (pcap.PCAP_VERSION_MAJOR, pcap.PCAP_VERSION_MINOR)
#: The upper bits of the link type field say whether frames end in an FCS (pcap-savefile).
_LINKTYPE_MASK = 0x03FFFFFF


def records(window: Window, magic: int) -> Iterator[Record]:
    """The records of a file that starts with ``magic`` (read big-endian); PortError as found."""
    packet_header = pcap.MAGIC_TO_PKT_HDR[magic]
    header_size = pcap.FileHdr.__hdr_len__
    if not window.need(header_size):
        raise window.error(f"pcap header cut short, {window.end} of {header_size} bytes", 0)
    order = packet_header.__hdr_fmt__[0]
    header = Struct(order + pcap.FileHdr.__hdr_fmt__[1:])
    _, major, minor, _, _, _, linktype = header.unpack_from(window.view, window.pos)
    if (major, minor) != _VERSION:
        raise window.error(f"pcap version {major}.{minor} is not 2.4", 4)
    check_linktype(window, linktype & _LINKTYPE_MASK, 20)
    window.pos += header_size

    unit = 1 if magic in _NANO else 1000
    size = packet_header.__hdr_len__
    unpack = Struct(packet_header.__hdr_fmt__).unpack_from
    while window.need(size):
        seconds, fraction, captured, wire_length = unpack(window.view, window.pos)[:4]
        check_length(window, captured, window.offset)
        if not window.need(size + captured):
            left = window.end - window.pos - size
            message = f"record cut short, {left} of {captured} bytes"
            raise window.error(message, window.offset)
        start = window.pos + size
        window.pos = start + captured
        data = window.view[start : window.pos]
        yield Record(seconds * NANOSECONDS + fraction * unit, data, wire_length)
    left = window.end - window.pos
    if left:
        raise window.error(f"record header cut short, {left} of {size} bytes", window.offset)
