"""The switching of VALE: a batch of slots is read, sorted by destination, copied to each.

Kernels (docs/kernels.md). A batch is a stretch of a tx ring, up to a packet's end behind
NM_BDG_BATCH slots. :func:`collect` loads its slots, :func:`route` learns and looks up addresses and
puts each packet into the list of its destination, :func:`deliver` copies one destination's list and
the broadcasts, in the order in which they were sent. Rules: netmap_vale.c, nm_vale_preflush,
netmap_vale_learning, nm_vale_flush.
"""

from __future__ import annotations

from typing import TypeAlias

from xennet.abi.netmap import (
    NS_BUF_CHANGED,
    NS_INDIRECT,
    NS_MOREFRAG,
    SLOT_WORDS,
    RING_W_slot,
    SLOT_S_flags,
    SLOT_W_len,
    SLOT_W_ptr,
)
from xennet.engine.kernel import Bytes, U32Array, U32Words, Vector
from xennet.netmap.kring import (
    K_AT,
    K_BUF_AT,
    K_BUF_WORDS,
    K_BUFS,
    K_HWCUR,
    K_HWTAIL,
    K_OFFSET_MASK,
    K_OFFSET_MASK_HIGH,
    K_OFFSET_MAX,
    K_SLOTS,
)
from xennet.netmap.vale_hash import rthash

NM_BDG_MAXPORTS = 254
NM_BDG_BROADCAST = NM_BDG_MAXPORTS
NM_BDG_NOPORT = NM_BDG_MAXPORTS + 1
NM_BDG_MAXRINGS = 16
NM_BDG_MAXSLOTS = 4096
NM_BDG_BATCH = 1024
#: Bytes of an Ethernet header; less is no frame.
ETHERNET_HEADER = 14
#: No packet behind this one in a list.
NO_PACKET = 0xFFFFFFFF
#: What a slot gets whose frame is longer than the buffers of one of the two ports (netmap_vale.c).
SHORTENED = 64

#: at, length, frags, next, flags: of each slot of a batch where its bytes are, how many, the
#: fragments of the packet that begins there, and the next packet of the same list.
Batch: TypeAlias = "tuple[U32Array, U32Array, U32Array, U32Array, U32Array]"
#: first, last: packet in the list of each destination (port * NM_BDG_MAXRINGS + ring).
Lists: TypeAlias = "tuple[U32Array, U32Array]"
#: macs, ports: the table of addresses; last: the last source of each port.
Table: TypeAlias = "tuple[Vector, U32Array, Vector]"

#: Marks a slot whose bytes the client keeps elsewhere; they are staged.
F_INDIRECT = 1

# Results of collect
#: Slots loaded, the ring index behind them, slots with NS_INDIRECT among them.
R_SLOTS = 0
R_END = 1
R_INDIRECT = 2
R_PLACES = 3


def frame_at(words: U32Words, slot: int, length: int, pvt: U32Array) -> int:
    """Where in the region the frame of a slot begins, in bytes; 0 if the slot has none.

    ``slot``: its first word. None: the index is that of no buffer (below 2 or beyond the pool), or
    offset and length exceed the buffer. An offset beyond the ring's largest is taken for that.
    """
    index = words[slot]
    if index < 2 or index >= pvt[K_BUFS]:
        return 0
    offset = words[slot + SLOT_W_ptr] & pvt[K_OFFSET_MASK]
    if offset > pvt[K_OFFSET_MAX] or words[slot + SLOT_W_ptr + 1] & pvt[K_OFFSET_MASK_HIGH]:
        offset = pvt[K_OFFSET_MAX]
    size = pvt[K_BUF_WORDS] * 4
    if offset + length > size:
        return 0
    return pvt[K_BUF_AT] * 4 + index * size + offset


def collect(words: U32Words, pvt: U32Array, begin: int, end: int, batch: Batch, res: Vector) -> int:
    """Load the slots from ring index ``begin`` to ``end``, or as many as make a batch.

    A slot without a frame has length 0. Clears NS_BUF_CHANGED in the slots. Returns the number of
    slots; ``res`` has R_END, where the next batch begins, and R_INDIRECT. A packet that has no end
    ends with the last slot.
    """
    at, length, frags, following, flags = batch
    slots = pvt[K_SLOTS]
    base = pvt[K_AT] + RING_W_slot
    count = 0
    first = 0
    indirect = 0
    i = begin
    while i != end:
        slot = base + i * SLOT_WORDS
        second = words[slot + SLOT_W_len]
        bits = second >> SLOT_S_flags
        size = second & 0xFFFF
        if bits & NS_BUF_CHANGED:
            words[slot + SLOT_W_len] = second & ~(NS_BUF_CHANGED << SLOT_S_flags)
        flags[count] = 0
        following[count] = NO_PACKET
        if bits & NS_INDIRECT:
            flags[count] = F_INDIRECT
            indirect += 1
            at[count] = i
        else:
            at[count] = frame_at(words, slot, size, pvt)
            if at[count] == 0:
                size = 0
        length[count] = size
        count += 1
        i += 1
        if i == slots:
            i = 0
        if not bits & NS_MOREFRAG:
            frags[first] = count - first
            first = count
            if count >= NM_BDG_BATCH:
                break
    if first < count:
        frags[first] = count - first
    res[R_SLOTS] = count
    res[R_END] = i
    res[R_INDIRECT] = indirect
    return count


