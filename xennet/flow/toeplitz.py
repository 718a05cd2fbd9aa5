"""The Toeplitz hash of xen/io/netif.h ("Hash algorithms"), by table.

The definition shifts key and data bit by bit and adds (XOR) the leftmost 32 bits of the key for
each 1 of the data. So what a byte of the data adds depends on its place and value only: a table
with one word for each place and value makes the hash a look-up per byte. The table is filled once
per key.
"""

from __future__ import annotations

from xennet.engine.kernel import Bytes, U32Array
from xennet.ring import MASK32

#: Longest key in bytes that a backend takes (XEN_NETBK_MAX_HASH_KEY_SIZE of Linux); a shorter one
#: is followed by zeroes.
KEY_SIZE = 40
#: Longest data in bytes: two IPv6 addresses and two ports. The last byte meets the key's last.
DATA_SIZE = 36
#: Words of a table: ``table[place << 8 | value]``.
TABLE_SIZE = DATA_SIZE << 8


def fill_table(key: Bytes, table: U32Array) -> None:
    """Fill ``table`` (TABLE_SIZE words) for ``key`` (KEY_SIZE bytes)."""
    for place in range(DATA_SIZE):
        base = place << 8
        five = key[place] << 8 | key[place + 1]
        five = five << 8 | key[place + 2]
        five = five << 8 | key[place + 3]
        five = five << 8 | key[place + 4]
        table[base] = 0
        for bit in range(8):
            # The byte's highest bit meets the key at the byte's start, the lowest 7 bits later.
            window = five >> (bit + 1) & MASK32
            value = 1 << bit
            for lower in range(value):
                table[base | value | lower] = table[base | lower] ^ window


def hash_word(table: U32Array, place: int, data: Bytes, at: int) -> int:
    """What the four bytes from ``data[at]`` on add to a hash, in which they begin at byte
    ``place``."""
    base = place << 8
    return (
        table[base + data[at]]
        ^ table[base + 256 + data[at + 1]]
        ^ table[base + 512 + data[at + 2]]
        ^ table[base + 768 + data[at + 3]]
    )


def hash_first_two(table: U32Array, data: Bytes, at: int) -> int:
    """The hash of the eight bytes from ``data[at]`` on, unrolled: IPv4 addresses."""
    return (
        table[data[at]]
        ^ table[256 + data[at + 1]]
        ^ table[512 + data[at + 2]]
        ^ table[768 + data[at + 3]]
        ^ table[1024 + data[at + 4]]
        ^ table[1280 + data[at + 5]]
        ^ table[1536 + data[at + 6]]
        ^ table[1792 + data[at + 7]]
    )


def hash_words(table: U32Array, data: Bytes, at: int, count: int) -> int:
    """The hash of the ``count`` bytes (a multiple of 4, at most DATA_SIZE) from ``data[at]`` on."""
    value = 0
    for place in range(0, count, 4):
        value ^= hash_word(table, place, data, at + place)
    return value
