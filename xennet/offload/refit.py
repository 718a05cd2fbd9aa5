"""Frames made fit for their taker: what each of them needs, in place or into another batch.

Four kernels, called in this order (fitter.py):

    count_wrong   how many checksums are wrong, for a taker that wants them right
    first_unfit   which frame is the first that may need anything
    in_place      completes checksums where the frames lie, up to one that cannot stay there
    refit         moves frames on into a target: as they are, completed, segmented or not at all

``plan`` (places P_*) is what the taker takes.
"""

from __future__ import annotations

from array import array

from xennet.abi.netif import XEN_NETIF_GSO_TYPE_TCPV4, XEN_NETIF_GSO_TYPE_TCPV6
from xennet.engine.kernel import Bytes, U32Array, Vector
from xennet.frames import ALL_GSO_TYPES, CSUM_BLANK, MAX_FRAME, MIN_FRAME, Offload
from xennet.offload.checksum import complete, is_wrong
from xennet.offload.headers import (
    ETH_P_IP,
    ETH_P_IPV6,
    FOUND,
    H_VERSION,
    network_layer,
    parse,
    tag_bytes,
)
from xennet.offload.segment import (
    LONG_SEGMENT,
    R_COUNT,
    R_RESUME,
    R_SEGMENTS,
    R_USED,
    segment,
)

# Places in the plan.
#: Bit t: blank checksums of that IP version (t as in XEN_NETIF_GSO_TYPE_*) are taken.
P_BLANK_TYPES = 0
#: Bit t: frames of GSO type t are taken.
P_GSO_TYPES = 1
#: Bytes of the longest frame without GSO.
P_MAX_FRAME = 2
#: Bytes of the longest one with its VLAN tags, which come on top of P_MAX_FRAME up to here.
P_MAX_TAGGED = 3
#: 1 if the first two go for frames with a VLAN tag, 0 if of those nothing is taken.
P_VLAN = 4

# Places in the result vector, after those of segment.py (R_COUNT, R_USED, R_RESUME, R_SEGMENTS).
#: The first frame of the source that is not dealt with.
R_NEXT = R_SEGMENTS + 1
#: Frames: checksum completed, cut into segments, longer than the taker allows, beyond repair.
R_COMPLETED = R_NEXT + 1
R_SEGMENTED = R_NEXT + 2
R_REFUSED = R_NEXT + 3
R_ERRORS = R_NEXT + 4
#: Frames kept with a wrong checksum.
R_WRONG = R_NEXT + 5
RESULTS = R_NEXT + 6

# What a frame needs.
KEEP = 0
COMPLETE = 1
SEGMENT = 2
REFUSE = 3

_V4 = 1 << XEN_NETIF_GSO_TYPE_TCPV4
_V6 = 1 << XEN_NETIF_GSO_TYPE_TCPV6


def plan_of(offload: Offload) -> array[int]:
    """What ``offload`` comes to: no GSO without scatter-gather or without blank checksums."""
    blank = (_V4 if offload.csum_v4 else 0) | (_V6 if offload.csum_v6 else 0)
    gso = offload.gso_types & blank if offload.sg else 0
    untagged = min(offload.max_frame or MAX_FRAME, MAX_FRAME)
    tagged = max(untagged, min(offload.max_tagged, MAX_FRAME))
    return array("q", (blank, gso, untagged, tagged, int(offload.vlan)))


def longest(plan: Vector, tags: int) -> int:
    """Bytes of the longest frame without GSO whose VLAN tags take ``tags`` bytes."""
    return min(plan[P_MAX_FRAME] + tags, plan[P_MAX_TAGGED])


def taken_blank(plan: Vector, tags: int) -> int:
    """P_BLANK_TYPES for a frame whose VLAN tags take ``tags`` bytes."""
    return plan[P_BLANK_TYPES] if plan[P_VLAN] or not tags else 0


