"""The hash of a VALE switch: where in its table an Ethernet address lies.

Bob Jenkins' mix of 1996, of the six bytes in two words; 1024 entries (netmap_vale.c,
nm_vale_rthash). An address is a number here, its first byte the lowest one.
"""

from __future__ import annotations

from xennet.ring import MASK32

NM_BDG_HASH = 1024
_GOLDEN = 0x9E3779B9


def rthash(address: int) -> int:
    """The table index, 0 to 1023, of an address."""
    a = (_GOLDEN + (address & MASK32)) & MASK32
    b = (_GOLDEN + (address >> 32)) & MASK32
    c = 0
    a = (a - b - c) & MASK32 ^ c >> 13
    b = (b - c - a) & MASK32 ^ a << 8 & MASK32
    c = (c - a - b) & MASK32 ^ b >> 13
    a = (a - b - c) & MASK32 ^ c >> 12
    b = (b - c - a) & MASK32 ^ a << 16 & MASK32
    c = (c - a - b) & MASK32 ^ b >> 5
    a = (a - b - c) & MASK32 ^ c >> 3
    b = (b - c - a) & MASK32 ^ a << 10 & MASK32
    c = (c - a - b) & MASK32 ^ b >> 15
    return c & NM_BDG_HASH - 1
