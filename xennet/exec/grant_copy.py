"""IOCTL_GNTDEV_GRANT_COPY: between a program's own memory and grants.

The program's pages are not the machine's, so bytes go by way of frames that the domain owns, and
real GNTTABOP_copy moves them: the statuses are the hypervisor's. One end of a segment at least is
a grant, so none is longer than a page (gntdev_grant_copy_seg).
"""

from __future__ import annotations

import errno
from array import array
from collections.abc import Sequence

from xennet.abi.grant_table import GNTCOPY_dest_gref, GNTCOPY_source_gref
from xennet.abi.linux_xen import GNTDEV_GRANT_COPY_SEGMENT
from xennet.abi.words import (
    COPY_STRIDE,
    COPY_W_dest,
    COPY_W_dest_domid,
    COPY_W_len,
    COPY_W_source,
    COPY_W_source_domid,
    COPY_W_status,
)
from xennet.abi.xen import DOMID_SELF, PAGE_SIZE
from xennet.exec.client_memory import ClientMemory, Parts, address_of
from xennet.exec.served_domain import ServedDomain

#: Segments that are copied at a time; each takes one bounce frame.
_BATCH = 256
_SIZE = GNTDEV_GRANT_COPY_SEGMENT.size
#: In 16-bit items.
_STATUS = GNTDEV_GRANT_COPY_SEGMENT.offsets["status"] // 2
#: In the word with length, flags and status.
_U32 = 0xFFFFFFFF
_FROM_GRANT, _TO_GRANT = GNTCOPY_source_gref << 16, GNTCOPY_dest_gref << 16


def copy_segments(domain: ServedDomain, memory: ClientMemory, address: int, count: int) -> None:
    """Make the copies of ``count`` segments at ``address`` and write their statuses there.

    Raises OSError EFAULT or EINVAL as Linux does, for the first segment that is wrong; those of
    earlier batches were copied then.
    """
    for first in range(0, count, _BATCH):
        part = min(_BATCH, count - first)
        _copy_batch(domain, memory, address + first * _SIZE, part)


def _copy_batch(domain: ServedDomain, memory: ClientMemory, address: int, count: int) -> None:
    raw = memory.fetch(address, count * _SIZE)
    words = memoryview(raw).cast("Q").tolist()
    sources, dests, rests = words[::3], words[1::3], words[2::3]
    _check(sources, dests, rests)
    first = domain.bounce(count).first
    at = domain.address_of(first)
    frames, own = range(first, first + count), range(at, at + count * PAGE_SIZE, PAGE_SIZE)
    table = array("I", bytes(4 * COPY_STRIDE * count))
    for ref, domid, ends, is_grant in (
        (COPY_W_source, COPY_W_source_domid, sources, _FROM_GRANT),
        (COPY_W_dest, COPY_W_dest_domid, dests, _TO_GRANT),
    ):
        rows = list(zip(ends, rests, frames, strict=True))
        table[ref::COPY_STRIDE] = array(
            "I", [end & _U32 if rest & is_grant else frame for end, rest, frame in rows]
        )
        table[domid::COPY_STRIDE] = array(
            "I",
            [
                end >> 48 | (end >> 16 & 0xFFFF0000) if rest & is_grant else DOMID_SELF
                for end, rest, _ in rows
            ],
        )
    table[COPY_W_len::COPY_STRIDE] = array("I", [rest & _U32 for rest in rests])
    taken = [i for i in range(count) if not rests[i] & _FROM_GRANT]
    if taken:
        memory.gather(_parts(taken, sources, rests), _parts(taken, own, rests))
    domain.domain.grant_copy(memoryview(table), count)
    statuses = memoryview(table).cast("B").cast("h")[2 * COPY_W_status :: 2 * COPY_STRIDE]
    memoryview(raw).cast("h")[_STATUS :: _SIZE // 2] = statuses
    # What was not copied leaves the program's memory as it is.
    given = [
        i
        for i, (rest, status) in enumerate(zip(rests, statuses.tolist(), strict=True))
        if not (rest & _TO_GRANT or status)
    ]
    mine, theirs = _parts(given, own, rests), _parts(given, dests, rests)
    mine.extend((address_of(raw), len(raw)))
    theirs.extend((address, len(raw)))
    memory.scatter(mine, theirs)


def _check(sources: list[int], dests: list[int], rests: list[int]) -> None:
    """Raises OSError EINVAL for a segment without a grant, or that leaves its granted page."""
    for is_grant, ends in ((_FROM_GRANT, sources), (_TO_GRANT, dests)):
        rows = zip(ends, rests, strict=True)
        if any(
            rest & is_grant and (end >> 32 & 0xFFFF) + (rest & 0xFFFF) > PAGE_SIZE
            for end, rest in rows
        ):
            raise OSError(errno.EINVAL, "a range that leaves its granted page")
    if not all(rest & (_FROM_GRANT | _TO_GRANT) for rest in rests):
        raise OSError(errno.EINVAL, "neither end is a grant")


def _parts(numbers: list[int], addresses: Sequence[int], rests: list[int]) -> Parts:
    """The parts of memory of some segments."""
    parts = array("Q", bytes(16 * len(numbers)))
    parts[::2] = array("Q", [addresses[i] for i in numbers])
    parts[1::2] = array("Q", [rests[i] & 0xFFFF for i in numbers])
    return parts
