"""The ioctls of Linux's Xen devices: xen/gntdev.h, gntalloc.h, evtchn.h and privcmd.h of its user
space headers (linux-libc-dev), and asm-generic/ioctl.h.

The names are those of the headers. An array at the end of a structure is left out here, so a
structure is what stands in front of it; its ioctl's number has the size with one element.
"""

from __future__ import annotations

from construct import Int16sl, Int16ul, Int32ul, Int64ul, Padding, Struct

from xennet.abi.codec import derive
from xennet.abi.xen import START_INFO


def _IOC_NONE(kind: str, nr: int, size: int) -> int:
    """_IOC(_IOC_NONE, kind, nr, size)."""
    return size << 16 | ord(kind) << 8 | nr


# xen/gntdev.h

ioctl_gntdev_grant_ref = "ioctl_gntdev_grant_ref" / Struct("domid" / Int32ul, "ref" / Int32ul)
ioctl_gntdev_map_grant_ref = "ioctl_gntdev_map_grant_ref" / Struct(
    "count" / Int32ul, "pad" / Int32ul, "index" / Int64ul
)
ioctl_gntdev_unmap_grant_ref = "ioctl_gntdev_unmap_grant_ref" / Struct(
    "index" / Int64ul, "count" / Int32ul, "pad" / Int32ul
)
ioctl_gntdev_get_offset_for_vaddr = "ioctl_gntdev_get_offset_for_vaddr" / Struct(
    "vaddr" / Int64ul, "offset" / Int64ul, "count" / Int32ul, "pad" / Int32ul
)
#: The same in both headers.
ioctl_unmap_notify = "ioctl_unmap_notify" / Struct(
    "index" / Int64ul, "action" / Int32ul, "event_channel_port" / Int32ul
)
ioctl_gntdev_grant_copy = "ioctl_gntdev_grant_copy" / Struct(
    "count" / Int32ul, Padding(4), "segments" / Int64ul
)
#: source and dest: an address, or (ref, offset, domid) of 4, 2 and 2 bytes.
gntdev_grant_copy_segment = "gntdev_grant_copy_segment" / Struct(
    "source" / Int64ul,
    "dest" / Int64ul,
    "len" / Int16ul,
    "flags" / Int16ul,
    "status" / Int16sl,
    Padding(2),
)

GNTDEV_GRANT_REF = derive(ioctl_gntdev_grant_ref)
GNTDEV_MAP_GRANT_REF = derive(ioctl_gntdev_map_grant_ref)
GNTDEV_UNMAP_GRANT_REF = derive(ioctl_gntdev_unmap_grant_ref)
GNTDEV_GET_OFFSET_FOR_VADDR = derive(ioctl_gntdev_get_offset_for_vaddr)
UNMAP_NOTIFY = derive(ioctl_unmap_notify)
GNTDEV_GRANT_COPY = derive(ioctl_gntdev_grant_copy)
GNTDEV_GRANT_COPY_SEGMENT = derive(gntdev_grant_copy_segment)

IOCTL_GNTDEV_MAP_GRANT_REF = _IOC_NONE("G", 0, 24)
IOCTL_GNTDEV_UNMAP_GRANT_REF = _IOC_NONE("G", 1, 16)
IOCTL_GNTDEV_GET_OFFSET_FOR_VADDR = _IOC_NONE("G", 2, 24)
#: Also IOCTL_GNTALLOC_SET_UNMAP_NOTIFY.
IOCTL_GNTDEV_SET_UNMAP_NOTIFY = _IOC_NONE("G", 7, 16)
IOCTL_GNTDEV_GRANT_COPY = _IOC_NONE("G", 8, 16)

UNMAP_NOTIFY_CLEAR_BYTE = 0x1
UNMAP_NOTIFY_SEND_EVENT = 0x2

# xen/gntalloc.h

ioctl_gntalloc_alloc_gref = "ioctl_gntalloc_alloc_gref" / Struct(
    "domid" / Int16ul, "flags" / Int16ul, "count" / Int32ul, "index" / Int64ul
)
ioctl_gntalloc_dealloc_gref = "ioctl_gntalloc_dealloc_gref" / Struct(
    "index" / Int64ul, "count" / Int32ul, Padding(4)
)

GNTALLOC_ALLOC_GREF = derive(ioctl_gntalloc_alloc_gref)
GNTALLOC_DEALLOC_GREF = derive(ioctl_gntalloc_dealloc_gref)

IOCTL_GNTALLOC_ALLOC_GREF = _IOC_NONE("G", 5, 24)
IOCTL_GNTALLOC_DEALLOC_GREF = _IOC_NONE("G", 6, 16)

GNTALLOC_FLAG_WRITABLE = 1

# xen/evtchn.h

ioctl_evtchn_bind_interdomain = "ioctl_evtchn_bind_interdomain" / Struct(
    "remote_domain" / Int32ul, "remote_port" / Int32ul
)

EVTCHN_BIND_INTERDOMAIN = derive(ioctl_evtchn_bind_interdomain)

IOCTL_EVTCHN_BIND_VIRQ = _IOC_NONE("E", 0, 4)
IOCTL_EVTCHN_BIND_INTERDOMAIN = _IOC_NONE("E", 1, 8)
IOCTL_EVTCHN_BIND_UNBOUND_PORT = _IOC_NONE("E", 2, 4)
IOCTL_EVTCHN_UNBIND = _IOC_NONE("E", 3, 4)
IOCTL_EVTCHN_NOTIFY = _IOC_NONE("E", 4, 4)
IOCTL_EVTCHN_RESET = _IOC_NONE("E", 5, 0)
IOCTL_EVTCHN_RESTRICT_DOMID = _IOC_NONE("E", 6, 2)

# xen/privcmd.h

privcmd_hypercall = "privcmd_hypercall" / Struct(
    "op" / Int64ul,
    "arg0" / Int64ul,
    "arg1" / Int64ul,
    "arg2" / Int64ul,
    "arg3" / Int64ul,
    "arg4" / Int64ul,
)
privcmd_mmapbatch_v2 = "privcmd_mmapbatch_v2" / Struct(
    "num" / Int32ul,
    "dom" / Int16ul,
    Padding(2),
    "addr" / Int64ul,
    "arr" / Int64ul,
    "err" / Int64ul,
)

PRIVCMD_HYPERCALL = derive(privcmd_hypercall)
PRIVCMD_MMAPBATCH_V2 = derive(privcmd_mmapbatch_v2)

IOCTL_PRIVCMD_HYPERCALL = _IOC_NONE("P", 0, 48)
IOCTL_PRIVCMD_MMAPBATCH_V2 = _IOC_NONE("P", 4, 32)
IOCTL_PRIVCMD_DM_OP = _IOC_NONE("P", 5, 16)
IOCTL_PRIVCMD_RESTRICT = _IOC_NONE("P", 6, 2)

# xennet's own device /dev/xen/guest (xennet/include/xennet-guest.c)

IOCTL_GUEST_HYPERCALL = _IOC_NONE("X", 0, PRIVCMD_HYPERCALL.size)
IOCTL_GUEST_START_INFO = _IOC_NONE("X", 1, START_INFO.size)

#: The names of all ioctls that are answered, for observers. gntdev's and gntalloc's unmap notify
#: have one number.
IOCTL_NAMES = {
    number: name
    for name, number in tuple(globals().items())
    if name.startswith("IOCTL_") and isinstance(number, int)
}
