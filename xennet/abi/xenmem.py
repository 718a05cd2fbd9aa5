"""xen/memory.h: how a domain gets pages and gives them back."""

from __future__ import annotations

from construct import Int16ul, Int32ul, Int64ul, Padding, Struct

from xennet.abi.codec import derive

XENMEM_increase_reservation = 0
XENMEM_decrease_reservation = 1
XENMEM_maximum_ram_page = 2
XENMEM_current_reservation = 3
XENMEM_maximum_reservation = 4
XENMEM_populate_physmap = 6

xen_memory_reservation = "xen_memory_reservation" / Struct(
    "extent_start" / Int64ul,
    "nr_extents" / Int64ul,
    "extent_order" / Int32ul,
    "mem_flags" / Int32ul,
    "domid" / Int16ul,
    Padding(6),
)

xen_memory_domain = "xen_memory_domain" / Struct("domid" / Int16ul)

XEN_MEMORY_RESERVATION = derive(xen_memory_reservation)
XEN_MEMORY_DOMAIN = derive(xen_memory_domain)