def need(plan: Vector, tags: int, length: int, flags: int, gso_size: int, gso_type: int) -> int:
    """What a frame needs; COMPLETE may turn out not to be needed. ``tags``: tag_bytes."""
    if length > MAX_FRAME:
        return REFUSE
    if gso_size != 0:
        gso_types = plan[P_GSO_TYPES] if plan[P_VLAN] or not tags else 0
        if gso_type <= XEN_NETIF_GSO_TYPE_TCPV6 and gso_types >> gso_type & 1:
            return KEEP
        return SEGMENT
    if length > longest(plan, tags):
        return REFUSE
    if flags & CSUM_BLANK and taken_blank(plan, tags) != ALL_GSO_TYPES:
        return COMPLETE
    return KEEP


def first_unfit(
    first: int,
    count: int,
    plan: Vector,
    u8: Bytes,
    offset: U32Array,
    length: U32Array,
    flags: U32Array,
    gso_size: U32Array,
    gso_type: U32Array,
) -> int:
    """The first frame from ``first`` on that :func:`need` does not keep; ``count`` if none."""
    gso_types = plan[P_GSO_TYPES]
    max_frame = plan[P_MAX_FRAME]
    mask = CSUM_BLANK if plan[P_BLANK_TYPES] != ALL_GSO_TYPES else 0
    vlan = plan[P_VLAN]
    for i in range(first, count):
        if gso_size[i]:
            if gso_type[i] > XEN_NETIF_GSO_TYPE_TCPV6 or not gso_types >> gso_type[i] & 1:
                return i
        elif flags[i] & mask:
            return i
        elif length[i] <= max_frame and (vlan or not flags[i] & CSUM_BLANK):
            continue
        # What is left over depends on the tags, which lie in the frame itself.
        tags = tag_bytes(u8, offset[i], length[i])
        if need(plan, tags, length[i], flags[i], gso_size[i], gso_type[i]) != KEEP:
            return i
    return count


def count_wrong(
    first: int,
    count: int,
    plan: Vector,
    u8: Bytes,
    u32: U32Array,
    offset: U32Array,
    length: U32Array,
    flags: U32Array,
    gso_size: U32Array,
    gso_type: U32Array,
    found: Vector,
    res: Vector,
) -> None:
    """Count the frames from ``first`` on that :func:`need` keeps although their checksum is wrong.

    No flag says that it is blank, as in a capture of offloaded traffic, and the taker takes no
    blank ones of that IP version.
    """
    for i in range(first, count):
        at = offset[i]
        size = length[i]
        if flags[i] & CSUM_BLANK or gso_size[i] or size < MIN_FRAME:
            continue
        tags = tag_bytes(u8, at, size)
        if need(plan, tags, size, flags[i], gso_size[i], gso_type[i]) != KEEP:
            continue
        kind, _ = network_layer(u8, at, size)
        family = 0
        if kind == ETH_P_IP:
            family = _V4
        elif kind == ETH_P_IPV6:
            family = _V6
        if family & ~taken_blank(plan, tags):
            res[R_WRONG] += is_wrong(u8, u32, at, size, found)


def fill_in(
    blank_types: int,
    u8: Bytes,
    u32: U32Array,
    at: int,
    length: int,
    found: Vector,
    res: Vector,
) -> int:
    """Complete the blank checksum of a frame, unless the taker takes it: the flag that stays.

    ``blank_types``: as P_BLANK_TYPES, 0 if the frame has a tag in the way. CSUM_BLANK (the taker
    takes it), 0 (completed) or -1 (not possible: drop the frame).
    """
    if blank_types:
        if parse(u8, at, length, found) != FOUND:
            res[R_ERRORS] += 1
            return -1
        if blank_types == (_V4 if found[H_VERSION] == 4 else _V6):
            return CSUM_BLANK
    if complete(u8, u32, at, length, found) != FOUND:
        res[R_ERRORS] += 1
        return -1
    res[R_COMPLETED] += 1
    return 0


