"""Which requests of the guest-transmit ring belong to what: a tag for each id.

Kernels (docs/kernels.md). Who sends frames of its own through a queue's ring gives each a tag, and
counts by tag the requests that wait for their response. The ids that :mod:`guest_tx` takes for new
requests, and those that responses free, are both the top of its stack of free ids.
"""

from __future__ import annotations

from xennet.abi.xen import PAGE_SHIFT, PAGE_SIZE
from xennet.engine.kernel import U32Array

#: The tag of a request that is the guest's own.
NO_TAG = 0xFFFFFFFF


def tag_requests(
    count: int,
    free: int,
    tags: U32Array,
    length: U32Array,
    ids: U32Array,
    tag_of: U32Array,
    unanswered: U32Array,
) -> None:
    """Note the tags of the ``count`` frames that were sent when ``free`` ids were free, and count
    their requests: one for each page, without extra infos."""
    for frame in range(count):
        tag = tags[frame]
        for _ in range((length[frame] + PAGE_SIZE - 1) >> PAGE_SHIFT):
            free -= 1
            tag_of[ids[free]] = tag
            unanswered[tag] += 1


def answer_tags(
    first: int, free: int, ids: U32Array, tag_of: U32Array, unanswered: U32Array
) -> int:
    """Count the requests as answered whose ids have become free: those at indices ``first`` ..
    ``free - 1`` of the stack. Returns how many of them had a tag."""
    answered = 0
    for place in range(first, free):
        ident = ids[place]
        tag = tag_of[ident]
        if tag != NO_TAG:
            tag_of[ident] = NO_TAG
            unanswered[tag] -= 1
            answered += 1
    return answered
