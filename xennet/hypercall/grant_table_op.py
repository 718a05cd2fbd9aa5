"""HYPERVISOR_grant_table_op (xen/grant_table.h; xen/common/grant_table.c do_grant_table_op).

Each element is read, done and written back before the next one is read, as there: a bad pointer in
the middle leaves the elements before it done.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from typing import Any

from xennet.abi.codec import Codec
from xennet.abi.grant_table import (
    GNTTAB_COPY,
    GNTTAB_GET_STATUS_FRAMES,
    GNTTAB_GET_VERSION,
    GNTTAB_MAP_GRANT_REF,
    GNTTAB_QUERY_SIZE,
    GNTTAB_SET_VERSION,
    GNTTAB_SETUP_TABLE,
    GNTTAB_SWAP_GRANT_REF,
    GNTTAB_TRANSFER,
    GNTTAB_UNMAP_GRANT_REF,
    GNTST_bad_virt_addr,
    GNTST_okay,
    GNTTABOP_copy,
    GNTTABOP_get_status_frames,
    GNTTABOP_get_version,
    GNTTABOP_map_grant_ref,
    GNTTABOP_query_size,
    GNTTABOP_set_version,
    GNTTABOP_setup_table,
    GNTTABOP_swap_grant_ref,
    GNTTABOP_transfer,
    GNTTABOP_unmap_grant_ref,
)
from xennet.abi.xen import DOMID_SELF, PAGE_SHIFT
from xennet.hypercall.caller import MOST_ELEMENTS, Caller, no_such_op, refused

#: Bytes of a frame number in a list (xen_pfn_t).
_PFN = 8


def _map(caller: Caller, asked: Any) -> Any:
    """The program maps the page itself: at frame ``dev_bus_addr >> PAGE_SHIFT`` of its device."""
    status, handle, page = caller.domain.map_grant_ref(asked.dom, asked.ref, asked.flags)
    if page is None:
        return asked._replace(status=status)
    address = page.first << PAGE_SHIFT
    return asked._replace(status=status, handle=handle, dev_bus_addr=address)


def _unmap(caller: Caller, asked: Any) -> Any:
    return asked._replace(status=caller.domain.unmap_grant_ref(asked.handle))


def _transfer(caller: Caller, asked: Any) -> Any:
    return asked._replace(status=caller.domain.grant_transfer(asked.mfn, asked.domid, asked.ref))


def _swap(caller: Caller, asked: Any) -> Any:
    return asked._replace(status=caller.domain.swap_grant_ref(asked.ref_a, asked.ref_b))


def _listed(caller: Caller, asked: Any, status: int, frames: Sequence[int]) -> Any:
    """The answer to a call that fills in a list of frames."""
    try:
        if frames:
            numbers = b"".join(frame.to_bytes(_PFN, "little") for frame in frames)
            caller.memory.write(asked.frame_list, numbers)
    except OSError:
        status = GNTST_bad_virt_addr
    return asked._replace(status=status)


def _setup_table(caller: Caller, asked: Any) -> Any:
    return _listed(caller, asked, *caller.domain.setup_table(asked.dom, asked.nr_frames))


def _get_status_frames(caller: Caller, asked: Any) -> Any:
    return _listed(caller, asked, *caller.domain.get_status_frames(asked.dom, asked.nr_frames))


def _query_size(caller: Caller, asked: Any) -> Any:
    status, frames, most = caller.domain.query_size(asked.dom)
    if status != GNTST_okay:
        return asked._replace(status=status)
    return asked._replace(status=status, nr_frames=frames, max_nr_frames=most)


#: Operations on any number of elements, and those on exactly one.
_MANY: dict[int, tuple[Codec, Callable[[Caller, Any], Any]]] = {
    GNTTABOP_map_grant_ref: (GNTTAB_MAP_GRANT_REF, _map),
    GNTTABOP_unmap_grant_ref: (GNTTAB_UNMAP_GRANT_REF, _unmap),
    GNTTABOP_transfer: (GNTTAB_TRANSFER, _transfer),
    GNTTABOP_swap_grant_ref: (GNTTAB_SWAP_GRANT_REF, _swap),
}
_ONE: dict[int, tuple[Codec, Callable[[Caller, Any], Any]]] = {
    GNTTABOP_setup_table: (GNTTAB_SETUP_TABLE, _setup_table),
    GNTTABOP_get_status_frames: (GNTTAB_GET_STATUS_FRAMES, _get_status_frames),
    GNTTABOP_query_size: (GNTTAB_QUERY_SIZE, _query_size),
}


def _copy(caller: Caller, arg: int, count: int) -> int:
    size = GNTTAB_COPY.size
    table = bytearray()
    try:
        for _, element in caller.elements(arg, size, count):
            table += element
    finally:
        # A bad pointer ends the call after the elements before it.
        done = len(table) // size
        if done:
            caller.domain.grant_copy(memoryview(table).cast("I"), done)
            caller.memory.write(arg, bytes(table))
    return 0


def _set_version(caller: Caller, arg: int) -> int:
    """The version that is in use afterwards is written back, whatever happened."""
    wanted = GNTTAB_SET_VERSION.read(caller.memory.read(arg, GNTTAB_SET_VERSION.size))
    result = caller.domain.set_version(wanted.version)
    version = caller.domain.get_version(DOMID_SELF)
    caller.memory.write(arg, GNTTAB_SET_VERSION.pack(version))
    return result


def _get_version(caller: Caller, arg: int) -> int:
    asked = GNTTAB_GET_VERSION.read(caller.memory.read(arg, GNTTAB_GET_VERSION.size))
    version = caller.domain.get_version(asked.dom)
    if version < 0:
        return version
    caller.memory.write(arg, GNTTAB_GET_VERSION.pack(*asked._replace(version=version)))
    return 0


def grant_table_op(caller: Caller, cmd: int, arg: int, count: int) -> int:
    """``count`` operations on the structures at ``arg``. Returns 0; each has its own status.

    -EINVAL for a count that is negative, or not 1 where one structure is expected, -E2BIG for more
    than MOST_ELEMENTS.
    """
    count &= 0xFFFFFFFF
    if count >> 31:
        raise refused(errno.EINVAL, f"{count - (1 << 32)} elements")
    if cmd in _ONE and count != 1:
        raise refused(errno.EINVAL, f"{count} structures for one")
    if count > MOST_ELEMENTS:
        raise refused(errno.E2BIG, f"{count} elements, {MOST_ELEMENTS} at most")
    if cmd == GNTTABOP_copy:
        return _copy(caller, arg, count)
    if cmd == GNTTABOP_set_version:
        return _set_version(caller, arg)
    if cmd == GNTTABOP_get_version:
        return _get_version(caller, arg)
    if cmd not in _MANY and cmd not in _ONE:
        raise no_such_op("HYPERVISOR_grant_table_op", cmd)
    codec, operation = _MANY.get(cmd) or _ONE[cmd]
    for address, element in caller.elements(arg, codec.size, count):
        caller.memory.write(address, codec.pack(*operation(caller, codec.read(element))))
    return 0
