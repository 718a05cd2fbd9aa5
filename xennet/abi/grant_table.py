"""xen/grant_table.h: grant entries of both versions, the operations on them, their status codes.

Guest handles and xen_pfn_t are 8 bytes here (LP64).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from construct import Array, Int16sl, Int16ul, Int32ul, Int64ul, Padding, Struct

from xennet.abi.codec import derive, union
from xennet.abi.xen import PAGE_SIZE

# The first entries are kept for the toolstack
GNTTAB_NR_RESERVED_ENTRIES = 8
GNTTAB_RESERVED_CONSOLE = 0
GNTTAB_RESERVED_XENSTORE = 1

# Type of a grant: the two low bits of flags
GTF_invalid = 0
GTF_permit_access = 1
GTF_accept_transfer = 2
GTF_transitive = 3
GTF_type_mask = 3

# Subflags of GTF_permit_access and GTF_transitive; reading and writing are set by Xen
GTF_readonly = 1 << 2
GTF_reading = 1 << 3
GTF_writing = 1 << 4
GTF_PWT = 1 << 5
GTF_PCD = 1 << 6
GTF_PAT = 1 << 7
GTF_sub_page = 1 << 8

# Subflags of GTF_accept_transfer, set by Xen
GTF_transfer_committed = 1 << 2
GTF_transfer_completed = 1 << 3

# enum grant_table_op
GNTTABOP_map_grant_ref = 0
GNTTABOP_unmap_grant_ref = 1
GNTTABOP_setup_table = 2
GNTTABOP_dump_table = 3
GNTTABOP_transfer = 4
GNTTABOP_copy = 5
GNTTABOP_query_size = 6
GNTTABOP_unmap_and_replace = 7
GNTTABOP_set_version = 8
GNTTABOP_get_status_frames = 9
GNTTABOP_get_version = 10
GNTTABOP_swap_grant_ref = 11
GNTTABOP_cache_flush = 12

# gnttab_map_grant_ref.flags
GNTMAP_device_map = 1 << 0
GNTMAP_host_map = 1 << 1
GNTMAP_readonly = 1 << 2
GNTMAP_application_map = 1 << 3
GNTMAP_contains_pte = 1 << 4
GNTMAP_guest_avail_mask = 0xFFFF_0000

# gnttab_copy.flags: which ends are grant references, the others are frame numbers
GNTCOPY_source_gref = 1 << 0
GNTCOPY_dest_gref = 1 << 1

# gnttab_cache_flush.op
GNTTAB_CACHE_CLEAN = 1 << 0
GNTTAB_CACHE_INVAL = 1 << 1
GNTTAB_CACHE_SOURCE_GREF = 1 << 31

# enum grant_status
GNTST_okay = 0
GNTST_general_error = -1
GNTST_bad_domain = -2
GNTST_bad_gntref = -3
GNTST_bad_handle = -4
GNTST_bad_virt_addr = -5
GNTST_bad_dev_addr = -6
GNTST_no_device_space = -7
GNTST_permission_denied = -8
GNTST_bad_page = -9
GNTST_bad_copy_arg = -10
GNTST_address_too_big = -11
GNTST_eagain = -12
GNTST_no_space = -13

# Status code (0..-13) -> its name
GNTST_NAMES: Mapping[int, str] = MappingProxyType(
    {value: name for name, value in list(globals().items()) if name.startswith("GNTST_")}
)

grant_entry_v1 = "grant_entry_v1" / Struct(
    "flags" / Int16ul,
    "domid" / Int16ul,
    "frame" / Int32ul,
)

grant_entry_header = "grant_entry_header" / Struct(
    "flags" / Int16ul,
    "domid" / Int16ul,
)

grant_entry_v2 = "grant_entry_v2" / union(
    "hdr" / grant_entry_header,
    "full_page"
    / Struct(
        "hdr" / grant_entry_header,
        "pad0" / Int32ul,
        "frame" / Int64ul,
    ),
    "sub_page"
    / Struct(
        "hdr" / grant_entry_header,
        "page_off" / Int16ul,
        "length" / Int16ul,
        "frame" / Int64ul,
    ),
    "transitive"
    / Struct(
        "hdr" / grant_entry_header,
        "trans_domid" / Int16ul,
        "pad0" / Int16ul,
        "gref" / Int32ul,
    ),
    "__spacer" / Array(4, Int32ul),
)

# One word of the version 2 status array: GTF_reading and GTF_writing of the entry
grant_status_t = "grant_status_t" / Int16ul

# One page of each table
GRANT_ENTRIES_V1_PER_PAGE: int = PAGE_SIZE // grant_entry_v1.sizeof()
GRANT_ENTRIES_V2_PER_PAGE: int = PAGE_SIZE // grant_entry_v2.sizeof()
GRANT_STATUS_PER_PAGE: int = PAGE_SIZE // grant_status_t.sizeof()

gnttab_map_grant_ref = "gnttab_map_grant_ref" / Struct(
    "host_addr" / Int64ul,
    "flags" / Int32ul,
    "ref" / Int32ul,
    "dom" / Int16ul,
    "status" / Int16sl,
    "handle" / Int32ul,
    "dev_bus_addr" / Int64ul,
)

gnttab_unmap_grant_ref = "gnttab_unmap_grant_ref" / Struct(
    "host_addr" / Int64ul,
    "dev_bus_addr" / Int64ul,
    "handle" / Int32ul,
    "status" / Int16sl,
    Padding(2),
)

gnttab_setup_table = "gnttab_setup_table" / Struct(
    "dom" / Int16ul,
    Padding(2),
    "nr_frames" / Int32ul,
    "status" / Int16sl,
    Padding(6),
    "frame_list" / Int64ul,
)

gnttab_dump_table = "gnttab_dump_table" / Struct(
    "dom" / Int16ul,
    "status" / Int16sl,
)

gnttab_transfer = "gnttab_transfer" / Struct(
    "mfn" / Int64ul,
    "domid" / Int16ul,
    Padding(2),
    "ref" / Int32ul,
    "status" / Int16sl,
    Padding(6),
)

gnttab_copy_ptr = "gnttab_copy_ptr" / Struct(
    "u"
    / union(
        "ref" / Int32ul,
        "gmfn" / Int64ul,
    ),
    "domid" / Int16ul,
    "offset" / Int16ul,
    Padding(4),
)

gnttab_copy = "gnttab_copy" / Struct(
    "source" / gnttab_copy_ptr,
    "dest" / gnttab_copy_ptr,
    "len" / Int16ul,
    "flags" / Int16ul,
    "status" / Int16sl,
    Padding(2),
)

gnttab_query_size = "gnttab_query_size" / Struct(
    "dom" / Int16ul,
    Padding(2),
    "nr_frames" / Int32ul,
    "max_nr_frames" / Int32ul,
    "status" / Int16sl,
    Padding(2),
)

gnttab_unmap_and_replace = "gnttab_unmap_and_replace" / Struct(
    "host_addr" / Int64ul,
    "new_addr" / Int64ul,
    "handle" / Int32ul,
    "status" / Int16sl,
    Padding(2),
)

gnttab_set_version = "gnttab_set_version" / Struct("version" / Int32ul)

gnttab_get_status_frames = "gnttab_get_status_frames" / Struct(
    "nr_frames" / Int32ul,
    "dom" / Int16ul,
    "status" / Int16sl,
    "frame_list" / Int64ul,
)

gnttab_get_version = "gnttab_get_version" / Struct(
    "dom" / Int16ul,
    "pad" / Int16ul,
    "version" / Int32ul,
)

gnttab_swap_grant_ref = "gnttab_swap_grant_ref" / Struct(
    "ref_a" / Int32ul,
    "ref_b" / Int32ul,
    "status" / Int16sl,
    Padding(2),
)

gnttab_cache_flush = "gnttab_cache_flush" / Struct(
    "a"
    / union(
        "dev_bus_addr" / Int64ul,
        "ref" / Int32ul,
    ),
    "offset" / Int16ul,
    "length" / Int16ul,
    "op" / Int32ul,
)

GRANT_ENTRY_V1 = derive(grant_entry_v1)
GRANT_ENTRY_HEADER = derive(grant_entry_header)
GRANT_ENTRY_V2_FULL = derive(grant_entry_v2, union={"": "full_page"})
GRANT_ENTRY_V2_SUB = derive(grant_entry_v2, union={"": "sub_page"})
GRANT_ENTRY_V2_TRANSITIVE = derive(grant_entry_v2, union={"": "transitive"})
GNTTAB_MAP_GRANT_REF = derive(gnttab_map_grant_ref)
GNTTAB_UNMAP_GRANT_REF = derive(gnttab_unmap_grant_ref)
GNTTAB_TRANSFER = derive(gnttab_transfer)
GNTTAB_SETUP_TABLE = derive(gnttab_setup_table)
GNTTAB_QUERY_SIZE = derive(gnttab_query_size)
GNTTAB_SET_VERSION = derive(gnttab_set_version)
GNTTAB_GET_STATUS_FRAMES = derive(gnttab_get_status_frames)
GNTTAB_GET_VERSION = derive(gnttab_get_version)
GNTTAB_SWAP_GRANT_REF = derive(gnttab_swap_grant_ref)

# gnttab_copy by its GNTCOPY_* flags (0..3): each end is u.ref or u.gmfn
GNTTAB_COPY_BY_FLAGS = tuple(
    derive(
        gnttab_copy,
        union={
            "source.u": "ref" if flags & GNTCOPY_source_gref else "gmfn",
            "dest.u": "ref" if flags & GNTCOPY_dest_gref else "gmfn",
        },
    )
    for flags in range(4)
)
# From grant reference to grant reference
GNTTAB_COPY = GNTTAB_COPY_BY_FLAGS[GNTCOPY_source_gref | GNTCOPY_dest_gref]
