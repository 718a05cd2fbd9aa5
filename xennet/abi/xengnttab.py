"""xengnttab.h of the Xen tools: a grant copy whose local side is a pointer.

The library hands its segments to /dev/xen/gntdev as they are (struct gntdev_grant_copy_segment of
Linux's xen/gntdev.h).
"""

from __future__ import annotations

from construct import Int16sl, Int16ul, Int32ul, Int64ul, Padding, Struct

from xennet.abi.codec import derive, union

_foreign = Struct("ref" / Int32ul, "offset" / Int16ul, "domid" / Int16ul)

xengnttab_grant_copy_segment = "xengnttab_grant_copy_segment" / Struct(
    "source" / union("virt" / Int64ul, "foreign" / _foreign),
    "dest" / union("virt" / Int64ul, "foreign" / _foreign),
    "len" / Int16ul,
    "flags" / Int16ul,
    "status" / Int16sl,
    Padding(2),
)

GRANT_COPY_SEGMENT = derive(
    xengnttab_grant_copy_segment, union={"source": "foreign", "dest": "foreign"}
)
