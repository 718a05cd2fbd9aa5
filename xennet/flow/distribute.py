"""Frames of one batch, in a chain for each queue, and their way into the queues' own batches."""

from __future__ import annotations

from xennet.engine.kernel import Bytes, U32Array, Vector


def chain(count: int, queue: U32Array, head: U32Array, link: U32Array) -> None:
    """Of frames 0 ... ``count - 1``, ``head[q]`` is the first of queue q, ``link[i]`` follows i.

    ``count`` ends a chain; ``head`` comes with that everywhere.
    """
    for i in range(count - 1, -1, -1):
        q = queue[i]
        link[i] = head[q]
        head[q] = i


def take(
    q: int,
    count: int,
    head: U32Array,
    link: U32Array,
    data: Bytes,
    offset: U32Array,
    length: U32Array,
    flags: U32Array,
    gso_size: U32Array,
    gso_type: U32Array,
    hash_info: U32Array,
    hash_value: U32Array,
    timestamp: Vector,
    into: int,
    used: int,
    into_data: Bytes,
    into_offset: U32Array,
    into_length: U32Array,
    into_flags: U32Array,
    into_gso_size: U32Array,
    into_gso_type: U32Array,
    into_hash_info: U32Array,
    into_hash_value: U32Array,
    into_timestamp: Vector,
) -> tuple[int, int]:
    """Copy the frames of queue ``q`` that fit behind frame ``into`` and byte ``used`` of a batch.

    ``head[q]`` goes on to what is left. Returns the new ``into`` and ``used``.
    """
    most = len(into_offset)
    size = len(into_data)
    i = head[q]
    while i != count and into != most:
        n = length[i]
        if used + n > size:
            break
        start = offset[i]
        into_data[used : used + n] = data[start : start + n]
        into_offset[into] = used
        into_length[into] = n
        into_flags[into] = flags[i]
        into_gso_size[into] = gso_size[i]
        if gso_size[i]:
            into_gso_type[into] = gso_type[i]
        into_hash_info[into] = hash_info[i]
        if hash_info[i]:
            into_hash_value[into] = hash_value[i]
        into_timestamp[into] = timestamp[i]
        into += 1
        used += n
        i = link[i]
    head[q] = i
    return into, used
