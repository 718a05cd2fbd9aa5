"""Kernels that sort the frames of one batch by queue and copy them into the queues' own batches."""

from __future__ import annotations

from xennet.engine.kernel import Frames, U32Array, Vector


def chain(count: int, queue: U32Array, head: U32Array, link: U32Array) -> None:
    """Link the frames 0 ... ``count - 1`` of each queue into a chain.

    ``head[q]`` becomes the first frame of queue q, ``link[i]`` the frame behind i; ``count`` ends a
    chain. The caller sets every entry of ``head`` to ``count`` before.
    """
    for i in range(count - 1, -1, -1):
        q = queue[i]
        link[i] = head[q]
        head[q] = i


def take(
    q: int,
    count: int,
    chains: tuple[U32Array, U32Array],
    frames: Frames,
    timestamp: Vector,
    into: int,
    used: int,
    into_frames: Frames,
    into_timestamp: Vector,
) -> tuple[int, int]:
    """Copy frames of queue ``q`` behind frame ``into`` and byte ``used`` of another batch.

    ``chains`` is ``head`` and ``link`` of :func:`chain`; ``timestamp`` is the column of that name.
    As many are copied as fit; ``head[q]`` becomes the first that did not. Returns the new ``into``
    and ``used``.
    """
    head, link = chains
    data, _, offset, length, flags, gso_size, gso_type, hash_info, hash_value = frames
    (
        into_data,
        _,
        into_offset,
        into_length,
        into_flags,
        into_gso_size,
        into_gso_type,
        into_hash_info,
        into_hash_value,
    ) = into_frames
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