def in_place(
    first: int,
    count: int,
    plan: Vector,
    u8: Bytes,
    u32: U32Array,
    offset: U32Array,
    length: U32Array,
    flags: U32Array,
    gso_size: U32Array,
    gso_type: U32Array,
    found: Vector,
    res: Vector,
) -> int:
    """Complete the checksums of frames from ``first`` on, where they lie.

    The first frame that has to be segmented or dropped, which is left as it is; ``count`` if none.
    """
    for i in range(first, count):
        tags = tag_bytes(u8, offset[i], length[i])
        what = need(plan, tags, length[i], flags[i], gso_size[i], gso_type[i])
        if what == COMPLETE:
            blank_types = taken_blank(plan, tags)
            left = fill_in(blank_types, u8, u32, offset[i], length[i], found, res)
            if left < 0:
                res[R_ERRORS] -= 1  # refit will meet it again
                return i
            flags[i] = flags[i] & ~CSUM_BLANK | left
        elif what != KEEP:
            return i
    return count


def refit(
    max_frames: int,
    count: int,
    u8: Bytes,
    u32: U32Array,
    offset: U32Array,
    length: U32Array,
    flags: U32Array,
    gso_size: U32Array,
    gso_type: U32Array,
    hash_info: U32Array,
    hash_value: U32Array,
    timestamp: Vector,
    out: Bytes,
    out_u32: U32Array,
    out_offset: U32Array,
    out_length: U32Array,
    out_flags: U32Array,
    out_gso_size: U32Array,
    out_gso_type: U32Array,
    out_hash_info: U32Array,
    out_hash_value: U32Array,
    out_timestamp: Vector,
    plan: Vector,
    found: Vector,
    res: Vector,
) -> None:
    """Move frames R_NEXT to ``count`` of the source into the target, until that is full.

    The target holds ``max_frames`` frames; R_COUNT and R_USED say what is in it. R_NEXT is
    ``count`` at the return when all frames are dealt with. Time stamp and hash go to every segment.
    """
    i = res[R_NEXT]
    full = 0
    while i < count and full == 0:
        at = offset[i]
        size = length[i]
        first = res[R_COUNT]
        tags = tag_bytes(u8, at, size)
        blank_types = taken_blank(plan, tags)
        what = need(plan, tags, size, flags[i], gso_size[i], gso_type[i])
        if res[R_RESUME]:
            what = SEGMENT  # begun under an older plan, perhaps
        if what == REFUSE:
            res[R_REFUSED] += 1
        elif what == SEGMENT:
            verdict = segment(
                blank_types,
                longest(plan, tags),
                max_frames,
                u8,
                u32,
                at,
                size,
                gso_size[i],
                gso_type[i],
                flags[i],
                out,
                out_offset,
                out_length,
                out_flags,
                out_gso_size,
                out_gso_type,
                found,
                res,
            )
            if verdict != FOUND:
                res[R_RESUME] = 0
                if verdict == LONG_SEGMENT:
                    res[R_REFUSED] += 1
                else:
                    res[R_ERRORS] += 1
            elif res[R_RESUME]:
                full = 1
            else:
                res[R_SEGMENTED] += 1
        else:
            used = res[R_USED]
            if first >= max_frames or used + size > len(out):
                full = 1
            else:
                out[used : used + size] = u8[at : at + size]
                left = flags[i] & CSUM_BLANK
                if what == COMPLETE:
                    left = fill_in(blank_types, out, out_u32, used, size, found, res)
                if left >= 0:
                    out_offset[first] = used
                    out_length[first] = size
                    out_flags[first] = flags[i] & ~CSUM_BLANK | left
                    out_gso_size[first] = gso_size[i]
                    out_gso_type[first] = gso_type[i]
                    res[R_COUNT] = first + 1
                    res[R_USED] = used + size
        for k in range(first, res[R_COUNT]):
            out_hash_info[k] = hash_info[i]
            out_hash_value[k] = hash_value[i]
            out_timestamp[k] = timestamp[i]
        if full == 0:
            i += 1
    res[R_NEXT] = i
