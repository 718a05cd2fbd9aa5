"""HYPERVISOR_memory_op as far as rings need it (xen/memory.h; xen/common/memory.c do_memory_op).

Frame numbers are those of the machine, for everything: a frame that a domain gets here is the one
that it grants, and the one at which its device maps it.
"""

from __future__ import annotations

import errno
from typing import Any

from xennet.abi.xen import DOMID_SELF
from xennet.abi.xenmem import (
    XEN_MEMORY_DOMAIN,
    XEN_MEMORY_RESERVATION,
    XENMEM_current_reservation,
    XENMEM_decrease_reservation,
    XENMEM_increase_reservation,
    XENMEM_maximum_reservation,
    XENMEM_populate_physmap,
)
from xennet.hypercall.caller import MOST_ELEMENTS, Caller, no_such_op, refused
from xennet.interface import OutOfFramesError

#: Most pages that a domain may hold by these calls, with those it gave up that are still mapped:
#: 64 MiB.
MOST_PAGES = 16384
#: The largest extent is 2 to the power of this (Xen's CONFIG_DOMU_MAX_ORDER).
LARGEST_ORDER = 9
#: The bits of the first argument that are the operation; above them is the extent to start with.
_CMD_BITS = 6
_PFN = 8


def _extents(caller: Caller, asked: Any, start: int) -> range:
    """The extents to go through now: none if the request is not one that can be done at all."""
    if asked.domid not in (DOMID_SELF, caller.domain.domid):
        raise refused(errno.EPERM, f"the memory of domain {asked.domid}")
    if asked.extent_order > LARGEST_ORDER or asked.nr_extents > 0xFFFFFFFF >> _CMD_BITS:
        return range(start, start)
    return range(start, min(asked.nr_extents, start + MOST_ELEMENTS))


def _increase(caller: Caller, asked: Any, extents: range) -> int:
    """Returns the number of extents that are there: fewer than asked for when memory runs out."""
    domain, pages = caller.domain, 1 << asked.extent_order
    # Xen counts a page in tot_pages until its last reference is gone (common/page_alloc.c,
    # free_domheap_pages), so a kernel gains nothing by giving up pages that it has mapped.
    held = domain.allocated + domain.lingering
    for i in extents:
        if held + pages > MOST_PAGES:
            return i
        try:
            first = domain.alloc_pages(pages).first
        except OutOfFramesError:
            return i
        held += pages
        try:
            if asked.extent_start:
                caller.memory.write(
                    asked.extent_start + i * _PFN & (1 << 64) - 1, first.to_bytes(_PFN, "little")
                )
        except OSError:
            return i
    return max(extents.stop, extents.start)


def _decrease(caller: Caller, asked: Any, extents: range) -> int:
    """Returns the number of extents that were given back, up to the first that could not."""
    for i in extents:
        try:
            at = asked.extent_start + i * _PFN & (1 << 64) - 1
            first = int.from_bytes(caller.memory.read(at, _PFN), "little")
            for frame in range(first, first + (1 << asked.extent_order)):
                caller.domain.free_frame(frame)
        except (OSError, ValueError):
            return i
    return max(extents.stop, extents.start)


_CHANGES = {
    XENMEM_increase_reservation: _increase,
    XENMEM_populate_physmap: _increase,
    XENMEM_decrease_reservation: _decrease,
}


def memory_op(caller: Caller, cmd: int, arg: int, _: int) -> int:
    """Returns the number of extents done, or a number of pages; Xen gives no error where a
    structure cannot be read, but the extent it has come to."""
    cmd, start = cmd & (1 << _CMD_BITS) - 1, (cmd & 0xFFFFFFFF) >> _CMD_BITS
    if cmd in _CHANGES:
        try:
            data = caller.memory.read(arg, XEN_MEMORY_RESERVATION.size)
        except OSError:
            return start
        asked = XEN_MEMORY_RESERVATION.read(data)
        return _CHANGES[cmd](caller, asked, _extents(caller, asked, start))
    if cmd in (XENMEM_current_reservation, XENMEM_maximum_reservation):
        asked = XEN_MEMORY_DOMAIN.read(caller.memory.read(arg, XEN_MEMORY_DOMAIN.size))
        if asked.domid not in (DOMID_SELF, caller.domain.domid):
            raise refused(errno.EPERM, f"the memory of domain {asked.domid}")
        return caller.domain.allocated if cmd == XENMEM_current_reservation else MOST_PAGES
    raise no_such_op("HYPERVISOR_memory_op", cmd)
