"""IOCTL_GNTDEV_GRANT_COPY: between a program's own memory and grants.

The program's pages are not the machine's, so bytes go by way of frames that the domain owns, and
real GNTTABOP_copy moves them: the statuses are the hypervisor's. One end of a segment at least is
a grant, so none is longer than a page (gntdev_grant_copy_seg).
"""

from __future__ import annotations

import errno
from array import array
from operator import add

from xennet.abi.grant_table import GNTCOPY_dest_gref, GNTCOPY_source_gref
from xennet.abi.linux_xen import GNTDEV_GRANT_COPY_SEGMENT
from xennet.abi.words import (
    COPY_STRIDE,
    COPY_W_dest,
    COPY_W_len,
    COPY_W_source,
    COPY_W_status,
)
from xennet.abi.xen import DOMID_SELF, PAGE_SIZE
from xennet.exec.client_memory import ClientMemory, Parts, address_of
from xennet.exec.served_domain import ServedDomain

#: Segments that are copied at a time; each takes one bounce frame.
_BATCH = 256
_SIZE = GNTDEV_GRANT_COPY_SEGMENT.size
#: Of a segment and of an element of the table, in 16-bit items.
_STRIDE, _OUT_STRIDE = _SIZE // 2, 2 * COPY_STRIDE
_LEN, _FLAGS, _STATUS = (
    GNTDEV_GRANT_COPY_SEGMENT.offsets[name] // 2 for name in ("len", "flags", "status")
)
_EITHER = GNTCOPY_source_gref | GNTCOPY_dest_gref
#: Either end: its flag, its 16-bit item of a segment, its word of an element.
_ENDS = (
    (GNTCOPY_source_gref, GNTDEV_GRANT_COPY_SEGMENT.offsets["source"] // 2, COPY_W_source),
    (GNTCOPY_dest_gref, GNTDEV_GRANT_COPY_SEGMENT.offsets["dest"] // 2, COPY_W_dest),
)


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
    table = array("I", bytes(4 * COPY_STRIDE * count))
    u16, out = memoryview(raw).cast("H"), memoryview(table).cast("B").cast("H")
    sizes, flags = u16[_LEN::_STRIDE].tolist(), u16[_FLAGS::_STRIDE].tolist()
    first = domain.bounce(count).first
    local: list[list[int]] = []
    for is_grant, end, word in _ENDS:
        # (ref, offset, domid) of a segment; (ref, domid, offset) of an element.
        at = 2 * word
        for there, here in ((0, 0), (1, 1), (2, 5), (3, 4)):
            out[at + here :: _OUT_STRIDE] = u16[end + there :: _STRIDE]
        own = [i for i, flag in enumerate(flags) if not flag & is_grant]
        if len(own) == count:
            table[word::COPY_STRIDE] = array("I", range(first, first + count))
            table[word + 2 :: COPY_STRIDE] = array("I", [DOMID_SELF]) * count
        else:
            for i in own:
                table[COPY_STRIDE * i + word] = first + i
                table[COPY_STRIDE * i + word + 2] = DOMID_SELF
        _require_room(u16[end + 2 :: _STRIDE].tolist(), sizes, own)
        local.append(own)
    out[2 * COPY_W_len :: _OUT_STRIDE] = u16[_LEN::_STRIDE]
    out[2 * COPY_W_len + 1 :: _OUT_STRIDE] = u16[_FLAGS::_STRIDE]
    taken, given = local
    if not all(flag & _EITHER for flag in set(flags)):
        raise OSError(errno.EINVAL, "neither end is a grant")
    addresses = memoryview(raw).cast("Q")
    start = domain.address_of(first)
    bounce = memoryview(array("Q", range(start, start + count * PAGE_SIZE, PAGE_SIZE)))
    if taken:
        memory.gather(_parts(taken, addresses[::3], sizes), _parts(taken, bounce, sizes))
    domain.domain.grant_copy(memoryview(table), count)
    statuses = out[2 * COPY_W_status :: _OUT_STRIDE]
    u16[_STATUS::_STRIDE] = statuses
    if any(statuses.tolist()):
        # What was not copied leaves the program's memory as it is.
        given = [i for i in given if not statuses[i]]
    mine, theirs = _parts(given, bounce, sizes), _parts(given, addresses[1::3], sizes)
    mine.extend((address_of(raw), len(raw)))
    theirs.extend((address, len(raw)))
    memory.scatter(mine, theirs)


def _require_room(offsets: list[int], sizes: list[int], own: list[int]) -> None:
    """Raises OSError EINVAL for a range that leaves its granted page; ``own`` are no grants."""
    ends = list(map(add, offsets, sizes))
    for i in own:
        ends[i] = 0
    if max(ends) > PAGE_SIZE:
        raise OSError(errno.EINVAL, "a range that leaves its granted page")


def _parts(numbers: list[int], addresses: memoryview, sizes: list[int]) -> Parts:
    """The parts of memory of some segments, of which ``addresses`` and ``sizes`` are all."""
    parts = array("Q", bytes(16 * len(numbers)))
    if len(numbers) == len(sizes):
        memoryview(parts)[::2] = addresses
        parts[1::2] = array("Q", sizes)
    else:
        parts[::2] = array("Q", [addresses[i] for i in numbers])
        parts[1::2] = array("Q", [sizes[i] for i in numbers])
    return parts
