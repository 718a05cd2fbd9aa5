"""The packets of a pass: copying them across staging pages, and removing some of them."""

from __future__ import annotations

from xennet.abi.words import (
    COPY_STRIDE,
    COPY_S_offset,
    COPY_W_len,
    COPY_W_source,
    COPY_W_source_domid,
)
from xennet.abi.xen import DOMID_SELF
from xennet.engine.kernel import Frames, U32Array

_MASK16 = 0xFFFF
#: From a pointer of struct gnttab_copy to the word of its domid and offset.
_W_DOMID = COPY_W_source_domid - COPY_W_source


def split_copy(ops: U32Array, op: int, first: int, ours: int, theirs: int) -> int:
    """A kernel: split the copy element at word ``op`` where a staging page ends, after ``first``
    bytes.

    The next element goes on in the next page. ``ours``, ``theirs``: COPY_W_source and COPY_W_dest,
    in the order that ``ours`` points to the staging pages. Returns the word of the next element.
    """
    rest = (ops[op + COPY_W_len] & _MASK16) - first
    flags = ops[op + COPY_W_len] & ~_MASK16
    new = op + COPY_STRIDE
    ops[op + COPY_W_len] = first | flags
    ops[new + COPY_W_len] = rest | flags
    ops[new + ours] = ops[op + ours] + 1
    ops[new + ours + _W_DOMID] = DOMID_SELF
    ops[new + theirs] = ops[op + theirs]
    ops[new + theirs + _W_DOMID] = ops[op + theirs + _W_DOMID] + (first << COPY_S_offset)
    return new


def keep_packets(first: int, count: int, frames: Frames) -> int:
    """A kernel: remove those of packets ``first`` .. ``count - 1`` that have length 0.

    No good packet is empty, so length 0 marks the ones to be dropped. Returns the new count; the
    others keep their order.
    """
    _data, _data32, offset, length, flags, gso_size, gso_type, hash_info, hash_value = frames
    kept = first
    for i in range(first, count):
        if length[i]:
            offset[kept] = offset[i]
            length[kept] = length[i]
            flags[kept] = flags[i]
            gso_size[kept] = gso_size[i]
            gso_type[kept] = gso_type[i]
            hash_info[kept] = hash_info[i]
            hash_value[kept] = hash_value[i]
            kept += 1
    return kept
