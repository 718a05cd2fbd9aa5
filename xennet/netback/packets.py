"""The packets of a pass: removing some of them."""

from __future__ import annotations

from xennet.engine.kernel import Frames


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
