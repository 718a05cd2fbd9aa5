"""xen/gntalloc.h of Linux: what /dev/xen/gntalloc is asked for, to share pages of its own."""

from __future__ import annotations

from construct import Int16ul, Int32ul, Int64ul, Padding, Struct

from xennet.abi.codec import derive

ioctl_gntalloc_alloc_gref = "ioctl_gntalloc_alloc_gref" / Struct(
    "domid" / Int16ul,
    "flags" / Int16ul,
    "count" / Int32ul,
    "index" / Int64ul,
    "gref_ids" / Int32ul,  # [1]: of one page
    Padding(4),
)

ioctl_gntalloc_dealloc_gref = "ioctl_gntalloc_dealloc_gref" / Struct(
    "index" / Int64ul,
    "count" / Int32ul,
    Padding(4),
)

ALLOC_GREF = derive(ioctl_gntalloc_alloc_gref)
DEALLOC_GREF = derive(ioctl_gntalloc_dealloc_gref)

# _IOC(_IOC_NONE, 'G', number, size)
IOCTL_GNTALLOC_ALLOC_GREF = ALLOC_GREF.size << 16 | ord("G") << 8 | 5
IOCTL_GNTALLOC_DEALLOC_GREF = DEALLOC_GREF.size << 16 | ord("G") << 8 | 6

GNTALLOC_FLAG_WRITABLE = 1
