"""The pages that vectors grant: 64 pages, of which a few begin with the headers of a frame."""

from __future__ import annotations

from functools import cache

from xennet.abi.xen import PAGE_SIZE

#: Number of pages.
PAGES = 64
#: The reference that grants page 0; the next one grants page 1, and so on.
FIRST_GREF = 8

#: Pages that begin with an Ethernet frame: TCP over IPv4, TCP over IPv6, UDP over IPv4, ARP, and
#: TCP behind a VLAN tag.
TCP4_PAGE, TCP6_PAGE, UDP4_PAGE, ARP_PAGE, VLAN_PAGE = 1, 2, 3, 4, 5

_MACS = bytes.fromhex("00163e000001 00163e000002")
_IPV4 = bytes.fromhex("45000028000000004006 0000 0a000002 0a000001")
_IPV6 = bytes.fromhex("6000000000140640") + bytes.fromhex("fd00") + bytes(13) + b"\2"
_TCP = bytes.fromhex("9c400050 00000000 00000000 50102000 00000000")
_UDP = bytes.fromhex("9c400035 00140000")
_HEADERS = {
    TCP4_PAGE: _MACS + b"\x08\x00" + _IPV4 + _TCP,
    TCP6_PAGE: _MACS + b"\x86\xdd" + _IPV6 + bytes.fromhex("fd00") + bytes(13) + b"\1" + _TCP,
    UDP4_PAGE: _MACS + b"\x08\x00" + _IPV4.replace(b"\x40\x06", b"\x40\x11") + _UDP,
    ARP_PAGE: _MACS + bytes.fromhex("0806 0001 0800 06 04 0001"),
    VLAN_PAGE: _MACS + bytes.fromhex("8100 0007") + b"\x08\x00" + _IPV4 + _TCP,
}


@cache
def payload() -> bytes:
    """All pages. Byte i of page p is (7 i + i / 256 + 31 p) mod 256, unless it is in a header."""
    pages = bytearray(
        (7 * i + i // 256 + 31 * page) & 0xFF for page in range(PAGES) for i in range(PAGE_SIZE)
    )
    for page, header in _HEADERS.items():
        pages[page * PAGE_SIZE : page * PAGE_SIZE + len(header)] = header
    return bytes(pages)
