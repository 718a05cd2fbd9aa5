"""Hash and queue of each frame of a batch: the kernel of what a transmitting side decides.

With an algorithm and types set, as xen/io/netif.h ("Hash types", "SET_HASH_MAPPING") and Linux
(xenvif_set_skb_hash, xenvif_select_queue) have it: the hash of the highest type that is enabled and
applies, and the queue that the mapping table, or without one the modulus, gives for it. A frame to
which no enabled type applies has no hash and goes to queue 0.

Otherwise a sender is free to choose. Then a cheap hash keeps the frames of a flow in one queue, and
is told to nobody.
"""

from __future__ import annotations

from typing import TypeAlias

from xennet.abi.netif import XEN_NETIF_CTRL_HASH_ALGORITHM_NONE
from xennet.engine.kernel import Bytes, Frames, U32Array, Vector
from xennet.flow.dissect import find_flow
from xennet.flow.toeplitz import fill_table, hash_first_two, hash_word, hash_words
from xennet.offload.headers import (
    IPPROTO_TCP,
    IPPROTO_UDP,
    USUAL_ADDRESSES,
    USUAL_PORTS,
    usual_l4,
)
from xennet.ring import MASK32

# Indices in the settings of a HashConfig.
#: XEN_NETIF_CTRL_HASH_ALGORITHM_*.
ALGORITHM = 0
#: Bits XEN_NETIF_CTRL_HASH_TYPE_*.
TYPES = 1
#: Entries of the mapping table in use, 0 for the modulus.
MAPPING_SIZE = 2
#: 1 when the table is not that of the key.
TABLE_STALE = 3
SETTINGS = 4

#: settings, key, table, mapping.
Hashing: TypeAlias = "tuple[Vector, Bytes, U32Array, U32Array]"

#: 2^31 divided by the golden ratio, made odd: spreads neighbours (Knuth's multiplicative hashing).
_SPREAD = 0x4F1BBCDD


def classify(
    first: int,
    count: int,
    queues: int,
    hashing: Hashing,
    frames: Frames,
    queue: U32Array,
) -> None:
    """Fill the hash columns and ``queue`` of the frames ``first`` ... ``count - 1``.

    ``queues`` is at least 1 and above every number put into ``queue``. ``hashing`` is
    ``HashConfig.views()``. The table is filled here after a new key.
    """
    settings, key, table, mapping = hashing
    data, _, offset, length, _, _, _, hash_info, hash_value = frames
    algorithm = settings[ALGORITHM]
    types = settings[TYPES]
    if algorithm == XEN_NETIF_CTRL_HASH_ALGORITHM_NONE or types == 0:
        for i in range(first, count):
            hash_info[i] = 0
            queue[i] = spread(data, offset[i], length[i]) % queues
        return
    if settings[TABLE_STALE]:
        fill_table(key, table)
        settings[TABLE_STALE] = 0
    size = settings[MAPPING_SIZE]
    for i in range(first, count):
        at = offset[i]
        protocol = usual_l4(data, at, length[i])
        if protocol:
            version = 4
            addresses = at + USUAL_ADDRESSES
            ports = at + USUAL_PORTS
        else:
            version, addresses, ports, protocol = find_flow(data, at, at + length[i])
        # The bit number of a hash type: IPV4 is 0 and IPV6 is 2; that of TCP over it is the next.
        kind = version & 2
        if version == 0:
            kind = -1
        elif protocol == IPPROTO_TCP and types >> (kind + 1) & 1:
            kind += 1
        elif types >> kind & 1 == 0:
            kind = -1
        if kind < 0:
            hash_info[i] = 0
            queue[i] = 0
            continue
        if version == 4:
            value = hash_first_two(table, data, addresses)
            place = 8
        else:
            value = hash_words(table, data, addresses, 32)
            place = 32
        if kind & 1:
            value ^= hash_word(table, place, data, ports)
        hash_info[i] = algorithm << 8 | (kind + 1)
        hash_value[i] = value
        chosen = mapping[value % size] if size else value % queues
        # The table may have been made for more queues than are connected now.
        queue[i] = chosen if chosen < queues else 0


def spread(data: Bytes, at: int, length: int) -> int:
    """A number below 2^16 that is the same for all frames of a flow; 0 for what is not IP."""
    ports = at + USUAL_PORTS
    protocol = data[at + 23] if length >= USUAL_PORTS + 4 else 0
    # What find_flow would find in most frames: IPv4 without options, not a fragment.
    if (
        protocol in (IPPROTO_TCP, IPPROTO_UDP)
        and data[at + 14] == 0x45
        and data[at + 12] == 0x08
        and not (data[at + 13] | data[at + 20] & 0x3F | data[at + 21])
    ):
        source = at + USUAL_ADDRESSES + 3
        dest = source + 4
    else:
        version, addresses, ports, _ = find_flow(data, at, at + length)
        if version == 0:
            return 0
        size = 4 if version == 4 else 16
        source = addresses + size - 1
        dest = source + size
    mixed = data[source] << 8 | data[dest]
    if ports:
        mixed ^= (data[ports + 2] << 8 | data[ports + 3]) << 16 | data[ports] << 8 | data[ports + 1]
    return (mixed * _SPREAD & MASK32) >> 16
