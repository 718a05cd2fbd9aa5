"""What is in the guest's pages: frames with headers of every kind that a driver looks at."""

from __future__ import annotations

import struct

from xennet.abi.xen import PAGE_SIZE

_MAC = bytes.fromhex("00163e0000010016" + "3e000002")
_V4_ENDS = bytes([10, 0, 0, 1, 10, 0, 0, 2])
_V6_ENDS = bytes([0xFD, *(0,) * 14, 1, 0xFD, *(0,) * 14, 2])
_TCP, _UDP, _ICMP, _HOP_BY_HOP, _FRAGMENT = 6, 17, 1, 0, 44


def _tcp() -> bytes:
    return struct.pack(">HHIIBBHHH", 1024, 80, 1, 1, 5 << 4, 0x10, 1000, 0, 0)


def _udp(length: int) -> bytes:
    return struct.pack(">HHHH", 1024, 53, length, 0)


def _ipv4(protocol: int, payload: bytes, *, options: bytes = b"", offset: int = 0) -> bytes:
    length = 20 + len(options) + len(payload)
    head = 0x45 + len(options) // 4
    fields = struct.pack(">BBHHHBBH", head, 0, length, 1, offset, 64, protocol, 0)
    return _MAC + b"\x08\x00" + fields + _V4_ENDS + options + payload


def _ipv6(protocol: int, payload: bytes) -> bytes:
    fields = struct.pack(">IHBB", 6 << 28, len(payload), protocol, 64)
    return _MAC + b"\x86\xdd" + fields + _V6_ENDS + payload


def frames() -> tuple[bytes, ...]:
    """One frame of each kind, with blank checksums."""
    data = bytes(range(40))
    tagged = _ipv4(_TCP, _tcp() + data)
    return (
        _ipv4(_TCP, _tcp() + data),
        _ipv4(_UDP, _udp(48) + data),
        _ipv6(_TCP, _tcp() + data),
        _ipv6(_UDP, _udp(48) + data),
        _ipv4(_TCP, _tcp() + data, options=b"\x01" * 8),
        _ipv4(_ICMP, data),
        _MAC + b"\x08\x06" + data,
        tagged[:12] + b"\x81\x00\x00\x05" + tagged[12:],
        _ipv4(_UDP, _udp(48) + data, offset=0x2000),
        _ipv6(_HOP_BY_HOP, bytes([_TCP, 0, *(0,) * 6]) + _tcp() + data),
        _ipv6(_FRAGMENT, bytes([_UDP, 0, 0, 1, *(0,) * 4]) + _udp(48) + data),
        b"\xff" * 6 + _MAC[6:] + b"\x08\x00" + data,
    )


def fill_pages(pages: memoryview) -> None:
    """Write a frame to the start of each of ``pages``, and numbers behind it."""
    kinds = frames()
    for page in range(len(pages) // PAGE_SIZE):
        frame = kinds[page % len(kinds)]
        rest = bytes((page + i) & 0xFF for i in range(256)) * (PAGE_SIZE // 256)
        begin = page * PAGE_SIZE
        pages[begin : begin + PAGE_SIZE] = frame + rest[len(frame) :]
