"""Blocks of a capture (draft-ietf-opsawg-pcapng) with records of xennet.trace.records.

Each is whole, so that a file ends behind a whole packet whenever its writer is killed. Numbers are
little-endian, times ns.
"""

from __future__ import annotations

import struct

LINKTYPE_ETHERNET, LINKTYPE_USER0 = 1, 147
#: ``way`` of a packet.
INBOUND, OUTBOUND = 1, 2
_SECTION, _INTERFACE, _ENHANCED_PACKET = 0x0A0D0D0A, 1, 6
_BYTE_ORDER = 0x1A2B3C4D
_COMMENT, _FLAGS = 1, 2
_IF_NAME, _IF_TSRESOL = 2, 9
_NANOSECONDS = b"\x09"
_MOST_COMMENT = 0xFFFC


def section() -> bytes:
    """The block that a file begins with; how long the section is, is not told."""
    return _block(_SECTION, struct.pack("<IHHq", _BYTE_ORDER, 1, 0, -1))


def interface(name: str, linktype: int = LINKTYPE_USER0) -> bytes:
    """An interface; the first of a file has number 0."""
    options = _option(_IF_NAME, name.encode()) + _option(_IF_TSRESOL, _NANOSECONDS) + bytes(4)
    return _block(_INTERFACE, struct.pack("<HHI", linktype, 0, 0) + options)


def packet(time: int, data: bytes, comment: str = "", on: int = 0, way: int = 0) -> bytes:
    """A packet of interface ``on`` at ``time`` ns; ``way`` is INBOUND, OUTBOUND or not known (0).
    Raises struct.error for a time that has no 64 bits."""
    head = struct.pack("<5I", on, time >> 32, time & 0xFFFF_FFFF, len(data), len(data))
    said = comment.encode("ascii", "backslashreplace")[:_MOST_COMMENT]
    options = _option(_COMMENT, said) if said else b""
    options += _option(_FLAGS, struct.pack("<I", way)) if way else b""
    options += bytes(4) if options else b""
    return _block(_ENHANCED_PACKET, head + data + bytes(-len(data) % 4) + options)


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("<HH", code, len(value)) + value + bytes(-len(value) % 4)


def _block(kind: int, body: bytes) -> bytes:
    length = struct.pack("<I", len(body) + 12)
    return struct.pack("<I", kind) + length + body + length
