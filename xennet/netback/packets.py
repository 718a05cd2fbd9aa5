"""Packets that lie in columns, as xennet.frames.FrameBatch has them: dropping some of them."""

from __future__ import annotations

from xennet.engine.kernel import U32Array


def keep_packets(
    first: int,
    count: int,
    offset: U32Array,
    length: U32Array,
    flags: U32Array,
    gso_size: U32Array,
    gso_type: U32Array,
    hash_info: U32Array,
    hash_value: U32Array,
) -> int:
    """A kernel: of packets ``first`` .. ``count - 1``, take those of length 0 out of the columns.

    No good packet is empty, so length 0 marks the ones to be dropped. Returns the new count; the
    order of the others is kept.
    """
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
