"""Frames made fit for their receiver: what each of them needs, in place or into another batch.

Four kernels, called in this order (fitter.py):

    count_wrong     how many checksums are wrong, for a receiver that wants them right
    first_unfit     which frame is the first that may need anything
    in_place        completes checksums where the frames lie, up to one that cannot stay there
    refit           moves frames on into a target: as they are, completed, segmented or not at all
      move_frame      as it is, or completed
      cut_frame       segmented (xennet.offload.segment)

``plan`` (indices P_*) is what the receiver takes; :func:`need` decides in all of them.
"""

from __future__ import annotations

from array import array

from xennet.abi.netif import XEN_NETIF_GSO_TYPE_TCPV4, XEN_NETIF_GSO_TYPE_TCPV6
from xennet.engine.kernel import Bytes, Frames, U32Array, Vector
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

# Indices in the plan.
#: Bit t: blank checksums of that IP version (t as in XEN_NETIF_GSO_TYPE_*) are taken.
P_BLANK_TYPES = 0
#: Bit t: frames of GSO type t are taken.
P_GSO_TYPES = 1
#: Bytes of the longest frame without GSO.
P_MAX_FRAME = 2
#: Bytes of the longest one with its VLAN tags, which come on top of P_MAX_FRAME up to here.
P_MAX_TAGGED = 3
#: 1 if P_BLANK_TYPES and P_GSO_TYPES hold for frames with a VLAN tag as well; 0 if such a frame is
#: taken with neither a blank checksum nor GSO.
P_VLAN = 4

# Indices in the result vector, after those of segment.py (R_COUNT, R_USED, R_RESUME, R_SEGMENTS).
#: The first frame of the source that is not dealt with.
R_NEXT = R_SEGMENTS + 1
#: Frames: checksum completed, cut into segments, longer than the receiver allows, beyond repair.
R_COMPLETED = R_NEXT + 1
R_SEGMENTED = R_NEXT + 2
R_REFUSED = R_NEXT + 3
R_ERRORS = R_NEXT + 4
#: Frames kept with a wrong checksum.
R_WRONG = R_NEXT + 5
RESULTS = R_NEXT + 6

# What is to be done to a frame (need).
#: Nothing.
KEEP = 0
#: Its checksum is blank: to be completed, unless its IP version turns out to be one that is taken.
COMPLETE = 1
#: To be cut up: GSO that is not taken.
SEGMENT = 2
#: To be dropped: too long.
REFUSE = 3

_V4 = 1 << XEN_NETIF_GSO_TYPE_TCPV4
_V6 = 1 << XEN_NETIF_GSO_TYPE_TCPV6


def plan_of(offload: Offload) -> array[int]:
    """The plan for ``offload``: no GSO without scatter-gather or without blank checksums."""
    blank = (_V4 if offload.csum_v4 else 0) | (_V6 if offload.csum_v6 else 0)
    gso = offload.gso_types & blank if offload.sg else 0
    untagged = min(offload.max_frame or MAX_FRAME, MAX_FRAME)
    tagged = max(untagged, min(offload.max_tagged, MAX_FRAME))
    return array("q", (blank, gso, untagged, tagged, int(offload.vlan)))


def longest(plan: Vector, tags: int) -> int:
    """Bytes of the longest frame without GSO whose VLAN tags have ``tags`` bytes."""
    return min(plan[P_MAX_FRAME] + tags, plan[P_MAX_TAGGED])


def taken_blank(plan: Vector, tags: int) -> int:
    """P_BLANK_TYPES for a frame whose VLAN tags have ``tags`` bytes."""
    return plan[P_BLANK_TYPES] if plan[P_VLAN] or not tags else 0


def need(plan: Vector, tags: int, length: int, flags: int, gso_size: int, gso_type: int) -> int:
    """What has to be done to a frame for the receiver: KEEP, COMPLETE, SEGMENT or REFUSE.

    ``tags``: bytes of its VLAN tags (headers.tag_bytes); the others are its columns.
    """
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


def first_unfit(first: int, count: int, plan: Vector, frames: Frames) -> int:
    """The first frame from ``first`` on for which :func:`need` is not KEEP; ``count`` if none."""
    u8, _, offset, length, flags, gso_size, gso_type, _, _ = frames
    max_frame = plan[P_MAX_FRAME]
    # A blank checksum is no reason to look closer if all of them are taken, behind tags too.
    blank = 0 if plan[P_VLAN] and plan[P_BLANK_TYPES] == ALL_GSO_TYPES else CSUM_BLANK
    for i in range(first, count):
        size = length[i]
        if not gso_size[i] and not flags[i] & blank and size <= max_frame:
            continue
        # The rest depends on the VLAN tags, which lie in the frame itself.
        tags = tag_bytes(u8, offset[i], size)
        if need(plan, tags, size, flags[i], gso_size[i], gso_type[i]) != KEEP:
            return i
    return count


