"""IOCTL_GNTDEV_GRANT_COPY: between a program's own memory and grants.

The program's pages are not the machine's, so bytes go by way of frames that the domain owns, and
real GNTTABOP_copy moves them: the statuses are the hypervisor's. One end of a segment at least is
a grant, so none is longer than a page (gntdev_grant_copy_seg).
"""

from __future__ import annotations

import errno
from array import array

from xennet.abi.grant_table import GNTCOPY_dest_gref, GNTCOPY_source_gref
from xennet.abi.linux_xen import GNTDEV_GRANT_COPY_SEGMENT
from xennet.abi.words import COPY_STRIDE, COPY_W_status
from xennet.abi.xen import DOMID_SELF, PAGE_SIZE
from xennet.exec.client_memory import ClientMemory, Part
from xennet.exec.served_domain import ServedDomain

#: Segments that are copied at a time; each takes one bounce frame.
_BATCH = 256
_SIZE = GNTDEV_GRANT_COPY_SEGMENT.size


def copy_segments(domain: ServedDomain, memory: ClientMemory, address: int, count: int) -> None:
    """Make the copies of ``count`` segments at ``address`` and write their statuses there.

    Raises OSError EFAULT or EINVAL as Linux does, for the first segment that is wrong; those of
    earlier batches were copied then.
    """
    raw = bytearray(memory.read(address, count * _SIZE))
    for first in range(0, count, _BATCH):
        part = min(_BATCH, count - first)
        _copy_batch(domain, memory, memoryview(raw)[first * _SIZE : (first + part) * _SIZE], part)
        at = first * _SIZE
        memory.write(address + at, raw[at : at + part * _SIZE])


def _copy_batch(
    domain: ServedDomain, memory: ClientMemory, segments: memoryview, count: int
) -> None:
    frame = domain.bounce(count).first
    at = domain.address_of(frame)
    words = segments.cast("Q").tolist()
    table = array("I")
    put = table.extend
    own: list[Part] = []
    theirs: list[Part] = []
    back: list[tuple[int, Part, Part]] = []
    for i in range(count):
        source, dest, rest = words[3 * i : 3 * i + 3]
        size, flags = rest & 0xFFFF, rest >> 16 & 0xFFFF
        ends = [0, 0, 0, 0, 0, 0, 0, 0, size | flags << 16, 0]
        if flags & GNTCOPY_source_gref:
            if (source >> 32 & 0xFFFF) + size > PAGE_SIZE:
                raise OSError(errno.EINVAL, "the source leaves its granted page")
            ends[0], ends[2] = source & 0xFFFFFFFF, source >> 48 | (source >> 16 & 0xFFFF0000)
        elif flags & GNTCOPY_dest_gref:
            own.append((at, size))
            theirs.append((source, size))
            ends[0], ends[2] = frame, DOMID_SELF
        else:
            raise OSError(errno.EINVAL, "neither end is a grant")
        if flags & GNTCOPY_dest_gref:
            if (dest >> 32 & 0xFFFF) + size > PAGE_SIZE:
                raise OSError(errno.EINVAL, "the destination leaves its granted page")
            ends[4], ends[6] = dest & 0xFFFFFFFF, dest >> 48 | (dest >> 16 & 0xFFFF0000)
        else:
            back.append((i, (at, size), (dest, size)))
            ends[4], ends[6] = frame, DOMID_SELF
        put(ends)
        frame += 1
        at += PAGE_SIZE
    if own:
        memory.gather(theirs, own)
    domain.domain.grant_copy(memoryview(table), count)
    statuses = memoryview(table).cast("B").cast("h")
    shorts = segments.cast("h")
    for i in range(count):
        shorts[12 * i + 10] = statuses[2 * (COPY_STRIDE * i + COPY_W_status)]
    good = [(mine, their) for i, mine, their in back if not shorts[12 * i + 10]]
    if good:
        memory.scatter([mine for mine, _ in good], [their for _, their in good])