def lookup(data: Bytes, at: int, me: int, table: Table) -> int:
    """The port that a frame goes to: a number, NM_BDG_BROADCAST, or ``me``.

    ``data[at]`` is the first byte of its Ethernet header. Learns the source, if it is no group and
    not the port's last one: the entry of its hash is overwritten and never expires.
    """
    macs, ports, last = table
    if not data[at + 6] & 1:
        source = 0
        for i in range(6, 12):
            source = source << 8 | data[at + i]
        if source != last[me]:
            place = rthash(data, at + 6)
            last[me] = source
            macs[place] = source
            ports[place] = me
    if data[at] & 1:
        return NM_BDG_BROADCAST
    destination = 0
    for i in range(6):
        destination = destination << 8 | data[at + i]
    place = rthash(data, at)
    if macs[place] == destination:
        return ports[place]
    return NM_BDG_BROADCAST


def route(
    source: Bytes,
    staged: Bytes,
    count: int,
    header: int,
    me: int,
    ring: int,
    batch: Batch,
    table: Table,
    lists: Lists,
    used: U32Array,
) -> int:
    """Put each packet of a batch into the list of its destination.

    ``header``: bytes of the virtio-net header in front; it is in the first fragment with more
    behind it, or is all of the first fragment. Less than an Ethernet header behind it: dropped.
    ``me``, ``ring``: port and ring of the sender; a frame for ``me`` is dropped, one for another
    port goes to its ring of the same number. Returns how many lists other than that of broadcasts
    are used; ``used`` names them.
    """
    at, length, frags, following, flags = batch
    first, last = lists
    lists_used = 0
    i = 0
    while i < count:
        step = frags[i]
        look = i
        skip = header
        if header == length[i] and step > 1:
            look = i + 1
            skip = 0
        if length[look] >= skip + ETHERNET_HEADER:
            if flags[look] & F_INDIRECT:
                port = lookup(staged, at[look] + skip, me, table)
            else:
                port = lookup(source, at[look] + skip, me, table)
            if port != me:
                place = port * NM_BDG_MAXRINGS
                if port != NM_BDG_BROADCAST:
                    place += ring
                if first[place] == NO_PACKET:
                    first[place] = i
                    if port != NM_BDG_BROADCAST:
                        used[lists_used] = place
                        lists_used += 1
                else:
                    following[last[place]] = i
                last[place] = i
        i += step
    return lists_used


def deliver(
    source: Bytes,
    staged: Bytes,
    batch: Batch,
    unicast: int,
    broadcast: int,
    source_size: int,
    target: Bytes,
    words: U32Words,
    pvt: U32Array,
) -> int:
    """Copy packets to one rx ring: those of two lists, in the order in which they were sent.

    ``unicast``, ``broadcast``: the first packet of each list, or NO_PACKET. ``source_size``: bytes
    of the sender's buffers. One slot of the ring stays free. A packet that does not fit into what
    is left is dropped, and with it all behind it. Slot flags: the number of fragments in
    NS_PORT_MASK, NS_MOREFRAG in all but the last; ptr 0. Returns the number of slots filled.
    """
    at, length, frags, following, flags = batch
    slots = pvt[K_SLOTS]
    base = pvt[K_AT] + RING_W_slot
    size = pvt[K_BUF_WORDS] * 4
    place = pvt[K_HWTAIL]
    space = slots - 1 - (place - pvt[K_HWCUR] + slots) % slots
    filled = 0
    while unicast != NO_PACKET or broadcast != NO_PACKET:
        packet = min(unicast, broadcast)
        if packet == unicast:
            unicast = following[packet]
        else:
            broadcast = following[packet]
        count = frags[packet]
        if count > space:
            break
        space -= count
        for i in range(packet, packet + count):
            slot = base + place * SLOT_WORDS
            index = words[slot]
            if index < 2 or index >= pvt[K_BUFS]:
                index = 0  # the client took the buffer away: the reserved one gets the frame
            to = pvt[K_BUF_AT] * 4 + index * size
            left = length[i]
            if left > size or left > source_size:
                left = SHORTENED
            if flags[i] & F_INDIRECT:
                target[to : to + left] = staged[at[i] : at[i] + left]
            else:
                target[to : to + left] = source[at[i] : at[i] + left]
            bits = (count << 8) & 0xFF00
            if i < packet + count - 1:
                bits |= NS_MOREFRAG
            words[slot + SLOT_W_len] = left | bits << SLOT_S_flags
            words[slot + SLOT_W_ptr] = 0
            words[slot + SLOT_W_ptr + 1] = 0
            place += 1
            if place == slots:
                place = 0
        filled += count
    pvt[K_HWTAIL] = place
    return filled


def release(words: U32Words, pvt: U32Array, head: int) -> None:
    """Take back the slots of an rx ring from hwcur to ``head``: NS_BUF_CHANGED is cleared."""
    slots = pvt[K_SLOTS]
    base = pvt[K_AT] + RING_W_slot + SLOT_W_len
    i = pvt[K_HWCUR]
    while i != head:
        second = words[base + i * SLOT_WORDS]
        if second >> SLOT_S_flags & NS_BUF_CHANGED:
            words[base + i * SLOT_WORDS] = second & ~(NS_BUF_CHANGED << SLOT_S_flags)
        i += 1
        if i == slots:
            i = 0
    pvt[K_HWCUR] = head