def count_wrong(
    first: int, count: int, plan: Vector, frames: Frames, found: Vector, res: Vector
) -> None:
    """Count the wrong checksums among the frames from ``first`` on that are kept as they are.

    No flag says that they are blank, as in a capture of offloaded traffic, and the receiver takes
    no blank ones of that IP version. Adds to ``res[R_WRONG]``.
    """
    u8, u32, offset, length, flags, gso_size, gso_type, _, _ = frames
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
    """Complete the blank checksum of a frame, unless the receiver takes it as it is.

    ``blank_types``: as P_BLANK_TYPES, 0 if a tag of the frame forbids it. Returns the flag that
    stays: CSUM_BLANK if the receiver takes it, 0 if it was completed, which ``res`` counts; -1 if
    there is no TCP or UDP checksum, and the frame has to be dropped (F17).
    """
    if blank_types:
        if parse(u8, at, length, found) != FOUND:
            return -1
        if blank_types == (_V4 if found[H_VERSION] == 4 else _V6):
            return CSUM_BLANK
    if complete(u8, u32, at, length, found) != FOUND:
        return -1
    res[R_COMPLETED] += 1
    return 0


def in_place(
    first: int, count: int, plan: Vector, frames: Frames, found: Vector, res: Vector
) -> int:
    """Complete the checksums of frames from ``first`` on, where they lie.

    Returns the first frame that has to be segmented or dropped, which is neither changed nor
    counted here (:func:`refit` does that); ``count`` if there is none.
    """
    u8, u32, offset, length, flags, gso_size, gso_type, _, _ = frames
    for i in range(first, count):
        tags = tag_bytes(u8, offset[i], length[i])
        what = need(plan, tags, length[i], flags[i], gso_size[i], gso_type[i])
        if what == COMPLETE:
            blank_types = taken_blank(plan, tags)
            left = fill_in(blank_types, u8, u32, offset[i], length[i], found, res)
            if left < 0:
                return i
            flags[i] = flags[i] & ~CSUM_BLANK | left
        elif what != KEEP:
            return i
    return count


def refit(
    max_frames: int,
    count: int,
    source: Frames,
    source_times: Vector,
    target: Frames,
    target_times: Vector,
    plan: Vector,
    found: Vector,
    res: Vector,
) -> None:
    """Move frames R_NEXT to ``count`` of the source into the target, until that is full.

    The target holds ``max_frames`` frames; R_COUNT and R_USED tell what is in it. ``source_times``,
    ``target_times``: the columns timestamp; time stamp and hash go to every segment. R_NEXT is
    ``count`` at the return if all frames are done.
    """
    u8, _, offset, length, flags, gso_size, gso_type, hash_info, hash_value = source
    _, _, _, _, _, _, _, out_hash_info, out_hash_value = target
    i = res[R_NEXT]
    full = 0
    while i < count and full == 0:
        first = res[R_COUNT]
        tags = tag_bytes(u8, offset[i], length[i])
        what = need(plan, tags, length[i], flags[i], gso_size[i], gso_type[i])
        if res[R_RESUME]:
            what = SEGMENT  # begun under an older plan, perhaps
        if what == REFUSE:
            res[R_REFUSED] += 1
        elif what == SEGMENT:
            full = cut_frame(max_frames, plan, tags, source, i, target, found, res)
        else:
            blank_types = taken_blank(plan, tags)
            full = move_frame(max_frames, what, blank_types, source, i, target, found, res)
        for k in range(first, res[R_COUNT]):
            out_hash_info[k] = hash_info[i]
            out_hash_value[k] = hash_value[i]
            target_times[k] = source_times[i]
        if full == 0:
            i += 1
    res[R_NEXT] = i


def cut_frame(
    max_frames: int,
    plan: Vector,
    tags: int,
    source: Frames,
    index: int,
    target: Frames,
    found: Vector,
    res: Vector,
) -> int:
    """Cut one frame into segments, or drop and count it if that cannot be.

    Returns 1 if the target is full before the last segment, else 0.
    """
    blank_types = taken_blank(plan, tags)
    most = longest(plan, tags)
    verdict = segment(blank_types, most, max_frames, source, index, target, found, res)
    if verdict == FOUND:
        if res[R_RESUME]:
            return 1
        res[R_SEGMENTED] += 1
        return 0
    res[R_RESUME] = 0
    if verdict == LONG_SEGMENT:
        res[R_REFUSED] += 1
    else:
        res[R_ERRORS] += 1
    return 0


def move_frame(
    max_frames: int,
    what: int,
    blank_types: int,
    source: Frames,
    index: int,
    target: Frames,
    found: Vector,
    res: Vector,
) -> int:
    """Move one frame as it is, or with its checksum completed; drop and count it if it has none.

    ``what``: KEEP or COMPLETE. ``blank_types``: as for :func:`fill_in`. Returns 1 if there is no
    room for it, else 0.
    """
    u8, _, offset, length, flags, gso_size, gso_type, _, _ = source
    out, out_u32, out_offset, out_length, out_flags, out_gso_size, out_gso_type, _, _ = target
    at = offset[index]
    size = length[index]
    count = res[R_COUNT]
    used = res[R_USED]
    if count >= max_frames or used + size > len(out):
        return 1
    out[used : used + size] = u8[at : at + size]
    left = flags[index] & CSUM_BLANK
    if what == COMPLETE:
        left = fill_in(blank_types, out, out_u32, used, size, found, res)
    if left < 0:
        res[R_ERRORS] += 1
        return 0
    out_offset[count] = used
    out_length[count] = size
    out_flags[count] = flags[index] & ~CSUM_BLANK | left
    out_gso_size[count] = gso_size[index]
    out_gso_type[count] = gso_type[index]
    res[R_COUNT] = count + 1
    res[R_USED] = used + size
    return 0
