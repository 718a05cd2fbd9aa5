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
#: In the result of :func:`deliver`: one packet that was dropped.
DROPPED = 1 << 16
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

_MORE = NS_MOREFRAG << SLOT_S_flags

#: Marks a slot whose bytes the client keeps elsewhere; they are staged.
F_INDIRECT = 1
#: Marks a slot whose frame is nowhere: no such buffer, or memory that the client has not.
F_NONE = 2

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
            if size > pvt[K_BUF_WORDS] * 4:
                size = SHORTENED
        else:
            at[count] = frame_at(words, slot, size, pvt)
            if at[count] == 0:
                size = 0
                flags[count] = F_NONE
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


def address(data: Bytes, at: int) -> int:
    """The Ethernet address in bytes ``at`` to ``at + 5`` as a number, the first byte the lowest."""
    value = 0
    for i in range(5, -1, -1):
        value = value << 8 | data[at + i]
    return value


def learn(sender: int, me: int, table: Table) -> None:
    """Note that ``sender`` is at port ``me``: the entry of its hash is overwritten, and never
    expires."""
    macs, ports, last = table
    last[me] = sender
    place = rthash(sender)
    macs[place] = sender
    ports[place] = me


def lookup(destination: int, table: Table) -> int:
    """The port where an address is; NM_BDG_BROADCAST for a group and for one that nobody knows."""
    macs, ports, _ = table
    if destination & 1:
        return NM_BDG_BROADCAST
    place = rthash(destination)
    return ports[place] if macs[place] == destination else NM_BDG_BROADCAST


def route(
    source: Bytes,
    words: U32Words,
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
    """Put each packet of a batch into the list of its destination, and learn its source.

    ``source``, ``words``: the region of the sender. ``header``: bytes of the virtio-net header in
    front; it is in the first fragment with more behind it, or is all of the first fragment. Less
    than an Ethernet header behind it: dropped. ``me``, ``ring``: port and ring of the sender; a
    frame for ``me`` is dropped, one for another port goes to its ring of the same number. Returns
    how many lists other than that of broadcasts are used; ``used`` names them.
    """
    at, length, frags, following, flags = batch
    first, last = lists
    _, _, last_source = table
    lists_used = 0
    previous = -1
    port = 0
    i = 0
    while i < count:
        packet = i
        begin = at[i] + header
        i += frags[i]
        look = packet
        if length[packet] < header + ETHERNET_HEADER:
            # The header may be all of the first fragment.
            look = packet + 1
            if look == i or flags[packet] & F_NONE or length[packet] != header:
                continue
            if length[look] < ETHERNET_HEADER:
                continue
            begin = at[look]
        if flags[look] & F_INDIRECT:
            destination = address(staged, begin)
            sender = address(staged, begin + 6)
        elif begin & 3:
            destination = address(source, begin)
            sender = address(source, begin + 6)
        else:
            middle = words[(begin >> 2) + 1]
            destination = words[begin >> 2] | (middle & 0xFFFF) << 32
            sender = middle >> 16 | words[(begin >> 2) + 2] << 16
        if sender != last_source[me] and not sender & 1:
            learn(sender, me, table)
            previous = -1
        if destination != previous:
            previous = destination
            port = lookup(destination, table)
        if port == me:
            continue
        place = port * NM_BDG_MAXRINGS
        if port != NM_BDG_BROADCAST:
            place += ring
        if first[place] != NO_PACKET:
            following[last[place]] = packet
        else:
            first[place] = packet
            if port != NM_BDG_BROADCAST:
                used[lists_used] = place
                lists_used += 1
        last[place] = packet
    return lists_used


def deliver(
    source: Bytes,
    staged: Bytes,
    batch: Batch,
    unicast: int,
    broadcast: int,
    target: Bytes,
    words: U32Words,
    pvt: U32Array,
) -> int:
    """Copy packets to one rx ring: those of two lists, in the order in which they were sent.

    ``unicast``, ``broadcast``: the first packet of each list, or NO_PACKET. One slot of the ring
    stays free. A packet that does not fit into what is left is dropped, and with it all behind it.
    Slot flags: the number of fragments in NS_PORT_MASK, NS_MOREFRAG in all but the last; ptr 0.
    Returns the number of slots filled, plus DROPPED for each packet that was dropped.
    """
    at, length, frags, following, flags = batch
    slots = pvt[K_SLOTS]
    base = pvt[K_AT] + RING_W_slot
    size = pvt[K_BUF_WORDS] * 4
    buffers = pvt[K_BUF_AT] * 4
    limit = pvt[K_BUFS]
    place = pvt[K_HWTAIL]
    space = slots - 1 - (place - pvt[K_HWCUR] + slots) % slots
    left = space
    count = 0
    while unicast != NO_PACKET or broadcast != NO_PACKET:
        i = unicast
        if broadcast < i:
            i = broadcast
            broadcast = following[i]
        else:
            unicast = following[i]
        count = frags[i]
        if count > left:
            break
        left -= count
        bits = (count << 8 & 0xFF00) << SLOT_S_flags
        while count:
            slot = base + place * SLOT_WORDS
            index = words[slot]
            if index < 2 or index >= limit:
                index = 0  # the client took the buffer away: the reserved one gets the frame
            to = buffers + index * size
            begin = at[i]
            copied = length[i]
            if copied > size:
                copied = SHORTENED
            if flags[i]:
                target[to : to + copied] = staged[begin : begin + copied]
            else:
                target[to : to + copied] = source[begin : begin + copied]
            count -= 1
            words[slot + SLOT_W_len] = copied | bits | (_MORE if count else 0)
            words[slot + SLOT_W_ptr] = 0
            words[slot + SLOT_W_ptr + 1] = 0
            i += 1
            place += 1
            if place == slots:
                place = 0
    pvt[K_HWTAIL] = place
    result = space - left
    if count > left:
        while unicast != NO_PACKET:
            unicast = following[unicast]
            result += DROPPED
        while broadcast != NO_PACKET:
            broadcast = following[broadcast]
            result += DROPPED
        result += DROPPED
    return result


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
