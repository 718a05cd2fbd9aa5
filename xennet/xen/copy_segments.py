"""Copies of the hypervisor as copies of gntdev: frames of one's own become pointers.

A kernel (docs/kernels.md) on both sides of the call.
"""

from __future__ import annotations

from xennet.abi.codec import Codec
from xennet.abi.grant_table import (
    GNTCOPY_dest_gref,
    GNTCOPY_source_gref,
    GNTST_bad_copy_arg,
    GNTST_bad_page,
    GNTST_permission_denied,
)
from xennet.abi.words import (
    COPY_STRIDE,
    COPY_S_flags,
    COPY_S_offset,
    COPY_W_dest,
    COPY_W_dest_domid,
    COPY_W_len,
    COPY_W_source,
    COPY_W_source_domid,
    COPY_W_status,
)
from xennet.abi.xen import DOMID_SELF, PAGE_SIZE
from xennet.abi.xengnttab import GRANT_COPY_SEGMENT
from xennet.engine.kernel import Bytes, U32Array
from xennet.ring import MASK32


def _word(codec: Codec, name: str) -> int:
    return codec.offsets[name] // 4


#: Words of a segment, and of its fields; a pointer takes two, a reference and what is beside it
#: too.
SEGMENT_STRIDE = GRANT_COPY_SEGMENT.size // 4
SEGMENT_W_source = _word(GRANT_COPY_SEGMENT, "source.foreign.ref")
SEGMENT_W_dest = _word(GRANT_COPY_SEGMENT, "dest.foreign.ref")
SEGMENT_W_len = _word(GRANT_COPY_SEGMENT, "len")
SEGMENT_W_status = _word(GRANT_COPY_SEGMENT, "status")
SEGMENT_S_offset = GRANT_COPY_SEGMENT.offsets["source.foreign.offset"] % 4 * 8
SEGMENT_S_domid = GRANT_COPY_SEGMENT.offsets["source.foreign.domid"] % 4 * 8
SEGMENT_S_flags = GRANT_COPY_SEGMENT.offsets["flags"] % 4 * 8

_BY_GREF = GNTCOPY_source_gref | GNTCOPY_dest_gref
_BAD_COPY_ARG = GNTST_bad_copy_arg & 0xFFFF
_BAD_PAGE = GNTST_bad_page & 0xFFFF
_PERMISSION_DENIED = GNTST_permission_denied & 0xFFFF


def judge_side(ops: U32Array, where: int, domid_at: int, nr_frames: int) -> int:
    """The status of a side that is a frame: 0 if it is one of the arena's."""
    if ops[domid_at] & 0xFFFF != DOMID_SELF:
        return _PERMISSION_DENIED
    if ops[where + 1] != 0 or ops[where] >= nr_frames:
        return _BAD_PAGE
    return 0


def put_side(ops: U32Array, where: int, domid_at: int, by_gref: int, to: U32Array, at: int) -> int:
    """Write a reference into ``to[at]`` and ``to[at + 1]``. Returns the byte of the arena if it is
    a frame, which the caller turns into a pointer."""
    domid_offset = ops[domid_at]
    offset = domid_offset >> COPY_S_offset
    if by_gref == 0:
        return ops[where] * PAGE_SIZE + offset
    to[at] = ops[where]
    to[at + 1] = offset << SEGMENT_S_offset | (domid_offset & 0xFFFF) << SEGMENT_S_domid
    return 0


def put_segments(
    count: int, ops: U32Array, segments: U32Array, arena: Bytes, base: int, nr_frames: int
) -> None:
    """Make a segment of each of ``count`` struct gnttab_copy in ``ops``.

    What gntdev would refuse the whole call for gets its status here and a segment of no bytes;
    copies within the arena, at ``base`` of memory, are made here.
    """
    for i in range(count):
        op = i * COPY_STRIDE
        at = i * SEGMENT_STRIDE
        length_flags = ops[op + COPY_W_len]
        length = length_flags & 0xFFFF
        flags = length_flags >> COPY_S_flags & _BY_GREF
        source_gref = flags & GNTCOPY_source_gref
        dest_gref = flags & GNTCOPY_dest_gref
        status = 0
        furthest = max(ops[op + COPY_W_source_domid], ops[op + COPY_W_dest_domid])
        if (furthest >> COPY_S_offset) + length > PAGE_SIZE:
            status = _BAD_COPY_ARG
        if status == 0 and source_gref == 0:
            status = judge_side(ops, op + COPY_W_source, op + COPY_W_source_domid, nr_frames)
        if status == 0 and dest_gref == 0:
            status = judge_side(ops, op + COPY_W_dest, op + COPY_W_dest_domid, nr_frames)
        if status != 0:
            length = 0
        source = put_side(
            ops,
            op + COPY_W_source,
            op + COPY_W_source_domid,
            source_gref,
            segments,
            at + SEGMENT_W_source,
        )
        dest = put_side(
            ops, op + COPY_W_dest, op + COPY_W_dest_domid, dest_gref, segments, at + SEGMENT_W_dest
        )
        if flags == 0:
            if length != 0:
                arena[dest : dest + length] = arena[source : source + length]
            length = 0
            flags = GNTCOPY_source_gref  # gntdev wants one in every segment, also of no bytes
            segments[at + SEGMENT_W_source] = 0
            segments[at + SEGMENT_W_source + 1] = 0
            source_gref = 1
        if status != 0:
            source = dest = 0
        if source_gref == 0:
            segments[at + SEGMENT_W_source] = (base + source) & MASK32
            segments[at + SEGMENT_W_source + 1] = (base + source) >> 32
        if dest_gref == 0:
            segments[at + SEGMENT_W_dest] = (base + dest) & MASK32
            segments[at + SEGMENT_W_dest + 1] = (base + dest) >> 32
        segments[at + SEGMENT_W_len] = length | flags << SEGMENT_S_flags
        segments[at + SEGMENT_W_status] = 0
        ops[op + COPY_W_status] = status


def take_statuses(count: int, ops: U32Array, segments: U32Array) -> None:
    """Take over the statuses of segments, where the copy has none yet."""
    for i in range(count):
        at = i * COPY_STRIDE + COPY_W_status
        if ops[at] == 0:
            ops[at] = segments[i * SEGMENT_STRIDE + SEGMENT_W_status] & 0xFFFF


def fail_all(count: int, ops: U32Array, status: int) -> None:
    """Give every copy that has no status yet the ``status`` (16 bits), for the call has failed."""
    for i in range(count):
        at = i * COPY_STRIDE + COPY_W_status
        if ops[at] == 0:
            ops[at] = status
